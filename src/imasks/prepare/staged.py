"""A folder that is complete or absent, whoever writes it.

It is filled under a hidden name beside the one wanted, by one process at a time, and gets its name
when all is done. A mark in it says what it was made of, so that the same command finds it made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from imasks.data.files import write_text
from imasks.errors import UserError

MARK = "prepared.json"
LOCK = ".lock"


@contextmanager
def staged(out: Path, *, word: str) -> Iterator[Path]:
    """Yield the hidden folder, which may hold what an earlier process left; publish it at the end.

    After an error it stays, for the next try.

    Args:
        out: the folder wanted; it does not exist or is empty, see :func:`read_mark`.
        word: ends the hidden folder's name; what others left under another one is not taken up.

    Raises:
        UserError: it cannot be made, or another process is at it.
    """
    whole = out.resolve()
    hidden = whole.with_name(f".{whole.name}.{word}")
    try:
        hidden.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{out} cannot be made", value=error, remedy="Give a folder that you may write to."
        ) from error
    try:
        with FileLock(hidden / LOCK, timeout=0):
            yield hidden
            if whole.exists():
                whole.rmdir()  # it is empty
            hidden.rename(whole)
            (whole / LOCK).unlink()
    except Timeout as error:
        raise UserError(
            f"{out} is being prepared by another process",
            remedy="Wait for it, or give another folder.",
        ) from error


def write_mark(folder: Path, mark: dict[str, Any]) -> None:
    """Say in a folder what it was made of, and what there was to tell."""
    write_text(folder / MARK, json.dumps(mark, indent=1))


def read_mark(out: Path) -> dict[str, Any] | None:
    """Read what a folder was made of; None if there is nothing yet.

    Raises:
        UserError: it holds something else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not out.is_dir():
        raise UserError(f"{out} is a file", remedy="Give a new folder.")
    try:
        mark = json.loads((out / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise not_ours(out) from error
    if not isinstance(mark, dict):
        raise not_ours(out)
    return mark


def not_ours(out: Path) -> UserError:
    """Say that a folder holds something else."""
    return UserError(f"{out} exists and is not empty", remedy="Give a new folder.")


def check_same(out: Path, differences: Sequence[str]) -> None:
    """Make sure that a finished folder was made of what is there now.

    Raises:
        UserError: it was not; it names the differences.
    """
    if differences:
        raise UserError(
            f"{out} was prepared from other files or with other options",
            value=", ".join(differences),
            remedy="Give another folder, or delete this one.",
        )


def already(out: Path) -> str:
    """Say that there is nothing to do."""
    return f"{out} is prepared already: nothing to do."
