"""Plain vision transformers of timm (DINOv2, DINOv3 and others) under a light head of our own.

Shape letters: N images, C channels, H x W pixels, h x w patches, D features of a patch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, log2
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imasks.errors import UserError
from imasks.models import optional
from imasks.models._blocks import Stage, he_normal
from imasks.models.encoded import Encoded, EncodedConfig
from imasks.models.smp import WRONG

TAKEN = 4  # layers whose features are used, evenly spaced, the last among them
CHANNELS = (128, 64, 32, 16)  # of the head: for the patches, then after every doubling
MOMENTUM = 0.1  # of the head's batch norm


@dataclass(frozen=True, kw_only=True)
class VitConfig(EncodedConfig):
    """What a network over a vision transformer is made of.

    Args:
        settings: keyword arguments of the transformer, beside those that its name stands for.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)


class VitNetwork(Encoded):
    """A transformer and a light head; see :class:`imasks.models.encoded.Encoded`.

    H and W must be multiples of the side of a patch.

    Args:
        config: what it is made of.
        weights: a safetensors file of the transformer's weights; None: it begins at random.

    Raises:
        UserError: timm has no such transformer, or the file does not fit it.
    """

    def __init__(self, config: VitConfig, weights: Path | None = None) -> None:
        super().__init__(config)
        self.backbone = _make(config, weights)
        depth = len(self.backbone.blocks)
        self.taken = sorted({ceil(depth * part / TAKEN) - 1 for part in range(1, TAKEN + 1)})
        self.head = _Head(
            features=self.backbone.embed_dim,
            layers=len(self.taken),
            patch=_patch(self.backbone),
            in_channels=config.shown_channels,
            outputs=config.outputs,
        )
        self.freeze_if_asked()

    @property
    def encoder(self) -> nn.Module:
        """The part that comes from elsewhere."""
        backbone: nn.Module = self.backbone
        return backbone

    def forward(self, images: Tensor) -> Tensor:
        """Return logits; see the class."""
        x = self.normalised(images)
        layers = self.backbone.forward_intermediates(
            x, indices=self.taken, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        logits: Tensor = self.head(x, layers)
        return logits


class _Head(nn.Module):
    """From patches to pixels: double, convolve, halve the channels; details from the image.

    A patch is 14 or 16 pixels wide, so what is smaller must be seen in the image itself: one
    convolution of it is added at full size.
    """

    def __init__(
        self, *, features: int, layers: int, patch: int, in_channels: int, outputs: int
    ) -> None:
        super().__init__()
        steps = ceil(log2(patch))
        self.enter = nn.ModuleList(nn.Conv2d(features, CHANNELS[0], 1) for _ in range(layers))
        widths = [CHANNELS[min(step, len(CHANNELS) - 1)] for step in range(steps + 1)]
        self.stages = nn.ModuleList(
            Stage([(i, o, 3)], momentum=MOMENTUM) for i, o in pairwise(widths)
        )
        self.detail = Stage([(in_channels, widths[-1], 3)], momentum=MOMENTUM)
        self.leave = Stage([(widths[-1], widths[-1], 3)], momentum=MOMENTUM)
        self.logits = nn.Conv2d(widths[-1], outputs, 1)
        self.apply(he_normal)

    def forward(self, images: Tensor, layers: Sequence[Tensor]) -> Tensor:
        """Turn images [N, C, H, W] and layers [N, D, h, w] into logits [N, outputs, H, W]."""
        x = torch.stack([enter(one) for enter, one in zip(self.enter, layers, strict=True)]).sum(0)
        for left, stage in zip(reversed(range(len(self.stages))), self.stages, strict=True):
            # a patch of 14 pixels is no power of two: the last step goes to where it must
            size = [2 * side for side in x.shape[2:]] if left else images.shape[2:]
            x = stage(F.interpolate(x, size=size, mode="nearest"))
        x = self.leave(x + self.detail(images))
        with torch.autocast(x.device.type, enabled=False):  # the head in full precision
            logits: Tensor = self.logits(x.float())
        return logits


def stride_of(config: VitConfig) -> int:
    """Tell of what heights and widths must be multiples; builds the transformer without memory."""
    with torch.device("meta"):
        return _patch(_make(config, None))


def _make(config: VitConfig, weights: Path | None) -> Any:
    overlay = None if weights is None else {"file": str(weights)}
    try:
        backbone = optional.timm().create_model(
            config.encoder,
            pretrained=weights is not None,
            pretrained_cfg_overlay=overlay,
            num_classes=0,
            in_chans=config.shown_channels,
            dynamic_img_size=True,
            **config.settings,
        )
        _patch(backbone)
        backbone.blocks, backbone.embed_dim, backbone.forward_intermediates  # noqa: B018
    except WRONG as error:
        raise UserError(
            f"{config.encoder} is no plain vision transformer of timm"
            if weights is None
            else f"{weights} does not hold the weights of {config.encoder}",
            value=str(error)[:300],
            remedy=f"If it is another network of timm, name it tu-{config.encoder}."
            if weights is None
            else "Give the file that belongs to this encoder.",
        ) from error
    return backbone


def _patch(backbone: Any) -> int:
    height, width = backbone.patch_embed.patch_size
    if height != width:
        raise ValueError(f"patches of {height} x {width} pixels")
    return int(height)
