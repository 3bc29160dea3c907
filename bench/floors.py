"""What training and labelling cannot do without, and how fast this processor could do that much.

Two floors, in images a second over all cores:

* arithmetic: the multiplications and additions of all convolutions (in training three times:
  forward, back to the input, back to the weights), at the speed of a large product of matrices, in
  bfloat16 where that is faster than in float32;
* memory: every result of a convolution or batch norm of a training step is written and read on the
  way forward, and read again with its gradient read and written on the way back, five passes of two
  bytes an element, at the speed at which memory is copied. Batches whose features stay in a cache
  can be faster. Labelling works on as few images at once as stay in a cache: no such floor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import plain
import torch
from torch import Tensor, nn

from imasks.kernels import ops

PASSES, BYTES = 5, 2
DIRECTIONS = 3  # of a convolution in training


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one image takes, forward.

    Args:
        products: multiplications and additions of the convolutions.
        elements: of the results of convolutions and batch norms.
    """

    products: int
    elements: int

    @property
    def moved(self) -> int:
        """Bytes that a training step moves an image, at least."""
        return PASSES * BYTES * self.elements


@dataclass(frozen=True, kw_only=True)
class Machine:
    """How fast this processor is with all cores.

    Args:
        products: a second.
        moved: bytes read and written a second.
    """

    products: float
    moved: float

    def training(self, work: Work) -> float:
        """Images a second that a training step hardly exceeds."""
        products = self.products / (DIRECTIONS * work.products)
        return min(products, self.moved / work.moved)

    def labelling(self, work: Work, networks: int) -> float:
        """Images a second that labelling by several networks hardly exceeds."""
        return self.products / (networks * work.products)


def unet(width: float, size: int) -> Work:
    """Count what the U-Net of this width does with an image of size x size pixels."""
    return work_of(plain.PlainUNet(width=width), torch.zeros(1, 3, size, size))


def work_of(network: nn.Module, *inputs: Tensor) -> Work:
    """Count what a network does with one image."""
    products = elements = 0

    def count(module: nn.Module, _: object, out: Tensor) -> None:
        nonlocal products, elements
        elements += out.numel()
        if isinstance(module, nn.Conv2d):
            products += out.numel() * module.weight[0].numel()

    hooks = [
        module.register_forward_hook(count)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    ]
    usable, ops.usable = ops.usable, lambda x: False  # the kernels call no hooks
    try:
        with torch.no_grad():
            network.eval()(*inputs)
    finally:
        ops.usable = usable
        for hook in hooks:
            hook.remove()
    return Work(products=products, elements=elements)


def machine() -> Machine:
    """Measure this processor."""
    side = 2000
    a = torch.rand(side, side)
    half = a.bfloat16()
    seconds = min(best(lambda: a @ a), best(lambda: half @ half))
    source = torch.zeros(2**26)  # 256 MB
    target = torch.empty_like(source)
    copied = 2 * source.numel() * source.element_size()
    return Machine(products=side**3 / seconds, moved=copied / best(lambda: target.copy_(source), 5))


def best(call: Callable[[], object], times: int = 20) -> float:
    """Return the seconds of the fastest of several calls."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found)
