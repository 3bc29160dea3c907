"""What every command does with the terminal."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

# file names are the user's own: brackets in them are no markup, colons no emoji
console = Console(markup=False, emoji=False, highlight=False)


def say(text: str, *, warning: str = "") -> None:
    """Print a line as it is; long ones are left to the terminal, so that paths can be copied."""
    console.print(Text.assemble((f"{warning} " if warning else "", "yellow"), text), soft_wrap=True)


def tell_skipped(skipped: Sequence[tuple[object, str]]) -> None:
    """Name every file left out and why; then end with code 1, if there is one."""
    for name, reason in skipped:
        say(f"{name}: {reason}", warning="skipped")
    if skipped:
        raise typer.Exit(1)


@contextmanager
def progress(what: str, *, total: int | None = None) -> Iterator[Callable[[int, int], None]]:
    """Show a bar that is gone at the end; yields what to call with (done, total)."""
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def quote(path: Path) -> str:
    """Write a path as a shell wants it."""
    return shlex.quote(str(path))
