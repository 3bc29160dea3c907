"""Learning curves, read from the logs of trainings, finished or not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from imasks.jobs import Job, Store
from imasks.runs.figures.style import COLORS, DASHES, MARKERS, Look, score_name
from imasks.runs.html.charts import Chart, Series, line_chart
from imasks.runs.line import Line
from imasks.runs.results import best_fit
from imasks.runs.run import Run

SIZE = (420, 260)


@dataclass(frozen=True, kw_only=True)
class Course:
    """How one training went: by epoch the steps done, the training loss and the score."""

    steps: tuple[int, ...]
    losses: tuple[float, ...]
    scores: tuple[float, ...]


def learning_charts(run: Run) -> tuple[Chart, ...]:
    """Draw loss and validation score of every approach's first seed, a line a generation."""
    seen: dict[str, list[tuple[int, Course]]] = {}
    for line in run.plan.lines:
        found = [] if line.approach.name in seen else _courses(line, run)
        if found:
            seen[line.approach.name] = found
    score = score_name(run.config.make_task().primary)
    return tuple(chart for name, found in seen.items() for chart in _charts(name, found, score))


def read_course(job: Job, store: Store, primary: str) -> Course:
    """Read a training's log; epochs without a finite number are left out."""
    rows: dict[int, tuple[int, float, float]] = {}
    for record in store.log(job):
        values = [record.get(name) for name in ("loss", primary)]
        if "epoch" in record and all(isinstance(v, float) and math.isfinite(v) for v in values):
            rows[record["epoch"]] = (record["step"], *values)
    ordered = [rows[epoch] for epoch in sorted(rows)]
    steps, losses, scores = zip(*ordered, strict=True) if ordered else ((), (), ())
    return Course(steps=steps, losses=losses, scores=scores)


def _courses(line: Line, run: Run) -> list[tuple[int, Course]]:
    """The best candidate of each generation, or the first while they are not ranked."""
    primary, found = run.config.make_task().primary, []
    for generation in line.generations:
        ranked = run.store.done(generation.rank)
        job = best_fit(generation, run.store) if ranked else generation.fits[0]
        course = read_course(job, run.store, primary)
        if course.steps:
            found.append((generation.number, course))
    return found


def _charts(name: str, found: Sequence[tuple[int, Course]], score: str) -> list[Chart]:
    charts = []
    for what, of in (("training loss", "losses"), (f"validation {score}", "scores")):
        series = [
            Series(
                name="start" if number == 0 else f"generation {number}",
                points=list(zip(course.steps, getattr(course, of), strict=True)),
                look=Look(
                    color=COLORS[number % len(COLORS)],
                    dashes=DASHES[number % len(DASHES)],
                    marker=MARKERS[number % len(MARKERS)],
                ),
                marked=False,
            )
            for number, course in found
        ]
        ends = "; ".join(
            f"{one.name} from {one.points[0][1]:.3f} to {one.points[-1][1]:.3f}" for one in series
        )
        charts.append(
            line_chart(
                series,
                title=f"{name}: {what}",
                alt=f"Line chart of the {what} of {name} over optimiser steps: {ends}.",
                xlabel="optimiser steps",
                ylabel=what,
                size=SIZE,
            )
        )
    return charts
