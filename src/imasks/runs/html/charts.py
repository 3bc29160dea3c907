"""Charts as geometry in pixels, so that a template only writes them down.

Own code rather than matplotlib's SVG: text stays text, colours follow the page's theme, and a chart
takes a few kilobytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imasks.runs.figures.style import Look

LEFT, RIGHT, TOP, BOTTOM = 66, 14, 12, 40  # margins around the plot
DASH = 1.8  # pixels for one of matplotlib's units, which are line widths
# outlines of markers in a square of -1..1
_MARKERS: Mapping[str, Sequence[tuple[float, float]]] = {
    "s": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "^": ((0, -1.1), (1.1, 0.9), (-1.1, 0.9)),
    "v": ((0, 1.1), (1.1, -0.9), (-1.1, -0.9)),
    "D": ((0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)),
    "<": ((-1.1, 0), (0.9, -1.1), (0.9, 1.1)),
    ">": ((1.1, 0), (-0.9, -1.1), (-0.9, 1.1)),
    "p": tuple(
        (1.1 * math.sin(2 * math.pi * k / 5), -1.1 * math.cos(2 * math.pi * k / 5))
        for k in range(5)
    ),
    "*": tuple(
        (r * math.sin(math.pi * k / 5), -r * math.cos(math.pi * k / 5))
        for k, r in enumerate((1.4, 0.6) * 5)
    ),
    "P": tuple(
        (x, y)
        for x, y in (
            *((-0.4, -1.1), (0.4, -1.1), (0.4, -0.4), (1.1, -0.4), (1.1, 0.4), (0.4, 0.4)),
            *((0.4, 1.1), (-0.4, 1.1), (-0.4, 0.4), (-1.1, 0.4), (-1.1, -0.4), (-0.4, -0.4)),
        )
    ),
    "X": ((-1, -1), (0, -0.4), (1, -1), (0.4, 0), (1, 1), (0, 0.4), (-1, 1), (-0.4, 0)),
}
_ROUND = tuple((math.sin(math.pi * k / 6), math.cos(math.pi * k / 6)) for k in range(12))


@dataclass(frozen=True, kw_only=True)
class Series:
    """Values to be drawn as one line.

    Args:
        name: in the legend.
        points: (x, y), in the order of x.
        spread: deviation at every point, drawn as whiskers; empty for none.
        look: colour, dashes and marker.
        level: a horizontal line at the only point's height.
        marked: whether points are marked.
    """

    name: str
    points: Sequence[tuple[float, float]]
    spread: Sequence[float | None] = ()
    look: Look
    level: bool = False
    marked: bool = True


@dataclass(frozen=True, kw_only=True)
class Stroke:
    """A line in pixels; paths are in SVG's own notation."""

    name: str
    color: str
    dashes: str
    path: str
    whiskers: str
    markers: str
    sample: str


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A place on an axis, in pixels, and its number."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart in pixels.

    Args:
        title: above it.
        alt: what it shows, in words.
        caption: below it.
        width: of all.
        height: of all.
        xlabel: below the axis.
        ylabel: above the axis.
        xticks: from left to right.
        yticks: from bottom to top.
        strokes: from the first drawn to the last.
        dots: (x, y) of points that belong to no line.
        diagonal: a path where both axes are equal; empty for none.
        columns: names of the columns of ``numbers``.
        numbers: what is drawn, as a table.
    """

    title: str
    alt: str
    caption: str
    width: int
    height: int
    xlabel: str
    ylabel: str
    xticks: tuple[Tick, ...]
    yticks: tuple[Tick, ...]
    strokes: tuple[Stroke, ...] = ()
    dots: tuple[tuple[float, float], ...] = ()
    diagonal: str = ""
    columns: tuple[str, ...] = ()
    numbers: tuple[tuple[str, ...], ...] = ()

    @property
    def left(self) -> int:
        """Where the plot begins."""
        return LEFT

    @property
    def right(self) -> int:
        """Where it ends."""
        return self.width - RIGHT

    @property
    def top(self) -> int:
        """Likewise."""
        return TOP

    @property
    def bottom(self) -> int:
        """Likewise."""
        return self.height - BOTTOM


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    alt: str,
    xlabel: str,
    ylabel: str,
    caption: str = "",
    size: tuple[int, int] = (460, 300),
    whole: bool = False,
    limits: tuple[float, float] = (-math.inf, math.inf),
    least: float = 0.0,
    columns: tuple[str, ...] = (),
    numbers: tuple[tuple[str, ...], ...] = (),
) -> Chart:
    """Lay out lines.

    Args:
        series: at least one, with at least one point each.
        title: above it.
        alt: what it shows, in words.
        xlabel: below the axis.
        ylabel: above the axis.
        caption: below it.
        size: width and height in pixels.
        whole: whether x are whole numbers, as generations are.
        limits: that y cannot exceed; whiskers end there.
        least: of y that is shown at least, so that tiny differences look tiny.
        columns: of ``numbers``.
        numbers: what is drawn, as a table.
    """
    curves = [one for one in series if not one.level] or list(series)
    xs = [x for one in curves for x, _ in one.points]
    low, high = min(xs), max(xs)
    if low == high:
        low, high = low - 0.5, high + 0.5
    pad = 0.03 * (high - low)
    ys = [min(max(y, limits[0]), limits[1]) for one in series for y in _extent(one)]
    yticks = nice_ticks(*_widened(min(ys), max(ys), least, limits))
    plane = _Plane(
        x=(low - pad, high + pad),
        y=(min(yticks[0], *ys), max(yticks[-1], *ys)),
        width=size[0],
        height=size[1],
    )
    steps = range(math.ceil(low), math.floor(high) + 1)
    xticks = [float(x) for x in steps] if whole else nice_ticks(low, high)
    return Chart(
        title=title,
        alt=alt,
        caption=caption,
        width=size[0],
        height=size[1],
        xlabel=xlabel,
        ylabel=ylabel,
        xticks=tuple(Tick(at=plane.across(x), text=_number(x)) for x in xticks if low <= x <= high),
        yticks=tuple(Tick(at=plane.down(y), text=_number(y)) for y in yticks),
        strokes=tuple(_stroke(one, plane, limits) for one in series),
        columns=columns,
        numbers=numbers,
    )


def scatter_chart(
    points: Sequence[tuple[float, float]],
    *,
    title: str,
    alt: str,
    xlabel: str,
    ylabel: str,
    caption: str,
    size: tuple[int, int] = (400, 400),
) -> Chart:
    """Lay out points (x, y) in 0..1 with the line where both are equal; arguments as above."""
    plane = _Plane(x=(-0.02, 1.02), y=(-0.02, 1.02), width=size[0], height=size[1])
    ticks = [k / 5 for k in range(6)]
    return Chart(
        title=title,
        alt=alt,
        caption=caption,
        width=size[0],
        height=size[1],
        xlabel=xlabel,
        ylabel=ylabel,
        xticks=tuple(Tick(at=plane.across(x), text=_number(x)) for x in ticks),
        yticks=tuple(Tick(at=plane.down(y), text=_number(y)) for y in ticks),
        dots=tuple((plane.across(x), plane.down(y)) for x, y in points),
        diagonal=_path([(plane.across(v), plane.down(v)) for v in (0.0, 1.0)]),
    )


def nice_ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Choose at most about ``most`` round numbers that cover low..high."""
    if high - low < 1e-6:
        low, high = low - 0.05, high + 0.05
    rough = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


