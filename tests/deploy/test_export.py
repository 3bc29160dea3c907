import csv
import json
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from imasks.data.files import read_image, write_png
from imasks.deploy import export
from imasks.deploy.about import PREFIX, About
from imasks.deploy.export import export_model
from imasks.deploy.graph import EnsembleGraph
from imasks.deploy.onnx_predictor import load_onnx
from imasks.errors import UserError
from imasks.runs.choice import choose
from imasks.runs.predictions import list_inputs, predict_files
from imasks.runs.predictor import predictor_of
from imasks.tasks import Binary, Multiclass, Multilabel

from .conftest import DEEP, RESIZE, TILES, blurred, predictor_for

NO_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "safetensors", "matplotlib", "tomli_w"):
            raise ImportError(f"{name} is not to be imported")

sys.meta_path.insert(0, Refuse())
from imasks.cli import main
main()
"""


@pytest.fixture
def photos(tmp_path):
    """Images as the networks saw them, larger ones, a much larger one for tiles, a grey one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, size in {"a": (32, 32), "b": (45, 40), "large": (70, 100)}.items():
        write_png(folder / f"{name}.png", blurred(*size)[0])
    write_png(folder / "grey.png", blurred(40, 33)[0][..., 0])
    return folder


def rows(folder):
    with (folder / "predictions.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_file_was_compared_with_pytorch(exported):
    assert exported.images == 3
    assert exported.difference < 1e-4
    assert exported.resized < export.LIMITS["resized"]
    assert exported.pixels < export.LIMITS["pixels"]
    assert sorted(path.name for path in exported.file.parent.iterdir()) == [
        "MODEL_CARD.md",
        "model.onnx",
    ]


def test_the_card_says_how_exact_the_file_is(exported):
    text = exported.card.read_text(encoding="utf-8")
    assert text.startswith('---\nlicense: "CC-BY-4.0"\n')
    assert "`model.onnx` holds the whole ensemble" in text
    differ = f"differ by at most {exported.difference:.1g} ({exported.resized:.1g} on average"
    assert f"on 3 validation images: probabilities and quality {differ}" in text
    assert "calibrated on 3 validation images" in text


def test_the_file_says_what_it_is(exported, tiny_run):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported.file)
    found = session.get_modelmeta().custom_metadata_map
    about = About.from_metadata(found, exported.file)
    assert json.loads(found["imasks.classes"]) == ["cell"]
    assert about.preparation == tiny_run.config.preparation
    assert (about.task, about.primary, about.im_index) == ("binary", "iou", None)
    assert (about.approach, about.networks, about.judged) == ("LDT", 2, True)
    (given,) = session.get_inputs()
    assert given.name == "images"
    assert given.shape == ["batch", "height", "width", 3]
    assert [one.name for one in session.get_outputs()] == list(about.outputs)


def test_an_onnx_file_predicts_like_its_run_without_torch(exported, tiny_run, photos, tmp_path):
    predict_files(
        predictor_of(tiny_run, device="cpu"), list_inputs([photos]), tmp_path / "run", root=photos
    )
    out = tmp_path / "onnx"
    command = ["imasks", "predict", "--onnx", exported.file, photos, "--out", out]
    arguments = [str(word) for word in command]
    code = NO_TORCH.replace("import sys\n", f"import sys\nsys.argv = {arguments!r}\n", 1)
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4 images predicted" in done.stdout
    expected, found = rows(tmp_path / "run"), rows(out)
    assert [list(row) for row in found] == [list(row) for row in expected]
    for one, other in zip(found, expected, strict=True):
        assert one["file"] == other["file"]
        assert bool(one["quality"]) == (one["file"] != "large.png")
        for name in ("agreement", "confidence", "quality", "area/cell"):
            assert float(one[name] or 0) == pytest.approx(float(other[name] or 0), abs=2e-3)
    for path in (tmp_path / "run").rglob("*.png"):
        same = read_image(path) == read_image(out / path.relative_to(tmp_path / "run"))
        assert same.mean() > 0.999
    assert len(list(out.glob("overlays/*.jpg"))) == 4
    assert json.loads((out / "model.json").read_text())["classes"] == ["cell"]


def test_the_blocker_of_the_test_above_blocks():
    code = NO_TORCH.replace("from imasks.cli import main\nmain()", "import torch")
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "torch is not to be imported" in done.stderr


