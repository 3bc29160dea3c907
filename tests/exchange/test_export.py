"""A run's predictions leave by the command line, with a model card, and come back corrected."""

import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from imasks.data.files import read_image, read_mask, write_png
from imasks.data.folder import open_dataset
from imasks.data.synthetic import write_demo_dataset
from imasks.exchange.export import data_for
from imasks.runs.options import Options
from imasks.runs.predictor import predictor_of
from imasks.runs.run import open_run, plan_run, work

TINY = Options(
    width=0.25,
    steps=1,
    batch=2,
    start_candidates=1,
    models=1,
    precision="float32",
    device="cpu",
    graders=1,
    quality=True,
    workers=1,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A data folder and a finished run of the supervised start alone, with qualities."""
    root = tmp_path_factory.mktemp("trained")
    write_demo_dataset(root / "data", labeled=4, unlabeled=3, val=2, test=2, size=(32, 32))
    shutil.rmtree(root / "data" / "unlabeled" / "masks")
    run = plan_run(
        open_dataset(root / "data"), root / "run", approaches=["LDT"], seeds=[0, 1], options=TINY
    )
    work(run, workers=1, console=Console(quiet=True))
    return root


@pytest.fixture
def root(trained, tmp_path):
    """The same, to be changed."""
    shutil.copytree(trained / "data", tmp_path / "data")
    shutil.copytree(trained / "run", tmp_path / "run")
    return tmp_path


def test_out_and_back_by_the_command_line(imasks, root):
    data, run, out = root / "data", root / "run", root / "out"
    write_png(data / "unlabeled" / "images" / "deep.png", np.zeros((32, 32), np.uint16))
    export = ("export", run, "--format", "coco", "--out", out, "--data", data)
    code, text = imasks(*export, "--licence", "CC0-1.0")
    assert code == 1, text  # something was left out
    assert "3 images exported" in text
    assert "skipped deep:" in text
    assert sorted(path.name for path in out.iterdir()) == ["MODEL_CARD.md", "annotations.json"]
    code, text = imasks(*export)
    assert code == 2
    assert "not empty" in text
    assert "names:" not in text
    twin = data / "unlabeled" / "images" / next((data / "test/images").iterdir()).name
    write_png(twin, np.zeros((32, 32, 3), np.uint8))
    code, text = imasks(*export[:-3], root / "shared", "--data", data)
    assert f"names: {twin.stem}: images of other splits have" in text
    twin.unlink()
    predictor = predictor_of(open_run(run))
    (data / "unlabeled" / "images" / "deep.png").unlink()
    images = {path.stem: path for path in (data / "unlabeled" / "images").iterdir()}
    expected = {name: predictor(read_image(path)).mask for name, path in images.items()}

    back = ("import", out, data, "--format", "coco", "--empty")
    code, text = imasks(*back, "--dry-run")
    assert (code, "3 unlabeled images would be labeled" in text) == (0, True), text
    assert len(open_dataset(data).splits["unlabeled"]) == 3
    code, text = imasks(*back)
    assert (code, "3 unlabeled images labeled" in text) == (0, True), text
    assert "new run folder" in text
    assert len(open_dataset(data).splits["labeled"]) == 7
    for name, mask in expected.items():
        found = read_mask(data / "labeled" / "masks" / f"{name}.png")
        np.testing.assert_array_equal(found, mask * 255)
    code, text = imasks(*back)
    assert (code, "3 labeled images have these masks already" in text) == (0, True), text
    code, text = imasks("import", out, data, "--format", "palette")
    assert (code, "no such format" in text) == (2, True)


def test_the_model_card_says_what_the_run_says(imasks, root):
    code, text = imasks(
        *("export", root / "run", "-f", "napari", "-o", root / "out", "--licence", "CC0-1.0")
    )
    assert code == 0, text
    run = open_run(root / "run")
    (row,) = run.rows()
    text = (root / "out" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert text.startswith('---\nlicense: "CC0-1.0"\n')
    assert text.endswith("Licence: CC0-1.0\n")
    assert run.config.checksum in text
    assert "4 labeled, 3 unlabeled, 2 val, 2 test" in text
    assert f"| **LDT** | 0, 0 | {row.val} | {row.test} | {row.ensemble_test} |" in text
    assert "±" in str(row.test)
    assert "Mean ± deviation over 2 seeds" in text
    assert "calibrated on 2 validation images" in text
    assert "Format: napari; 3 images" in text
    assert "Predicted quality: mean 0." in text
    code, _ = imasks("export", root / "run", "-f", "masks", "-o", root / "second")
    assert code == 0
    assert "Licence: not stated." in (root / "second" / "MODEL_CARD.md").read_text()


def test_data_that_are_not_those_of_the_run(root, imasks):
    run = open_run(root / "run")
    card = root / "data" / "dataset.toml"
    text = card.read_text()
    card.write_text(text.replace('"cell"', '"blob"'))
    code, said = imasks(
        *("export", root / "run", "-f", "coco", "-o", root / "out", "--data", root / "data")
    )
    assert code == 2
    assert "binary: cell" in said
    assert not (root / "out").exists()
    card.write_text(text)
    shutil.rmtree(root / "data" / "unlabeled")
    code, said = imasks(
        *("export", root / "run", "-f", "coco", "-o", root / "out", "--data", root / "data")
    )
    assert (code, "no unlabeled images" in said) == (2, True)
    moved = run.config.data
    shutil.move(moved, root / "elsewhere")
    try:
        code, said = imasks("export", root / "run", "-f", "coco", "-o", root / "out")
    finally:
        shutil.move(root / "elsewhere", moved)
    assert (code, "--data" in said) == (2, True)
    assert data_for(run, None).folder.is_dir()


def test_own_data_by_the_command_line(imasks, pictures, tmp_path):
    root = pictures(*(f"{name}/images/{name}.png" for name in "abcdef"), folder="stage1")
    for name in "abcde":
        (root / name / "masks").mkdir()
        write_png(root / name / "masks" / "1.png", np.eye(8, 10, dtype=np.uint8))
    Image.new("L", (3, 3)).save(root / "e" / "masks" / "2.png")
    command = ("prepare", "instances", root, tmp_path / "out")
    code, text = imasks(*command, "--test-share", "0.2", "--classes", "nucleus")
    assert code == 1, text
    assert "skipped e.png: differs in size" in text
    assert "classes: nucleus" in text
    counts = {k: len(v) for k, v in open_dataset(tmp_path / "out").splits.items()}
    assert sum(counts.values()) == 5
    assert counts["unlabeled"] == 1
    code, text = imasks(*command, "--test-share", "0.2", "--classes", "nucleus")
    assert (code, "nothing to do" in text, "skipped e.png" in text) == (1, True, True), text
    for words, says in (
        (("instance", root, tmp_path / "x"), "Did you mean 'instances'?"),
        (("coco", root / "none.json", tmp_path / "x"), "not a file"),
        (("instances", root, tmp_path / "x", "--task", "panoptic"), "--task is not known"),
        (("instances", root, tmp_path / "x", "--val-share", "2"), "val_share"),
        (("instances", root, root / "x"), "lies in the source"),
    ):
        code, text = imasks("prepare", *words)
        assert (code, says in text, "Traceback" in text) == (2, True, False), text
        assert not (tmp_path / "x").exists()


def test_without_pycocotools_the_remedy_is_named(imasks, pictures, tmp_path, monkeypatch):
    folder = pictures("a.png", "b.png", folder="labelme")
    shape = '{"label": "x", "points": [[1, 1], [5, 1], [5, 5]]}'
    for name in "ab":
        text = f'{{"imagePath": "{name}.png", "shapes": [{shape}]}}'
        (folder / f"{name}.json").write_text(text)
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    code, text = imasks("prepare", "labelme", folder, tmp_path / "out")
    assert (code, "imasks[exchange]" in text) == (2, True), text
