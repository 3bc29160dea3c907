"""Scores and sizes over generations, as lines with their spread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imasks.runs.figures.style import Look, listed, looks
from imasks.runs.summary import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One approach over generations.

    Args:
        name: of the approach.
        points: mean and deviation over seeds by generation.
        level: it has no generations: a horizontal line.
    """

    name: str
    points: Mapping[int, Spread]
    level: bool


@dataclass(frozen=True, kw_only=True)
class Panel:
    """What one pair of axes shows.

    Args:
        title: above it.
        data: the name of the data set.
        ylabel: beside it.
        curves: from the first drawn to the last.
    """

    title: str
    data: str
    ylabel: str
    curves: tuple[Curve, ...]


def lines_figure(panels: Sequence[Sequence[Panel | None]]) -> Figure:
    """Draw a grid of panels with one legend for all.

    Args:
        panels: rows of equally many; None stays empty.
    """
    from matplotlib.figure import Figure

    shown = [panel for row in panels for panel in row if panel is not None]
    names = list(dict.fromkeys(curve.name for panel in shown for curve in panel.curves))
    style = looks(names)
    width = max(5.6, 3.4 * len(panels[0]))
    columns = max(2, min(len(names), round(width / 1.5)))
    legend_rows = -(-len(names) // columns)
    figure = Figure(
        figsize=(width, 3.3 * len(panels) + 0.2 * legend_rows + 0.2), layout="constrained"
    )
    grid = figure.subplots(len(panels), len(panels[0]), squeeze=False)
    for axes, panel in zip(grid.flat, (p for row in panels for p in row), strict=True):
        if panel is None:
            axes.set_axis_off()
        else:
            _draw(axes, panel, style)
    handles = {
        handle.get_label(): handle for axes in figure.axes for handle in axes.get_lines()
    }  # one for each name, whichever panel has it
    figure.legend(
        handles=[handles[name] for name in names],
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        frameon=False,
        handlelength=3.2,
    )
    return figure


def describe(panels: Iterable[Panel], what: str) -> str:
    """Say in words what such a figure shows: its alternative text."""
    parts = []
    for panel in panels:
        words = [
            f"{curve.name} {_end(curve)}"
            for curve in sorted(panel.curves, key=lambda c: -c.points[max(c.points)].mean)
        ]
        parts.append(f"{panel.title}, highest first: {'; '.join(words)}.")
    return f"Line chart of {what} over generations. " + " ".join(parts)


def _end(curve: Curve) -> str:
    first, last = min(curve.points), max(curve.points)
    if first == last:
        return str(curve.points[last])
    ends = f"from {curve.points[first]} in generation {first} to {curve.points[last]}"
    return f"{ends} in generation {last}"


def spread_note(panels: Iterable[Panel]) -> str:
    """Say what the bands are, and of how many seeds."""
    counts = sorted({s.count for p in panels for c in p.curves for s in c.points.values()})
    if counts == [1]:
        return "One seed: no spread."
    return (
        f"Means over {listed(map(str, counts))} seeds; bands: one standard deviation to each side."
    )


def _draw(axes: Axes, panel: Panel, style: Mapping[str, Look]) -> None:
    from matplotlib.ticker import MaxNLocator

    last = max((g for curve in panel.curves if not curve.level for g in curve.points), default=1)
    ends = [-0.15, max(last, 1) + 0.15]
    for curve in panel.curves:
        look = style[curve.name]
        if curve.level:
            (spread,) = curve.points.values()
            xs, spreads = ends, [spread, spread]
        else:
            xs, spreads = list(map(float, curve.points)), list(curve.points.values())
        means = [one.mean for one in spreads]
        line = look.line() | ({"marker": ""} if curve.level else {})
        axes.plot(xs, means, label=curve.name, zorder=2 if curve.level else 3, **line)
        if any(one.deviation for one in spreads):
            low = [one.mean - (one.deviation or 0) for one in spreads]
            high = [one.mean + (one.deviation or 0) for one in spreads]
            axes.fill_between(xs, low, high, color=look.color, alpha=0.12, linewidth=0)
    axes.set_xlim(*ends)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=7))
    axes.set_title(panel.title, fontsize=10)
    axes.set_xlabel("generation", fontsize=9)
    axes.set_ylabel(panel.ylabel, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
