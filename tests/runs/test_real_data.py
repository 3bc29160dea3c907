"""End to end on real images of every task; skipped where the data sets are not at hand."""

import dataclasses

import numpy as np
import pytest
from rich.console import Console

from imasks.data.files import read_image
from imasks.data.folder import open_dataset
from imasks.runs.options import Options
from imasks.runs.predictor import predictor_of
from imasks.runs.run import plan_run, work

SHORT = Options(
    size=(32, 48),
    width=0.25,
    steps=20,
    batch=8,
    candidates=2,
    generations=1,
    precision="float32",
    device="cpu",
    workers=16,  # one thread
)


def trained(folder, out, options, approaches):
    dataset = open_dataset(folder)
    run = plan_run(dataset, out, approaches=approaches, seeds=[0], options=options)
    work(run, workers=1, console=Console(quiet=True))
    return dataset, run


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dsb2018", "camvid", "wbc"])
def test_every_task_from_folder_to_prediction(real_data, tmp_path, name):
    dataset, run = trained(real_data(name), tmp_path, SHORT, ["FDT", "IM+"])
    assert all(row.complete for row in run.rows())
    sample = dataset.splits["test"][0]
    image = read_image(sample.image)
    prediction = predictor_of(run, device="cpu")(image)
    K = len(dataset.card.classes)
    if dataset.card.task == "multilabel":
        assert prediction.mask.shape == (K, *image.shape[:2])
    else:
        assert prediction.mask.shape == image.shape[:2]
    assert prediction.mask.max() < max(2, K)
    assert prediction.im_share == pytest.approx(prediction.im.mean())


@pytest.mark.slow
def test_it_learns(real_data, tmp_path):
    """Cells and nuclei of 28 images: a few hundred steps go far beyond "all background"."""
    longer = dataclasses.replace(SHORT, size=(48, 48), width=0.5, steps=250)
    _, run = trained(real_data("wbc"), tmp_path, longer, ["LDT"])
    row = run.rows()[0]
    assert row.test.mean > 0.6
    assert np.isfinite(row.val.mean)
