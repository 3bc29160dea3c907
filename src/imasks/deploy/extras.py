"""Libraries that only some users need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from imasks.errors import UserError


def needed(module: str, *, extra: str | None, what: str) -> Any:
    """Import a library that imasks can do without.

    Args:
        module: to import.
        extra: of imasks that installs it; None: it is installed by its own name.
        what: cannot be done without it, for the error.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0] if extra is None else f"'imasks[{extra}]'"
        raise UserError(
            f"{what} needs a library that is not installed",
            value=error.name or module,
            remedy=f"pip install {package}",
        ) from error
