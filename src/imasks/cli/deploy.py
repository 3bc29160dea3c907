"""Commands that bring a model out into the world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imasks.cli.options import Approach, RunFolder, Seed
from imasks.cli.screen import console, say


def export_model(
    run: RunFolder,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for model and card.")],
    format: Annotated[
        str, typer.Option(help="onnx: model.onnx; torch: model.pt2, of torch.export.")
    ] = "onnx",
    approach: Approach = None,
    seed: Seed = None,
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence", "--license", help="Of the model, for the model card, e.g. CC-BY-4.0."
        ),
    ] = None,
) -> None:
    """Write the ensemble as one file to use elsewhere.

    It needs no run folder; a model card is written beside it.
    """
    from imasks.deploy.export import export_model as export
    from imasks.runs.choice import choose
    from imasks.runs.run import open_run

    opened = open_run(run)
    chosen = choose(opened, approach=approach, seed=seed)
    say(f"Exporting {chosen}")
    with console.status("tracing the networks and comparing with PyTorch"):
        done = export(opened, out, chosen=chosen, format=format, licence=licence)
    for line in (
        f"On {done.images} validation images, it says what PyTorch says: probabilities differ by "
        f"at most {done.difference:.1g} ({done.resized:.1g} on average where images are resized), "
        f"labels at {done.pixels:.2%} of the pixels at most.",
        f"written: {done.file}",
        f"written: {done.card}",
    ):
        say(line)
