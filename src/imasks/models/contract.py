"""What every segmentation network promises, checked before anything is trained with it."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn

from imasks.errors import UserError


def check_contract(
    network: nn.Module,
    *,
    name: str,
    in_channels: int,
    outputs: int,
    size: tuple[int, int],
    batch: int = 2,
) -> None:
    """Show a network a few random images and see that it does what training needs of it.

    uint8 or float images [N, C, H, W] in 0..255 become float32 logits [N, outputs, H, W]: finite,
    the same for the same pixels in either type and, in evaluation mode, every time. Gradients
    reach its parameters. It can be copied, and no two entries of its state share memory, as
    safetensors files cannot hold that.

    Args:
        network: on the CPU.
        name: what to call it in errors.
        in_channels: C.
        outputs: logits per pixel.
        size: H, W.
        batch: N, in training.

    Raises:
        UserError: it does not; the message says what is wrong.
    """
    check = _Check(name, (outputs, *size))
    noise = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, in_channels, *size), generator=noise, dtype=torch.uint8)
    check.state(network)
    logits = check.logits(network.train(), images.float(), "images of type float32, in training,")
    check.gradients(network, logits)
    network.eval()
    with torch.no_grad():
        first = check.logits(network, images, "uint8 images")
        again = check.logits(network, images, "uint8 images")
        as_float = check.logits(network, images.float(), "images of type float32")
    if not torch.equal(first, again):
        check.fail(
            "answers the same images differently in evaluation mode",
            f"by up to {float((first - again).abs().max()):.3g}",
            "Ask self.training before anything random, or use torch.nn.Dropout, which does.",
        )
    if not torch.allclose(first, as_float, rtol=1e-3, atol=1e-4):
        check.fail(
            "answers uint8 images differently than the same values as float32",
            f"by up to {float((first - as_float).abs().max()):.3g}",
            "Images are in 0..255 in either type: begin with x = images.float() / 255.",
        )


class _Check:
    """The single checks of one network."""

    def __init__(self, name: str, shape: tuple[int, int, int]) -> None:
        self.name = name
        self.shape = shape

    def fail(self, what: str, value: object, remedy: str) -> None:
        raise UserError(f"the network {self.name} {what}", value=value, remedy=remedy)

    def state(self, network: nn.Module) -> None:
        """Make sure that it can be copied and stored."""
        if not any(one.requires_grad for one in network.parameters()):
            self.fail("has no parameter to learn", None, "Register layers as attributes.")
        shared = _shared(network.state_dict(keep_vars=True).items())
        if shared:
            self.fail(
                "keeps the same weights under two names, which a safetensors file cannot hold",
                " and ".join(shared),
                "Register the layer once, and use it twice in forward.",
            )
        try:
            deepcopy(network)
        except Exception as error:
            self.fail("cannot be copied", error, "Keep only layers and plain values in it.")

    def logits(self, network: nn.Module, images: Tensor, of: str) -> Tensor:
        """Return what it makes of images, if that has the right form."""
        wanted = (len(images), *self.shape)
        given = f"{of} of shape {list(images.shape)}"
        try:
            logits: object = network(images)
        except Exception as error:
            raise UserError(
                f"the network {self.name} fails at {given}",
                value=f"{type(error).__name__}: {error}",
                remedy="Images are uint8 or float32 in 0..255: begin with images.float() / 255. If "
                "the size is the trouble, give the factory an attribute stride, of which height "
                "and width will be multiples, or another --size.",
            ) from error
        if not isinstance(logits, Tensor):
            self.fail(
                "must return one tensor of logits", type(logits).__name__, "Return only that."
            )
        assert isinstance(logits, Tensor)
        if tuple(logits.shape) != wanted:
            self.fail(
                f"must return logits of shape {list(wanted)} for {given}",
                list(logits.shape),
                "One logit per output and pixel, at the size of the images.",
            )
        if logits.dtype != torch.float32:
            self.fail("must return float32", logits.dtype, "End with logits.float().")
        if not bool(logits.isfinite().all()):
            self.fail(f"makes numbers that are not finite of {given}", None, "Look for divisions.")
        return logits

    def gradients(self, network: nn.Module, logits: Tensor) -> None:
        """Make sure that a loss can be brought down."""
        if logits.requires_grad:
            logits.square().mean().backward()  # type: ignore[no-untyped-call]
        reached = [one.grad is not None for one in network.parameters() if one.requires_grad]
        network.zero_grad(set_to_none=True)
        if not any(reached):
            self.fail(
                "passes no gradient on to its parameters",
                None,
                "Leave out torch.no_grad and detach in forward.",
            )


def _shared(state: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Name the first entries that lie at the same place in memory."""
    seen: dict[int, str] = {}
    for name, tensor in state:
        if not tensor.numel():
            continue
        place = tensor.untyped_storage().data_ptr()
        if place in seen:
            return [seen[place], name]
        seen[place] = name
    return []
