"""Results, plans and progress as tables for a terminal, and results as a tidy CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from imasks.jobs import in_order, write_atomic
from imasks.runs.progress import Progression, duration
from imasks.runs.results import Outcome, Row, Spread, jobs_of
from imasks.runs.run import Run

MISSING = "-"


def results_table(rows: Sequence[Row], *, score: str) -> RenderableType:
    """One line an approach; unfinished ones say so."""
    table = Table(title=f"{score}, one network a seed", title_justify="left")
    for name in ("approach", "gen.", "val", "test", "ensemble", "gap closed", "time"):
        table.add_column(name, justify="left" if name == "approach" else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.approach if row.complete else f"{row.approach} ({row.progress} jobs)",
            ",".join(map(str, row.generation)) or MISSING,
            *(MISSING if value is None else str(value) for value in (row.val, row.test)),
            MISSING if row.ensemble_test is None else str(row.ensemble_test),
            _percent(row.gap),
            duration(row.seconds),
        )
    seeds = max((row.val.count for row in rows if row.val), default=0)
    spread = f"mean ± deviation over {seeds} seeds; " if seeds > 1 else "one seed: no spread; "
    notes = [
        f"{spread}gen.: generation with the best validation score, by seed; ensemble: test score "
        "of its best networks together;",
        "gap closed: (x - LDT) / (FDT - LDT) on the test images; time: of computing, shared "
        "starts counted in.",
    ]
    if not all(row.complete for row in rows):
        notes.append("Not finished: run the same command again to go on.")
    return Group(table, Text(" ".join(notes), style="dim"))


def plan_table(run: Run, times: Mapping[str, float], *, workers: int) -> RenderableType:
    """What a run will do, for a dry run."""
    config = run.config
    H, W = config.preparation.size
    table = Table(title="Plan", title_justify="left")
    for name in ("approach", "seeds", "generations", "networks", "jobs", "left"):
        table.add_column(name, justify="left" if name == "approach" else "right", no_wrap=True)
    for name in config.approaches:
        lines = [line for line in run.plan.lines if line.approach.name == name]
        jobs = in_order([job for line in lines for job in jobs_of(line)])
        table.add_row(
            name,
            str(len(lines)),
            str(len(lines[0].generations) - 1),
            str(sum(job.kind == "fit" for job in jobs)),
            str(len(jobs)),
            str(sum(not run.store.done(job) for job in jobs)),
        )
    pixels = f"{H} x {W} pixels ({config.preparation.fit})"
    images = ", ".join(f"{count} {split}" for split, count in config.images.items())
    about = [
        f"data       {config.data}: {config.task}, {len(config.classes)} classes, {images}",
        f"networks   see {pixels}, {config.preparation.channels} channel(s), "
        f"start at width {config.ladder.width:g}",
        f"training   preset {config.preset}, batch {config.how.recipe.batch}, "
        f"{config.how.recipe.precision} on {config.device}, {workers} process(es) of "
        f"{config.threads} thread(s)",
        f"time       about {duration(times['waiting'])} on this machine, from a few measured "
        f"steps ({duration(times['computing'])} of computing)",
    ]
    if config.val_cut:
        about.insert(1, f"validation {len(config.val_cut)} images cut from labeled/")
    return Group(table, Text("\n".join(about)))


def status_table(run: Run) -> RenderableType:
    """Where a run stands, job by job for those that have begun."""
    state = Progression(run.plan.targets, run.store).state()
    head = f"{run.folder}: {state.done} of {state.jobs} jobs done, {state.share:.0%} of the work, "
    head += f"{duration(state.seconds)} of computing so far"
    if state.remaining is not None and state.done < state.jobs:
        head += f", about {duration(state.remaining)} of computing left"
    parts: list[RenderableType] = [Text(head)]
    for one in state.working:
        mark = "" if one.active else "  (nothing logged for 10 minutes: stopped?)"
        parts.append(Text(f"  {one.share:>4.0%}  {one.label}  {one.note}{mark}"))
    for job in in_order(run.plan.targets):
        error = None if run.store.done(job) else run.store.error(job)
        if error is not None:
            parts.append(Text(f"  failed: {job.label}: {error['message']}", style="red"))
    parts.append(results_table(run.rows(), score=run.config.make_task().primary))
    return Group(*parts)


def write_results_csv(run: Run) -> Path:
    """Write ``report/results.csv``: one row for every approach, seed and generation."""
    path = run.folder / "report" / "results.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ("val", "test", "ensemble_val", "ensemble_test", "im_share", "kept", "parameters")
    writer.writerow(("data", "score", "approach", "seed", "generation", *columns, "chosen"))
    score = run.config.make_task().primary
    for one in run.outcomes():
        for step in one.steps:
            values = ("" if (v := getattr(step, name)) is None else v for name in columns)
            head = (Path(run.config.data).name, score, one.approach, one.seed, step.generation)
            writer.writerow((*head, *values, _chosen(one, step.generation)))
    write_atomic(path, text.getvalue().encode())
    return path


def _chosen(one: Outcome, generation: int) -> str:
    return "yes" if one.chosen is not None and one.chosen.generation == generation else ""


def _percent(value: Spread | None) -> str:
    if value is None:
        return MISSING
    spread = "" if value.deviation is None else f" ± {value.deviation:.0%}"
    return f"{value.mean:.0%}{spread}"
