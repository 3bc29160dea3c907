"""Stages of a network in one call each way; see whole.h."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from imasks.kernels.calls import empty, kernel, last, tiles
from imasks.kernels.convolutions import own

_IN_CACHE = 2**18  # bytes of the widest features of what goes through all steps at once
_FEW_WEIGHTS = 2**14  # up to which that is done: they are prepared anew for every portion
_FEWEST_ROWS = 8  # a portion is planned for: each has a row or two of its neighbours to move


@dataclass(frozen=True)
class Plan:
    """How a stage is computed in one call; see whole.h.

    Args:
        numbers: sizes of features and convolutions, as C has them.
        out: shape of what comes out.
        kept: bytes that are kept for the way back.
        work: bytes that are needed on the way back.
        fixed: bytes that are needed outside of training.
        dtype: of features.
        fills: whether channels are filled up; then there is no gradient by the input.
    """

    numbers: Any
    out: tuple[int, int, int, int]
    kept: int
    work: int
    fixed: int
    dtype: torch.dtype
    fills: bool


@lru_cache(maxsize=1024)  # sizes of images can be many
def plan_of(dtype: torch.dtype, shape: torch.Size, *weights: torch.Size) -> Plan | None:
    """Plan a stage; None if not all of its convolutions are our own, or they do not fit."""
    n, given, h, w = shape
    given_to_each = (given, *(co for co, *_ in weights[:-1]))
    if given_to_each != tuple(ci for _, ci, *_ in weights):
        return None
    wide = 8 if tiles(dtype) and given < 8 else given  # images: tiles.c is faster than oneDNN
    convs = [(wide if not i else ci, co, *sides) for i, (co, ci, *sides) in enumerate(weights)]
    if not all(own(dtype, n * h * w, torch.Size((co, ci, *sides))) for ci, co, *sides in convs):
        return None
    some, rows = _portion(shape, convs, dtype)
    # with those that are ahead, a neighbour that is kept, and the odd row that waits for pooling
    high = h if rows == h else min(h, rows + len(convs) + 2)
    numbers = [n, h, w, some, rows, high, len(convs), int(tiles(dtype)), given]
    for ci, co, side, _ in convs:
        numbers += [ci, co, side]
    fills = wide != given
    features = [co for _, co, *_ in convs] + [wide] * fills
    of_weights = max(ci * co * side**2 for ci, co, side, _ in convs)
    held = some * high * w  # pixels of a window
    return Plan(
        numbers=(ctypes.c_long * len(numbers))(*numbers),
        out=(n, weights[-1][0], h, w),
        kept=sum(_room(n * h * w * c, dtype) for c in features),
        work=sum(_room(held * co, dtype) for _, co, *_ in convs) + _room(of_weights, torch.float32),
        fixed=sum(_room(held * c, dtype) for c in features),
        dtype=dtype,
        fills=fills,
    )


def _portion(
    shape: torch.Size, convs: Sequence[tuple[int, ...]], dtype: torch.dtype
) -> tuple[int, int]:
    """Return how many images go through all steps at once, and how many of their rows."""
    n, _, h, w = shape
    if not shape.numel() or sum(i * o * k**2 for i, o, k, _ in convs) > _FEW_WEIGHTS:
        return n, h
    row = w * dtype.itemsize * max(max(ci, co) for ci, co, *_ in convs)
    some = _IN_CACHE // (h * row)
    if some:
        return min(n, some), h
    bands = -(-h // max(_FEWEST_ROWS, _IN_CACHE // row))
    return 1, -(-h // bands)


def _room(elements: int, dtype: torch.dtype) -> int:
    """Return how many bytes so many elements take, see room() in stage.c."""
    return -(-elements * dtype.itemsize // 64) * 64


def _addresses(*tensors: Tensor | None) -> Any:
    """Return where tensors lie, for C; the caller keeps them alive."""
    return (ctypes.c_void_p * len(tensors))(*[None if t is None else t.data_ptr() for t in tensors])


def whole_stage(
    plan: Plan, x: Tensor, norm: nn.BatchNorm2d, weights_and_biases: Sequence[Tensor]
) -> Tensor:
    """Return features [N, channels out, H, W]; running statistics are updated."""
    out: Tensor = _Whole.apply(plan, x, norm, norm.weight, norm.bias, *weights_and_biases)  # type: ignore[no-untyped-call]
    return out


def stages_fixed(
    plan: Plan,
    x: Tensor,
    convs: Sequence[tuple[Tensor, Tensor, Tensor | None, Tensor | None]],
    *,
    pooled: bool = False,
) -> Tensor:
    """Return features [N, channels out, H, W] outside of training.

    Args:
        plan: of all convolutions.
        x: [N, C, H, W].
        convs: weight, bias, and what is multiplied with and added after ReLU, if anything.
        pooled: return the largest of every 2 x 2 pixels, [N, channels out, H / 2, W / 2]; H and W
            must be even.
    """
    x = last(x.to(plan.dtype))
    n, c, h, w = plan.out
    out = empty(n, c, h // 2, w // 2, plan.dtype) if pooled else empty(n, c, h, w, plan.dtype)
    work = torch.empty(plan.fixed, dtype=torch.uint8, device="cpu")
    given = [v for weight, *rest in convs for v in (last(weight), *rest)]
    pointers = _addresses(x, None if pooled else out, out if pooled else None, work, *given)
    if kernel("stages_fixed", plan.dtype)(plan.numbers, pointers):
        raise MemoryError("no memory for stages")
    return out


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        x: Tensor,
        norm: nn.BatchNorm2d,
        gamma: Tensor,
        beta: Tensor,
        *variables: Tensor,
    ) -> Tensor:
        x = last(x.to(plan.dtype))
        variables = tuple(last(v) if v.ndim == 4 else v for v in variables)
        out = torch.empty(
            plan.out, dtype=plan.dtype, memory_format=torch.channels_last, device="cpu"
        )
        kept = torch.empty(plan.kept, dtype=torch.uint8, device="cpu")
        moments = gamma.new_empty(2, len(gamma))
        pointers = _addresses(
            x, out, kept, gamma, beta, norm.running_mean, norm.running_var,
            norm.num_batches_tracked, moments, *variables,
        )  # fmt: skip
        if kernel("stage", plan.dtype)(plan.numbers, pointers, norm.eps, norm.momentum):
            raise MemoryError("no memory for a stage")
        ctx.plan = plan
        shown = None if plan.fills else x  # what was filled up is kept
        ctx.save_for_backward(shown, kept, moments, gamma, *variables[::2])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        plan = ctx.plan
        x, kept, moments, gamma, *weights = ctx.saved_tensors
        by_x = torch.empty_like(x) if ctx.needs_input_grad[1] else None
        by_gamma, by_beta = torch.empty_like(gamma), torch.empty_like(gamma)
        found = [t for v in weights for t in (torch.empty_like(v), v.new_empty(len(v)))]
        of_convs = [t for i, v in enumerate(weights) for t in (v, *found[2 * i : 2 * i + 2])]
        grad, work = (
            last(grad.to(plan.dtype)),
            torch.empty(plan.work, dtype=torch.uint8, device="cpu"),
        )
        pointers = _addresses(
            x, kept, moments, grad, work, gamma, by_x, by_gamma, by_beta, *of_convs
        )
        if kernel("stage_grad", plan.dtype)(plan.numbers, pointers):
            raise MemoryError("no memory for the gradients of a stage")
        return (None, by_x, None, by_gamma, by_beta, *found)
