"""The convolutions of one training step, layer by layer: oneDNN's, ours, and the arithmetic floor.

    python bench/layers.py [--batch 16] [--size 48 64] [--width 0.5] [--dtype bfloat16]

One thread. The floor takes as many multiplications a second as a large product of float32 matrices
reaches here, twice as many in bfloat16 where the processor multiplies it. Times are the fastest of
many calls; batch and size are those of the images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from imasks.kernels import ops
from imasks.kernels.calls import halves
from imasks.kernels.convolutions import convolve, convolve_back
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
    network = make_unet(
        UNetConfig(in_channels=3, outputs=1, width=asked.width), torch.device("cpu")
    )
    shapes = shapes_of(network, asked.size)
    dtype = getattr(torch, asked.dtype)
    speed = multiplications() * (2 if halves(dtype) else 1)
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
    """Channels in and out, side of the kernel, height and width of what conv.c computes."""
    found = []

    def note(conv: torch.nn.Conv2d, inputs: tuple[torch.Tensor], _: torch.Tensor) -> None:
        co, ci, side, _ = conv.weight.shape
        if ci % 8 == co % 8 == 0:
            found.append((ci, co, side, *inputs[0].shape[2:]))

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(note)
    usable, ops.usable = ops.usable, lambda x: False
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, *size))
    ops.usable = usable
    return found


def multiplications() -> float:
    """How many multiplications and additions a second a large float32 product reaches."""
    a = torch.rand(2000, 2000)
    return 2000**3 / best(lambda: a @ a, 10) * 1000


def layer(dtype: torch.dtype, n: int, ci: int, co: int, side: int, h: int, w: int) -> list[float]:
    """Time one layer, ms: ours forward, to the input, to the weights; oneDNN's likewise."""
    x = torch.randn(n, ci, h, w).to(dtype).contiguous(memory_format=LAST)
    g = torch.randn(n, co, h, w).to(dtype).contiguous(memory_format=LAST)
    weight, bias = torch.randn(co, ci, side, side), torch.randn(co)
    weight = weight.contiguous(memory_format=LAST)
    half, half_bias = weight.to(dtype), bias.to(dtype)
    both = best(lambda: convolve_back(g, x, weight, by_x=True))
    by_weight = best(lambda: convolve_back(g, x, weight, by_x=False))

    def back(*wanted: bool) -> None:
        torch.ops.aten.convolution_backward(
            g, x, half, None, [1, 1], [side // 2] * 2, [1, 1], False, [0, 0], 1, wanted
        )

    return [
        best(lambda: convolve(x, weight, bias, relu=False)),
        both - by_weight,
        by_weight,
        best(lambda: torch.conv2d(x, half, half_bias, padding=side // 2)),
        best(lambda: back(True, False, False)),
        best(lambda: back(False, True, False)),
    ]


def best(call: Callable[[], object], times: int = 40) -> float:
    """Return the fastest of many calls, ms."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found) * 1000


if __name__ == "__main__":
    main()
