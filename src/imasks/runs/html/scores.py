"""Scores as a table and as charts, from the same sources as the other reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from imasks.approaches.recipes import find_approach
from imasks.jobs import in_order
from imasks.runs.figures import sources
from imasks.runs.figures.lines import Panel, describe
from imasks.runs.figures.scatter import agreement
from imasks.runs.figures.style import listed, looks, score_name
from imasks.runs.html.charts import Chart, Series, line_chart, scatter_chart
from imasks.runs.html.page import Table
from imasks.runs.progress import duration
from imasks.runs.run import Run
from imasks.runs.summary import LOWER, UPPER, Row
from imasks.runs.tables import CONVENTIONS, MISSING, convention_lines, span, spread_text, text

MOST_NAMED = 5  # approaches in one sentence
DOTS = 1000  # points of a scatter chart, at most


def score_table(rows: Sequence[Row], *, score: str) -> Table:
    """One line an approach; unfinished ones say so."""
    columns, cells = _known(
        (
            *("approach", "generation", "validation", "test", "ensemble", f"to {LOWER}", "gap"),
            *("time", "parameters", "images seen", "jobs"),
        ),
        [_cells(row) for row in rows],
    )
    return Table(
        caption=f"{score}, one network a seed ({spread_text(rows)})",
        columns=columns,
        rows=cells,
        notes=(
            "The network of a seed is the best candidate, by validation score, of the generation "
            "whose best networks together score best there. Test images choose nothing.",
            "ensemble: test score of that generation's best networks together, which is what "
            "predictions use.",
            f"to {LOWER}: test score less that of {LOWER} with the same seed, mean ± standard "
            "error.",
            f"gap: closed from {LOWER} to {UPPER}, (x - {LOWER}) / ({UPPER} - {LOWER}).",
            "time: of computing, all seeds, candidates and shared starts counted in. images seen: "
            "by the network and all that had a part in its pseudo-labels. jobs: done of all, those "
            "that approaches share counted at each, the preparation of the data not at all.",
            *(f"{row.approach}, {one}." for row in rows for one in row.ended),
        ),
    )


def empty_table(rows: Sequence[Row], *, score: str) -> Table | None:
    """Scores by all conventions about images without foreground; None where there are none."""
    lines = convention_lines(rows)
    if not lines:
        return None
    return Table(
        caption=f"Images without foreground: the {score} if nothing to find and nothing found "
        "counts 0 (which chooses), counts 1, or has no part",
        columns=("approach", *CONVENTIONS),
        rows=tuple(lines),
    )


def score_charts(run: Run, title: str, published: Sequence[Panel | None]) -> tuple[Chart, ...]:
    """Test (or else validation) scores and sizes of masks over generations, as far as known.

    Args:
        run: finished or not.
        title: what it is called.
        published: panels to be drawn beside.
    """
    score = score_name(run.config.make_task().primary)
    panel = sources.score_panel(run, title)
    what = "Test score"
    if panel is None:
        curves = sources.curves_of(run, lambda step: step.val)
        what = "Validation score"
        if curves:
            label = f"validation {score}"
            panel = Panel(title=title, data=title, ylabel=label, curves=tuple(curves))
    charts = []
    if panel is not None:
        caption = (
            "One network a seed, the best candidate on the validation images. Horizontal lines: "
            f"approaches without generations. {_spread_note(panel)}"
        )
        charts.append(panel_chart(panel, f"{what} over generations", caption, "test scores"))
    charts += [
        panel_chart(each, each.title, "Published scores.", "published scores")
        for each in published
        if each is not None
    ]
    sizes = sources.size_panel(run, title)
    if sizes is not None:
        caption = (
            "Mean share of the pixels of all unlabeled images that a generation's networks learned "
            f"without. {_spread_note(sizes)}"
        )
        what = "the inconsistency masks' share of pixels"
        short = replace(sizes, ylabel="share of pixels")
        charts.append(panel_chart(short, "Size of the inconsistency masks", caption, what))
    return tuple(charts)


def panel_chart(panel: Panel, title: str, caption: str, what: str) -> Chart:
    """Lay out a panel; its table says the same in numbers."""
    style = looks([curve.name for curve in panel.curves])
    ordered = sorted(panel.curves, key=lambda curve: not curve.level)  # levels below curves
    numbers = tuple(
        (curve.name, str(generation), text(spread))
        for curve in panel.curves
        for generation, spread in curve.points.items()
    )
    return line_chart(
        [
            Series(
                name=curve.name,
                points=[(float(x), spread.mean) for x, spread in curve.points.items()],
                spread=[spread.deviation for spread in curve.points.values()],
                look=style[curve.name],
                level=curve.level,
            )
            for curve in ordered
        ],
        title=title,
        alt=describe([panel], what),
        xlabel="generation",
        ylabel=panel.ylabel,
        caption=caption,
        whole=True,
        limits=(0, 1),  # scores and shares
        least=0.05,
        columns=("approach", "generation", panel.ylabel),
        numbers=numbers,
    )


def quality_charts(run: Run) -> tuple[Chart, ...]:
    """Expected against true scores, a chart for each approach that EvalNets judge."""
    score = score_name(run.config.make_task().primary)
    return tuple(
        _quality_chart(title, expected, true, score, len(run.config.seeds))
        for title, expected, true in sources.predicted_scores(run)
    )


def summary_of(run: Run, rows: Sequence[Row], best: str | None) -> str:
    """Say in a sentence or two how a run ended.

    Args:
        run: finished or not.
        rows: its results.
        best: the approach that predictions are made with; None if there is none yet.
    """
    row = next((row for row in rows if row.approach == best), None)
    if row is None or row.ensemble_val is None:
        return "No generation is finished yet: there are no scores."
    score = score_name(run.config.make_task().primary)
    lines = [line for line in run.plan.lines if line.approach.name == best]
    start_kept = not any(row.generation) and any(len(line.generations) > 1 for line in lines)
    who = "The supervised start of " if start_kept else ""
    yardsticks = any(one.val and find_approach(one.approach).needs_truth for one in rows)
    aside = ""
    if yardsticks and not find_approach(row.approach).needs_truth:
        aside = ", of those that need no true masks of unlabeled images"
    sentence = (
        f"{who}{row.approach} is best on the validation images{aside}: its networks together "
    )
    sentence += f"reach a {score} of {row.ensemble_val} there"
    if row.ensemble_test is not None:
        sentence += f", and {row.ensemble_test} on the test images"
    single = [f"A single one reaches {row.test} on these"] if row.test else []
    if row.to_lower is not None:
        single.append(f"{row.to_lower.as_difference()} to {LOWER}")
    if row.gap is not None and row.approach not in (LOWER, UPPER):
        single.append(f"{row.gap:.0%} of the way from {LOWER} to {UPPER}")
    sentence += f". {', '.join(single)}" if single else ""
    more = ""
    if not all(one.complete for one in rows):
        more = f" Not finished: {unfinished_text(rows)}; numbers may change."
    seconds = f" {duration(_computing(run))} of computing."
    return f"{sentence}.{more}{seconds}"


def unfinished_text(rows: Sequence[Row]) -> str:
    """Name the approaches that are not finished, or say how many there are."""
    names = [f"{row.approach} ({row.progress} jobs)" for row in rows if not row.complete]
    if len(names) > MOST_NAMED:
        return f"{len(names)} of {len(rows)} approaches, {', '.join(names[:MOST_NAMED])} and others"
    return listed(names)


def _spread_note(panel: Panel) -> str:
    counts = sorted({s.count for curve in panel.curves for s in curve.points.values()})
    if counts == [1]:
        return "One seed: no spread."
    seeds = listed(map(str, counts))
    return f"Means over {seeds} seeds; whiskers: one standard deviation to each side."


def _computing(run: Run) -> float:
    return sum(run.store.elapsed(job) for job in in_order(run.plan.targets))


def _quality_chart(
    title: str, expected: np.ndarray, true: np.ndarray, score: str, seeds: int
) -> Chart:
    found = agreement(expected, true)
    count = len(true)
    rows = np.unique(np.linspace(0, count - 1, DOTS).round().astype(int))
    one_of = f" One seed of {seeds}; results.md has the mean." if seeds > 1 else ""
    drawn = "" if len(rows) == count else f" {len(rows)} of them are drawn, evenly chosen."
    points = [(float(true[row]), float(expected[row])) for row in rows]
    return scatter_chart(
        points,
        title=title,
        alt=f"Scatter plot of expected against true {score}, {count} points; {found}.",
        xlabel=f"true {score}",
        ylabel=f"expected {score}",
        caption=f"{count} predictions: {found}.{drawn}{one_of} Dashed: where both are equal.",
    )


def _known(
    columns: Sequence[str], rows: Sequence[tuple[str, ...]]
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Leave out the columns of which no row knows anything."""
    kept = [k for k in range(len(columns)) if any(row[k] != MISSING for row in rows)]
    return tuple(columns[k] for k in kept), tuple(tuple(row[k] for k in kept) for row in rows)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.named,
        span(row.generation),
        text(row.val),
        text(row.test),
        text(row.ensemble_test),
        MISSING if row.to_lower is None else row.to_lower.as_difference(),
        MISSING if row.gap is None else f"{row.gap:.0%}",
        duration(row.seconds),
        span(row.parameters, "{:,}".format),
        span(row.images_seen, "{:,}".format),
        row.progress,
    )
