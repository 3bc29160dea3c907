"""Test scores over the computing time that it took to reach them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imasks.runs.figures.style import LETTER, legend_below, listed, looks
from imasks.runs.progress import duration
from imasks.runs.summary import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


TICKS = [  # seconds, in steps that people count time by
    unit * count
    for unit, counts in (
        (1, (1, 2, 5, 10, 20, 40, 60, 80)),
        (60, (2, 3, 4, 6, 10, 20, 40, 80)),
        (3600, (2, 4, 8, 16, 32, 64, 128)),
    )
    for count in counts
]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """One approach.

    Args:
        name: of it.
        points: generation by generation from the start on: seconds of computing up to there, the
            mean over seeds, and the test score.
    """

    name: str
    points: tuple[tuple[float, Spread], ...]


@dataclass(frozen=True, kw_only=True)
class Race:
    """What one pair of axes shows: approaches on one data set, of one run or of several.

    Args:
        title: above it.
        ylabel: beside it.
        efforts: in the order of the legend.
    """

    title: str
    ylabel: str
    efforts: tuple[Effort, ...]


def effort_figure(races: Sequence[Race]) -> Figure:
    """Draw races side by side: a line for each approach, a marker for each generation."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(one.name for race in races for one in race.efforts))
    style = looks(names)
    longest = 0.75 + LETTER * max(map(len, names))  # inches, with the handle
    width = max(6.0, 4.4 * len(races), longest)
    columns = max(1, int(width / longest))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(width, 3.6 + 0.2 * rows), layout="constrained")
    grid = figure.subplots(1, len(races), squeeze=False)
    for axes, race in zip(grid.flat, races, strict=True):
        for one in race.efforts:
            look = style[one.name]
            axes.errorbar(
                [seconds for seconds, _ in one.points],
                [score.mean for _, score in one.points],
                [score.error or 0.0 for _, score in one.points],
                elinewidth=0.8,
                label=one.name,
                **look.line() | {"linewidth": 1.1, "markeredgecolor": look.color},
            )
        _dress(axes, race)
    legend_below(figure, names, columns=columns)
    return figure


def describe_effort(races: Sequence[Race]) -> str:
    """Say in words what such a figure shows: its alternative text."""
    parts = []
    for race in races:
        ordered = sorted(race.efforts, key=lambda one: one.points[-1][0])
        words = (
            f"{one.name} "
            + listed([f"{score} after {duration(seconds)}" for seconds, score in one.points])
            for one in ordered
        )
        parts.append(f"{race.title}, soonest done first: {'; '.join(words)}.")
    return "Line chart of test scores over computing time. " + " ".join(parts)


def _dress(axes: Axes, race: Race) -> None:
    axes.set_xscale("log")
    axes.minorticks_off()
    times = [seconds for one in race.efforts for seconds, _ in one.points]
    low, high = axes.get_xlim()
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.set_xticks(ticks or [min(times), max(times)])
    axes.set_xticklabels([duration(tick) for tick in axes.get_xticks()])
    axes.set_title(race.title, fontsize=10)
    axes.set_xlabel("computing time of a seed", fontsize=9)
    axes.set_ylabel(race.ylabel, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
