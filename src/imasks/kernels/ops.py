"""Training steps between convolutions as few passes over memory; see stage.c.

Each function has a plain PyTorch equivalent (:mod:`imasks.models._blocks`) that is used wherever
:func:`usable` says no: other devices, other dtypes, no compiler.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from imasks.kernels.build import library

# Arguments of the kernels: p a tensor's memory, n a whole number, i a small one,
# f a float.
_ARGUMENTS = {
    "conv": "pppnnnnnniippp",
    "conv_weights": "ppnnnnnnp",
    "norm": "pnnppffppppp",
    "norm_fixed": "pnnppfppp",
    "norm_grad": "ppnnppppppp",
    "relu_grad": "ppnnp",
    "pool": "pnnnnp",
    "pool_grad": "pppnnnnp",
    "grow": "ppnnnnp",
    "grow_grad": "pnnnnp",
}
_TYPES: dict[str, Any] = {
    "p": ctypes.c_void_p,
    "n": ctypes.c_long,
    "f": ctypes.c_float,
    "i": ctypes.c_int,
}
_NAMES = {torch.float32: "f32", torch.bfloat16: "bf16"}
_MANY = 64  # channels above which oneDNN's float32 is faster than conv.c's
_FEW = 16  # channels up to which tiles.c is always faster than oneDNN; with more it is, too,
_LARGE = 2.5e8  # unless there are more than so many products, which hide what oneDNN costs a call


def usable(x: Tensor) -> bool:
    """Whether features like these go through the kernels."""
    return (
        x.device.type == "cpu"
        and type(x) is Tensor  # not a stand-in of torch.export
        and _dtype(x) in _NAMES
        and not torch.compiler.is_compiling()
        and not isinstance(library(), str)
    )


def _dtype(x: Tensor) -> torch.dtype:
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu")
    return x.dtype


def stage(x: Tensor, convs: nn.ModuleList, norm: nn.BatchNorm2d) -> Tensor:
    """Convolutions, each with ReLU, then batch norm.

    Args:
        x: [N, C, H, W].
        convs: with "same" padding and stride 1.
        norm: with running statistics; updated in training mode.

    Raises:
        ValueError: ``x`` has other channels than the first convolution takes.
    """
    # The kernels read what they are told is there.
    if x.shape[1] != convs[0].in_channels:
        raise ValueError(
            f"features of {x.shape[1]} channels meet a convolution of {convs[0].in_channels}"
        )
    variables: list[Any] = [v for conv in convs for v in (conv.weight, conv.bias)]
    x, variables[0] = _paired(x, variables[0])
    if norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    out: Tensor = _Stage.apply(x, norm, norm.weight, norm.bias, *variables)  # type: ignore[no-untyped-call]
    return out


def _paired(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Add an empty channel to masks and grey images.

    oneDNN takes two to ten times as long with one channel as with two.
    """
    if x.shape[1] != 1:
        return x, weight
    one_more = (0, 0, 0, 0, 0, 1)
    return F.pad(x.to(_dtype(x)), one_more), F.pad(weight, one_more)


