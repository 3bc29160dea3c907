"""Networks of segmentation_models.pytorch: any of its encoders under any of its decoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from imasks.errors import UserError
from imasks.models import optional
from imasks.models.encoded import Encoded, EncodedConfig

# what a decoder must be told so that it takes images of any size
_EXTRA: Mapping[str, Mapping[str, Any]] = {"dpt": {"dynamic_img_size": True}}
# what libraries raise at what they do not support
WRONG = (
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, kw_only=True)
class SmpConfig(EncodedConfig):
    """What a network of this library is made of.

    Args:
        decoder: its name in the library, in small letters.
    """

    decoder: str = "unet"


class SmpNetwork(Encoded):
    """An encoder and a decoder; see :class:`imasks.models.encoded.Encoded`.

    Args:
        config: what it is made of.
        weights: a safetensors file of the encoder's weights; None: it begins at random.

    Raises:
        UserError: the two do not go together, or the file does not fit the encoder.
    """

    def __init__(self, config: SmpConfig, weights: Path | None = None) -> None:
        super().__init__(config)
        self.model = _make(config, weights)
        self.freeze_if_asked()

    @property
    def encoder(self) -> nn.Module:
        """The part that comes from elsewhere."""
        encoder: nn.Module = self.model.encoder
        return encoder

    def forward(self, images: Tensor) -> Tensor:
        """Return logits; see the class."""
        logits: Tensor = self.model(self.normalised(images))
        return logits.float()


def find_decoder(name: str) -> str:
    """Return a decoder's name as the library knows it.

    Raises:
        UserError: there is none of that name; it lists those there are.
    """
    known = optional.smp().MODEL_ARCHITECTURES_MAPPING
    if name.lower() not in known:
        raise UserError(
            "there is no such decoder", value=name, remedy=f"Known: {', '.join(sorted(known))}."
        )
    return name.lower()


def stride_of(config: SmpConfig) -> int:
    """Tell of what heights and widths must be multiples, which only a network built knows."""
    return int(_make(config, None).encoder.output_stride)


def _make(config: SmpConfig, weights: Path | None) -> Any:
    smp = optional.smp()
    universal = config.encoder.startswith("tu-")  # timm loads these itself, tag and all
    extra = dict(_EXTRA.get(config.decoder, {}))
    if universal and weights is not None:
        extra["pretrained_cfg_overlay"] = {"file": str(weights)}
    grown = weights is not None and not universal and config.shown_channels != 3
    try:
        model = smp.create_model(
            config.decoder,
            encoder_name=config.encoder if universal else config.encoder.partition(".")[0],
            encoder_weights=True if universal and weights is not None else None,
            in_channels=3 if grown else config.shown_channels,
            classes=config.outputs,
            **extra,
        )
    except WRONG as error:
        raise UserError(
            f"the encoder {config.encoder} and the decoder {config.decoder} cannot be put together"
            if weights is None
            else f"{weights} does not hold the weights of {config.encoder}",
            value=error,
            remedy="Choose others; unet goes with most encoders, and a timm encoder with tu- may "
            "need images of one fixed size, which cannot be used here."
            if weights is None
            else "Give the file that belongs to this encoder.",
        ) from error
    if weights is not None and not universal:
        try:
            model.encoder.load_state_dict(load_file(weights))
        except WRONG as error:
            raise UserError(
                f"{weights} does not hold the weights of {config.encoder}",
                value=str(error)[:300],
                remedy="Give the file that belongs to this encoder.",
            ) from error
        if grown:
            model.encoder.set_in_channels(config.shown_channels, pretrained=True)
    return model
