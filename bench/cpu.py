"""Training and labelling on this machine's cores, side by side with plain PyTorch.

    python bench/cpu.py [--rounds 5] [--seconds 2] [--widths 0.5 1 2] [--sizes 64 128 256]

Every round measures each way once, one right after the other, so that both see the same machine;
ratios are taken within a round. Rates are images a second over all cores:

* plain: bench/plain.py, one process with a thread a core, float32;
* imasks: this package's own training step (augmentation, loss, AdamW, averaged weights) in the
  precision that it chooses here, one process of one thread a core, as `imasks train` works;
* floor: what this processor could do at most (bench/floors.py), and the share of it that imasks
  reaches.

The last table lets one process work alone, then one a core: several candidates at once.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from threading import BrokenBarrierError
from typing import Any

import floors
import numpy as np
import plain
import torch
from rich.console import Console
from rich.table import Table

from imasks.approaches.presets import PRESETS
from imasks.data.augment import Augmentation
from imasks.jobs.memory import keep_freed_memory
from imasks.kernels import kernels
from imasks.labelling.agree import Morphology
from imasks.labelling.grading import copies, grade, inconsistent_pairs
from imasks.labelling.labellers import Agreement
from imasks.models.evalnet import EvalNet, EvalNetConfig, make_evalnet
from imasks.models.unet import UNetConfig, make_unet
from imasks.tasks import make_task
from imasks.training.batches import Batches, Part
from imasks.training.predict import autocast, votes

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
CPU = torch.device("cpu")
# Images or pairs a second of the published implementation (float32, 256 x 256 pixels) on a machine
# of two cores that takes 0.79 s for what calibration() times.
PUBLISHED = {
    "training, width 0.5": 39.0,
    "training, width 1": 16.5,
    "labelling by 2": 8.7,
    "labelling by 4": 3.8,
    "pairs for EvalNets": 4.9,
    "copies by score": 6.9,
}
PUBLISHED_CALIBRATION = 0.79
Step = Callable[[], int]  # does something once and returns the number of images


def main() -> None:
    """Measure, print, and write bench/cpu.csv."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--widths", type=float, nargs="+", default=[0.5, 1.0, 2.0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("cpu.csv"))
    asked = parser.parse_args()
    console = Console(width=110)
    console.print(
        f"{CORES} cores, {processor()}, torch "
        f"{torch.__version__}, Python {platform.python_version()}, kernels {kernels()}"
    )
    console.print(f"10 products of 2000 x 2000 float32 matrices: {calibration():.2f} s")
    torch.set_num_threads(CORES)
    machine = floors.machine()
    console.print(
        f"{machine.products / 1e9:.0f} billion products a second in a matrix product, "
        f"{machine.moved / 1e9:.0f} GB/s in a copy"
    )
    rows: list[dict[str, Any]] = []
    for width in asked.widths:
        for size in asked.sizes:
            for kind in ("training", "labelling"):
                row = {"kind": kind, "width": width, "size": size}
                row |= compare(kind, width, size, asked.rounds, asked.seconds)
                work = floors.unet(width, size)
                floor = machine.training(work) if kind == "training" else machine.labelling(work, 2)
                row |= {"floor": round(floor, 1), "share": round(row["imasks"] / floor, 2)}
                rows.append(row)
                console.print(" ".join(f"{k} {v}" for k, v in row.items()))
    console.print(
        table(rows, "images a second; ratio: imasks to plain, median (lowest to highest)")
    )
    published = [against_published(kind, asked.rounds, asked.seconds) for kind in PUBLISHED]
    console.print(
        table(published, "at 256 x 256 pixels beside the published implementation, calibrated")
    )
    work = floors.work_of(evalnet(), torch.zeros(1, 3, 256, 256), torch.zeros(1, 1, 256, 256))
    console.print(f"floor of copies by score: {machine.labelling(work, 4):.1f} pairs a second")
    together = [
        {"width": width, "size": size, **scaling(width, size, asked.rounds, asked.seconds)}
        for width in asked.widths
        for size in asked.sizes
    ]
    console.print(
        table(together, f"{CORES} trainings at once: images a second, share of perfect scaling")
    )
    with asked.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def processor() -> str:
    """Name the processor, and whether it multiplies bfloat16."""
    try:
        about = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    words = dict(line.replace("\t", "").split(":", 1) for line in about if ":" in line)
    half = [one for one in ("avx512_bf16", "amx_bf16") if one in words.get("flags", "").split()]
    name = words.get("model name", platform.machine()).strip()
    return f"{name} ({', '.join(half) or 'no bfloat16'})"


