"""The EvalNet of METHOD 4: how good is this mask for this image?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imasks.models._blocks import Stage, check_width, features, he_normal, place, pool_in_turn


@dataclass(frozen=True, kw_only=True)
class EvalNetConfig:
    """What an EvalNet is made of.

    Args:
        in_channels: image channels.
        mask_channels: planes of the mask as the network sees it.
        classes: values a head; a task's outputs.
        detection: whether a second head says which classes are there at all.
        width: the paper's alpha, a factor on the channels 16, 32, 64, 128, 256.
        norm_momentum: weight of the newest batch in the running statistics (Keras' 1 - momentum).
    """

    in_channels: int
    mask_channels: int
    classes: int
    detection: bool
    width: float = 1.0
    norm_momentum: float = 0.01

    def __post_init__(self) -> None:
        check_width(self.width)

    @property
    def features(self) -> tuple[int, ...]:
        """Channels at the five resolutions."""
        return features(self.width)


class EvalNet(nn.Module):
    """Images and masks to float32 logits [N, heads, classes].

    Images are uint8 or float [N, C, H, W] in 0..255, masks float [N, M, H, W] of zeros and ones.
    Head 0 is the IoU, head 1 (if any) the detection, both before their sigmoid: the cross-entropy
    of the second is exact on logits only, and the U-Net leaves its sigmoid to others too.
    """

    def __init__(self, config: EvalNetConfig) -> None:
        super().__init__()
        self.config = config
        f = config.features
        self.image_stem = _Stem(config, config.in_channels)
        self.mask_stem = _Stem(config, config.mask_channels)
        inputs = (2 * f[0], *f[:-1])
        self.blocks = nn.ModuleList(_block(config, i, o) for i, o in zip(inputs, f, strict=True))
        self.heads = nn.ModuleList(_head(config) for _ in range(1 + config.detection))
        self.apply(he_normal)

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return logits; see the class."""
        x = torch.cat([self.image_stem(images / 255), self.mask_stem(masks)], 1)
        for block in cast("Iterable[Stage]", self.blocks):
            x = _halved(x, block)
        with torch.autocast(x.device.type, enabled=False):  # the heads in full precision
            pooled = x.float().mean((2, 3))
            return torch.stack([head(pooled) for head in self.heads], 1)


def make_evalnet(config: EvalNetConfig, device: torch.device) -> EvalNet:
    """Build an EvalNet on a device, its weights laid out channels-last."""
    return place(EvalNet(config), device)


class _Stem(nn.Module):
    """The first two steps, apart for image and mask."""

    def __init__(self, config: EvalNetConfig, channels: int) -> None:
        super().__init__()
        f0 = config.features[0]
        self.enter = Stage([(channels, f0, 1)], momentum=config.norm_momentum)
        self.block = _block(config, f0, f0)

    def forward(self, x: Tensor) -> Tensor:
        return _halved(x, self.enter, self.block)


def _block(config: EvalNetConfig, inputs: int, outputs: int) -> Stage:
    return Stage([(inputs, outputs, 3), (outputs, outputs, 1)], momentum=config.norm_momentum)


def _head(config: EvalNetConfig) -> nn.Linear:
    head = nn.Linear(config.features[-1], config.classes)
    nn.init.xavier_uniform_(head.weight)  # Keras' default for dense layers
    nn.init.zeros_(head.bias)
    return head


def _halved(x: Tensor, *stages: Stage) -> Tensor:
    """Return the largest of every 2 x 2 pixels of what stages make of features."""
    if x.shape[2] % 2 == x.shape[3] % 2 == 0:
        return pool_in_turn(x, *stages)
    for one in stages:
        x = one(x)
    # six halvings: a side that has come down to one pixel (images below 64) stays as it is
    return F.max_pool2d(x, [min(2, side) for side in x.shape[-2:]])
