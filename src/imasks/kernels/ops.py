"""Training steps between convolutions as few passes over memory; see stage.c.

Each function has a plain PyTorch equivalent (:mod:`imasks.models._blocks`) that is used wherever
:func:`usable` says no: other devices, other dtypes, no compiler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from imasks.kernels.build import library
from imasks.kernels.calls import NAMES, call, dtype_of, empty, last
from imasks.kernels.convolutions import as_images, as_rows, convolve, convolve_back, owned
from imasks.kernels.whole import plan_of, stages_fixed, whole_stage

_FEW_OUTPUTS = 2  # up to which head.c is faster than oneDNN


def usable(x: Tensor) -> bool:
    """Whether features like these go through the kernels."""
    return (
        x.device.type == "cpu"
        and type(x) is Tensor  # not a stand-in of torch.export
        and dtype_of(x) in NAMES
        and not torch.compiler.is_compiling()
        and not isinstance(library(), str)
    )


def stage(x: Tensor, convs: nn.ModuleList, norm: nn.BatchNorm2d) -> Tensor:
    """Convolutions, each with ReLU, then batch norm; outside of training without gradients.

    Args:
        x: [N, C, H, W].
        convs: with "same" padding and stride 1.
        norm: with running statistics; updated in training mode.

    Raises:
        ValueError: ``x`` has other channels than the first convolution takes, or no pixels in
            training.
    """
    # The kernels read what they are told is there.
    _check_channels(x, convs[0])
    if norm.training and not x.numel():
        raise ValueError(f"features of shape {tuple(x.shape)} have no mean to normalise by")
    variables: list[Any] = [v for conv in convs for v in (conv.weight, conv.bias)]
    plan = plan_of(dtype_of(x), x.shape, *[v.shape for v in variables[::2]])
    if plan is not None and not norm.training:
        return stages_fixed(plan, x, _fixed(convs, norm))
    if plan is not None and not (plan.fills and x.requires_grad):
        return whole_stage(plan, x, norm, variables)
    x, variables[0] = _paired(x, variables[0])
    if norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    out: Tensor = _Stage.apply(x, norm, norm.weight, norm.bias, *variables)  # type: ignore[no-untyped-call]
    return out


def stages_and_pool(x: Tensor, each: Sequence[tuple[nn.ModuleList, nn.BatchNorm2d]]) -> Tensor:
    """Several stages outside of training, and the largest of every 2 x 2 pixels of what they give.

    At best this is one call. There are no gradients.

    Args:
        x: [N, C, H, W].
        each: convolutions and batch norm.

    Raises:
        ValueError: height or width is odd, or channels do not fit.
    """
    _check_even(x)
    weights = [conv.weight.shape for convs, _ in each for conv in convs]
    plan = plan_of(dtype_of(x), x.shape, *weights)
    if plan is not None:
        known = [one for convs, norm in each for one in _fixed(convs, norm)]
        return stages_fixed(plan, x, known, pooled=True)
    for convs, norm in each:
        x = stage(x, convs, norm)
    return pool_and_keep(x)[0]


def _fixed(convs: nn.ModuleList, norm: nn.BatchNorm2d) -> list[Any]:
    """Return what :func:`stages_fixed` wants to know of the convolutions of a stage."""
    *before, final = convs
    found: list[Any] = [(conv.weight, conv.bias, None, None) for conv in before]
    return [*found, (final.weight, final.bias, *_affine(norm))]


def _paired(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Add an empty channel to masks and grey images.

    oneDNN takes two to ten times as long with one channel as with two.
    """
    if x.shape[1] != 1:
        return x, weight
    one_more = (0, 0, 0, 0, 0, 1)
    return F.pad(x.to(dtype_of(x)), one_more), F.pad(weight, one_more)


