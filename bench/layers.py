"""The convolutions of one training step, layer by layer: oneDNN's, ours, and the arithmetic floor.

    python bench/layers.py [--batch 16] [--size 48 64] [--width 0.5] [--dtype bfloat16]

One thread. The floor takes as many multiplications a second as a large product of float32 matrices
reaches here, twice as many in bfloat16 where the processor multiplies it, or what a product in
bfloat16 reaches if that is more. Times are the fastest of many calls, in turns; batch and size are
those of the images. Training takes the faster of both as a rule, see `kernels/convolutions.py`.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import torch

from imasks.jobs.memory import keep_freed_memory
from imasks.kernels import ops
from imasks.kernels.calls import call, halves
from imasks.models.unet import UNetConfig, make_unet

LAST = torch.channels_last


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, nargs=2, default=[48, 64])
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as workers do
    network = make_unet(
        UNetConfig(in_channels=3, outputs=1, width=asked.width), torch.device("cpu")
    )
    shapes = shapes_of(network, asked.size)
    dtype = getattr(torch, asked.dtype)
    speed = multiplications(torch.float32) * (2 if halves(dtype) else 1)
    if halves(dtype):
        speed = max(speed, multiplications(dtype))
    totals = torch.zeros(7)
    for ci, co, side, h, w in shapes:
        floor = asked.batch * h * w * ci * co * side**2 / speed * 1000
        times = torch.tensor([floor, *layer(dtype, asked.batch, ci, co, side, h, w)])
        totals += times
        print(
            f"{ci:4d} to {co:4d}, {side} x {side}, {h:4d} x {w:<4d}", *map("{:7.3f}".format, times)
        )
    print(f"{'all, ms':28s}", *map("{:7.3f}".format, totals))
    print("floor of each; ours forward, to the input, to the weights; oneDNN likewise")


def shapes_of(network: torch.nn.Module, size: list[int]) -> list[tuple[int, int, int, int, int]]:
    """Channels in and out, side of the kernel, height and width of what ours can compute."""
    found = []

    def note(conv: torch.nn.Conv2d, inputs: tuple[torch.Tensor], _: torch.Tensor) -> None:
        co, ci, side, _ = conv.weight.shape
        if ci % 8 == co % 8 == 0:
            found.append((ci, co, side, *inputs[0].shape[2:]))

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(note)
    usable, ops.usable = ops.usable, lambda x: False  # the kernels call no hooks
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, *size))
    finally:
        ops.usable = usable
    return found


def multiplications(dtype: torch.dtype) -> float:
    """How many multiplications and additions a second a large product reaches."""
    a = torch.rand(2000, 2000).to(dtype)
    return 2000**3 / fastest(lambda: a @ a, times=10)[0] * 1000


def layer(dtype: torch.dtype, n: int, ci: int, co: int, side: int, h: int, w: int) -> list[float]:
    """Time one layer, ms: ours forward, to the input, to the weights; oneDNN's likewise."""
    x = torch.randn(n, ci, h, w).to(dtype).contiguous(memory_format=LAST)
    g = torch.randn(n, co, h, w).to(dtype).contiguous(memory_format=LAST)
    weight, bias = torch.randn(co, ci, side, side), torch.randn(co)
    weight = weight.contiguous(memory_format=LAST)
    half, half_bias = weight.to(dtype), bias.to(dtype)
    pixels = (n, h, w, 0, 0)  # no rows above or below

    def forward() -> None:
        sizes = (*pixels, ci, co, side, 0, 0)
        call("conv", dtype, x, weight, bias, *sizes, None, None, torch.empty_like(g))

    def to_input() -> None:
        sizes = (*pixels, co, ci, side, 1, 0)
        call("conv", dtype, g, weight, None, *sizes, None, None, torch.empty_like(x))

    def to_weights() -> None:
        call("conv_weights", dtype, x, g, *pixels, ci, co, side, torch.empty_like(weight))

    def back(*wanted: bool) -> None:
        torch.ops.aten.convolution_backward(
            g, x, half, None, [1, 1], [side // 2] * 2, [1, 1], False, [0, 0], 1, wanted
        )

    return fastest(
        forward,
        to_input,
        to_weights,
        lambda: torch.conv2d(x, half, half_bias, padding=side // 2),
        lambda: back(True, False, False),
        lambda: back(False, True, False),
    )


def fastest(*ways: Callable[[], object], times: int = 40) -> list[float]:
    """Return the fastest call of each, ms; they take turns, so that all see the same machine."""
    found = [math.inf] * len(ways)
    for _ in range(times):
        for index, way in enumerate(ways):
            start = time.perf_counter()
            way()
            found[index] = min(found[index], time.perf_counter() - start)
    return [1000 * seconds for seconds in found]


if __name__ == "__main__":
    main()
