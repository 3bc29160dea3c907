"""Networks of the user's own, made by a function that can be imported by its name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from imasks.errors import UserError
from imasks.models.unet import STRIDE

Factory = Callable[..., nn.Module]


@dataclass(frozen=True, kw_only=True)
class OwnConfig:
    """What a network of the user's own is made of.

    Args:
        in_channels: image channels.
        outputs: logits per pixel.
        factory: "module:function"; called with ``in_channels`` and ``outputs``, it returns an
            ``nn.Module`` of images uint8 or float [N, C, H, W] in 0..255 to float32 logits
            [N, outputs, H, W]. H and W are multiples of its attribute ``stride`` (16 if it has
            none).
    """

    in_channels: int
    outputs: int
    factory: str


class OwnNetwork(nn.Module):
    """What a factory made, with the name of the factory.

    Raises:
        UserError: the factory cannot be imported, fails, or makes something else.
    """

    def __init__(self, config: OwnConfig) -> None:
        super().__init__()
        self.config = config
        factory = find_factory(config.factory)
        try:
            network = factory(in_channels=config.in_channels, outputs=config.outputs)
        except Exception as error:
            raise UserError(
                f"{config.factory}(in_channels={config.in_channels}, outputs={config.outputs}) "
                "fails",
                value=f"{type(error).__name__}: {error}",
                remedy="Correct the function.",
            ) from error
        if not isinstance(network, nn.Module):
            raise UserError(
                f"{config.factory} must return a torch.nn.Module",
                value=type(network).__name__,
                remedy="Correct the function.",
            )
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return what the network returns; :mod:`imasks.models.contract` says what it must be."""
        logits: Tensor = self.network(images)
        return logits


def find_factory(name: str) -> Factory:
    """Import a factory. Modules are also looked for in the working folder.

    Raises:
        UserError: there is no such module or function, or importing it fails.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise UserError(
            "a network of one's own is named module:function",
            value=name,
            remedy="my_networks:small is the function small of my_networks.py.",
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # the command has its own folder there, not the one it is called in
    try:
        found: Any = import_module(module)
    except Exception as error:
        raise UserError(
            f"{module} cannot be imported, which network {name} is in",
            value=f"{type(error).__name__}: {error}",
            remedy="Run the command in the folder that holds the file, or add it to PYTHONPATH.",
        ) from error
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise UserError(
            f"{module} has no function {attribute}",
            value=name,
            remedy="Correct the name after the colon.",
        )
    factory: Factory = found
    return factory


def name_of(factory: Factory) -> str:
    """Return the "module:function" by which worker processes and later commands find a factory.

    Raises:
        UserError: it cannot be imported by a name: it is a lambda, a local function or one of the
            script itself.
    """
    module = getattr(factory, "__module__", None)
    attribute = getattr(factory, "__qualname__", None)
    remedy = "Put the function into a module of its own, my_networks.py, and give "
    remedy += 'network="my_networks:function".'
    if not module or not attribute or "<" in attribute:
        raise UserError(
            "other processes cannot import this network's factory", value=factory, remedy=remedy
        )
    if module == "__main__":
        raise UserError(
            f"{attribute} is a function of the script itself, which other processes cannot import",
            remedy=remedy,
        )
    name = f"{module}:{attribute}"
    if find_factory(name) is not factory:
        raise UserError(f"{name} is another function than the one given", remedy=remedy)
    return name


def stride_of(config: OwnConfig) -> int:
    """Tell of what heights and widths must be multiples, as the factory's ``stride`` says.

    Raises:
        UserError: it is no positive whole number.
    """
    stride = getattr(find_factory(config.factory), "stride", STRIDE)
    if type(stride) is not int or stride < 1:
        raise UserError(
            f"{config.factory}.stride must be a positive whole number",
            value=stride,
            remedy="It says of what an image's height and width must be multiples.",
        )
    return stride
