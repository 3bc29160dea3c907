"""The inconsistency mask: where models disagree, nothing is learned.

Shapes: E models, N images, P planes (1 for binary and multiclass, C for multilabel), H x W pixels.
Every function takes torch tensors of any device or NumPy arrays and returns the same kind.
Source: METHOD 3; the paper's section on inconsistency masks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from imasks.errors import UserError

Array = TypeVar("Array", Tensor, np.ndarray)


@dataclass(frozen=True, kw_only=True)
class Morphology:
    """Square kernels (odd sides, 0 = off) that erode, then dilate an inconsistency mask."""

    erode: int = 0
    dilate: int = 0

    @property
    def active(self) -> bool:
        """Whether it changes anything."""
        return bool(self.erode or self.dilate)

    def __post_init__(self) -> None:
        for name in ("erode", "dilate"):
            side = getattr(self, name)
            if side < 0 or (side and side % 2 == 0):
                raise UserError(
                    f"morphology.{name} must be 0 or an odd number of pixels",
                    value=side,
                    remedy="Use 0, 3, 5, ...",
                )


def inconsistency(votes: Array) -> tuple[Array, Array]:
    """Find what all models agree on, and the mask of where they do not.

    One rule serves all tasks: binary and multilabel planes hold 0/1, the multiclass plane holds
    class indices with 0 reserved for the inconsistency mask.

    Args:
        votes: discrete predictions, uint8 [E, N, P, H, W], E >= 1.

    Returns:
        label: uint8 [N, P, H, W], the common vote; 0 where the models disagree.
        im: bool [N, P, H, W], True where they disagree.

    Raises:
        UserError: votes are not of that shape or type.
    """
    if isinstance(votes, np.ndarray):
        return cast("tuple[Array, Array]", _on_numpy(inconsistency, votes))
    _check_votes(votes)
    agree = (votes == votes[0]).all(0)
    return votes[0] * agree, ~agree


def cut_region(im: Array, morphology: Morphology | None = None) -> Array:
    """Return the region of an image to cut, bool [N, 1, H, W]: the union of its planes' masks,
    eroded, then dilated."""
    if isinstance(im, np.ndarray):
        return cast("Array", _on_numpy(lambda m: cut_region(m, morphology), im))
    union = im.any(1, keepdim=True)
    return union if morphology is None else change_shape(union, morphology)


def block_output(label: Array, region: Array, *, value: int = 0, grow: bool = False) -> Array:
    """Replace uint8 labels [N, P, H, W] by ``value`` where bool [N, 1 or P, H, W] is set.

    ``grow`` first dilates the labels by one pixel. The published code does so for multiclass and
    multilabel labels whenever it erodes the mask, since erosion uncovers pixels without a label.
    """
    if isinstance(label, np.ndarray):
        grown = grow_labels(label) if grow else label
        return np.where(region, np.uint8(value), grown)
    grown_t = grow_labels(label) if grow else label
    return grown_t.masked_fill(region, value)


def change_shape(im: Array, morphology: Morphology) -> Array:
    """Erode, then dilate boolean masks [..., H, W] with square kernels; borders do not erode."""
    if isinstance(im, np.ndarray):
        return cast("Array", _on_numpy(lambda m: change_shape(m, morphology), im))
    if not morphology.active:
        return im
    x = im.to(torch.float32).flatten(0, -3)[:, None]
    if morphology.erode:
        x = -_spread(-x, morphology.erode)
    if morphology.dilate:
        x = _spread(x, morphology.dilate)
    return (x > 0.5).reshape(im.shape)


def grow_labels(label: Array, *, side: int = 3) -> Array:
    """Dilate every class of uint8 labels [..., H, W] by a square kernel.

    Class 0 does not grow, and where two classes meet the higher index wins: that is a maximum
    over the neighbourhood.
    """
    if isinstance(label, np.ndarray):
        return cast("Array", _on_numpy(lambda m: grow_labels(m, side=side), label))
    x = label.to(torch.float32).flatten(0, -3)[:, None]
    return _spread(x, side).to(torch.uint8).reshape(label.shape)


def block_input(images: Array, region: Array) -> Array:
    """Blacken images [N, C, H, W] where bool [N, 1, H, W] is set."""
    if isinstance(images, np.ndarray):
        return np.where(region, np.zeros((), images.dtype), images)
    return images.masked_fill(region, 0)


@dataclass(frozen=True, kw_only=True)
class Sizes(Generic[Array]):
    """Pixels per image: int64 [N] each.

    ``im`` sums the planes' masks; ``agreed`` counts pixels that all models call foreground (any
    class but the reserved 0).
    """

    im: Array
    agreed: Array


def sizes(label: Array, im: Array) -> Sizes[Array]:
    """Count the pixels of labels and masks [N, P, H, W] image by image."""
    return Sizes(im=im.sum((1, 2, 3)), agreed=(label > 0).sum((1, 2, 3)))


def keep_mostly_agreed(counted: Sizes[Array]) -> Array:
    """Keep images, bool [N], whose agreed foreground is larger than the mask (binary only).

    The published filter counts before erosion and dilation.
    """
    return (counted.agreed > counted.im) & (counted.agreed > 0)


def keep_same_classes(votes: Array) -> Array:
    """Keep images, bool [N], in which all models predict the same set of classes."""
    if isinstance(votes, np.ndarray):
        return cast("Array", _on_numpy(keep_same_classes, votes))
    classes = int(votes.max()) + 1 if votes.numel() else 1
    flat = votes.flatten(2).long()
    present = torch.zeros(*flat.shape[:2], classes, dtype=torch.bool, device=votes.device)
    present.scatter_(2, flat, True)
    return (present == present[0]).all(2).all(0)


def disagreement(predictions: Array, *, factor: float = 2.0) -> Array:
    """Find where continuous predictions [E, N, 1, H, W] (depth maps) spread widely.

    Returns bool [N, 1, H, W]: the deviation over models exceeds ``factor`` times its mean over
    the image.
    """
    if isinstance(predictions, np.ndarray):
        return cast("Array", _on_numpy(lambda p: disagreement(p, factor=factor), predictions))
    deviation = predictions.std(0, correction=0)
    return deviation > factor * deviation.mean((1, 2, 3), keepdim=True)


def _spread(x: Tensor, side: int) -> Tensor:
    # max_pool pads with -inf, so that a border neither grows nor erodes anything
    return F.max_pool2d(x, side, stride=1, padding=side // 2)


def _check_votes(votes: Tensor) -> None:
    if votes.ndim != 5 or votes.shape[0] < 1:
        raise UserError(
            "votes must have the shape [models, images, planes, height, width]",
            value=tuple(votes.shape),
            remedy="Stack the models' discrete predictions along a new first axis; binary and "
            "multiclass masks have one plane.",
        )
    if votes.dtype != torch.uint8:
        raise UserError(
            "votes must be discrete predictions of type uint8",
            value=votes.dtype,
            remedy="Threshold (binary, multilabel) or argmax (multiclass) the outputs first.",
        )


def _on_numpy(
    function: Callable[[Tensor], Tensor | tuple[Tensor, ...]], array: np.ndarray
) -> object:
    out = function(torch.from_numpy(np.require(array, requirements=["C", "W"])))
    return tuple(t.numpy() for t in out) if isinstance(out, tuple) else out.numpy()
