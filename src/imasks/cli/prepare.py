"""`imasks prepare`: a sub-command for every published data set and every form of one's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from imasks.cli.exchange import READ, add_readers
from imasks.cli.options import keyword, signed
from imasks.cli.screen import console, quote, say
from imasks.prepare.registry import PREPARERS, Option, Preparer, Request

prepare_app = typer.Typer(
    help="Turn data in another form into a data folder.\n\n"
    "A published data set, as it was downloaded, or your own.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _list(wanted: bool) -> None:
    """Tell of every preparer what it is for; of data sets also where they come from."""
    if not wanted:
        return
    for one in PREPARERS.values():
        console.print(Text(one.name, style="bold"), Text(one.description))
        if one.about is not None:
            console.print(_about(one), soft_wrap=True)
    for name, (summary, source) in READ.items():
        console.print(Text(name, style="bold"), Text(f"your own: {summary}"), soft_wrap=True)
        console.print(Text.assemble((f"  {'expected':<10}", "dim"), f"{source}\n"), soft_wrap=True)
    raise typer.Exit


@prepare_app.callback()
def _prepare(
    wanted: Annotated[
        bool,
        typer.Option(
            "--list",
            callback=_list,
            is_eager=True,
            help="Tell of each what it is, where to get it and how it must lie, and end.",
        ),
    ] = False,
) -> None:
    pass


def _about(one: Preparer) -> Text:
    assert one.about is not None
    about = one.about()
    text = Text()
    classes = Text()
    for name, color in zip(about.classes, about.colors, strict=True):
        classes.append("■ ", style=color).append(f"{name} {color}  ")
    for head, body in (
        ("task", Text(about.task)),
        ("classes", classes),
        ("from", Text(about.where)),
        ("licence", Text(about.licence)),
        ("cite", Text(about.citation)),
        ("expected", Text(about.tree.replace("\n", "\n" + " " * 12))),
    ):
        text.append(f"  {head:<10}", style="dim").append(body).append("\n")
    return text


def _command(one: Preparer) -> Callable[..., None]:
    """Make the command of a preparer, with an option for each of its own."""

    def command(source: Path, out: Path, **options: Any) -> None:
        columns = (TextColumn("preparing"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
            task = bar.add_task("preparing", total=None)
            told = one.function(
                Request(
                    source=source,
                    out=out,
                    options=options,
                    on_progress=lambda done, total: bar.update(task, completed=done, total=total),
                )
            )
        folder = quote(out)
        lines = [*told, *_counts(out), f"Next: imasks check {folder}", _study(one, folder)]
        for line in lines:
            say(line)

    parameters = [
        keyword("source", Annotated[Path, typer.Argument(help="The folder of the download.")]),
        keyword("out", Annotated[Path, typer.Argument(help="The data folder to make.")]),
        *map(_option, one.options),
    ]
    return signed(command, parameters)


def _counts(out: Path) -> list[str]:
    from imasks.data.folder import open_dataset

    splits = open_dataset(out).splits
    return [f"{split}/: {len(samples)} images." for split, samples in splits.items() if samples]


def _study(one: Preparer, folder: str) -> str:
    preset = " --preset paper" if one.about is not None else ""
    return f"      imasks study {folder}{preset} --out runs/{one.name}"


def _option(option: Option) -> inspect.Parameter:
    flag = f"--{option.name.replace('_', '-')}"
    given = typer.Option(flag, help=option.help)
    return keyword(option.name, Annotated[option.kind, given], default=option.default)


for _one in PREPARERS.values():
    prepare_app.command(_one.name, help=_one.description, short_help=_one.description)(
        _command(_one)
    )
add_readers(prepare_app)
