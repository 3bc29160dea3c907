"""Commands that make and read data folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imasks.cli.options import DataFolder, Task, check_task, split_names
from imasks.cli.screen import console, progress, quote, say


def init(
    folder: Annotated[Path, typer.Argument(help="The data folder to make.")],
    images: Annotated[Path, typer.Option(help="A folder of images.")],
    masks: Annotated[Path, typer.Option(help="A folder of masks, or of one folder a class.")],
    unlabeled: Annotated[Path | None, typer.Option(help="More images without masks.")] = None,
    task: Task = None,
    classes: Annotated[str | None, typer.Option(help="Class names, with commas.")] = None,
    test_share: Annotated[
        float, typer.Option(help="Share of the labeled images set aside for testing.")
    ] = 0.0,
) -> None:
    """Turn two plain folders into a data folder.

    What the masks mean is guessed, and shown.
    """
    from imasks.data.scaffold import init_folder

    with console.status("reading masks and copying"):
        _, lines = init_folder(
            folder,
            images=images,
            masks=masks,
            unlabeled=unlabeled,
            task=check_task(task),
            classes=None if classes is None else split_names(classes),
            test_share=test_share,
        )
    for line in lines:
        say(line)
    say(f"Next: imasks check {quote(folder)}")


def check(data: DataFolder) -> None:
    """Read a data folder and report all that is wrong with it."""
    from imasks.data.check import check_folder
    from imasks.data.check_report import render

    with progress("reading") as on_progress:
        report = check_folder(data, on_progress=on_progress)
    render(report, console)
    if not report.ok:
        raise typer.Exit(1)
