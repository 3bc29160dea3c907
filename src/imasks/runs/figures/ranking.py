"""What all approaches reached beside one another, a row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imasks.runs.figures.style import COLORS, LETTER, listed
from imasks.runs.summary import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 0.24  # inches


@dataclass(frozen=True, kw_only=True)
class Reached:
    """Scores of one approach.

    Args:
        name: of the approach.
        scores: one a seed, at least one.
    """

    name: str
    scores: Sequence[float]

    @property
    def spread(self) -> Spread:
        """Mean and deviation over the seeds."""
        found = Spread.of(self.scores)
        assert found is not None
        return found


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """What one pair of axes shows.

    Args:
        title: above it.
        xlabel: below it.
        reached: in any order.
        seeds: of the run; fewer are told beside an approach's name.
        bounds: names of approaches whose means all others are measured against.
    """

    title: str
    xlabel: str
    reached: tuple[Reached, ...]
    seeds: int
    bounds: tuple[str, ...] = ()

    def ordered(self) -> list[Reached]:
        """Return the approaches, best first."""
        return sorted(self.reached, key=lambda one: -one.spread.mean)

    def label(self, one: Reached) -> str:
        """Name an approach, with its number of seeds where some are missing."""
        count = len(one.scores)
        return one.name if count == self.seeds else f"{one.name} ({count} of {self.seeds} seeds)"

    def shown_bounds(self) -> list[str]:
        """Return the bounds that were reached."""
        return [name for name in self.bounds if any(one.name == name for one in self.reached)]


def ranking_figure(rankings: Sequence[Ranking]) -> Figure:
    """Draw rankings side by side: a dot for each seed, a bar for mean and standard error."""
    from matplotlib.figure import Figure

    rows = max(len(one.reached) for one in rankings)
    longest = max(len(ranking.label(one)) for ranking in rankings for one in ranking.reached)
    width = (4.2 + LETTER * longest) * len(rankings)
    figure = Figure(figsize=(width, ROW * rows + 1.3), layout="constrained")
    grid = figure.subplots(1, len(rankings), squeeze=False)
    for axes, ranking in zip(grid.flat, rankings, strict=True):
        _draw(axes, ranking)
    return figure


def describe_ranking(rankings: Sequence[Ranking]) -> str:
    """Say in words what such a figure shows: its alternative text."""
    parts = [
        f"{one.title}, highest first: "
        + "; ".join(f"{one.label(each)} {each.spread}" for each in one.ordered())
        for one in rankings
    ]
    seeds = max(one.seeds for one in rankings)
    numbers = "in words mean ± standard deviation, drawn mean and standard error"
    if seeds == 1:
        numbers = "one seed"
    bounds = list(dict.fromkeys(name for one in rankings for name in one.shown_bounds()))
    dashed = f" Dashed lines stand at {listed(bounds)}." if bounds else ""
    return f"Dots in rows, one row an approach ({numbers}). {'. '.join(parts)}.{dashed}"


def _draw(axes: Axes, ranking: Ranking) -> None:
    ordered = ranking.ordered()
    for place, one in enumerate(ordered):
        bound = one.name in ranking.bounds
        color = "black" if bound else COLORS[0]
        spread = one.spread
        if bound:
            axes.axvline(spread.mean, color="#666666", linewidth=0.9, linestyle=(0, (4, 3)))
        axes.scatter(
            list(one.scores),
            [place] * len(one.scores),
            s=14,
            color=color,
            alpha=0.45,
            linewidths=0,
            zorder=2,
        )
        axes.errorbar(
            spread.mean,
            place,
            xerr=spread.error,
            color=color,
            marker="D" if bound else "|",
            markersize=5 if bound else 9,
            markeredgewidth=1.6,
            linewidth=1.4,
            capsize=0,
            zorder=3,
        )
    axes.set_yticks(range(len(ordered)), [ranking.label(one) for one in ordered])
    for tick, one in zip(axes.get_yticklabels(), ordered, strict=True):
        tick.set_fontweight("bold" if one.name in ranking.bounds else "normal")
    axes.set_ylim(len(ordered) - 0.4, -0.6)
    axes.set_title(ranking.title, fontsize=10)
    axes.set_xlabel(ranking.xlabel, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
