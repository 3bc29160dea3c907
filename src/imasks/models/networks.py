"""All kinds of segmentation networks: their configurations as records, and how to build them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from imasks.errors import UserError
from imasks.models._blocks import place
from imasks.models.encoded import Encoded, EncodedConfig
from imasks.models.own import OwnConfig, OwnNetwork
from imasks.models.own import stride_of as stride_of_own
from imasks.models.smp import SmpConfig, SmpNetwork
from imasks.models.smp import stride_of as stride_of_smp
from imasks.models.unet import STRIDE, UNet, UNetConfig
from imasks.models.vit import VitConfig, VitNetwork
from imasks.models.vit import stride_of as stride_of_vit

NetworkConfig = UNetConfig | SmpConfig | VitConfig | OwnConfig
KINDS: Mapping[str, type[NetworkConfig]] = {
    "unet": UNetConfig,
    "smp": SmpConfig,
    "vit": VitConfig,
    "python": OwnConfig,
}
_KIND_OF = {config: kind for kind, config in KINDS.items()}


def kind_of(config: NetworkConfig) -> str:
    """Name the kind that a configuration is of."""
    return _KIND_OF[type(config)]


def to_record(config: NetworkConfig) -> dict[str, Any]:
    """Return a configuration as plain values, with its "kind" unless it is a U-Net.

    U-Nets were there first: their records, and the keys of jobs made of these, stay as they are.
    """
    kind = kind_of(config)
    return asdict(config) if kind == "unet" else {"kind": kind, **asdict(config)}


def from_record(record: Mapping[str, Any]) -> NetworkConfig:
    """Rebuild a configuration from :func:`to_record`.

    Raises:
        KeyError: the kind is unknown.
        TypeError: a value is missing, or there is one too many.
    """
    values = dict(record)
    return KINDS[values.pop("kind", "unet")](**values)


def build(config: NetworkConfig, weights: Path | None = None) -> nn.Module:
    """Build a network.

    Args:
        config: what it is made of.
        weights: the file that its encoder begins with; None: it begins at random, also where the
            configuration says that it once began with weights.

    Raises:
        UserError: a library is missing, or the parts do not fit each other.
    """
    match config:
        case UNetConfig():
            return UNet(config)
        case SmpConfig():
            return SmpNetwork(config, weights)
        case VitConfig():
            return VitNetwork(config, weights)
        case OwnConfig():
            return OwnNetwork(config)


def check_weights(config: EncodedConfig, file: Path) -> None:
    """Make sure that a file holds all weights of an encoder.

    Libraries pass over what they do not find in it. That begins at random, so it differs between
    two networks built with different seeds.

    Raises:
        UserError: it does not; or it does not fit the encoder at all.
    """
    states = []
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build(cast("NetworkConfig", config), file)
        assert isinstance(network, Encoded)
        states.append(network.encoder.state_dict())
    one, other = states
    missing = [name for name, tensor in one.items() if not torch.equal(tensor, other[name])]
    if missing:
        raise UserError(
            f"{file} does not hold the weights of {config.encoder}",
            value=f"{len(missing)} of {len(one)} are missing, {missing[0]} for one",
            remedy="Give the file that belongs to this encoder.",
        )


def make_network(
    config: NetworkConfig, device: torch.device, weights: Path | None = None
) -> nn.Module:
    """Build a network on a device, its weights laid out channels-last; see :func:`build`."""
    return place(build(config, weights), device)


def stride_of(config: NetworkConfig) -> int:
    """Tell of what the heights and widths of a network's images must be multiples."""
    strides: Mapping[type, Callable[[Any], int]] = {
        SmpConfig: stride_of_smp,
        VitConfig: stride_of_vit,
        OwnConfig: stride_of_own,
    }
    return STRIDE if isinstance(config, UNetConfig) else strides[type(config)](config)


def describe(config: NetworkConfig) -> str:
    """Name a network for people."""
    match config:
        case UNetConfig():
            return "U-Net"
        case OwnConfig():
            return config.factory
    origin = "from random weights" if config.weights is None else "pretrained"
    if config.rate != 1:
        origin += ", frozen" if config.rate == 0 else f", learning {config.rate:g} times as fast"
    below = f"{config.decoder} decoder" if isinstance(config, SmpConfig) else "light head"
    return f"{config.encoder} + {below} ({origin})"
