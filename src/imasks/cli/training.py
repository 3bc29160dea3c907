"""Commands that train, and tell of what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imasks.cli.options import DataFolder, RunFolder, takes_options
from imasks.cli.screen import console, progress, quote, say
from imasks.runs.options import Options, check_value

if TYPE_CHECKING:
    from imasks.data.folder import Dataset

Out = Annotated[
    Path, typer.Option("--out", "-o", help="The run folder. The same command again goes on in it.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the plan and an estimate of the time; do nothing.")
]


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where data and run go.")] = Path(
        "imasks-demo"
    ),
) -> None:
    """Train and compare on drawn images: no data needed.

    Draws small images, trains, compares and pictures, in 3 to 8 minutes.
    """
    from imasks.data.folder import open_dataset
    from imasks.demo import APPROACHES, LABELED, OPTIONS, UNLABELED, draw

    with console.status("drawing cells"):
        data = draw(out)
    counts = f"{LABELED} images with masks, {UNLABELED} without"
    say(f"{data}: {counts}; four approaches learn from them.")
    _study(open_dataset(data), out / "run", list(APPROACHES), [0], OPTIONS, may_grow=False)


def approaches() -> None:
    """List the approaches that can be trained."""
    from rich.table import Table

    from imasks.approaches.recipes import APPROACHES

    table = Table("name", "what it does", "starts from")
    for approach in APPROACHES.values():
        table.add_row(approach.name, approach.summary, approach.start or "")
    console.print(table)


@takes_options
def train(
    data: DataFolder,
    out: Out,
    approach: Annotated[
        str, typer.Option("--approach", "-a", help="See `imasks approaches`.")
    ] = "IM+",
    seed: Annotated[int, typer.Option(help="Of everything that is random.")] = 0,
    dry_run: DryRun = False,
    *,
    options: Options,
) -> None:
    """Train a model on a data folder. The same command again goes on after a stop."""
    from imasks.data.folder import open_dataset

    _study(open_dataset(data), out, [approach], [seed], options, may_grow=False, dry=dry_run)


@takes_options
def study(
    data: DataFolder,
    out: Out,
    approaches: Annotated[
        str,
        typer.Option(
            "--approaches",
            "-a",
            help="Names with commas, or `all`; settings of their own may follow names: "
            "IM+ im-label=mean.",
        ),
    ] = "all",
    seeds: Annotated[int, typer.Option(help="Independent runs of everything.")] = 3,
    dry_run: DryRun = False,
    *,
    options: Options,
) -> None:
    """Train several approaches alike and compare them.

    All run under the same conditions. Starts that approaches share are trained once. Approaches
    and seeds can be added later.
    """
    from imasks.data.folder import open_dataset
    from imasks.runs.configure import asked_for

    check_value("seeds", seeds, int, least=1)
    dataset = open_dataset(data)
    names, lacking = asked_for(dataset, approaches.split(","))
    for name, reason in lacking.items():
        say(f"{name}: {reason}", warning="left out")
    _study(dataset, out, names, list(range(seeds)), options, may_grow=True, dry=dry_run)


def status(run: RunFolder) -> None:
    """Show how far a run is and what it found so far."""
    from imasks.runs.run import open_run
    from imasks.runs.tables import status_table

    console.print(status_table(open_run(run)))


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, finished or not.")],
    published: Annotated[
        Path | None,
        typer.Option(
            help="A CSV of published results to draw beside: dataset, metric, approach, "
            "generation, test_score."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where it goes; by default report/ of the one run."),
    ] = None,
) -> None:
    """Redraw page, tables and figures of runs.

    Whatever is finished is in it; several runs are put side by side.
    """
    from imasks.api import report as write

    with console.status("drawing"):
        files = write(runs, out=out, published=published)
    for file in files:
        say(f"written: {file}")


def _study(
    dataset: Dataset,
    out: Path,
    names: list[str],
    seeds: list[int],
    options: Options,
    *,
    may_grow: bool,
    dry: bool = False,
) -> None:
    from imasks.api import finish
    from imasks.data.card import shorten
    from imasks.data.small import small_objects
    from imasks.deploy.observe import observers
    from imasks.runs.lost import REMEDY, lost_notes
    from imasks.runs.run import default_workers, estimate, not_asked_for, plan_run
    from imasks.runs.tables import plan_table, results_table, start_note

    openers = observers(options)
    for note in dataset.skipped:
        say(note, warning="left aside")
    run = plan_run(
        dataset, out, approaches=names, seeds=seeds, options=options, may_grow=may_grow, dry=dry
    )
    workers = default_workers(run, options)
    if others := not_asked_for(run, names, seeds):
        say(
            f"{out} holds more that is not finished and goes on too ({shorten(others)}); for what "
            "was asked for alone use another --out."
        )
    if run.config.review is not None:
        say(f"Review: {run.config.review}")
    if dry:
        for finding in small_objects(dataset, run.config.preparation):
            say(f"{finding.what}. {finding.remedy}", warning="small objects:")
        with progress("measuring a few steps") as on_progress:
            times = estimate(run, workers=workers, on_progress=on_progress)
        console.print(plan_table(run, times, workers=workers))
        return
    files = finish(run, workers=workers, console=console, openers=openers)
    for note in run.store.result(run.plan.prepare)["skipped"]:
        say(note, warning="skipped")
    console.print(results_table(run.rows(), score=run.config.make_task().primary))
    for remedy in dict.fromkeys(one.ended.remedy for one in run.outcomes() if one.ended):
        say(f"their generations before count. {remedy}", warning="(ended)")
    if verdict := start_note(run.outcomes()):
        say(verdict)
    if notes := lost_notes(run.outcomes()):
        for note in notes:
            say(note, warning="lost classes:")
        say(REMEDY)
    for file in files:
        say(f"written: {file}")
    say(f"Next: imasks predict {quote(out)} IMAGES -o OUT")
