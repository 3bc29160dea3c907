"""Libraries of networks, imported when a network of theirs is used and not before."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

import torch

from imasks.errors import UserError
from imasks.extras import needed

_MISSING = re.compile(r"operator (torchvision::\w+) does not exist")


def smp() -> Any:
    """Return segmentation_models.pytorch.

    Raises:
        UserError: it, or what it needs, is not installed or does not fit PyTorch.
    """
    torchvision()
    return _library("segmentation_models_pytorch")


def timm() -> Any:
    """Return timm; errors are those of :func:`smp`."""
    torchvision()
    return _library("timm")


def hub() -> Any:
    """Return huggingface_hub; errors are those of :func:`smp`."""
    return _library("huggingface_hub")


def torchvision() -> Any:
    """Return torchvision, which the first two build on, also where its operators do not load.

    Its wheel on PyPI is compiled for PyTorch's wheel with CUDA. Beside PyTorch's CPU build the
    compiled operators (non-maximum suppression and other work on boxes) do not load, and the
    import fails at the first one that it describes. No encoder calls them: declared by name, they
    let the import go on, and still fail where anyone calls them.

    Raises:
        UserError: it is not installed, or does not fit PyTorch.
    """
    declared: set[str] = set()
    while True:
        try:
            return import_module("torchvision")
        except ModuleNotFoundError:
            return _library("torchvision")  # which says what to install
        except (ImportError, RuntimeError, OSError) as error:
            found = _MISSING.search(str(error))
            if found is None or found[1] in declared:
                raise UserError(
                    f"torchvision cannot be imported beside PyTorch {torch.__version__}",
                    value=error,
                    remedy="Install torchvision from where PyTorch came from, in the release "
                    "made for it.",
                ) from error
            torch.library.define(found[1], "() -> ()")
            declared.add(found[1])


def _library(name: str) -> Any:
    return needed(name, extra="encoders", what="a network with another encoder")
