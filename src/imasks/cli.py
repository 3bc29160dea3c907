"""The command line: verbs, their options, and errors without a traceback."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from imasks.errors import UserError

app = typer.Typer(
    name="imasks",
    help="Semi-supervised image segmentation with Inconsistency Masks: a few images with masks, "
    "many without, one good model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
console = Console()

Folder = Annotated[Path, typer.Argument(help="The data folder; see `imasks init`.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="The run folder; give it again to go on.")]


class PresetName(str, Enum):
    """The presets."""

    DEFAULT = "default"
    PAPER = "paper"


PresetOption = Annotated[
    PresetName, typer.Option(help="default: measured to be good; paper: as published.")
]
Quick = Annotated[bool, typer.Option("--quick", help="A first look in minutes.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and the time, do nothing.")]
Size = Annotated[
    str | None, typer.Option(help="Train at HEIGHTxWIDTH pixels, multiples of 16, e.g. 128x192.")
]
LongerSide = Annotated[
    int | None, typer.Option(help="Train at this longer side; the shape follows the images.")
]
Width = Annotated[float | None, typer.Option(help="Width of the starting networks, e.g. 0.5.")]
Models = Annotated[int | None, typer.Option(help="Networks that vote (the paper's n).")]
Generations = Annotated[int | None, typer.Option(help="Generations after the start.")]
Candidates = Annotated[int | None, typer.Option(help="Networks trained per generation.")]
StartCandidates = Annotated[int | None, typer.Option(help="Networks trained for a start.")]
Steps = Annotated[int | None, typer.Option(help="Optimiser steps per network.")]
Batch = Annotated[int | None, typer.Option(help="Images per step.")]
ImInput = Annotated[
    str | None, typer.Option(help="Pixels under the inconsistency mask: show them `black`, or `keep`.")
]
ImLabel = Annotated[
    str | None, typer.Option(help="Labels under it: `blank` (as published), or `ignore` in the loss.")
]
Filter = Annotated[
    bool | None, typer.Option("--filter/--no-filter", help="Drop images the networks disagree on.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Precision = Annotated[str, typer.Option(help="auto (measured), float32 or bfloat16.")]
Workers = Annotated[int | None, typer.Option(help="Processes that train side by side.")]


@app.command()
def train(  # noqa: PLR0917
    data: Folder,
    out: Out,
    approach: Annotated[str, typer.Option("--approach", "-a", help="See `imasks approaches`.")] = (
        "IM+"
    ),
    seed: Annotated[int, typer.Option(help="Of everything that is random.")] = 0,
    preset: PresetOption = PresetName.DEFAULT,
    quick: Quick = False,
    dry_run: DryRun = False,
    size: Size = None,
    longer_side: LongerSide = None,
    width: Width = None,
    models: Models = None,
    generations: Generations = None,
    candidates: Candidates = None,
    start_candidates: StartCandidates = None,
    steps: Steps = None,
    batch: Batch = None,
    im_input: ImInput = None,
    im_label: ImLabel = None,
    filter: Filter = None,  # noqa: A002
    device: Device = "auto",
    precision: Precision = "auto",
    workers: Workers = None,
) -> None:
    """Train a model on a data folder. Run the same command again to go on after a stop."""
    from imasks.runs.options import Options

    options = Options(
        preset=preset.value,
        quick=quick,
        size=_size(size),
        longer_side=longer_side,
        width=width,
        models=models,
        generations=generations,
        candidates=candidates,
        start_candidates=start_candidates,
        steps=steps,
        batch=batch,
        im_input=im_input,
        im_label=im_label,
        filter=filter,
        device=device,
        precision=precision,
        workers=workers,
    )
    _go(data, out, [approach], [seed], options, may_grow=False, dry=dry_run)


@app.command()
def study(  # noqa: PLR0917
    data: Folder,
    out: Out,
    approaches: Annotated[
        str, typer.Option("--approaches", "-a", help="Names with commas between them, or `all`.")
    ] = "all",
    seeds: Annotated[int, typer.Option(help="Independent runs of everything.")] = 3,
    preset: PresetOption = PresetName.DEFAULT,
    quick: Quick = False,
    dry_run: DryRun = False,
    size: Size = None,
    longer_side: LongerSide = None,
    width: Width = None,
    models: Models = None,
    generations: Generations = None,
    candidates: Candidates = None,
    start_candidates: StartCandidates = None,
    steps: Steps = None,
    batch: Batch = None,
    im_input: ImInput = None,
    im_label: ImLabel = None,
    filter: Filter = None,  # noqa: A002
    device: Device = "auto",
    precision: Precision = "auto",
    workers: Workers = None,
) -> None:
    """Train several approaches under the same conditions and compare them.

    Starts that approaches share are trained once. Approaches and seeds can be added later.
    """
    from imasks.approaches.recipes import APPROACHES
    from imasks.runs.options import Options

    names = list(APPROACHES) if approaches.strip().lower() == "all" else approaches.split(",")
    options = Options(
        preset=preset.value,
        quick=quick,
        size=_size(size),
        longer_side=longer_side,
        width=width,
        models=models,
        generations=generations,
        candidates=candidates,
        start_candidates=start_candidates,
        steps=steps,
        batch=batch,
        im_input=im_input,
        im_label=im_label,
        filter=filter,
        device=device,
        precision=precision,
        workers=workers,
    )
    _go(data, out, names, list(range(seeds)), options, may_grow=True, dry=dry_run)


def _go(data, out, names, seeds, options, *, may_grow, dry) -> None:  # type: ignore[no-untyped-def]
    from imasks.data.folder import open_dataset
    from imasks.runs.run import default_workers, estimate, plan_run, work
    from imasks.runs.tables import results_table

    dataset = open_dataset(data)
    run = plan_run(
        dataset, out, approaches=names, seeds=seeds, options=options, may_grow=may_grow, dry=dry
    )
    workers = default_workers(run, options)
    if dry:
        console.print(estimate(run, workers=workers))
        return
    work(run, workers=workers, console=console)
    console.print(results_table(run.rows(), score=run.config.make_task().primary))


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        height, width = map(int, text.lower().split("x"))
    except ValueError:
        raise UserError(
            "--size is not understood", value=text, remedy="Use HEIGHTxWIDTH, e.g. 128x192."
        ) from None
    return height, width


def main() -> None:
    """Run the command line; errors a user can act on are printed plainly."""
    try:
        app()
    except UserError as error:
        Console(stderr=True).print(f"[bold red]Error:[/] {error}", highlight=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
