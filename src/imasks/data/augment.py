"""Augmentation of whole batches on the device they lie on.

Images are float32 [B, C, H, W] with whole numbers in 0..255, as the published code's uint8 images
are after every step; masks are uint8 [B, P, H, W]. Every function draws from the generator it is
given and from nothing else. Source: METHOD 10.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
    moves: list[Callable[[Any], Any]] = []
    if how.flip or how.free_rotation:
        moves.append(lambda x: x.flip(-1))
    if how.free_rotation:
        moves.append(lambda x: x.flip(-2))
        if images.shape[-1] == images.shape[-2]:
            # two mirrors and a transposition make all eight positions
            moves.append(lambda x: x.mT)
    coins = [_coins(len(images), generator, images.device) for _ in moves]
    if coins and images.device.type == "cpu":
        return _laid(images, coins), _laid(masks, coins)
    for move, chosen in zip(moves, coins, strict=True):
        images, masks = (torch.where(_per_image(chosen), move(x), x) for x in (images, masks))
    return images, masks


def _laid(images: Tensor, coins: Sequence[Tensor]) -> Tensor:
    """Mirror left-right, up-down and transpose where the coins, bool [B] each, say so: one copy."""
    out = torch.empty_like(images)
    given, to = images.numpy(), out.numpy()
    for index, (left_right, *others) in enumerate(zip(*(c.tolist() for c in coins), strict=True)):
        x = given[index]
        x = x[..., ::-1] if left_right else x
        up_down, transposed = (*others, False, False)[:2]
        x = x[..., ::-1, :] if up_down else x
        to[index] = x.swapaxes(-1, -2) if transposed else x
    return out


def photometric(
    images: Tensor, how: Augmentation, generator: Generator, *, order: Sequence[Step] | None = None
) -> Tensor:
    """Change brightness and contrast, blur, and add noise, or the same in another order."""
    steps = PAIR_ORDER if order is None else order
    drawn = [step(images.shape, how, generator) for step in steps]
    changes = [change for change in drawn if change is not None]

    def all_of_them(x: Tensor, rows: Rows) -> Tensor:
        for change in changes:
            x = change(x, rows)
        return x

    if not changes or how.share >= 1:
        return all_of_them(images, ALL)
    touched = torch.rand(len(images), generator=generator, device=images.device) < how.share
    return _changed(images, touched, all_of_them)


Rows = Tensor | slice  # of a batch
ALL = slice(None)
Change = Callable[[Tensor, Rows], Tensor]  # of images that are these rows of the batch
Step = Callable[[Sequence[int], Augmentation, Generator], Change | None]
"""Draws what is to happen to a batch of this shape; None: nothing."""


def brighten(shape: Sequence[int], how: Augmentation, generator: Generator) -> Change | None:
    """Change brightness and contrast of half of the images."""
    if not (how.contrast or how.brightness):
        return None
    B, device = shape[0], generator.device
    a = 1 + how.contrast * _uniform(B, generator, device)
    b = how.brightness * _uniform(B, generator, device)
    chosen = _coins(B, generator, device)
    return lambda images, rows: _changed(
        images, chosen[rows], lambda x, some: scale_brightness(x, a[rows][some], b[rows][some])
    )


def soften(shape: Sequence[int], how: Augmentation, generator: Generator) -> Change | None:
    """Blur every image by a radius of its own."""
    if not how.max_blur:
        return None
    radius = torch.randint(
        0, how.max_blur + 1, (shape[0],), generator=generator, device=generator.device
    )
    return lambda images, rows: _changed(
        images, radius[rows] > 0, lambda x, some: blur(x, radius[rows][some], reach=how.max_blur)
    )


def roughen(shape: Sequence[int], how: Augmentation, generator: Generator) -> Change | None:
    """Add noise."""
    if not how.max_noise:
        return None
    noise = draw_noise(shape, how.max_noise, generator)
    return lambda images, rows: add_noise(images, noise[rows])


PAIR_ORDER: tuple[Step, ...] = (brighten, soften, roughen)
VIEW_ORDER: tuple[Step, ...] = (soften, roughen, brighten)
"""The order of the consistency loss and of the input ensemble, where views are compared."""


def _changed(images: Tensor, chosen: Tensor, change: Change) -> Tensor:
    """Change the chosen images, bool [B], and leave the others as they are."""
    if images.device.type != "cpu":  # how many are chosen is not known here without waiting
        return torch.where(_per_image(chosen), change(images, ALL), images)
    rows = chosen.nonzero()[:, 0]
    if len(rows) in (0, len(images)):
        return change(images, ALL) if len(rows) else images
    out = images.clone()
    out[rows] = change(images[rows], rows)
    return out


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


def blur(images: Tensor, radius: Tensor, *, reach: int = 3) -> Tensor:
    """Blur every image with the Gaussian of its own radius, int64 [B] in 0..reach."""
    B, C, H, W = images.shape
    taps = _KERNELS[:, 3 - reach : 4 + reach].to(images.device)
    kernels = taps[radius].repeat_interleave(C, 0)
    x = F.pad(images, (reach, reach, reach, reach), mode="reflect")
    x = x.reshape(1, B * C, H + 2 * reach, W + 2 * reach)
    x = F.conv2d(x, kernels.unsqueeze(1).unsqueeze(1), groups=B * C)
    x = F.conv2d(x, kernels.unsqueeze(1).unsqueeze(-1), groups=B * C)
    # sums of whole numbers with dyadic weights are exact; OpenCV rounds halves up
    return (x + 0.5).floor().view(B, C, H, W)


def draw_noise(shape: Sequence[int], max_noise: int, generator: Generator) -> Tensor:
    """Draw whole numbers uniform in [-max_noise, max_noise), int16."""
    return torch.randint(
        -max_noise,
        max_noise,
        tuple(shape),
        generator=generator,
        device=generator.device,
        dtype=torch.int16,
    )


def add_noise(images: Tensor, noise: Tensor) -> Tensor:
    """Add noise of the same shape, and clip."""
    return (images + noise).clamp(0, 255)


def _coins(count: int, generator: Generator, device: torch.device) -> Tensor:
    return torch.rand(count, generator=generator, device=device) < 0.5


def _uniform(count: int, generator: Generator, device: torch.device) -> Tensor:
    return torch.rand(count, generator=generator, device=device) * 2 - 1


def _per_image(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
