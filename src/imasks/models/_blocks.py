"""What the networks of METHOD 4 are built of."""

from __future__ import annotations

from math import floor
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imasks.errors import UserError
from imasks.kernels import ops

Module = TypeVar("Module", bound=nn.Module)


class Stage(nn.Module):
    """Convolutions with ReLU, then dropout and batch norm.

    Args:
        shapes: (channels in, channels out, side of the kernel) of every convolution.
        momentum: of the batch norm, in PyTorch's sense.
        dropout: share of features dropped.
    """

    def __init__(
        self, shapes: list[tuple[int, int, int]], *, momentum: float, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(i, o, k, padding="same") for i, o, k in shapes)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.BatchNorm2d(shapes[-1][1], eps=1e-3, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        """Return features [N, channels out, H, W]."""
        if ops.usable(x) and self.fits():
            return ops.stage(x, self.convs, self.norm)
        for conv in self.convs:
            x = F.relu(conv(x), inplace=True)
        normed: Tensor = self.norm(self.dropout(x))
        return normed

    def fits(self) -> bool:
        """Whether the kernels do what this stage does.

        They drop nothing, learn in training only, and take float32 variables in main memory.
        """
        norm = self.norm
        if norm.training != self.training or norm.momentum is None:
            return False
        if self.dropout.p and self.dropout.training:
            return False
        if not self.training and torch.is_grad_enabled():
            return False
        # past nn.Module's own lookup: on small images a step is short
        variables = [norm._buffers["running_mean"], norm._buffers["running_var"]]
        for module in (norm, *self.convs):
            variables += module._parameters.values()
        return all(
            v is not None and v.dtype == torch.float32 and v.device.type == "cpu" for v in variables
        )


def features(width: float) -> tuple[int, ...]:
    """Channels at the five resolutions; ``width`` is the paper's alpha."""
    return tuple(floor(base * width) for base in (16, 32, 64, 128, 256))


def check_width(width: float) -> None:
    """Refuse a width that leaves a layer without channels."""
    if features(width)[0] < 1:
        raise UserError(
            "the network's width leaves a layer without channels",
            value=width,
            remedy="Use a width of at least 0.0625; 0.5 to 3 are usual.",
        )


def place(network: Module, device: torch.device) -> Module:
    """Bring a network to a device, its weights laid out channels-last."""
    network = network.to(device)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def he_normal(module: nn.Module) -> None:
    """Draw a convolution's weights as Keras' he_normal does.

    It cuts the normal off at two deviations and rescales it to the wanted variance.
    """
    if isinstance(module, nn.Conv2d):
        fan_in = module.weight[0].numel()
        std = (2.0 / fan_in) ** 0.5 / 0.87962566103423978
        nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest of every 2 x 2 pixels, and ``x`` for a skip."""
    if ops.usable(x):
        return ops.pool_and_keep(x)
    return F.max_pool2d(x, 2), x


def pool_in_turn(x: Tensor, *stages: Stage) -> Tensor:
    """Return the largest of every 2 x 2 pixels of what stages make of ``x``, one after another."""
    if ops.usable(x) and all(one.fits() and not one.training for one in stages):
        return ops.stages_and_pool(x, [(one.convs, one.norm) for one in stages])
    for one in stages:
        x = one(x)
    return pool(x)[0]


def grow(x: Tensor, skip: Tensor) -> Tensor:
    """Return ``x`` at twice its height and width (nearest) plus ``skip``."""
    if ops.usable(x) and x.dtype == skip.dtype:
        return ops.grow_and_add(x, skip)
    return F.interpolate(x, scale_factor=2, mode="nearest") + skip


def project(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Convolve features by a kernel of 1 x 1 in float32."""
    with torch.autocast(x.device.type, enabled=False):
        if ops.usable(x):
            return ops.project(x, conv)
        bias = None if conv.bias is None else conv.bias.float()
        return F.conv2d(x.float(), conv.weight.float(), bias)
