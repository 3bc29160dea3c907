"""Augmentation of whole batches on the device they lie on.

Images are float32 [B, C, H, W] with whole numbers in 0..255, as the published code's uint8 images
are after every step; masks are uint8 [B, P, H, W]. Every function draws from the generator it is
given and from nothing else. Source: METHOD 10.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from imasks.errors import UserError

# OpenCV's fixed kernels for blur 1, 2, 3 (sides 3, 5, 7), padded to one length; 0 leaves as it is
_KERNELS = torch.tensor(
    [
        [0, 0, 0, 1, 0, 0, 0],
        [0, 0, 1 / 4, 1 / 2, 1 / 4, 0, 0],
        [0, 1 / 16, 1 / 4, 3 / 8, 1 / 4, 1 / 16, 0],
        [1 / 32, 7 / 64, 7 / 32, 9 / 32, 7 / 32, 7 / 64, 1 / 32],
    ]
)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What may happen to an image and its mask; the default leaves both alone.

    Args:
        flip: mirror left-right with probability 1/2.
        free_rotation: mirror up-down as well and rotate by k x 90 degrees (for images that are not
            square: by k x 180), all 8 (4) positions equally likely.
        contrast: half width of the factor's range around 1.
        brightness: half width of the offset's range, in grey levels.
        max_blur: 0 to 3: up to a 7x7 Gaussian.
        max_noise: uniform noise in [-max_noise, max_noise) grey levels.
        share: of images whose brightness, sharpness or noise is touched at all.

    A share below 1 is not in the published method, where every image is blurred and noisy.
    """

    flip: bool = False
    free_rotation: bool = False
    contrast: float = 0.0
    brightness: float = 0.0
    max_blur: int = 0
    max_noise: int = 0
    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.max_blur < len(_KERNELS):
            raise UserError(
                "augmentation.max_blur is out of range",
                value=self.max_blur,
                remedy=f"Use 0 to {len(_KERNELS) - 1}.",
            )
        for name in ("contrast", "brightness", "max_noise", "share"):
            if getattr(self, name) < 0:
                raise UserError(
                    f"augmentation.{name} must not be negative",
                    value=getattr(self, name),
                    remedy="Use 0 to switch it off.",
                )


