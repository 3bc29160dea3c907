import csv
import json
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest
from PIL import Image

from imasks.data.synthetic import draw_cells
from imasks.jobs import in_order
from imasks.runs.run import open_run

FAST = "--width 0.25 --steps 4 --batch 4 --candidates 2 --generations 1 --precision float32"


@pytest.fixture
def imasks(imasks):
    """Take texts apart at spaces, and leave paths whole."""
    return lambda *arguments: imasks(*[word for one in arguments for word in _words(one)])


def _words(argument):
    return argument.split() if isinstance(argument, str) else [argument]


@pytest.fixture(scope="module")
def plain_folders(tmp_path_factory):
    """Two plain folders as people have them: 8 images, masks of 6 of them; and more images."""
    root = tmp_path_factory.mktemp("plain")
    images, masks = draw_cells(12, size=(32, 32), seed=3)
    for name in ("images", "masks", "more"):
        (root / name).mkdir()
    for i in range(8):
        Image.fromarray(images[i]).save(root / "images" / f"cell {i}.png")
    for i in range(6):
        Image.fromarray(masks[i] * 255).save(root / "masks" / f"cell {i}.png")
    for i in range(8, 12):
        Image.fromarray(images[i]).resize((80, 64)).save(root / "more" / f"big {i}.jpg")
    return root


def test_help_names_every_command(imasks):
    code, text = imasks("--help")
    assert (code, text) == imasks("-h")
    assert code == 0
    assert "..." not in text.replace("[ARGS]...", "")  # no summary is cut
    for command in (
        *("demo", "init", "check", "train", "study", "status", "report", "predict", "approaches"),
        "review",
        "export-model",
    ):
        assert command in text


def test_the_version_is_told(imasks, monkeypatch):
    code, text = imasks("--version")
    assert (code, "PyTorch 2" in text) == (0, True)
    assert text.startswith(f"imasks {version('imasks')} ")

    def without_torch(package):
        if package == "torch":
            raise PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr("imasks.cli.commands.version", without_torch)
    assert "(PyTorch not installed, " in imasks("--version")[1]


def test_help_needs_no_torch():
    import subprocess

    look = "import imasks.cli, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0


def test_from_two_folders_to_predictions(imasks, plain_folders, tmp_path):
    data, run, out = tmp_path / "my data", tmp_path / "run", tmp_path / "out"
    more = plain_folders / "more"
    code, text = imasks(
        "init", data, "--images", plain_folders / "images", "--masks", plain_folders / "masks"
    )
    assert code == 0, text
    assert "binary" in text
    code, text = imasks("check", data)
    assert code == 0, text

    train = ("train", data, "--approach IM+ --out", run, FAST)
    code, text = imasks(*train, "--dry-run")
    assert code == 0, text
    assert "time" in text
    assert not run.exists()
    code, text = imasks(*train)
    assert code == 0, text
    assert "IM+" in text
    assert (run / "report" / "results.csv").exists()
    assert (run / "report" / "figures" / "generations_im_plus.png").stat().st_size > 1000

    code, text = imasks("status", run)
    assert code == 0, text
    assert "100%" in text
    code, text = imasks("report", run, "--out", tmp_path / "report")
    assert code == 0, text
    assert f"written: {tmp_path}/report/figures/index.md" in text
    code, text = imasks("report", run, tmp_path / "nothing")
    assert code == 2

    (more / "broken.png").write_bytes(b"not an image")
    code, text = imasks("predict", run, more, "-o", out)
    assert code == 1  # something was skipped
    assert "4 images predicted" in text
    assert "broken.png" in text
    mask = np.asarray(Image.open(out / "masks" / "big 8.png"))
    assert mask.shape == (64, 80)
    assert set(np.unique(mask)) <= {0, 255}
    with (out / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert all(0 <= float(row["agreement"]) <= 1 for row in rows)

    code, text = imasks(*train, "--im-label", "blank")
    assert code == 2
    assert "how.policy.label: ignore -> blank" in text
    assert "Traceback" not in text


def test_study_compares_and_marks_what_is_missing(imasks, tiny_cells, tmp_path):
    code, text = imasks(
        "study", tiny_cells, "--out", tmp_path / "s", "--approaches LDT,FDT,IM --seeds 2", FAST
    )
    assert code == 0, text
    assert "mean ± deviation over 2 seeds" in text
    less = (
        "study",
        tiny_cells,
        "--out",
        tmp_path / "s",
        "--approaches ldt --seeds 1 --dry-run",
        FAST,
    )
    assert "goes on too" not in imasks(*less)[1]  # there is more, but it is finished
    run = open_run(tmp_path / "s")
    (run.store.folder(run.plan.lines[-1].generations[-1].rank) / "done.json").unlink()
    code, text = imasks("status", tmp_path / "s")
    assert code == 0
    assert "Not finished" in text
    code, text = imasks(
        "predict", tmp_path / "s", tiny_cells / "test" / "images", "-o", tmp_path / "o"
    )
    assert code == 0
    assert "Not finished" in text
    assert json.loads((tmp_path / "o" / "model.json").read_text())["finished"] is False
    code, text = imasks(*less)
    assert code == 0, text
    assert "goes on too (IM with seed 1)" in text
    jobs = in_order(run.plan.targets)
    networks = sum(job.kind == "fit" for job in jobs)
    together = re.search(r"all, shared.*", text).group()
    # all but one are done
    assert list(map(int, re.findall(r"\d+", together)))[:3] == [2, networks, len(jobs)]


@pytest.fixture(scope="module")
def tiny_cells(tmp_path_factory):
    from imasks.data.synthetic import write_demo_dataset

    folder = tmp_path_factory.mktemp("cells") / "data"
    write_demo_dataset(folder, labeled=6, unlabeled=6, val=3, test=3, size=(32, 32))
    return folder


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("train {data} --out {out} --approach IMM", "Known: LDT"),
        ("train {data} --out {out} --preset best", "paper or default"),
        ("train {data} --out {out} --size 30 32", "16"),
        ("train {data} --out {out} --device tpu", "no such device"),
        ("train {data} --out {out} --ladder moon", "isic2018"),
        ("train {data} --out {out} --im-label drop", "blank or ignore"),
        ("train {data} --out {out} --learning-rate 0", "recipe.learning_rate"),
        ("train {data} --out {out} --steps 0", "steps must be a whole number of at least 1"),
        ("train {data} --out {out} --models 9", "models = 9"),
        ("train {data} --out {out} --width 0", "width must be a number of at least 0.0625"),
        ("train {data} --out {out} --generations -3", "generations must be"),
        ("train {data} --out {out} --seed -1", "seed must be a whole number of at least 0"),
        ("study {data} --out {out} --seeds 0", "seeds must be a whole number of at least 1"),
        ("train {data} --out {data}", "is the data folder"),
        ("train {data} --out {data}/labeled", "is not empty and no run folder"),
        ("train {data}/nothing --out {out}", "imasks init"),
        ("status {data}", "no run folder"),
        ("predict {data} {data} -o {out}", "no run folder"),
        ("predict --onnx {data}/none.onnx {data} -o {out}", "is no file"),
        ("predict --onnx {data}/none.onnx {data} --seed 1 -o {out}", "Leave them out"),
        ("export-model {data} -o {out}", "no run folder"),
        ("init {data} --images {data}/labeled/images --masks {data}/labeled/masks", "data"),
        ("init {out} --images {data}/labeled/images --masks {data}/labeled/masks --task x", "x"),
        ("check {out}", "imasks init"),
    ],
)
def test_mistakes_are_answered_with_a_remedy(imasks, tiny_cells, tmp_path, command, says):
    text = command.format(data=tiny_cells, out=tmp_path / "out")
    code, answer = imasks(text)
    assert code == 2, answer
    assert "Error" in answer
    assert says in " ".join(answer.split())
    assert "Traceback" not in answer
    assert not (tmp_path / "out").exists()