def project(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Convolve features [N, C, H, W] by a kernel of 1 x 1 in float32.

    Raises:
        ValueError: ``x`` has other channels than the convolution takes.
    """
    _check_channels(x, conv)
    weight = conv.weight.float()
    bias = None if conv.bias is None else conv.bias.float()
    if (
        bias is not None
        and weight.device.type == "cpu"
        and x.shape[1] % 8 == 0
        and len(weight) <= _FEW_OUTPUTS
    ):
        out: Tensor = _Head.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return out
    x = x.float()
    if len(weight) == 1:
        pixels = last(x).permute(0, 2, 3, 1)
        return F.linear(pixels, weight.flatten(1), bias).permute(0, 3, 1, 2)
    return as_images(torch.conv2d(as_rows(x), weight, bias), like=x)


def pool_and_keep(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest of every 2 x 2 pixels, and ``x`` for a skip.

    Raises:
        ValueError: height or width is odd.
    """
    _check_even(x)
    pooled, kept = _Pool.apply(x)  # type: ignore[no-untyped-call]
    return pooled, kept


def _check_channels(x: Tensor, conv: Any) -> None:
    if x.shape[1] != conv.in_channels:
        raise ValueError(
            f"features of {x.shape[1]} channels meet a convolution of {conv.in_channels}"
        )


def _check_even(x: Tensor) -> None:
    if x.shape[2] % 2 or x.shape[3] % 2:
        raise ValueError(
            f"cannot halve {tuple(x.shape[2:])} pixels: heights and widths of images must be "
            "multiples of 16 for these networks"
        )


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
        dtype = dtype_of(x)
        weights, biases = variables[::2], variables[1::2]
        features = [last(x.to(dtype))]
        pairs = list(zip(weights, biases, strict=True))
        for weight, bias in pairs[:-1]:
            features.append(convolve(features[-1], weight, bias, relu=True))
        if not norm.training and owned(features[-1], weights[-1]):
            return convolve(features[-1], *pairs[-1], relu=True, affine=_affine(norm))
        final = convolve(features[-1], *pairs[-1], relu=False)  # norm applies ReLU itself
        n, c, h, w = final.shape
        out = torch.empty_like(final)
        if norm.training:
            mean, inverse = gamma.new_empty(2, c).unbind()
            call(
                "norm", dtype, final, n * h * w, c, gamma, beta, norm.eps, norm.momentum,
                norm.running_mean, norm.running_var, mean, inverse, out,
            )  # fmt: skip
            ctx.save_for_backward(gamma, mean, inverse, *weights, *features, final)
        else:
            call(
                "norm_fixed", dtype, final, n * h * w, c, gamma, beta, norm.eps,
                norm.running_mean, norm.running_var, out,
            )  # fmt: skip
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gamma, mean, inverse, *rest = ctx.saved_tensors
        count = len(rest) // 2
        weights, features = rest[:count], rest[count:]
        final = features[-1]
        dtype = final.dtype
        n, c, h, w = final.shape
        by_gamma, by_beta, by_bias = gamma.new_empty(3, c).unbind()
        g = torch.empty_like(final)
        call(
            "norm_grad", dtype, last(grad.to(dtype)), final, n * h * w, c, gamma, mean, inverse,
            g, by_gamma, by_beta, by_bias,
        )  # fmt: skip
        found: list[Tensor | None] = []
        by_x: Tensor | None = None
        for index in reversed(range(count)):
            wanted = index > 0 or ctx.needs_input_grad[0]
            by_x, by_weight = convolve_back(g, features[index], weights[index], by_x=wanted)
            found = [by_weight, by_bias, *found]
            if index and by_x is not None:
                g, c = by_x, by_x.shape[1]
                by_bias = gamma.new_empty(c)
                call("relu_grad", dtype, g, features[index], n * h * w, c, by_bias)
        return (by_x, None, by_gamma, by_beta, *found)


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return what batch norm multiplies with and adds outside of training."""
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None
    assert var is not None
    scale = norm.weight * (var + norm.eps).rsqrt()
    return scale, norm.bias - mean * scale


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x, weight = last(x), weight.contiguous()
        n, c, h, w = x.shape
        out = empty(n, len(weight), h, w, torch.float32)
        call("head", x.dtype, x, n * h * w, c, weight, bias, len(weight), out)
        ctx.save_for_backward(x, weight)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        n, c, h, w = x.shape
        grad, by_x = last(grad), torch.empty_like(x)
        totals = weight.new_empty(weight.numel() + len(weight))
        sizes = (n * h * w, c, weight, len(weight))
        call("head_grad", x.dtype, grad, x, *sizes, by_x, totals)
        return by_x, totals[: weight.numel()].view_as(weight), totals[weight.numel() :]


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        x = last(x)
        n, c, h, w = x.shape
        pooled = empty(n, c, h // 2, w // 2, x.dtype)
        call("pool", x.dtype, x, n, h, w, c, pooled)
        ctx.save_for_backward(x)
        return pooled, x.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_pooled: Tensor, by_kept: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        n, c, h, w = x.shape
        out = torch.empty_like(x)
        grads = (last(by_pooled.to(x.dtype)), x, last(by_kept.to(x.dtype)))
        call("pool_grad", x.dtype, *grads, n, h, w, c, out)
        return out


class _Grow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, skip: Tensor) -> Tensor:
        x, skip = last(x), last(skip)
        n, c, h, w = skip.shape
        out = torch.empty_like(skip)
        call("grow", skip.dtype, x, skip, n, h, w, c, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        grad = last(grad)
        n, c, h, w = grad.shape
        by_x = empty(n, c, h // 2, w // 2, grad.dtype)
        call("grow_grad", grad.dtype, grad, n, h, w, c, by_x)
        return by_x, grad