def augment(
    images: Tensor, masks: Tensor, how: Augmentation, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Augment every pair of a batch on its own: geometry, then brightness, blur and noise.

    Args:
        images: float32 [B, C, H, W] in 0..255.
        masks: uint8 [B, P, H, W].
        how: what may happen.
        generator: the source of randomness, on the images' device.
    """
    images, masks = geometric(images, masks, how, generator)
    return photometric(images, how, generator), masks


def geometric(
    images: Tensor, masks: Tensor, how: Augmentation, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Mirror and rotate images and masks alike."""
    B, device = len(images), images.device
    if how.flip or how.free_rotation:
        flip = _coins(B, generator, device)
        images, masks = _where(flip, images.flip(-1), images), _where(flip, masks.flip(-1), masks)
    if how.free_rotation:
        flip = _coins(B, generator, device)
        images, masks = _where(flip, images.flip(-2), images), _where(flip, masks.flip(-2), masks)
        if images.shape[-1] == images.shape[-2]:
            # two mirrors and a transposition make all eight positions
            turn = _coins(B, generator, device)
            images = _where(turn, images.mT, images)
            masks = _where(turn, masks.mT, masks)
    return images, masks


def photometric(
    images: Tensor, how: Augmentation, generator: Generator, *, order: Sequence[Step] | None = None
) -> Tensor:
    """Change brightness and contrast, blur, and add noise, or the same in another order."""
    B, device = len(images), images.device
    untouched = images
    for step in PAIR_ORDER if order is None else order:
        images = step(images, how, generator)
    if how.share < 1 and images is not untouched:
        touched = torch.rand(B, generator=generator, device=device) < how.share
        images = _where(touched, images, untouched)
    return images


def brighten(images: Tensor, how: Augmentation, generator: Generator) -> Tensor:
    """Change brightness and contrast of half of the images."""
    if not (how.contrast or how.brightness):
        return images
    B, device = len(images), images.device
    a = 1 + how.contrast * _uniform(B, generator, device)
    b = how.brightness * _uniform(B, generator, device)
    return _where(_coins(B, generator, device), scale_brightness(images, a, b), images)


def soften(images: Tensor, how: Augmentation, generator: Generator) -> Tensor:
    """Blur every image by a radius of its own."""
    if not how.max_blur:
        return images
    size = (len(images),)
    radius = torch.randint(0, how.max_blur + 1, size, generator=generator, device=images.device)
    return blur(images, radius)


def roughen(images: Tensor, how: Augmentation, generator: Generator) -> Tensor:
    """Add noise."""
    return add_noise(images, how.max_noise, generator) if how.max_noise else images


Step = Callable[[Tensor, Augmentation, Generator], Tensor]
PAIR_ORDER: tuple[Step, ...] = (brighten, soften, roughen)
VIEW_ORDER: tuple[Step, ...] = (soften, roughen, brighten)
"""The order of the consistency loss and of the input ensemble, where views are compared."""


@dataclass(frozen=True, kw_only=True)
class Position:
    """One way to lay an image: mirrored, then turned clockwise by quarters.

    Args:
        left_right: mirror left-right first.
        up_down: mirror up-down first.
        quarters: then turn so often by 90 degrees; an odd number swaps height and width.
    """

    left_right: bool = False
    up_down: bool = False
    quarters: int = 0

    def apply(self, images: Tensor) -> Tensor:
        """Lay images or masks [..., H, W] so."""
        axes = [axis for axis, flip in ((-1, self.left_right), (-2, self.up_down)) if flip]
        return images.flip(axes).rot90(-self.quarters, (-2, -1))

    def restore(self, images: Tensor) -> Tensor:
        """Undo :meth:`apply`."""
        axes = [axis for axis, flip in ((-1, self.left_right), (-2, self.up_down)) if flip]
        return images.rot90(self.quarters, (-2, -1)).flip(axes)


TWELVE = tuple(
    Position(left_right=left_right, up_down=up_down, quarters=quarters)
    for left_right, up_down in ((False, False), (True, False), (False, True), (True, True))
    for quarters in (1, 2, 3)
)
"""The published combinations: every mirroring with every turn but none. They reach all eight
positions, those that swap height and width twice as often."""


def draw_positions(count: int, how: Augmentation, generator: Generator) -> list[Position]:
    """Draw positions for views of one image; the generator is on the CPU.

    One of TWELVE each with ``free_rotation``; mirrored left-right or not with ``flip`` alone;
    otherwise as it lies.
    """
    if how.free_rotation:
        choices = TWELVE
    elif how.flip:
        choices = (Position(), Position(left_right=True))
    else:
        choices = (Position(),)
    drawn = torch.randint(0, len(choices), (count,), generator=generator)
    return [choices[index] for index in drawn.tolist()]


def scale_brightness(images: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Compute clip(round(|a x + b|)) with one pair (a, b), float32 [B], an image."""
    return (images * _per_image(a) + _per_image(b)).abs().round().clamp(max=255)


def blur(images: Tensor, radius: Tensor) -> Tensor:
    """Blur every image with the Gaussian of its own radius, int64 [B] in 0..3."""
    B, C, H, W = images.shape
    kernels = _KERNELS.to(images.device)[radius].repeat_interleave(C, 0)
    x = F.pad(images, (3, 3, 3, 3), mode="reflect").reshape(1, B * C, H + 6, W + 6)
    x = F.conv2d(x, kernels.view(-1, 1, 1, 7), groups=B * C)
    x = F.conv2d(x, kernels.view(-1, 1, 7, 1), groups=B * C)
    # sums of whole numbers with dyadic weights are exact; OpenCV rounds halves up
    return (x + 0.5).floor().view(B, C, H, W)


def add_noise(images: Tensor, max_noise: int, generator: Generator) -> Tensor:
    """Add whole numbers uniform in [-max_noise, max_noise) to every value, and clip."""
    noise = torch.randint(
        -max_noise, max_noise, images.shape, generator=generator, device=images.device
    )
    return (images + noise).clamp(0, 255)


def _coins(count: int, generator: Generator, device: torch.device) -> Tensor:
    return torch.rand(count, generator=generator, device=device) < 0.5


def _uniform(count: int, generator: Generator, device: torch.device) -> Tensor:
    return torch.rand(count, generator=generator, device=device) * 2 - 1


def _per_image(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _where(chosen: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(_per_image(chosen), yes, no)