@dataclass(frozen=True, kw_only=True)
class _Plane:
    """From values to pixels."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: int
    height: int

    def across(self, x: float) -> float:
        share = (x - self.x[0]) / (self.x[1] - self.x[0])
        return round(LEFT + share * (self.width - LEFT - RIGHT), 1)

    def down(self, y: float) -> float:
        share = (y - self.y[0]) / (self.y[1] - self.y[0])
        return round(self.height - BOTTOM - share * (self.height - TOP - BOTTOM), 1)


def _widened(
    low: float, high: float, least: float, limits: tuple[float, float]
) -> tuple[float, float]:
    """Widen low..high to both sides until it is ``least`` wide, within limits."""
    more = max(0.0, least - (high - low)) / 2
    return max(low - more, limits[0]), min(high + more, limits[1])


def _extent(one: Series) -> list[float]:
    spread = one.spread or [None] * len(one.points)
    return [
        y + sign * (deviation or 0)
        for (_, y), deviation in zip(one.points, spread, strict=True)
        for sign in (-1, 1)
    ]


def _stroke(one: Series, plane: _Plane, limits: tuple[float, float]) -> Stroke:
    placed = [(plane.across(x), plane.down(y)) for x, y in one.points]
    if one.level:
        y = placed[0][1]
        line = [(float(LEFT), y), (float(plane.width - RIGHT), y)]
        placed = [(line[1][0] - 8, y)]
    else:
        line = placed
    spread = one.spread or [None] * len(one.points)
    whiskers = "".join(
        _whisker(x, plane.down(max(y - d, limits[0])), plane.down(min(y + d, limits[1])))
        for (x, _), (_, y), d in zip(placed, one.points, spread, strict=True)
        if d
    )
    marker = one.look.marker
    marked = one.marked and not one.level
    return Stroke(
        name=one.name,
        color="currentColor" if one.look.color == "#000000" else one.look.color,
        dashes=_dashes(one.look.dashes),
        path=_path(line),
        whiskers=whiskers,
        markers="".join(_marker(marker, x, y) for x, y in placed) if marked else "",
        sample=_marker(marker, 17, 6) if marked else "",
    )


def _dashes(dashes: object) -> str:
    if not isinstance(dashes, tuple):
        return ""
    return " ".join(f"{DASH * length:g}" for length in dashes[1])


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


def _whisker(x: float, low: float, high: float) -> str:
    return f"M{x:g} {low:g}V{high:g}M{x - 3:g} {low:g}h6M{x - 3:g} {high:g}h6"


def _marker(kind: str, x: float, y: float, *, radius: float = 3.6) -> str:
    shape = _MARKERS.get(kind, _ROUND)
    return _path([(round(x + radius * u, 1), round(y + radius * v, 1)) for u, v in shape]) + "Z"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"
