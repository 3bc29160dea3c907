"""Networks that are asked together about an image of any size.

Needs no torch, so that an exported model is shown images in the same way as the networks of a run.

Shape letters: E networks, n images at once, C channels or network outputs, H x W pixels of the
image, h x w pixels as the networks see it.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imasks.data.prepare import Preparation, resize_image, to_uint8
from imasks.errors import UserError
from imasks.runs.bands import tiled
from imasks.runs.deciding import Bytes, Floats, Meaning, Prediction, predict_from

LARGER = 1.5  # an image larger than so many times the largest seen shows more, not finer detail
SCALES = ("auto", "whole", "native")


class Said(NamedTuple):
    """What is said about one image that was shown as a whole.

    Args:
        members: each network's probabilities, float32 [E,C,h,w].
        quality: see :class:`imasks.runs.deciding.Prediction`.
        class_quality: likewise.
    """

    members: Floats
    quality: float | None
    class_quality: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Ensemble(abc.ABC):
    """Networks that are called with one image, [H,W] or [H,W,C].

    It holds 4 bytes x E x C x h x w of probabilities, and at most another 12 bytes x C x H x W
    while the networks vote one after another. With 3 networks, 5 outputs and an image of 4000 x
    3000 pixels in tiles that is 1.4 GB in main memory; whole, it is 0.7 GB.

    Args:
        task: what the networks' outputs mean.
        preparation: how images became arrays when the networks were trained.
        colors: "#rrggbb" of each class for overlays, or empty for the default colours.
        scale: how large images are shown to networks that learned from resized images. "whole":
            the image is resized to the training size, and the probabilities back again.
            "native": it is resized by the factor of training and predicted in overlapping tiles.
            "auto": "native" for an image more than 1.5 times as high or wide as the largest
            labeled ones (a larger field of view at the same magnification), else "whole". Networks
            that learned from tiles always see tiles of the image's own pixels.

    Raises:
        UserError: the scale is unknown, or "whole" for networks that learned from tiles.
    """

    task: Meaning
    preparation: Preparation
    colors: tuple[str, ...] = ()
    scale: str = "auto"

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise UserError(
                "there is no such scale", value=self.scale, remedy=f"Use {' or '.join(SCALES)}."
            )
        if self.scale == "whole" and self.preparation.fit == "tile":
            raise UserError(
                "the networks learned from tiles, so they cannot see an image as a whole",
                value=f"scale = {self.scale}",
                remedy="Use auto or native.",
            )

    @property
    @abc.abstractmethod
    def judged(self) -> bool:
        """Whether predictions of images that are shown whole come with a quality."""

    @abc.abstractmethod
    def show(self, images: Bytes) -> Floats:
        """Show uint8 [n,h,w,C] of the training size to all networks; float32 [E,n,C,h,w]."""

    @abc.abstractmethod
    def look(self, whole: Bytes) -> Said:
        """Show one image, uint8 [1,h,w,C] of the training size, and judge what is said of it."""

    def count(self, mask: Bytes) -> dict[str, int]:
        """Count the things in a mask of classes that are points, by name."""
        return {}

    def __call__(self, image: NDArray[Any]) -> Prediction:
        """Predict one image, [H,W] or [H,W,C] of the dtype of the training images' files.

        Raises:
            UserError: the image has another shape or dtype.
        """
        pixels = to_uint8(_with_channels(image, self.preparation), self.preparation)
        if self.shows_whole(pixels.shape):
            said = self.look(resize_image(pixels, self.preparation.size)[None])
        else:
            said = Said(self._in_parts(pixels), None, {})
        size = (pixels.shape[0], pixels.shape[1])
        found = predict_from(
            said.members,
            self.task,
            size,
            quality=said.quality,
            class_quality=said.class_quality,
        )
        return replace(found, counts=self.count(found.mask))

    def shows_whole(self, shape: Sequence[int]) -> bool:
        """Say whether networks see an image of this shape, height first, as a whole."""
        prep = self.preparation
        if prep.fit == "tile" or self.scale == "native":
            return False
        larger = max(side / most for side, most in zip(shape, prep.largest, strict=False))
        return self.scale == "whole" or larger <= LARGER

    def inner_size(self, shape: Sequence[int]) -> tuple[int, int]:
        """Height and width at which networks see an image of this shape."""
        prep = self.preparation
        if self.shows_whole(shape):
            return prep.size
        if prep.fit == "tile":
            return shape[0], shape[1]
        h, w = (s * new / old for s, new, old in zip(shape, prep.size, prep.native, strict=False))
        return max(1, round(h)), max(1, round(w))

    def _in_parts(self, image: Bytes) -> Floats:
        """Show uint8 [H,W,C] to all networks in tiles; float32 [E,C,h,w]."""
        size = self.inner_size(image.shape)
        image = resize_image(image, size)
        bands = tiled(lambda start, stop: image[start:stop], size, self.preparation.size, self.show)
        return np.concatenate(list(bands), axis=2)


def _with_channels(image: NDArray[Any], preparation: Preparation) -> NDArray[Any]:
    """Bring an image to [H,W,C]."""
    pixels = image[..., None] if image.ndim == 2 else image
    wanted = preparation.channels
    allowed = (1, 3) if wanted in (1, 3) else (wanted,)
    if pixels.ndim != 3 or pixels.shape[2] not in allowed or not pixels.size:
        shapes = "[height, width] or [height, width, 1 or 3]"
        raise UserError(
            f"an image must have the shape {shapes if wanted in (1, 3) else f'[H, W, {wanted}]'}",
            value=image.shape,
            remedy="Give one image at a time, its channels last and without alpha.",
        )
    return pixels
