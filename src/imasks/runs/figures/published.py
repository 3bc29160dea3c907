"""Published results, to be drawn beside one's own."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from imasks.errors import UserError
from imasks.runs.figures.lines import Curve, Panel
from imasks.runs.summary import Spread

COLUMNS = ("dataset", "metric", "approach", "generation", "test_score")


def read_published(path: Path) -> list[Panel]:
    """Read one panel a data set from a CSV with the columns of ``COLUMNS``.

    Raises:
        UserError: the file cannot be read, lacks a column, or holds something else than a number.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(
            f"{path} cannot be read", value=error, remedy="Give --published a CSV file."
        ) from error
    found: dict[str, dict[str, dict[int, Spread]]] = {}
    metrics: dict[str, str] = {}
    for line, row in enumerate(rows, start=2):
        try:
            dataset, metric, approach, generation, score = (row[name].strip() for name in COLUMNS)
            spread = Spread(mean=float(score), deviation=None, count=1)
            found.setdefault(dataset, {}).setdefault(approach, {})[int(generation)] = spread
        except (KeyError, AttributeError, ValueError) as error:
            raise UserError(
                f"line {line} of {path} cannot be used",
                value=error,
                remedy=f"Its columns must be {', '.join(COLUMNS)}.",
            ) from error
        metrics.setdefault(dataset, metric)
    return [
        Panel(
            title=f"{dataset} (published)",
            data=dataset,
            ylabel=f"test {metrics[dataset]}",
            curves=tuple(_curve(name, points) for name, points in approaches.items()),
        )
        for dataset, approaches in found.items()
    ]


def beside(own: Sequence[Panel], published: Sequence[Panel]) -> list[list[Panel | None]]:
    """Put the published panel of the same data set below each of one's own.

    Where none is of the same data set, all of them stand below.
    """
    by_name = {_plain(panel.data): panel for panel in published}
    below = [by_name.get(_plain(panel.data)) for panel in own]
    if not any(below):
        below = list(published)
    columns = max(len(own), len(below))
    rows: list[list[Panel | None]] = [list(own), below] if below else [list(own)]
    return [[*row, *[None] * (columns - len(row))] for row in rows]


def _curve(name: str, points: dict[int, Spread]) -> Curve:
    return Curve(name=name, points=dict(sorted(points.items())), level=set(points) == {0})


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
