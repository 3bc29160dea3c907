"""Many unlabeled images: does labelling them take more memory, or longer for each?

    python bench/many.py [--images 10000 100000] [--size 64] [--models 2] [--out FOLDER]

Two networks label so many random images, which lie in one mapped file, as the jobs of a run do it,
and are stopped half way; a second process goes on. Shown are images a second, and the most memory
of a process's own after any chunk (not what the system keeps of mapped files, and gives up when
others need it). Workers keep what they free, so that what a chunk needed shows after it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from imasks.jobs.memory import keep_freed_memory
from imasks.labelling.agree import Morphology
from imasks.labelling.labellers import Agreement, write_pseudo_labels
from imasks.models.unet import UNetConfig, make_unet
from imasks.tasks import Binary

CPU = torch.device("cpu")


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--models", type=int, default=2)
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--out", type=Path, help="for some gigabytes of arrays that are removed")
    asked = parser.parse_args()
    if not Path("/proc/self/status").exists():
        sys.exit("Error: memory is read from /proc/self/status, which only Linux has.")
    table = Table("images", "images/s", "memory at the start", "most memory", "done by the second")
    spawn = multiprocessing.get_context("spawn")
    for count in asked.images:
        folder = Path(tempfile.mkdtemp(dir=asked.out, prefix="many_"))
        try:
            _write_images(folder, count, asked.size)
            found = []
            for stop in (count // 2, None):
                here, there = spawn.Pipe(duplex=False)
                how = (folder, asked.models, asked.width, stop, there)
                process = spawn.Process(target=_label, args=how)
                process.start()
                there.close()  # or waiting would not end if the process did
                found.append(here.recv())
                process.join()
        finally:
            shutil.rmtree(folder)
        done, seconds = (sum(one[i] for one in found) for i in (0, 1))
        table.add_row(
            f"{count:,}",
            f"{done / seconds:.0f}",
            f"{found[0][2]:.0f} MB",
            f"{max(one[3] for one in found):.0f} MB",
            f"{found[1][0]:,}",
        )
    Console().print(table)


def _write_images(folder: Path, count: int, size: int) -> None:
    shape = (count, size, size, 3)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, shape)
    rng = np.random.default_rng(0)
    for start in range(0, count, 1000):
        part = images[start : start + 1000]
        part[:] = rng.integers(0, 256, part.shape, np.uint8)
    images.flush()


def _label(folder, models, width, stop, told) -> None:  # type: ignore[no-untyped-def]
    """Label, and tell images done, seconds, and memory in megabytes at the start and at most."""
    keep_freed_memory()
    torch.manual_seed(0)
    config = UNetConfig(in_channels=3, outputs=1, width=width)
    labeller = Agreement(
        networks=[make_unet(config, CPU).eval() for _ in range(models)],
        task=Binary(["thing"]),
        morphology=Morphology(),
        choose="all",
        device=CPU,
    )
    images = np.load(folder / "images.npy", mmap_mode="c")
    labeller.label(images[: labeller.chunk], first=0)
    begun, first, most, last = time.perf_counter(), _memory(), 0.0, 0
    start: int | None = None

    def progress(done: int) -> None:
        nonlocal most, last, start
        start = max(0, done - labeller.chunk) if start is None else start
        most, last = max(most, _memory()), done
        if stop is not None and done >= stop:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        write_pseudo_labels(folder, labeller, images, on_progress=progress)
    told.send((last - (start or 0), time.perf_counter() - begun, first, most))


def _memory() -> float:
    """Memory of this process's own, in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise LookupError("RssAnon")


if __name__ == "__main__":
    main()
