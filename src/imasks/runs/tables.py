"""Results, plans and progress as tables for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from imasks.data.card import shorten
from imasks.data.check import channels_name
from imasks.jobs import in_order, unfinished
from imasks.kernels import kernels
from imasks.models.networks import describe
from imasks.models.unet import UNetConfig
from imasks.runs.config import RunConfig
from imasks.runs.cost import FEW_TIMES, times_seen
from imasks.runs.progress import Progression, duration, percent
from imasks.runs.results import Outcome, own_jobs
from imasks.runs.run import NETWORKS, Run
from imasks.runs.summary import LOWER, QUALITY, UPPER, Row, Spread
from imasks.training.pace import timed_images

MISSING = "-"


def results_table(rows: Sequence[Row], *, score: str) -> RenderableType:
    """One line an approach; unfinished ones say so. Fits a terminal of 80 columns."""
    table = Table(
        title=f"{score}, one network a seed",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("approach")  # the only one that may break, for "(3/24 jobs)"
    differs = any(row.to_lower for row in rows)
    shown = ("test", f"to {LOWER}") if differs else ("val", "test")  # all three do not fit
    for name in ("gen.", *shown, "ensemble", "gap", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        to_lower = MISSING if row.to_lower is None else row.to_lower.as_difference()
        scores = (text(row.test), to_lower) if differs else (text(row.val), text(row.test))
        table.add_row(
            _name(row),
            span(row.generation),
            *scores,
            text(row.ensemble_test),
            MISSING if row.gap is None else f"{row.gap:.0%}",
            duration(row.seconds).replace(" ", ""),
        )
    notes = [
        f"{spread_text(rows)}; gen.: generation whose best networks together score best "
        "on the validation images; ensemble: their test score;",
        f"gap: closed from {LOWER} to {UPPER}, (x - {LOWER}) / ({UPPER} - {LOWER}) of the mean "
        "test scores; time: of computing, shared starts counted in.",
    ]
    if differs:
        error = "±standard error" if any(r.to_lower and r.to_lower.error for r in rows) else ""
        notes.insert(1, f"to {LOWER}: test score less that of {LOWER}, paired by seed{error};")
    if taught := [f"{r.approach} {r.evalnet_share:.0%}" for r in rows if r.evalnet_share]:
        notes.append(f"EvalNets learn beside any budget; of all images seen: {', '.join(taught)}.")
    if not all(row.complete for row in rows):
        notes.append("Not finished: run the same command again to go on.")
    parts: list[RenderableType] = [table, Text(" ".join(notes), style="dim")]
    parts += [Text(f"{row.approach}, {one}", style="yellow") for row in rows for one in row.ended]
    if further := [row for row in rows if row.beside]:
        parts += [Text(), _beside_table(further)]
    if judged := [row for row in rows if row.quality]:
        parts += [Text(), _quality_table(judged, score)]
    if lines := convention_lines(rows):
        parts += [Text(), _conventions_table(lines, score)]
    return Group(*parts)


def _name(row: Row) -> str:
    if row.complete:
        return row.named
    return f"{row.approach} ({'start only, ' if row.waits else ''}{row.progress} jobs)"


def _beside_table(rows: Sequence[Row]) -> RenderableType:
    """Show what stands beside the primary score, one column a score."""
    table = Table(
        title="Other test scores of the same networks",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("approach")
    names = dict.fromkeys(name for row in rows for name in row.beside)
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row.named, *(text(row.beside.get(name)) for name in names))
    return table


CONVENTIONS = ("split", "empty is 0", "empty is 1", "without empty")


def convention_lines(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """List the scores by all conventions where a split has images without foreground.

    Returns:
        Approach, split, and the score by each of :data:`CONVENTIONS`.
    """
    lines: list[tuple[str, ...]] = []
    for row in rows:
        for split, spread in (("val", row.val), ("test", row.test)):
            is_one = row.conventions.get(f"{split}_iou_empty_is_one")
            without = row.conventions.get(f"{split}_iou_without_empty")
            # equal where no image is empty, so there is nothing to tell
            if spread and is_one and without and without.mean != spread.mean:
                lines.append((row.named, split, text(spread), text(is_one), text(without)))
    return lines


def _conventions_table(lines: Sequence[tuple[str, ...]], score: str) -> RenderableType:
    table = Table(
        title=f"Images without foreground: the {score} if nothing to find and nothing found counts "
        "0 (which chooses), counts 1, or has no part",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    for name in ("approach", *CONVENTIONS):
        table.add_column(name, justify="left" if name in ("approach", "split") else "right")
    for line in lines:
        table.add_row(*line)
    return table


def _quality_table(rows: Sequence[Row], score: str) -> RenderableType:
    table = Table(
        title=f"Quality: the {score} EvalNets expect of each test image's prediction, against true "
        "ones",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("approach")
    for name in QUALITY:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row.named, *(text(row.quality.get(name)) for name in QUALITY.values()))
    return table


def start_note(found: Sequence[Outcome]) -> str | None:
    """Say of which finished approaches no generation beat the supervised start; None if of none."""
    beaten = [
        one
        for one in found
        if one.complete and len(one.steps) > 1 and one.chosen and one.chosen.generation == 0
    ]
    if not beaten:
        return None
    whose = ""
    if len(found) > 1:
        names = ", ".join(f"{one.approach} (seed {one.seed})" for one in beaten)
        whose = f" of {names}"
    return (
        f"No generation{whose} beat the supervised start on the validation images: predictions "
        "use the start."
    )


def plan_table(run: Run, times: Mapping[str, float], *, workers: int) -> RenderableType:
    """What a run will do, for a dry run."""
    config = run.config
    H, W = config.preparation.size
    table = Table(title="Plan", title_justify="left")
    for name in ("approach", "seeds", "generations", "networks", "jobs", "left"):
        long = name == "approach"  # with settings of its own it is folded, numbers are not
        table.add_column(name, justify="left" if long else "right", no_wrap=not long)
    for name in config.approaches:
        lines = [line for line in run.plan.lines if line.approach.name == name]
        jobs = own_jobs(in_order([job for line in lines for job in line.targets]))
        table.add_row(
            name,
            str(len(lines)),
            str(len(lines[0].generations) - 1),
            str(sum(job.kind in NETWORKS for job in jobs)),
            str(len(jobs)),
            str(len(unfinished(jobs, run.store))),
        )
    jobs = in_order(run.plan.targets)
    table.add_row(
        "all, shared jobs once",  # and the preparation, which is nobody's own
        *(str(len(config.seeds)), ""),
        str(sum(job.kind in NETWORKS for job in jobs)),
        str(len(jobs)),
        str(len(unfinished(jobs, run.store))),
        style="bold",
    )
    pixels = f"{H} x {W} pixels ({config.preparation.fit})"
    images = ", ".join(f"{count} {split}" for split, count in config.images.items())
    low, high = config.ladder.thresholds
    scores = "found from scores" if config.how.thresholds == "auto" else f"{low:g} and {high:g}"
    recipe = config.how.recipe
    epochs = f"{recipe.epochs} epochs, at least {recipe.min_steps} steps"
    length = epochs if recipe.steps is None else f"{recipe.steps} steps"
    timed = timed_images(recipe, size=(H, W), device=torch.device(config.device))
    part = f" of {timed} images, counted as {recipe.batch}" if timed < recipe.batch else ""
    about = [
        f"data       {config.data}: {config.task} ({shorten(config.classes)}), {images}",
        f"networks   see {pixels}, {channels_name(config.preparation.channels)}, "
        f"{'' if config.networks else 'start at '}{networks_text(config)}{_widths(config)}",
        f"voting     {config.how.models} networks; thresholds of EvalNets: {scores}",
        f"training   preset {config.preset}, {length}, batch {recipe.batch}, "
        f"{recipe.precision} on {config.device}, processes: {workers}, threads of "
        f"each: {config.threads}, kernels {kernels()}",
        f"time       about {duration(times['waiting'])} on this machine, from a few measured "
        f"steps{part} ({duration(times['computing'])} of computing)",
    ]
    if (seen := times_seen(config)) is not None:
        few = " (few: try more --steps)" if seen < FEW_TIMES else ""
        about.insert(
            -1, f"seen       each image about {_times(seen)} where all are learned from{few}"
        )
    if config.val_cut:
        about.insert(1, f"validation {len(config.val_cut)} images cut from labeled/")
    return Group(table, Text("\n".join(about)))


def _times(times: float) -> str:
    return f"{times:.1f} times" if times < FEW_TIMES else f"{times:.0f} times"


def _widths(config: RunConfig) -> str:
    """Say how wide U-Nets become where an approach lets them grow."""
    if config.networks:
        return ""
    growth = config.ladder.growth[: config.how.generations]
    widths = ", ".join(f"{config.ladder.width * one:g}" for one in growth)
    return f" (where they grow: {widths})" if growth else ""


def computed_on(config: RunConfig) -> str:
    """Say what numbers were computed with: they are the same only where this is."""
    precision = config.how.recipe.precision
    threads = f", threads of a process: {config.threads}" if config.device == "cpu" else ""
    return f"{config.device}, {precision}{threads}"


def networks_text(config: RunConfig) -> str:
    """Name the networks of a run; those that are no U-Nets do not grow."""
    width = f"width {config.ladder.width:g}"
    if not config.networks:
        return width
    others = [describe(one) for one in config.networks if not isinstance(one, UNetConfig)]
    unets = f"U-Nets, starting at {width}; " if len(others) < len(config.networks) else ""
    return f"{unets}{' and '.join(others)}, of one size in all generations"


def status_table(run: Run) -> RenderableType:
    """Where a run stands, job by job for those that have begun."""
    state = Progression(run.plan.targets, run.store).state()
    head = f"{run.folder}: {state.done} of {state.jobs} jobs done, {percent(state.share)} of the "
    head += f"work, {duration(state.seconds)} of computing so far"
    if state.remaining is not None and state.done < state.jobs:
        head += f", about {duration(state.remaining)} of computing left"
    parts: list[RenderableType] = [Text(head)]
    for one in state.working:
        mark = "" if one.active else "  (not being worked on)"
        parts.append(Text(f"  {one.share:>4.0%}  {one.label}  {one.note}{mark}"))
    for job in in_order(run.plan.targets):
        error = None if run.store.done(job) else run.store.error(job)
        if error is not None:
            parts.append(Text(f"  failed: {job.label}: {error['message']}", style="red"))
    parts.append(results_table(run.rows(), score=run.config.make_task().primary))
    return Group(*parts)


def spread_text(rows: Sequence[Row]) -> str:
    """Say what stands behind ± in these rows, or that nothing does."""
    counts = [row.val.count for row in rows if row.val]
    if max(counts, default=0) <= 1:
        return "one seed: no spread"
    few, most = min(counts), max(counts)
    return f"mean ± deviation over {most if few == most else f'{few} to {most}'} seeds"


def text(spread: Spread | None) -> str:
    """Write a spread, or that there is none."""
    return MISSING if spread is None else str(spread)


def span(numbers: Sequence[int], write: Callable[[int], str] = str) -> str:
    """Write the numbers of several seeds as briefly as they differ."""
    if not numbers:
        return MISSING
    low, high = write(min(numbers)), write(max(numbers))
    return low if low == high else f"{low}-{high}"
