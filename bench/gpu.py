"""Training and labelling on a GPU, beside plain PyTorch and the floor that memory sets.

    python bench/gpu.py [--widths 0.5 1 2] [--size 256] [--batch 32] [--seconds 2] [--rounds 3]

Every round measures each way once, one right after the other; ratios are taken within a round.

* plain: bench/plain.py in float32 (as PyTorch comes), and in bfloat16;
* imasks: this package's own training step (augmentation, loss, AdamW, averaged weights) and
  labelling, in bfloat16;
* floor: what a training step cannot do without, at the speed at which this GPU copies memory: every
  result of a convolution or batch norm is written and read on the way forward, and read again with
  its gradient read and written on the way back, five passes of two bytes an element.

`--device cpu` tries the script where there is no GPU.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import floors
import plain
import torch
from cpu import part, table
from rich.console import Console
from torch import nn

from imasks.approaches.presets import PRESETS
from imasks.labelling.agree import Morphology
from imasks.labelling.labellers import Agreement
from imasks.models.unet import UNetConfig, make_unet
from imasks.tasks import make_task
from imasks.training.batches import Batches
from imasks.training.fit import _State, _train
from imasks.training.predict import autocast

LABELLED = 256  # images at once
Step = Callable[[], object]


def main() -> None:
    """Measure, print, and write bench/gpu.csv."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=float, nargs="+", default=[0.5, 1.0, 2.0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("gpu.csv"))
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        sys.exit("There is no GPU here that PyTorch can use; --device cpu tries the script.")
    console = Console()
    name = torch.cuda.get_device_name() if asked.device == "cuda" else asked.device
    speed = copy_speed(asked.device)
    console.print(f"{name}, torch {torch.__version__}; copies {speed / 1e9:.0f} GB/s")
    rows = [
        row
        for width in asked.widths
        for row in (training(width, speed, asked), labelling(width, asked))
    ]
    console.print(
        table(rows, "images a second, medians; ratios to plain; share of the floor's speed")
    )
    with asked.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def training(width: float, speed: float, asked: argparse.Namespace) -> dict[str, Any]:
    """Measure one training step of each way."""
    about: dict[str, Any] = {"width": width, "size": asked.size, "batch": asked.batch}
    ways = [
        plain.training(**about, device=asked.device),
        plain.training(**about, device=asked.device, bfloat16=True),
        own_training(width, asked.size, asked.batch, torch.device(asked.device)),
    ]
    floor = asked.batch * floors.unet(width, asked.size).moved / speed
    found = in_rounds(ways, asked)
    own = median(each[2] for each in found)
    return row("training", width, asked.batch, found) | {
        "floor": round(asked.batch / floor, 1),
        "share of it": round(floor / own, 2),
    }


def labelling(width: float, asked: argparse.Namespace) -> dict[str, Any]:
    """Measure labelling by two networks."""
    about: dict[str, Any] = {"width": width, "size": asked.size, "batch": asked.batch}
    device = torch.device(asked.device)
    usual = plain.labelling(**about, networks=2, device=asked.device)
    many = max(1, LABELLED // asked.batch)  # both ways label equally many images

    def often() -> None:
        for _ in range(many):
            usual()

    def often_in_half() -> None:
        with torch.autocast(asked.device, torch.bfloat16):
            often()

    count = many * asked.batch
    ways = [often, often_in_half, own_labelling(width, asked.size, count, device)]
    found = in_rounds(ways, asked)
    return row("labelling by 2", width, count, found) | {"floor": "", "share of it": ""}


def row(what: str, width: float, images: int, found: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Lay out the seconds of every round."""
    rates = [round(images / median(each), 1) for each in zip(*found, strict=True)]
    ratios = [round(median(each[k] / each[2] for each in found), 2) for k in (0, 1)]
    return {
        "what": what,
        "width": width,
        "plain float32": rates[0],
        "plain bfloat16": rates[1],
        "imasks": rates[2],
        "to float32": ratios[0],
        "to bfloat16": ratios[1],
    }


def in_rounds(ways: Sequence[Step], asked: argparse.Namespace) -> list[list[float]]:
    """Return the seconds of a step of each way, a list a round."""
    for way in ways:
        seconds_of(way, asked.seconds / 4, asked.device)  # warms up
    return [
        [seconds_of(way, asked.seconds, asked.device) for way in ways] for _ in range(asked.rounds)
    ]


def seconds_of(step: Step, seconds: float, device: str) -> float:
    """Time a step by repeating it; the queue of the GPU is emptied before the clock is read."""
    wait(device)
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(8 if device == "cuda" else 1):
            step()
            done += 1
        wait(device)
    return (time.perf_counter() - start) / done


def wait(device: str) -> None:
    """Wait for all that was asked of the GPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def copy_speed(device: str) -> float:
    """Measure how many bytes a second are read and written by a copy of 512 MB."""
    source = torch.zeros(2**27 if device == "cuda" else 2**22, device=device)
    target = torch.empty_like(source)
    seconds = seconds_of(lambda: target.copy_(source), 0.5, device)
    return 2 * source.numel() * source.element_size() / seconds


def own_training(width: float, size: int, batch: int, device: torch.device) -> Step:
    """Return one step as `imasks.training.fit` makes it."""
    config = UNetConfig(in_channels=3, outputs=1, width=width, norm_momentum=0.1)
    task = make_task("binary", ("thing",))
    recipe = replace(PRESETS["default"].recipe, batch=batch)
    state = _State(make_unet(config, device), recipe, device=device)
    batches = Batches([part(size)], batch=batch, seed=0, device=device)

    class Objective:
        def loss(self, network: nn.Module, step: int) -> torch.Tensor:
            shown = batches(step)
            with autocast(device, "bfloat16"):
                logits = network(shown.images)
            return task.loss(logits, shown.labels, kind=recipe.loss)

    return lambda: _train(state, Objective(), recipe, until=state.step + 1, total=10**6, seed=0)


def own_labelling(width: float, size: int, count: int, device: torch.device) -> Step:
    """Return the labelling of so many images, from and to the memory of the machine."""
    config = UNetConfig(in_channels=3, outputs=1, width=width)
    labeller = Agreement(
        networks=[make_unet(config, device).eval() for _ in range(2)],
        task=make_task("binary", ("thing",)),
        morphology=Morphology(),
        choose="all",
        device=device,
        precision="bfloat16",
    )
    images = part(size).images
    images = images[torch.arange(count).numpy() % len(images)]

    def step() -> None:
        for first in range(0, count, labeller.chunk):
            labeller.label(images[first : first + labeller.chunk], first=first)

    return step


if __name__ == "__main__":
    main()
