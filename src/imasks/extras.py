"""Libraries that only some users need, imported when they are used and not before."""

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
        UserError: it, or what it needs, is not installed, or it does not go with the rest.
    """
    package = module.partition(".")[0] if extra is None else f"'imasks[{extra}]'"
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{what} needs a library that is not installed",
            value=error.name or module,
            remedy=f"Install it: pip install {package}",
        ) from error
    except (ImportError, RuntimeError, OSError) as error:
        raise UserError(
            f"{what} needs {module}, which is installed but cannot be imported",
            value=f"{type(error).__name__}: {error}",
            remedy="Install a release of it that fits the others, and what the message names.",
        ) from error
