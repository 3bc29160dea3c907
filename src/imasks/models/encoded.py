"""What networks with an encoder from elsewhere share: normalisation, and how its weights learn."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from imasks.errors import UserError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


@dataclass(frozen=True, kw_only=True)
class EncodedConfig:
    """What is common to configurations of networks with an encoder from elsewhere.

    Args:
        in_channels: image channels. Grey images are shown in all three channels of the encoder.
        outputs: logits per pixel.
        encoder: its name in its library, with the tag of its weights where these were loaded.
        weights: digest of the file of weights that the encoder began with; None: it began at
            random; empty: still to be found.
        mean: of every channel the encoder was made for, in 0..1; subtracted inside the network.
        std: likewise; divided by.
        rate: learning rate of the encoder in those of the rest; 0: it stays as it is.
    """

    in_channels: int
    outputs: int
    encoder: str
    weights: str | None = None
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    rate: float = 1.0

    def __post_init__(self) -> None:
        # from JSON they come as lists
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        if self.rate == 0 and self.weights is None:
            raise UserError(
                "an encoder that begins at random and never learns has nothing to say",
                value=f"encoder_rate = 0, {self.encoder} without weights",
                remedy="Leave --encoder-rate out, or give weights.",
            )

    @property
    def shown_channels(self) -> int:
        """Channels that the encoder sees."""
        return 3 if self.in_channels == 1 else self.in_channels


class Encoded(nn.Module, abc.ABC):
    """Images uint8 or float [N, C, H, W] in 0..255 to float32 logits [N, outputs, H, W]."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: EncodedConfig) -> None:
        super().__init__()
        self.config: Any = config
        channels = range(config.shown_channels)
        for name, values in (("mean", config.mean), ("std", config.std)):
            # further channels repeat these, as both libraries repeat the weights of the first layer
            each = torch.tensor([values[i % len(values)] for i in channels])
            self.register_buffer(name, each.view(1, -1, 1, 1), persistent=False)

    @property
    @abc.abstractmethod
    def encoder(self) -> nn.Module:
        """The part that comes from elsewhere."""

    def normalised(self, images: Tensor) -> Tensor:
        """Bring images to what the encoder is used to: float32 [N, shown channels, H, W]."""
        x = images.float() / 255
        if self.config.in_channels == 1:
            x = x.expand(-1, 3, -1, -1)
        return (x - self.mean) / self.std

    def freeze_if_asked(self) -> None:
        """Keep an encoder of rate 0 from learning, once it has been built."""
        if not self.config.rate:
            self.encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> Encoded:
        """Switch modes; a frozen encoder stays in evaluation mode, running statistics included."""
        super().train(mode)
        if not self.config.rate:
            self.encoder.eval()
        return self

    def groups(self) -> Iterator[tuple[list[nn.Parameter], float]]:
        """Yield parameters that learn, with the factor on their learning rate."""
        theirs = {id(one) for one in self.encoder.parameters()}
        yield [one for one in self.parameters() if id(one) not in theirs], 1.0
        if self.config.rate:
            yield list(self.encoder.parameters()), self.config.rate


def parameter_groups(network: nn.Module) -> list[dict[str, Any]]:
    """Return what an optimiser learns: groups of "params", each with a "rate".

    The rate is a factor on the learning rate: encoders from elsewhere have their own.
    """
    if isinstance(network, Encoded):
        return [{"params": params, "rate": rate} for params, rate in network.groups()]
    return [{"params": list(network.parameters()), "rate": 1.0}]
