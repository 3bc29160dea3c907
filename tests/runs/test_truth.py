"""Predictions that are compared with true masks, at the images' own sizes."""

import csv
import json
from pathlib import PurePath

import numpy as np
import pytest
import torch
from torch import nn

from imasks.data.card import Card
from imasks.data.files import write_png
from imasks.data.prepare import Preparation
from imasks.errors import UserError
from imasks.runs import truth as module
from imasks.runs.predictions import predict_files
from imasks.runs.predictor import Predictor
from imasks.runs.truth import Truth
from imasks.tasks import Binary, Multiclass, Multilabel, Task

PREP = Preparation(
    size=(32, 32), channels=1, fit="resize", levels=None, native=(32, 32), largest=(64, 64)
)


class Halves(nn.Module):
    """Calls what is bright the last class, and the rest the one before, if there is one."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, images):
        bright = images[:, :1] - 128
        reserved = torch.full_like(bright, -1e6)
        return torch.cat([reserved, -bright, bright][3 - self.outputs :], 1)


def predictor(task: Task) -> Predictor:
    networks = (Halves(task.outputs),)
    return Predictor(networks=networks, task=task, preparation=PREP, device=torch.device("cpu"))


@pytest.fixture
def images(tmp_path):
    """Two images whose right half is bright, of different sizes."""
    folder = tmp_path / "images"
    for name, size in (("a", (32, 32)), ("deep/b", (64, 48))):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.zeros(size, np.uint8)
        image[:, size[1] // 2 :] = 255
        write_png(path, image)
    return folder


def write_truth(folder, images, value, *, planes=("",)):
    """True masks hold a value where an image is bright, but in the upper quarter."""
    for path in images.rglob("*.png"):
        size = (64, 48) if path.stem == "b" else (32, 32)
        mask = np.zeros(size, np.uint8)
        mask[size[0] // 4 :, size[1] // 2 :] = value
        for plane in planes:
            target = folder / plane / path.relative_to(images)
            target.parent.mkdir(parents=True, exist_ok=True)
            write_png(target, mask)


def scored(task, images, tmp_path, **card):
    folder, out = tmp_path / "true", tmp_path / "out"
    known = Card(name="x", task=task.name, classes=task.classes, **card)
    truth = Truth(folder=folder, card=known, task=task)
    inputs = sorted(images.rglob("*.png"))
    report = predict_files(predictor(task), inputs, out, root=images, truth=truth)
    with (out / "predictions.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    return report, rows, out


def test_binary_masks(images, tmp_path):
    write_truth(tmp_path / "true", images, 255)
    report, rows, out = scored(Binary(["x"]), images, tmp_path)
    assert report.scores["iou"] == pytest.approx(0.75, abs=0.02)
    assert float(rows["a.png"]["true/iou"]) == pytest.approx(0.75)
    assert float(rows["deep/b.png"]["true/dice"]) == pytest.approx(6 / 7, abs=0.02)
    assert json.loads((out / "scores.json").read_text()) == pytest.approx(dict(report.scores))


def test_class_ids_and_void(images, tmp_path):
    write_truth(tmp_path / "true", images, 1)
    report, _, _ = scored(Multiclass(["dark", "bright"]), images, tmp_path)
    assert report.scores["class_iou/bright"] == pytest.approx(0.75, abs=0.02)
    write_truth(tmp_path / "true", images, 255)
    report, rows, _ = scored(Multiclass(["dark", "bright"]), images, tmp_path, ignore=255)
    assert float(rows["a.png"]["true/miou"]) == pytest.approx(32 * 16 / (32 * 16 + 8 * 16))


def test_planes_in_folders_of_their_own(images, tmp_path):
    write_truth(tmp_path / "true", images, 255, planes=("u", "v"))
    report, _, _ = scored(Multilabel(["u", "v"]), images, tmp_path)
    assert report.scores["class_iou/v"] == pytest.approx(0.75, abs=0.02)
    assert report.scores["class_iou/u"] == pytest.approx(0, abs=0.02)


def test_a_missing_mask_is_named_before_anything_is_written(images, tmp_path):
    write_truth(tmp_path / "true", images, 255)
    (tmp_path / "true" / "deep" / "b.png").unlink()
    with pytest.raises(UserError, match=r"all images \(found: deep/b\.png\)"):
        scored(Binary(["x"]), images, tmp_path)
    assert not (tmp_path / "out").exists()
    assert (
        Truth(
            folder=tmp_path / "true",
            card=Card(name="x", task="binary", classes=("x",)),
            task=Binary(["x"]),
        )._masks(PurePath("deep/b.png"))
        == ()
    )


def test_a_mask_of_another_size_is_told(images, tmp_path):
    write_truth(tmp_path / "true", images, 255)
    write_png(tmp_path / "true" / "a.png", np.zeros((9, 9), np.uint8))
    report, rows, _ = scored(Binary(["x"]), images, tmp_path)
    ((path, reason),) = report.skipped
    assert path.name == "a.png"
    assert "differs in size from its image" in reason
    assert list(rows) == ["deep/b.png"]


def test_a_folder_of_masks_is_listed_once(images, tmp_path, monkeypatch):
    for number in range(3):
        write_png(images / f"more {number}.png", np.zeros((32, 32), np.uint8))
    write_truth(tmp_path / "true", images, 255)
    listed = []
    real = module.list_images
    monkeypatch.setattr(module, "list_images", lambda folder: listed.append(folder) or real(folder))
    report, _, _ = scored(Binary(["x"]), images, tmp_path)
    assert report.done == 5
    assert len(listed) == 2


def test_masks_of_images_with_a_long_ending(tmp_path):
    write_png(tmp_path / "a.png", np.zeros((32, 32), np.uint8))
    card = Card(name="x", task="binary", classes=("x",))
    truth = Truth(folder=tmp_path, card=card, task=Binary(["x"]))
    truth.need([PurePath("a.ome.tif")])


def test_large_images_are_compared_some_rows_at_a_time(images, tmp_path, monkeypatch):
    write_truth(tmp_path / "true", images, 1)
    task = Multiclass(["dark", "bright"])
    whole, _, _ = scored(task, images, tmp_path)
    monkeypatch.setattr(module, "AT_ONCE", 100)
    assert scored(task, images, tmp_path)[0].scores == whole.scores
