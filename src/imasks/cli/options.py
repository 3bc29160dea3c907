"""Arguments and options that several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from imasks.encoding import TaskName
from imasks.errors import UserError
from imasks.runs.options import Options

DataFolder = Annotated[Path, typer.Argument(help="The data folder; `imasks init` makes one.")]
MovedData = Annotated[
    Path | None, typer.Option(help="The data folder, if it is not where the run began.")
]
RunFolder = Annotated[Path, typer.Argument(help="The run folder, as given to --out.")]
Approach = Annotated[
    str | None, typer.Option(help="Of a study; by default the best on validation.")
]
Seed = Annotated[int | None, typer.Option(help="Of a study; by default the best on validation.")]
Scale = Annotated[
    str,
    typer.Option(
        help="auto; whole: shrink each image to the training size; native: tiles at the "
        "training magnification."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Task = Annotated[
    str | None,
    typer.Option(help="binary, multiclass or multilabel; found from the masks if not given."),
]
Empty = Annotated[bool, typer.Option("--empty", help="Images without any shape show no class.")]


def check_task(name: str | None) -> TaskName | None:
    """Return the task of this name.

    Raises:
        UserError: there is none.
    """
    known = next((one for one in get_args(TaskName) if one == name), None)
    if known != name:
        raise UserError(
            "--task is not known", value=name, remedy=f"Use {', '.join(get_args(TaskName))}."
        )
    return known


def split_names(text: str | None) -> list[str]:
    """Take names with commas apart."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option for every field of ``Options``, in place of ``options``."""
    hints = get_type_hints(Options)
    added = {}
    for field in fields(Options):
        flags = [f"--{field.name.replace('_', '-')}"]
        if hints[field.name] in (bool, bool | None) and field.default is None:
            flags[0] += f"/--no-{field.name.replace('_', '-')}"
        option = typer.Option(*flags, help=field.metadata["help"])
        added[field.name] = keyword(
            field.name, Annotated[hints[field.name], option], default=field.default
        )

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in added}
        command(**given, options=Options(**chosen))

    kept = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(command, eval_str=True).parameters.items()
        if name != "options"
    ]
    return signed(with_options, [*kept, *added.values()])


def keyword(
    name: str, annotation: Any, *, default: Any = inspect.Parameter.empty
) -> inspect.Parameter:
    """Describe one parameter of a command that is put together."""
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def signed(
    command: Callable[..., None], parameters: list[inspect.Parameter]
) -> Callable[..., None]:
    """Give a command that takes ``**given`` the parameters that typer shall see."""
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command
