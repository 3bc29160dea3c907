"""What the scripts that train on a data folder share: what they are told, and what they write."""

from __future__ import annotations

import argparse
import csv
import io
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console

from imasks.data.files import write_text
from imasks.data.folder import Dataset
from imasks.errors import UserError

console = Console()


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser that knows the data folder, the folder for what is made, seeds and options."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", type=Path, help="a data folder with masks of unlabeled images")
    parser.add_argument("out", type=Path, help="where runs and the table of results go")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help='an option of a training, as in TOML: steps=400, preset="paper"; again for more',
    )
    return parser


def options_of(given: argparse.Namespace) -> dict[str, Any]:
    """The options of a training that the command line named."""
    return tomllib.loads("\n".join(given.option))


def check_truth(dataset: Dataset) -> None:
    """Make sure that a data folder has what such a measurement compares with.

    Raises:
        UserError: masks of unlabeled images are missing, or there are no test images.
    """
    if not all(sample.masks for sample in dataset.splits["unlabeled"]):
        raise UserError(
            f"{dataset.folder} lacks masks of unlabeled images, which only measuring reads",
            remedy="Add unlabeled/masks.",
        )
    if not dataset.splits["test"]:
        raise UserError(f"{dataset.folder} has no test images", remedy="Add some.")


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table; rows may lack columns."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def spread(values: Sequence[float | None], *, sign: str = "") -> str:
    """Mean and deviation of the values that are there, as a table shows them."""
    there = [value for value in values if value is not None]
    if not there:
        return ""
    text = f"{mean(there):{sign}.3f}"
    return f"{text}±{stdev(there):.3f}" if len(there) > 1 else text


def run_script(script: Callable[[], None]) -> None:
    """Run a script; what its user can act on is said plainly."""
    try:
        script()
    except UserError as error:
        console.print(f"Error: {error}", markup=False)
        sys.exit(2)