def calibration() -> float:
    """Time what the published figures are calibrated by."""
    a = torch.rand(2000, 2000)
    a @ a
    start = time.perf_counter()
    for _ in range(10):
        a @ a
    return time.perf_counter() - start


def compare(kind: str, width: float, size: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure both ways round by round."""
    batch = batch_of(size) if kind == "training" else 16
    torch.set_num_threads(CORES)
    usual = plain_step(kind, width, size, batch)
    with Team(kind, width, size, batch, seconds) as team:
        usual()
        team.rate()
        pairs = [(rate(usual, seconds), team.rate()) for _ in range(rounds)]
    ratios = sorted(own / other for other, own in pairs)
    return {
        "batch": batch,
        "plain": round(median(other for other, _ in pairs), 1),
        "imasks": round(median(own for _, own in pairs), 1),
        "ratio": round(median(ratios), 2),
        "lowest": round(ratios[0], 2),
        "highest": round(ratios[-1], 2),
    }


def batch_of(size: int) -> int:
    """Return how many images are trained on at once."""
    return max(2, min(32, 32 * 128 * 128 // size**2))


def scaling(width: float, size: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Compare one training alone with one a core at the same time."""
    about = ("training", width, size, batch_of(size), seconds)
    with Team(*about, members=1) as one, Team(*about) as all_of_them:
        for team in (one, all_of_them):
            team.rate()
        pairs = [(one.rate(), all_of_them.rate()) for _ in range(rounds)]
    shares = sorted(together / (CORES * alone) for alone, together in pairs)
    return {
        "alone": round(median(alone for alone, _ in pairs), 1),
        "together": round(median(together for _, together in pairs), 1),
        "share": round(median(shares), 2),
        "lowest": round(shares[0], 2),
        "highest": round(shares[-1], 2),
    }


def against_published(kind: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure one thing that is known of the published implementation."""
    with Team(kind, 0.5, 256, 32, seconds) as team:
        team.rate()
        rates, calibrated = [], []
        for _ in range(rounds):  # a shared machine is not as fast at every moment
            speed = calibration() / PUBLISHED_CALIBRATION  # above 1: this machine is slower
            rates.append(team.rate())
            calibrated.append(speed * rates[-1])
    calibrated.sort()
    return {
        "what": kind,
        "a second": round(median(rates), 1),
        "calibrated": round(median(calibrated), 1),
        "published": PUBLISHED[kind],
        "ratio": round(median(calibrated) / PUBLISHED[kind], 1),
        "lowest": round(calibrated[0] / PUBLISHED[kind], 1),
        "highest": round(calibrated[-1] / PUBLISHED[kind], 1),
    }


def rate(step: Step, seconds: float) -> float:
    """Return images a second."""
    images, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        images += step()
    return images / passed


class Team:
    """Processes of one thread, one a core unless told otherwise; all work at the same time."""

    def __init__(self, *about: Any, members: int = CORES) -> None:
        context = multiprocessing.get_context("spawn")
        self.barrier = context.Barrier(members + 1)
        self.answers = context.Queue()
        self.members = [
            context.Process(target=member, args=(self.barrier, self.answers, *about), daemon=True)
            for _ in range(members)
        ]

    def __enter__(self) -> Team:
        for one in self.members:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.barrier.abort()  # members that wait for the next round end
        for one in self.members:
            one.join(timeout=60)
            one.kill()  # should it hang, lest it disturbs what comes

    def rate(self) -> float:
        """Let all members work for a while; their rates together."""
        self.barrier.wait(timeout=120)  # a member that failed never comes
        return sum(self.answers.get(timeout=600) for _ in self.members)


def member(
    barrier: Barrier, answers: Any, kind: str, width: float, size: int, batch: int, seconds: float
) -> None:
    """Work whenever all others do."""
    keep_freed_memory()  # as workers do
    torch.set_num_threads(1)
    step = own_step(kind, width, size, batch)
    step()
    with suppress(BrokenBarrierError):
        while True:
            barrier.wait()
            answers.put(rate(step, seconds))


def own_step(kind: str, width: float, size: int, batch: int) -> Step:
    """Return what a member does."""
    makers: dict[str, Callable[[], Step]] = {
        "training": lambda: own_training(width, size, batch),
        "training, width 0.5": lambda: own_training(0.5, size, batch),
        "training, width 1": lambda: own_training(1.0, size, batch),
        "labelling": lambda: own_labelling(width, size),
        "labelling by 2": lambda: own_labelling(width, size),
        "labelling by 4": lambda: own_labelling(width, size, networks=4),
        "pairs for EvalNets": lambda: own_pairs(size),
        "copies by score": lambda: own_copies(size),
    }
    return makers[kind]()


def plain_step(kind: str, width: float, size: int, batch: int) -> Step:
    """Wrap the yardstick."""
    if kind == "training":
        step = plain.training(width=width, size=size, batch=batch)
    else:
        step = plain.labelling(width=width, size=size, batch=batch, networks=2)

    def counted() -> int:
        step()
        return batch

    return counted


def own_training(width: float, size: int, batch: int) -> Step:
    """Return one step as `imasks.training.fit` makes it."""
    from imasks.training.fit import _State, _train
    from imasks.training.pace import choose_precision

    config = UNetConfig(in_channels=3, outputs=1, width=width, norm_momentum=0.1)
    task = make_task("binary", ("thing",))
    recipe = replace(PRESETS["default"].recipe, batch=batch)
    precision = choose_precision(config, task, recipe, size=(size, size), device=CPU)
    state = _State(make_unet(config, CPU), recipe, device=CPU)
    batches = Batches([part(size)], batch=batch, seed=0, device=CPU)

    class Objective:
        def loss(self, network: torch.nn.Module, step: int) -> torch.Tensor:
            shown = batches(step)
            with autocast(CPU, precision):
                logits = network(shown.images)
            return task.loss(logits, shown.labels, kind=recipe.loss)

    some = 4  # steps: what happens once an evaluation, as seeding generators, counts little

    def step() -> int:
        _train(state, Objective(), recipe, until=state.step + some, total=10**6, seed=0)
        return some * batch

    return step


def own_labelling(width: float, size: int, *, networks: int = 2) -> Step:
    """Return the labelling of 16 images by several networks."""
    config = UNetConfig(in_channels=3, outputs=1, width=width)
    made = [make_unet(config, CPU).eval() for _ in range(networks)]
    labeller = Agreement(
        networks=made,
        task=make_task("binary", ("thing",)),
        morphology=Morphology(),
        choose="all",
        device=CPU,
        precision="bfloat16",
    )
    images = part(size).images[:16]

    def step() -> int:
        labeller.label(images, first=0)
        return len(images)

    return step


def own_pairs(size: int) -> Step:
    """Return the making of pairs for EvalNets from what three networks say of 16 images."""
    config = UNetConfig(in_channels=3, outputs=1, width=0.5)
    networks = [make_unet(config, CPU).eval() for _ in range(3)]
    shown, task = part(size), make_task("binary", ("thing",))
    images, labels = shown.images[:16], shown.labels[:16]

    def step() -> int:
        found = [v for _, v in votes(networks, images, task, device=CPU, precision="bfloat16")]
        voted = torch.cat(found, 1).numpy()
        return len(inconsistent_pairs(images, labels, voted, task, seed=0, device=CPU))

    return step


def own_copies(size: int) -> Step:
    """Return the scoring of 16 pairs by four EvalNets, and what follows from the scores."""
    networks = [evalnet() for _ in range(4)]
    shown, task = part(size), make_task("binary", ("thing",))
    images, masks = shown.images[:16], shown.labels[:16]

    def step() -> int:
        answers = grade(networks, images, masks, task, device=CPU, precision="bfloat16")
        copies(task.pair_score(torch.from_numpy(answers)).numpy(), 0.5, 0.6)
        return len(images)

    return step


def evalnet() -> EvalNet:
    """Return an EvalNet of a binary task."""
    config = EvalNetConfig(in_channels=3, mask_channels=1, classes=1, detection=False)
    return make_evalnet(config, CPU).eval()


def part(size: int) -> Part:
    """Random images and labels, augmented as the default preset does at first."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (64, size, size, 3), dtype=np.uint8)
    labels = (images.mean(3)[:, None] > 127).astype(np.uint8)
    how = Augmentation(
        flip=True, free_rotation=True, contrast=0.15, brightness=15, max_blur=1, max_noise=15,
        share=0.5,
    )  # fmt: skip
    return Part(images=images, labels=labels, augmentation=how)


def table(rows: list[dict[str, Any]], title: str) -> Table:
    """Lay the rows out."""
    shown = Table(title=title)
    for name in rows[0]:
        shown.add_column(name, justify="right")
    for row in rows:
        shown.add_row(*(str(value) for value in row.values()))
    return shown


if __name__ == "__main__":
    sys.exit(main())
