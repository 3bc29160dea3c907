"""The compiled functions as Python calls, and what this processor can do."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from imasks.kernels.build import library

# Arguments of the functions: p memory, n a whole number, i a small one, f a float.
_ARGUMENTS = {
    "conv": "pppnnnnnnnniippp",
    "conv_weights": "ppnnnnnnnnp",
    "stage": "ppff",
    "stage_grad": "pp",
    "stages_fixed": "pp",
    "norm": "pnnppffppppp",
    "norm_fixed": "pnnppfppp",
    "norm_grad": "ppnnppppppp",
    "relu_grad": "ppnnp",
    "pool": "pnnnnp",
    "pool_grad": "pppnnnnp",
    "grow": "ppnnnnp",
    "grow_grad": "pnnnnp",
    "head": "pnnppnp",
    "head_grad": "ppnnpnpp",
}
_TYPES: dict[str, Any] = {
    "p": ctypes.c_void_p,
    "n": ctypes.c_long,
    "f": ctypes.c_float,
    "i": ctypes.c_int,
}
NAMES = {torch.float32: "f32", torch.bfloat16: "bf16"}


def call(name: str, dtype: torch.dtype, *arguments: Tensor | float | None) -> None:
    """Call the kernel of this name for features of this dtype."""
    if kernel(name, dtype)(*[a.data_ptr() if isinstance(a, Tensor) else a for a in arguments]):
        raise MemoryError(f"no memory for {name}")


@cache
def kernel(name: str, dtype: torch.dtype) -> Any:
    """Return a compiled function; convolutions and stages say with 1 that memory was missing."""
    found = library()
    if isinstance(found, str):
        raise RuntimeError(f"the kernels cannot be used: {found}")
    by_tiles = name.startswith("conv") and tiles(dtype)
    function = found[f"tiles_{name}" if by_tiles else f"{name}_{NAMES[dtype]}"]
    function.restype = ctypes.c_int if name.startswith(("conv", "stage")) else None
    function.argtypes = [_TYPES[letter] for letter in _ARGUMENTS[name]]
    return function


@cache
def conv_ready(dtype: torch.dtype) -> bool:
    """Whether conv.c has convolutions for this processor."""
    found = library()
    return not isinstance(found, str) and bool(found[f"conv_ready_{NAMES[dtype]}"]())


def tiles(dtype: torch.dtype) -> bool:
    """Whether this processor multiplies tiles of matrices of this dtype, see tiles.c."""
    return dtype == torch.bfloat16 and _tiles()


@cache
def _tiles() -> bool:
    found = library()
    return not isinstance(found, str) and bool(found.tiles_ready())


def halves(dtype: torch.dtype) -> bool:
    """Whether this processor multiplies bfloat16 at more than the speed of float32."""
    return dtype == torch.bfloat16 and _pairs()


@cache
def _pairs() -> bool:
    found = library()
    return not isinstance(found, str) and bool(found.conv_pairs())


def dtype_of(x: Tensor) -> torch.dtype:
    """Return what features that follow from these shall be in."""
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu")
    return x.dtype


def empty(n: int, c: int, h: int, w: int, dtype: torch.dtype) -> Tensor:
    """Return new features, channels last."""
    return torch.empty(n, c, h, w, dtype=dtype, memory_format=torch.channels_last, device="cpu")


def last(x: Tensor) -> Tensor:
    """Return features with channels last in memory."""
    return x.contiguous(memory_format=torch.channels_last)
