"""What is timed, and what it stands for."""

from types import SimpleNamespace

import pytest
import torch

from imasks.models.unet import UNetConfig
from imasks.tasks import make_task
from imasks.training import pace
from imasks.training.recipe import Recipe


@pytest.mark.parametrize(
    ("size", "device", "images"),
    [
        ((48, 64), "cpu", 32),
        ((256, 256), "cpu", 2),
        ((1024, 2048), "cpu", 1),
        ((256, 256), "cuda", 32),
    ],
)
def test_large_batches_are_timed_in_part_on_a_processor(size, device, images):
    assert pace.timed_images(Recipe(), size=size, device=torch.device(device)) == images


@pytest.mark.parametrize(("patience", "steps", "seconds"), [(100.0, 4, 1.0), (2.0, 1, 2.0)])
def test_a_part_stands_for_the_whole_and_patience_ends(monkeypatch, patience, steps, seconds):
    lasting = [9.0, 2.0, 1.0, 7.0, 9.0]  # the first one warms up
    times = [time for one in lasting for time in (0.0, one)]
    monkeypatch.setattr(pace, "time", SimpleNamespace(perf_counter=lambda: times.pop(0)))
    monkeypatch.setattr(pace, "PIXELS", 4 * 16**2)
    found = pace.seconds_per_step(
        UNetConfig(in_channels=3, outputs=1, width=0.0625),
        make_task("binary", ("a",)),
        Recipe(batch=32),
        size=(16, 16),
        device=torch.device("cpu"),
        precision="float32",
        patience=patience,
    )
    assert found == seconds * 32 / 4
    assert len(times) == 2 * (4 - steps)
