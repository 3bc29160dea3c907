"""The demonstration: no data, no network, a few minutes."""

from __future__ import annotations

from pathlib import Path

from imasks.data.synthetic import write_demo_dataset
from imasks.runs.options import Options

APPROACHES = ("LDT", "ALDT", "FDT", "IM+")
OPTIONS = Options(width=1.0, steps=900, candidates=2, generations=1)
LABELED, UNLABELED, SIDE = 24, 160, 64


def draw(folder: Path) -> Path:
    """Draw the data folder of the demonstration, if it is not there yet, and return it."""
    data = folder / "data"
    write_demo_dataset(data, labeled=LABELED, unlabeled=UNLABELED, size=(SIDE, SIDE))
    return data