def test_pytorchs_own_format_has_the_same_interface(tiny_run, tmp_path, monkeypatch):
    predictor = predictor_for(Binary(["cell"]))  # simpler networks, which are traced in a second
    monkeypatch.setattr(export, "predictor_of", lambda run, **options: predictor)
    done = export_model(tiny_run, tmp_path, chosen=choose(tiny_run), format="torch")
    with zipfile.ZipFile(done.file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    # neither a pickle nor what torch.save wraps around one
    assert not [name for name, part in parts.items() if part[:2] in (b"\x80\x02", b"PK")]
    extra = {"imasks.json": ""}
    program = torch.export.load(done.file, extra_files=extra)
    assert json.loads(extra["imasks.json"])["classes"] == ["cell"]
    graph = EnsembleGraph(predictor)
    images = torch.from_numpy(blurred(40, 51))
    with torch.inference_mode():
        for one, other in zip(program.module()(images), graph(images), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "prep"),
    [(Multiclass(["sea", "land"]), RESIZE), (Multilabel(["a", "b"]), DEEP), (Binary(["a"]), TILES)],
    ids=["multiclass", "multilabel uint16", "tiles"],
)
def test_onnx_runtime_says_what_pytorch_says(task, prep, tmp_path, tiny_run):
    graph = EnsembleGraph(predictor_for(task, prep)).eval()
    chosen = choose(tiny_run)
    about = export.about_of(predictor_for(task, prep), chosen, graph)
    images = blurred(*prep.size, prep, count=2)
    images = images if prep.levels is None else images.astype(np.float32)
    path = tmp_path / "model.onnx"
    export._write_onnx(export._traced(graph, images), about, path)
    export._compared(graph, images, lambda x: export._in_onnxruntime(path, x))
    large = blurred(70, 123, prep)[0]
    one, other = load_onnx(path)(large), predictor_for(task, prep)(large)
    assert (one.mask == other.mask).mean() > 0.999
    assert one.class_quality == pytest.approx(other.class_quality, abs=1e-3)


def test_a_file_that_says_something_else_is_not_written(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_traced", lambda graph, images: None)
    monkeypatch.setattr(export, "_write_torch", lambda program, about, path: path.touch())

    def wrong(program, graph, images):
        found = dict(export.said(graph, images))
        return {**found, "probabilities": found["probabilities"] + np.float32(0.01)}

    monkeypatch.setattr(export, "_in_torch", wrong)
    with pytest.raises(UserError, match=r"does not say.*difference 0\.01"):
        export_model(tiny_run, tmp_path, chosen=choose(tiny_run), format="torch")
    assert not list(tmp_path.iterdir())


def test_networks_that_cannot_be_traced_are_named(tiny_run, tmp_path, monkeypatch):
    class Moody(type(predictor_for(Binary(["a"])).networks[0])):
        def forward(self, images):
            return super().forward(images) * (1 if images.sum() > 0 else 2)

    networks = (Moody(Binary(["a"]), RESIZE, 0).eval(),)
    predictor = replace(predictor_for(Binary(["a"])), networks=networks)
    monkeypatch.setattr(export, "predictor_of", lambda run, **options: predictor)
    with pytest.raises(UserError, match="the networks cannot be exported"):
        export_model(tiny_run, tmp_path / "out", chosen=choose(tiny_run), format="torch")
    assert not (tmp_path / "out").exists()


def test_differences_are_seen():
    def apart(one, other, reduce=np.max):
        return export._differences({"a": one}, {"a": other}, reduce)

    one = np.array([0.5, np.nan], np.float32)
    assert apart(one, one) == (0, 0)
    assert apart(one, np.array([0.25, np.nan], np.float32)) == (0.25, 0)
    assert apart(one, np.array([0.25, np.nan], np.float32), np.mean) == (0.125, 0)
    assert apart(one, np.array([0.5, 0.5], np.float32)) == (np.inf, 0)
    assert apart(one, one[:1]) == (np.inf, 0)
    labels = np.array([0, 1, 1, 2], np.uint8)
    assert apart(labels, np.array([0, 1, 0, 2], np.uint8)) == (0, 0.25)


def test_mistakes(tiny_run, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"no such format.*onnx or torch"):
        export_model(tiny_run, tmp_path, chosen=choose(tiny_run), format="tflite")
    (tmp_path / "file").touch()
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"onnxscript.*pip install 'imasks\[onnx\]'"):
        export_model(tiny_run, tmp_path / "out", chosen=choose(tiny_run))
    assert not (tmp_path / "out").exists()


def test_files_that_are_no_models(exported, tmp_path):
    with pytest.raises(UserError, match="is no file"):
        load_onnx(tmp_path / "gone.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(UserError, match="cannot be read as an ONNX model"):
        load_onnx(tmp_path / "text.onnx")
    with pytest.raises(UserError, match=r"no such device.*tpu"):
        load_onnx(exported.file, device="tpu")
    with pytest.raises(UserError, match="no such scale"):
        load_onnx(exported.file, scale="huge")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"format": "2"}, "newer imasks"),
        ({"task": '"depth"'}, "does not say what it is"),
        ({"classes": "["}, "does not say what it is"),
        ({"preparation": "{}"}, "does not say what it is"),
    ],
)
def test_descriptions_that_cannot_be_used(tiny_run, tmp_path, changed, says):
    predictor = predictor_for(Binary(["a"]))
    about = export.about_of(predictor, choose(tiny_run), EnsembleGraph(predictor))
    found = about.to_metadata()
    assert About.from_metadata(found, tmp_path) == about
    with pytest.raises(UserError, match=says):
        About.from_metadata({**found, **{PREFIX + k: v for k, v in changed.items()}}, tmp_path)
    with pytest.raises(UserError, match="does not say what it is"):
        About.from_metadata({"producer": "someone"}, tmp_path)