def project(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Convolve float32 features [N, C, H, W] by a kernel of 1 x 1 in float32."""
    weight = conv.weight.float()
    if len(weight) == 1:
        pixels = _last(x).permute(0, 2, 3, 1)
        return F.linear(pixels, weight.flatten(1), conv.bias).permute(0, 3, 1, 2)
    return _as_images(torch.conv2d(_as_rows(x), weight, conv.bias), like=x)


def pool_and_keep(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest of every 2 x 2 pixels, and ``x`` for a skip.

    Raises:
        ValueError: height or width is odd.
    """
    if x.shape[2] % 2 or x.shape[3] % 2:
        raise ValueError(
            f"cannot halve {tuple(x.shape[2:])} pixels: heights and widths of images must be "
            "multiples of 16 for these networks"
        )
    pooled, kept = _Pool.apply(x)  # type: ignore[no-untyped-call]
    return pooled, kept


def grow_and_add(x: Tensor, skip: Tensor) -> Tensor:
    """Return ``x`` at twice its height and width (nearest) plus ``skip``.

    Raises:
        ValueError: ``skip`` has another shape than ``x`` grown.
    """
    n, c, h, w = x.shape
    if skip.shape != (n, c, 2 * h, 2 * w):
        raise ValueError(f"cannot add {tuple(skip.shape)} to {n, c, 2 * h, 2 * w}")
    out: Tensor = _Grow.apply(x, skip)  # type: ignore[no-untyped-call]
    return out


class _Stage(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, norm: nn.BatchNorm2d, gamma: Tensor, beta: Tensor, *variables: Tensor
    ) -> Tensor:
        dtype = _dtype(x)
        weights, biases = variables[::2], variables[1::2]
        features = [_last(x.to(dtype))]
        pairs = list(zip(weights, biases, strict=True))
        for weight, bias in pairs[:-1]:
            features.append(_convolve(features[-1], weight, bias, relu=True))
        if not norm.training and _own(features[-1], weights[-1]):
            return _convolve(features[-1], *pairs[-1], relu=True, affine=_affine(norm))
        last = _convolve(features[-1], *pairs[-1], relu=False)  # norm applies ReLU itself
        n, c, h, w = last.shape
        out = torch.empty_like(last)
        if norm.training:
            mean, inverse = torch.empty(2, c).unbind()
            _call(
                "norm", dtype, last, n * h * w, c, gamma, beta, norm.eps, norm.momentum,
                norm.running_mean, norm.running_var, mean, inverse, out,
            )  # fmt: skip
            ctx.save_for_backward(gamma, mean, inverse, *weights, *features, last)
        else:
            _call(
                "norm_fixed", dtype, last, n * h * w, c, gamma, beta, norm.eps,
                norm.running_mean, norm.running_var, out,
            )  # fmt: skip
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gamma, mean, inverse, *rest = ctx.saved_tensors
        count = len(rest) // 2
        weights, features = rest[:count], rest[count:]
        last = features[-1]
        dtype = last.dtype
        n, c, h, w = last.shape
        by_gamma, by_beta, by_bias = torch.empty(3, c).unbind()
        g = torch.empty_like(last)
        _call(
            "norm_grad", dtype, _last(grad.to(dtype)), last, n * h * w, c, gamma, mean, inverse,
            g, by_gamma, by_beta, by_bias,
        )  # fmt: skip
        found: list[Tensor | None] = []
        by_x: Tensor | None = None
        for index in reversed(range(count)):
            wanted = index > 0 or ctx.needs_input_grad[0]
            by_x, by_weight = _convolve_back(g, features[index], weights[index], by_x=wanted)
            found = [by_weight, by_bias, *found]
            if index and by_x is not None:
                g, c = by_x, by_x.shape[1]
                by_bias = torch.empty(c)
                _call("relu_grad", dtype, g, features[index], n * h * w, c, by_bias)
        return (by_x, None, by_gamma, by_beta, *found)


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return what batch norm multiplies with and adds outside of training."""
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None
    assert var is not None
    scale = norm.weight * (var + norm.eps).rsqrt()
    return scale, norm.bias - mean * scale


def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    relu: bool,
    affine: tuple[Tensor, Tensor] | tuple[None, None] = (None, None),
) -> Tensor:
    """Convolve; ``affine`` is applied last and needs :func:`_own`."""
    n, ci, h, w = x.shape
    co, side = weight.shape[0], weight.shape[-1]
    if _own(x, weight):
        out = _empty(n, co, h, w, x.dtype)
        kernel = (_last(weight), bias, n, h, w, ci, co, side)
        _call("conv", x.dtype, x, *kernel, 0, int(relu), *affine, out)
        return out
    dtype = _of_onednn(x.dtype)
    shown = _as_rows(x) if side == 1 else x
    with torch.autocast("cpu", enabled=False):
        y = torch.conv2d(shown.to(dtype), weight.to(dtype), bias.to(dtype), padding=side // 2)
    y = y.relu_() if relu else y
    y = _as_images(y, like=x) if side == 1 else _last(y)
    return y.to(x.dtype)


def _convolve_back(
    g: Tensor, x: Tensor, weight: Tensor, *, by_x: bool
) -> tuple[Tensor | None, Tensor]:
    """Return the gradients by the input, if wanted, and by the weights (float32)."""
    n, ci, h, w = x.shape
    co, side = weight.shape[0], weight.shape[-1]
    if _own(x, weight):
        weight = _last(weight)
        found = None
        if by_x:
            found = torch.empty_like(x)
            kernel = (weight, None, n, h, w, co, ci, side)
            _call("conv", x.dtype, g, *kernel, 1, 0, None, None, found)
        by_weight = torch.empty_like(weight)
        _call("conv_weights", x.dtype, x, g, n, h, w, ci, co, side, by_weight)
        return found, by_weight
    dtype = _of_onednn(x.dtype)
    shown, grad = (_as_rows(x), _as_rows(g)) if side == 1 else (x, g)
    found, by_weight, _ = torch.ops.aten.convolution_backward(
        grad.to(dtype), shown.to(dtype), weight.to(dtype), None, [1, 1], [side // 2] * 2, [1, 1],
        False, [0, 0], 1, [by_x, True, False],
    )  # fmt: skip
    if found is not None:
        found = (_as_images(found, like=x) if side == 1 else _last(found)).to(x.dtype)
    return found, by_weight.float()


def _as_rows(x: Tensor) -> Tensor:
    """See every row of pixels as an image of its own, [N * H, C, 1, W]: to 1 x 1 it is the same.

    With one thread, PyTorch lets oneDNN have a convolution in float32 only if there are 16 images;
    its own code takes several times as long.
    """
    n, c, h, w = x.shape
    return _last(x).permute(0, 2, 3, 1).reshape(n * h, 1, w, c).permute(0, 3, 1, 2)


def _as_images(rows: Tensor, *, like: Tensor) -> Tensor:
    """Undo :func:`_as_rows`."""
    n, _, h, w = like.shape
    return _last(rows).permute(0, 2, 3, 1).reshape(n, h, w, -1).permute(0, 3, 1, 2)


def _own(x: Tensor, weight: Tensor) -> bool:
    """Whether conv.c does this convolution; oneDNN does the others."""
    return (
        x.dtype in _NAMES
        and weight.dtype == torch.float32
        and weight.shape[0] % 8 == weight.shape[1] % 8 == 0
        and _worth_it(x, weight)
        and weight.shape[-1] in {1, 3}
        and weight.shape[-1] == weight.shape[-2]
        and _conv_ready(x.dtype)
    )


def _worth_it(x: Tensor, weight: Tensor) -> bool:
    most = max(weight.shape[:2])
    if x.dtype == torch.bfloat16 and _tiles():
        return most <= _FEW or x[:, 0].numel() * weight.numel() <= _LARGE
    return most <= _MANY or _halves(x.dtype)


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        x = _last(x)
        n, c, h, w = x.shape
        pooled = _empty(n, c, h // 2, w // 2, x.dtype)
        _call("pool", x.dtype, x, n, h, w, c, pooled)
        ctx.save_for_backward(x)
        return pooled, x.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_pooled: Tensor, by_kept: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        n, c, h, w = x.shape
        out = torch.empty_like(x)
        grads = (_last(by_pooled.to(x.dtype)), x, _last(by_kept.to(x.dtype)))
        _call("pool_grad", x.dtype, *grads, n, h, w, c, out)
        return out


class _Grow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, skip: Tensor) -> Tensor:
        x, skip = _last(x), _last(skip)
        n, c, h, w = skip.shape
        out = torch.empty_like(skip)
        _call("grow", skip.dtype, x, skip, n, h, w, c, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        grad = _last(grad)
        n, c, h, w = grad.shape
        by_x = _empty(n, c, h // 2, w // 2, grad.dtype)
        _call("grow_grad", grad.dtype, grad, n, h, w, c, by_x)
        return by_x, grad


def _empty(n: int, c: int, h: int, w: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(n, c, h, w, dtype=dtype, memory_format=torch.channels_last)


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _call(name: str, dtype: torch.dtype, *arguments: Tensor | float | None) -> None:
    kernel = _kernel(name, dtype)
    if kernel(*[a.data_ptr() if isinstance(a, Tensor) else a for a in arguments]):
        raise MemoryError(f"no memory for {name}")


@cache
def _kernel(name: str, dtype: torch.dtype) -> Any:
    found = library()
    if isinstance(found, str):
        raise RuntimeError(f"the kernels cannot be used: {found}")
    tiles = name.startswith("conv") and dtype == torch.bfloat16 and _tiles()
    kernel = found[f"tiles_{name}" if tiles else f"{name}_{_NAMES[dtype]}"]
    kernel.restype = ctypes.c_int if name.startswith("conv") else None
    kernel.argtypes = [_TYPES[letter] for letter in _ARGUMENTS[name]]
    return kernel


@cache
def _tiles() -> bool:
    """Whether this processor multiplies tiles of matrices, see tiles.c."""
    found = library()
    return not isinstance(found, str) and bool(found.tiles_ready())


@cache
def _conv_ready(dtype: torch.dtype) -> bool:
    found = library()
    return not isinstance(found, str) and bool(found[f"conv_ready_{_NAMES[dtype]}"]())


def _of_onednn(dtype: torch.dtype) -> torch.dtype:
    """What oneDNN shall convolve in: without instructions for bfloat16 it imitates them slowly."""
    return dtype if _halves(dtype) else torch.float32


def _halves(dtype: torch.dtype) -> bool:
    """Whether this processor multiplies bfloat16 at more than the speed of float32."""
    return dtype == torch.bfloat16 and _pairs()


@cache
def _pairs() -> bool:
    found = library()
    return not isinstance(found, str) and bool(found.conv_pairs())