def test_brackets_and_colons_in_names_are_shown_as_they_are(imasks, plain_folders, tmp_path):
    odd = tmp_path / "my [final] :cat: [" / "x]"
    odd.mkdir(parents=True)
    (odd / "scan [final] [bold].png").write_bytes(b"not an image")
    shutil.copy(plain_folders / "images" / "cell 0.png", odd / "a [red].png")
    for command in (
        ("status", odd),
        ("check", odd),
        ("train", odd, "--out", tmp_path / "run"),
        ("init", tmp_path / "d [/b]", "--images", odd / "none [/]", "--masks", odd),
    ):
        code, text = imasks(*command)
        assert code == 2
        assert "[final] :cat: [/x]" in text
    data = tmp_path / "data [/bold]"
    code, text = imasks(
        "init", data, "--images", plain_folders / "images", "--masks", plain_folders / "masks"
    )
    assert f"Next: imasks check '{data}'" in text
    run, out = tmp_path / "run [/x]", tmp_path / "out [b]"
    code, text = imasks("train", data, "--out", run, "--approach LDT", FAST)
    assert code == 0, text
    assert f"written: {run}/report/results.csv" in text
    code, text = imasks("status", run)
    assert str(run) in text
    code, text = imasks("predict", run, odd, "-o", out)
    assert code == 1
    assert "scan [final] [bold].png" in text
    assert str(out / "predictions.csv") in text
    assert "Predicting with LDT, seed 0, generation 0: 2 networks" in text
    model = json.loads((out / "model.json").read_text())
    assert (model["approach"], model["generation"], len(model["networks"])) == ("LDT", 0, 2)
    assert model["finished"]


def test_approaches_are_listed(imasks):
    code, text = imasks("approaches")
    assert code == 0
    assert "Noisy Student" in text


def test_all_leaves_out_what_the_data_lack(tiny_cells, tmp_path, imasks):
    data = tmp_path / "data"
    shutil.copytree(tiny_cells, data)
    shutil.rmtree(data / "unlabeled" / "masks")
    code, text = imasks(
        "study", data, "--out", tmp_path / "s", "--approaches", "all", "--dry-run", FAST
    )
    assert code == 0, text
    for name in ("FDT", "AFDT", "GT-IM++"):
        assert f"left out {name}: {name} needs the true masks" in text
    assert "IM++" in text
