"""Scores and sizes over generations, as lines with their spread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imasks.runs.figures.style import LETTER, Look, legend_below, listed, looks
from imasks.runs.summary import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CROWD = 8  # curves in a panel: of more, bands would cover one another


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
    longest = max((len(name) for name in names), default=0)
    column = 0.75 + LETTER * longest  # inches, with the handle
    each = 4.6 if any(map(_crowded, shown)) else 3.4
    width = max(5.6, each * len(panels[0]), 2 * column)
    columns = max(1, min(len(names), int(width / column)))
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
    legend_below(figure, names, columns=columns)
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


def spread_note(panels: Sequence[Panel]) -> str:
    """Say how spread is drawn, and over how many seeds."""
    counts = sorted({s.count for p in panels for c in p.curves for s in c.points.values()})
    if counts == [1]:
        return "One seed: no spread."
    bars = "bars" if any(map(_crowded, panels)) else "bars at the right"
    bands = bars if all(map(_crowded, panels)) else f"bands and {bars}"
    return (
        f"Means over {listed(map(str, counts))} seeds; {bands}: one standard deviation to each "
        "side."
    )


def _crowded(panel: Panel) -> bool:
    """Tell whether bands would cover one another, or have no width."""
    curves = [curve for curve in panel.curves if not curve.level]
    alone = bool(curves) and len({number for curve in curves for number in curve.points}) == 1
    return len(curves) > CROWD or alone


def _draw(axes: Axes, panel: Panel, style: Mapping[str, Look]) -> None:
    from matplotlib.ticker import MaxNLocator

    curves = [curve for curve in panel.curves if not curve.level]
    levels = [curve for curve in panel.curves if curve.level]
    numbers = sorted({number for curve in curves for number in curve.points}) or [0]
    first, last = numbers[0], numbers[-1]
    crowded = _crowded(panel)
    step = 0.035 * max(1, last - first)
    room = step * (2.5 if crowded else 1) if last > first else 0.5  # beside the curves' ends
    bars = [curve for curve in levels if curve.points[0].deviation]
    left, right = first - room, last + room + step * len(bars)
    for curve in levels:
        look = style[curve.name].line() | {"marker": "", "zorder": 2}
        axes.plot([left, right], [curve.points[0].mean] * 2, label=curve.name, **look)
    for place, curve in enumerate(bars, start=1):  # bands across all would cover one another
        spread = curve.points[0]
        x = last + room + step * (place - 0.6)
        color = style[curve.name].color
        axes.errorbar(x, spread.mean, spread.deviation, color=color, linewidth=1, capsize=2)
        axes.annotate(  # colours and dashes cannot tell short bars apart
            curve.name,
            (x, spread.mean + (spread.deviation or 0)),
            xytext=(0, 2),
            textcoords="offset points",
            rotation=90,
            fontsize=5,
            ha="center",
            va="bottom",
        )
    apart = (3 * step if last > first else 0.85) / len(curves) if crowded else 0.0
    for place, curve in enumerate(curves):
        shift = apart * (place - (len(curves) - 1) / 2)
        _draw_curve(axes, curve, style[curve.name], shift=shift, bars=crowded)
    axes.set_xlim(left, right)
    axes.set_xticks(range(first, last + 1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=7))
    axes.set_title(panel.title, fontsize=10)
    axes.set_xlabel("generation", fontsize=9)
    axes.set_ylabel(panel.ylabel, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_curve(axes: Axes, curve: Curve, look: Look, *, shift: float, bars: bool) -> None:
    xs = [number + shift for number in curve.points]
    spreads = list(curve.points.values())
    axes.plot(xs, [s.mean for s in spreads], label=curve.name, zorder=3, **look.line())
    low, high = ([s.mean + sign * (s.deviation or 0) for s in spreads] for sign in (-1, 1))
    if low == high:
        return
    if bars:
        axes.vlines(xs, low, high, color=look.color, linewidth=0.9, zorder=2)
        return
    axes.fill_between(xs, low, high, color=look.color, alpha=0.1, linewidth=0)
    for edge in (low, high):  # told apart where bands overlap, also without colour
        axes.plot(xs, edge, color=look.color, linestyle=look.dashes, linewidth=0.5, alpha=0.7)
