"""The U-Net of METHOD 4: small, batch-normalised after the activation, skips added."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imasks.models._blocks import (
    Stage,
    check_width,
    features,
    grow,
    he_normal,
    place,
    pool,
    project,
)

STRIDE = 16  # four poolings: heights and widths must be multiples of this


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """What a U-Net is made of.

    Args:
        in_channels: image channels.
        outputs: logits per pixel.
        width: the paper's alpha, a factor on the channels 16, 32, 64, 128, 256.
        dropout: share of features dropped at the end of every block but the first.
        norm_momentum: weight of the newest batch in the running statistics (Keras' 1 - momentum).
    """

    in_channels: int
    outputs: int
    width: float = 1.0
    dropout: float = 0.0
    norm_momentum: float = 0.01

    def __post_init__(self) -> None:
        check_width(self.width)

    @property
    def features(self) -> tuple[int, ...]:
        """Channels at the five resolutions."""
        return features(self.width)


class UNet(nn.Module):
    """Images uint8 or float [N, C, H, W] in 0..255 to float32 logits [N, outputs, H, W].

    H and W must be multiples of 16.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        f = config.features
        self.stem = Stage([(config.in_channels, f[0], 1)], momentum=config.norm_momentum)
        self.encoder = nn.ModuleList(
            _stage(config, [(f[max(i - 1, 0)], f[i], 3), (f[i], f[i], 1)]) for i in range(4)
        )
        self.bottleneck = _stage(config, [(f[3], f[4], 3), (f[4], f[3], 1)])
        self.decoder = nn.ModuleList(
            _Decode(config, c1, c2)
            for c1, c2 in ((f[3], f[2]), (f[2], f[1]), (f[1], f[0]), (f[0], f[0]))
        )
        self.head = nn.Conv2d(f[0], config.outputs, 1)
        self.apply(he_normal)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits; see the class."""
        x = self.stem(images / 255)
        skips = []
        for block in self.encoder:
            x, kept = pool(block(x))
            skips.append(kept)
        x = self.bottleneck(x)
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            x = block(x, skip)
        return project(x, self.head)


def make_unet(config: UNetConfig, device: torch.device) -> UNet:
    """Build a U-Net on a device, its weights laid out channels-last."""
    return place(UNet(config), device)


def _stage(config: UNetConfig, shapes: list[tuple[int, int, int]]) -> Stage:
    return Stage(shapes, momentum=config.norm_momentum, dropout=config.dropout)


class _Decode(nn.Module):
    """Double the resolution, add the skip, halve the channels."""

    def __init__(self, config: UNetConfig, c1: int, c2: int) -> None:
        super().__init__()
        self.enter = Stage([(c1, c1, 1)], momentum=config.norm_momentum)
        self.leave = _stage(config, [(c1, c1, 3), (c1, c2, 1)])

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        out: Tensor = self.leave(self.enter(grow(x, skip)))
        return out
