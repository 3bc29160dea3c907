"""From what networks say about one image to a prediction at the image's own size.

Needs no torch, so that what an exported model says is decided upon in the same way.

Shape letters: E networks of the ensemble, C network outputs, K classes, P planes of a discrete
mask, H x W pixels of the image, h x w pixels as the networks see it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imasks.encoding import TaskName

Bytes: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float32]


class Meaning(Protocol):
    """What outputs mean, as :class:`imasks.tasks.Task` says it, or a file that holds a model."""

    @property
    def name(self) -> TaskName:
        """The task."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""

    @property
    def primary(self) -> str:
        """The score that quality is about."""

    @property
    def detects(self) -> bool:
        """Whether EvalNets tell classes apart."""

    @property
    def counted(self) -> tuple[str, ...]:
        """What is counted in a mask, by name."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What an ensemble says about one image, at the image's own size.

    Args:
        mask: uint8 in the encoding of the user's mask files: binary [H,W] 0/1, multiclass [H,W]
            class ids, multilabel [K,H,W] 0/1; decided on the networks' mean probability, and
            never the index that is reserved for the inconsistency mask.
        im: the inconsistency mask, bool [H,W]: where the networks' own decisions differ, in any
            plane.
        agreement: share of pixels where all networks decide alike, 1 - `im_share`.
        im_share: share of pixels in `im`.
        confidence: mean over pixels (and planes) of the mean probability of what was decided.
            Probability that a multiclass network gives to the reserved index is lost to it.
        areas: share of pixels of every class, by name.
        counts: how many things the classes show that are points, by the names of
            :attr:`imasks.tasks.Task.counted`; empty without such classes.
        quality: the run's primary score that this mask may be expected to reach, as EvalNets see
            it, calibrated on the validation images; None where the run taught none, and for images
            predicted in tiles.
        class_quality: the IoU that EvalNets expect of every class they find, by name; not
            calibrated. Empty where there is no quality, and for binary tasks.
    """

    mask: Bytes
    im: NDArray[np.bool_]
    agreement: float
    im_share: float
    confidence: float
    areas: Mapping[str, float]
    counts: Mapping[str, int] = field(default_factory=dict)
    quality: float | None = None
    class_quality: Mapping[str, float] = field(default_factory=dict)


def predict_from(
    members: Floats,
    meaning: Meaning,
    size: tuple[int, int],
    *,
    quality: float | None = None,
    class_quality: Mapping[str, float] | None = None,
) -> Prediction:
    """Let every network decide at the image's size, and all of them by their mean.

    One network after another, so that only one lies in memory at the full size.

    Args:
        members: probabilities of each network, float32 [E,C,h,w].
        meaning: of the outputs.
        size: (H, W) of the image.
        quality: what EvalNets expect, see :class:`Prediction`.
        class_quality: likewise.
    """
    mean = np.zeros((members.shape[1], *size), np.float32)
    im = np.zeros(size, np.bool_)
    first = None
    for member in members:
        own = resize_floats(member, size)
        vote = decided(own, meaning.name)
        first = vote if first is None else first
        im |= (vote != first).any(0)  # the inconsistency mask of METHOD 3
        mean += own
    mean /= len(members)
    planes = decided(mean, meaning.name)
    multiclass = meaning.name == "multiclass"
    areas = [(planes == k).mean() if multiclass else planes[k].mean() for k in _ids(meaning)]
    im_share = float(im.mean())
    return Prediction(
        mask=planes if meaning.name == "multilabel" else planes[0],
        im=im,
        agreement=1 - im_share,
        im_share=im_share,
        confidence=_confidence(mean, planes, multiclass=multiclass),
        areas={name: float(area) for name, area in zip(meaning.classes, areas, strict=True)},
        quality=quality,
        class_quality=class_quality or {},
    )


def decided(probability: Floats, task: TaskName) -> Bytes:
    """Decide on probabilities float32 [C,H,W] in the user's encoding, uint8 [P,H,W].

    The same as :meth:`imasks.tasks.Task.discrete` without the reserved index.
    """
    if task == "multiclass":
        return np.asarray(probability[1:].argmax(0)[None], np.uint8)
    return (probability > 0.5 if task == "binary" else probability >= 0.5).astype(np.uint8)


def _ids(meaning: Meaning) -> range:
    return range(len(meaning.classes))


def resize_floats(probability: Floats, size: tuple[int, int]) -> Floats:
    """Resize [C,h,w] to [C,H,W], bilinear; when shrinking, every pixel counts."""
    if probability.shape[1:] == size:
        return probability
    planes = [
        np.asarray(Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR))
        for plane in np.ascontiguousarray(probability, np.float32)
    ]
    return np.stack(planes)


def _confidence(mean: Floats, planes: Bytes, *, multiclass: bool) -> float:
    """Average the probability of what was decided over pixels and planes."""
    if multiclass:
        chosen = np.take_along_axis(mean[1:], planes.astype(np.intp), axis=0)
    else:
        chosen = np.where(planes > 0, mean, 1 - mean)
    return float(chosen.mean(dtype=np.float64))
