"""What is timed, and what it stands for."""

import time
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


@pytest.mark.parametrize(
    ("full", "half", "chosen"),
    [([2.0, 1.0], [1.8, 0.5], "bfloat16"), ([2.0, 1.0, 5.0], [1.0, 0.95], "float32")],
)
def test_the_faster_precision_is_chosen_by_the_time_that_the_processor_works(
    monkeypatch, full, half, chosen
):
    lasting = {"float32": full, "bfloat16": half}
    passed = [0.0]

    def step_of(*about):
        times = [*lasting[about[-1]], *[lasting[about[-1]][-1]] * pace.MOST]
        return lambda: passed.append(passed[-1] + times.pop(0))

    monkeypatch.setattr(pace, "_step", step_of)
    monkeypatch.setattr(
        pace,
        "time",
        SimpleNamespace(process_time=lambda: passed[-1], get_clock_info=time.get_clock_info),
    )
    found = pace.choose_precision(
        UNetConfig(in_channels=3, outputs=1),
        make_task("binary", ("a",)),
        Recipe(),
        size=(16, 16),
        device=torch.device("cpu"),
    )
    assert found == chosen
    assert len(passed) == 1 + 2 * pace.FEWEST  # long steps are not repeated for long
