"""What the handlers make of the data: tiles, masks that cannot be used, files that changed."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from imasks.data.arrays import load_arrays, prepare
from imasks.data.card import Card, write_card
from imasks.data.files import write_png
from imasks.data.folder import open_dataset
from imasks.data.prepare import plan_preparation
from imasks.errors import UserError
from imasks.runs.run import plan_run, work
from imasks.runs.work import against_truth, ensemble_tally, write_records
from imasks.tasks import Binary
from imasks.training.measure import measure
from imasks.training.recipe import Recipe

CPU = torch.device("cpu")
SILENT = Console(quiet=True)


class Brightness(nn.Module):
    """Binary: foreground where the image is bright."""

    def forward(self, images):
        return (images[:, :1] - 128) / 10


def planned(dataset, folder, options, approach):
    return plan_run(
        dataset, folder, approaches=[approach], seeds=[0], options=options, may_grow=False
    )


@pytest.fixture
def scene(tmp_path):
    """Arrays of images of 512 x 1024 pixels in tiles; each holds one object."""
    image = np.zeros((512, 1024), np.uint8)
    image[300:340, 700:800] = 255
    for place in ("labeled/{}/a", "val/{}/b", "test/{}/one", "unlabeled/{}/u"):
        for kind in ("images", "masks"):
            path = tmp_path / "d" / f"{place.format(kind)}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_png(path, image)
    write_card(Card(name="d", task="binary", classes=("x",)), tmp_path / "d/dataset.toml")
    data, out = open_dataset(tmp_path / "d"), tmp_path / "out"
    prep = plan_preparation(data)
    assert (prep.fit, prep.size) == ("tile", (256, 256))
    prepare(data, prep, out)
    return out


def test_a_perfect_prediction_of_a_tiled_image_has_a_full_score(scene):
    task, arrays = Binary(["x"]), load_arrays(scene, "test")
    assert len(arrays.images) == 8
    alone = measure(Brightness(), arrays, task, Recipe(), device=CPU)
    together = ensemble_tally([Brightness(), Brightness()], arrays, task, CPU)
    assert alone.tally.equal(together)
    assert together.tolist() == [[[4000, 4000, 4000]]]
    assert alone.scores["iou"] == pytest.approx(1)
    assert alone.selection == pytest.approx(1)
    write_records(scene / "test.json", arrays.names, task, alone.tally)
    (record,) = json.loads((scene / "test.json").read_text())
    assert record["name"] == "one"
    assert record["iou"] == pytest.approx(1)


def test_the_agreement_of_pseudo_labels_is_that_of_images(scene, tmp_path):
    arrays = load_arrays(scene, "unlabeled")
    N, H, W, _ = arrays.images.shape
    empty = np.zeros((N, 1, H, W), np.bool_)
    found = {"labels": arrays.labels, "im": empty, "region": empty[:, 0], "keep": np.ones(N, bool)}
    for name, array in found.items():
        np.save(tmp_path / f"{name}.npy", array)
    assert against_truth(tmp_path, arrays, Binary(["x"]))["iou"] == pytest.approx(1)


def test_a_bad_mask_of_an_unlabeled_image_stops_full_supervision_only(tiny_data, tmp_path, tiny):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_data, copy)
    mask = min((copy / "unlabeled/masks").iterdir())
    mask.write_bytes(b"broken")
    options = dataclasses.replace(tiny, candidates=1, models=1)
    run = planned(open_dataset(copy), tmp_path / "fdt", options, "FDT")
    with pytest.raises(UserError, match=rf"FDT.*masks of the unlabeled.*{mask.name} is not an"):
        work(run, workers=1, console=SILENT)
    run = planned(open_dataset(copy), tmp_path / "im", options, "IM")
    work(run, workers=1, console=SILENT)
    (row,) = run.rows()
    assert row.complete
    (label,) = [one.label for one in run.plan.lines[0].generations if one.label]
    assert "agreement" not in run.store.result(label)


def test_changed_data_are_refused_by_name(tiny_data, tmp_path, tiny):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_data, copy)
    run = planned(open_dataset(copy), tmp_path / "run", tiny, "LDT")
    work(run, workers=1, console=SILENT)
    (run.store.folder(run.plan.prepare) / "done.json").unlink()
    image = min((copy / "test/images").iterdir())
    image.unlink()
    (copy / "test/masks" / image.name).unlink()
    gone = f"test/images/{image.name} (removed), test/masks/{image.name} (removed)"
    with pytest.raises(UserError, match=rf"has changed since.*{re.escape(gone)}"):
        work(run, workers=1, console=SILENT)
