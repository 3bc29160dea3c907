"""Convolutions of few channels: our own where they are faster, else oneDNN's."""

from __future__ import annotations

import torch
from torch import Tensor

from imasks.kernels.calls import NAMES, call, conv_ready, empty, halves, last, tiles

_MANY = 64  # channels above which oneDNN's float32 is faster than conv.c's
_FEW = 32  # channels up to which tiles.c is always faster than oneDNN; with more it is, too,
_LARGE = 2.5e8  # unless there are more than so many products, which hide what oneDNN costs a call


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    relu: bool,
    affine: tuple[Tensor, Tensor] | tuple[None, None] = (None, None),
) -> Tensor:
    """Convolve; ``affine`` is applied last and needs :func:`owned`."""
    n, ci, h, w = x.shape
    co, side = weight.shape[0], weight.shape[-1]
    if owned(x, weight):
        out = empty(n, co, h, w, x.dtype)
        kernel = (last(weight), bias, n, h, w, 0, 0, ci, co, side)
        call("conv", x.dtype, x, *kernel, 0, int(relu), *affine, out)
        return out
    dtype = _of_onednn(x.dtype)
    shown = as_rows(x) if side == 1 else x
    with torch.autocast("cpu", enabled=False):
        y = torch.conv2d(shown.to(dtype), weight.to(dtype), bias.to(dtype), padding=side // 2)
    y = y.relu_() if relu else y
    y = as_images(y, like=x) if side == 1 else last(y)
    return y.to(x.dtype)


def convolve_back(
    g: Tensor, x: Tensor, weight: Tensor, *, by_x: bool
) -> tuple[Tensor | None, Tensor]:
    """Return the gradients by the input, if wanted, and by the weights (float32)."""
    n, ci, h, w = x.shape
    co, side = weight.shape[0], weight.shape[-1]
    if owned(x, weight):
        weight = last(weight)
        found = None
        if by_x:
            found = torch.empty_like(x)
            kernel = (weight, None, n, h, w, 0, 0, co, ci, side)
            call("conv", x.dtype, g, *kernel, 1, 0, None, None, found)
        by_weight = torch.empty_like(weight)
        call("conv_weights", x.dtype, x, g, n, h, w, 0, 0, ci, co, side, by_weight)
        return found, by_weight
    dtype = _of_onednn(x.dtype)
    shown, grad = (as_rows(x), as_rows(g)) if side == 1 else (x, g)
    found, by_weight, _ = torch.ops.aten.convolution_backward(
        grad.to(dtype), shown.to(dtype), weight.to(dtype), None, [1, 1], [side // 2] * 2, [1, 1],
        False, [0, 0], 1, [by_x, True, False],
    )  # fmt: skip
    if found is not None:
        found = (as_images(found, like=x) if side == 1 else last(found)).to(x.dtype)
    return found, by_weight.float()


def as_rows(x: Tensor) -> Tensor:
    """See every row of pixels as an image of its own, [N * H, C, 1, W]: to 1 x 1 it is the same.

    With one thread, PyTorch lets oneDNN have a convolution in float32 only if there are 16 images;
    its own code takes several times as long.
    """
    n, c, h, w = x.shape
    return last(x).permute(0, 2, 3, 1).reshape(n * h, 1, w, c).permute(0, 3, 1, 2)


def as_images(rows: Tensor, *, like: Tensor) -> Tensor:
    """Undo :func:`as_rows`."""
    n, _, h, w = like.shape
    return last(rows).permute(0, 2, 3, 1).reshape(n, h, w, -1).permute(0, 3, 1, 2)


def owned(x: Tensor, weight: Tensor) -> bool:
    """Whether conv.c or tiles.c do this convolution; see :func:`own`."""
    n, _, h, w = x.shape
    return weight.dtype == torch.float32 and own(x.dtype, n * h * w, weight.shape)


def own(dtype: torch.dtype, pixels: int, weight: torch.Size) -> bool:
    """Whether conv.c or tiles.c do a convolution of this shape; oneDNN does the others."""
    co, ci, *sides = weight
    return (
        dtype in NAMES
        and co % 8 == ci % 8 == 0
        and sides in ([1, 1], [3, 3])
        and _worth_it(dtype, pixels, weight)
        and conv_ready(dtype)
    )


def _worth_it(dtype: torch.dtype, pixels: int, weight: torch.Size) -> bool:
    most = max(weight[:2])
    if tiles(dtype):
        return most <= _FEW or pixels * weight.numel() <= _LARGE
    return most <= _MANY or halves(dtype)


def _of_onednn(dtype: torch.dtype) -> torch.dtype:
    """What oneDNN shall convolve in: without instructions for bfloat16 it imitates them slowly."""
    return dtype if halves(dtype) else torch.float32
