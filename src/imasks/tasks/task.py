"""What a segmentation task must say about itself.

Shape letters: N images, K user classes, P planes of a discrete mask (1 for binary and multiclass,
K for multilabel), C network outputs, H x W pixels.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from imasks.encoding import IGNORE, SURE, TaskName

EPSILON = 1e-7
DETECTED = 0.5
"""The least answer of an EvalNet that says a class is there."""

LossName = Literal["paper", "cross-entropy"]
FilterName = Literal["mostly agreed", "same classes"]


class SoftTarget(NamedTuple):
    """What is learned where labels are IGNORE.

    Args:
        target: float32 [N, C, H, W], probabilities.
        weight: float32 [N, P, H, W] in 0..1, what a pixel counts; 0 where nothing is learned.
    """

    target: Tensor
    weight: Tensor


class Task(abc.ABC):
    """One of the three tasks, with its class names; the only place where they differ."""

    name: ClassVar[TaskName]
    primary: ClassVar[str]
    """The score that ranks candidates."""
    detects: ClassVar[bool]
    """Whether an EvalNet also answers which classes are there."""
    grows: ClassVar[bool] = True
    """Whether labels grow where an inconsistency mask is eroded, as published."""
    exclusive: ClassVar[bool] = False
    """Whether classes exclude one another: a pixel has one of them."""
    filter: ClassVar[FilterName | None] = None
    """By which published rule images whose networks disagree are left out; None: there is none."""
    filtered: ClassVar[bool] = False
    """Whether that rule holds unless it is asked otherwise, as published."""
    conventions: ClassVar[tuple[str, ...]] = ()
    """The primary score by other conventions about images without foreground; none selects."""
    extra_views: ClassVar[int] = 1
    """How many more views than its nominal number an input ensemble has, as published."""

    def __init__(
        self,
        classes: Sequence[str],
        *,
        points: Sequence[str] = (),
        weights: Sequence[float] = (),
        scored: Sequence[str] = (),
    ) -> None:
        """Name the classes.

        Args:
            classes: in the order of ids or planes.
            points: those whose masks mark places, see :mod:`imasks.tasks.points` (multilabel).
            weights: what a pixel of each class counts in the loss; empty: 1 (multilabel).
            scored: those of the field's own evaluation, which leaves out pixels of all others
                (multiclass).
        """
        self.classes = tuple(classes)
        self.points = tuple(points)
        self.weights = tuple(weights)
        self.scored = tuple(scored)

    @property
    @abc.abstractmethod
    def outputs(self) -> int:
        """Network outputs C."""

    @property
    @abc.abstractmethod
    def planes(self) -> int:
        """Planes P of a discrete mask."""

    @property
    @abc.abstractmethod
    def values(self) -> int:
        """Values V that a pixel of a plane may have, 0 included; IGNORE is none."""

    @abc.abstractmethod
    def shows(self, labels: Tensor) -> Tensor:
        """Say which classes labels uint8 [N, P, H, W] show: bool [N, K + 1].

        The last column: pixels are labelled as background, and none as a class.
        """

    @abc.abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits [N, C, H, W] to float32 probabilities of the same shape."""

    @abc.abstractmethod
    def discrete(self, probabilities: Tensor, *, reserved: bool = True) -> Tensor:
        """Probabilities [N, C, H, W] to uint8 [N, P, H, W].

        Logits are not accepted: the published decisions are made on rounded probabilities.
        ``reserved`` lets a multiclass network answer with the reserved index 0.
        """

    @abc.abstractmethod
    def consensus(self, probabilities: Tensor) -> Tensor:
        """Label images as a model ensemble does: [E, N, C, H, W] to uint8 [N, P, H, W].

        As published, binary masks are intersected; the other tasks decide on the mean probability.
        """

    @abc.abstractmethod
    def view_consensus(self, probabilities: Tensor) -> Tensor:
        """Label images as an input ensemble does, whose E answers are one network's on E views.

        As published, this differs for multilabel masks, which are intersected.
        """

    @abc.abstractmethod
    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        kind: LossName = "paper",
        soft: SoftTarget | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Mean loss over all pixels that are not IGNORE; labels uint8 [N, P, H, W].

        ``soft`` says what is learned at those that are, with which weight in the mean.
        ``weights`` float32 [P, V] says what a pixel of each value counts in the mean; None: all
        count alike.
        """

    @abc.abstractmethod
    def mean(self, probabilities: Tensor) -> Tensor:
        """Mean of several networks' probabilities, [E, N, C, H, W] to [N, C, H, W].

        The reserved index gets no share.
        """

    @abc.abstractmethod
    def sureness(self, probabilities: Tensor) -> Tensor:
        """How clear a decision without the reserved index is: [N, C, H, W] to [N, P, H, W].

        0: all answers are equally likely; 1: there is no doubt.
        """

    @abc.abstractmethod
    def overlaps(self, predicted: Tensor, truth: Tensor) -> Tensor:
        """Count pixels of every class: int64 [N, K, 3] of (intersection, predicted, true).

        Pixels whose truth is IGNORE are left out of all three.
        """

    @property
    def beside(self) -> tuple[str, ...]:
        """Scores that tables show beside the primary one."""
        return ()

    def tally(self, predicted: Tensor, truth: Tensor) -> Tensor:
        """Count all that scores need: int64 [N, R, 3], R >= K.

        The first K rows are :meth:`overlaps`. Sums over the parts of an image are those of the
        image.
        """
        return self.overlaps(predicted, truth)

    @abc.abstractmethod
    def scores(self, tally: Tensor) -> dict[str, Tensor]:
        """The paper's scores of every image, float64 [N] each, from :meth:`tally`."""

    @property
    def counted(self) -> tuple[str, ...]:
        """What :meth:`count` counts."""
        return ()

    def count(self, labels: Tensor) -> Tensor:
        """Count the things in uint8 [N, P, H, W] by the names of :attr:`counted`: int64 [N, Q]."""
        return torch.zeros((len(labels), 0), dtype=torch.int64)

    def redraw(self, labels: Tensor, places: Tensor) -> Tensor:
        """Draw the classes that are points anew, as pseudo-labels are once a generation.

        Args:
            labels: uint8 [N, P, H, W].
            places: the same before they were changed: where things are.
        """
        return labels

    @abc.abstractmethod
    def selection_sums(self, probabilities: Tensor, truth: Tensor) -> Tensor:
        """Count what the published choice of an epoch needs beside :meth:`tally`.

        Args:
            probabilities: float32 [N, C, H, W].
            truth: uint8 [N, P, H, W]; pixels that are IGNORE are left out.

        Returns:
            float64 of a shape of the task's own; those of several chunks are to be added up.
        """

    @abc.abstractmethod
    def selection(self, sums: Tensor, tally: Tensor) -> float:
        """The number by which epochs are compared as published; larger is better (METHOD 5).

        Args:
            sums: see :meth:`selection_sums`.
            tally: int64 [N, R, 3] of the whole split.
        """

    @abc.abstractmethod
    def to_user(self, labels: Tensor) -> Tensor:
        """Internal labels uint8 [N, P, H, W] to the ids of the user's own mask files."""

    @abc.abstractmethod
    def mask_input(self, masks: Tensor) -> Tensor:
        """Masks uint8 [N, P, H, W] as an EvalNet sees them: float32 [N, C, H, W] of 0 and 1.

        IGNORE, which only true masks hold, is no class at all.
        """

    @abc.abstractmethod
    def pair_quality(self, masks: Tensor, truth: Tensor, region: Tensor | None = None) -> Tensor:
        """What an EvalNet should answer: float32 [N, heads, C], METHOD 8.

        Head 0 is the IoU of every output, 0 where it is not detected; head 1 (where the task
        detects) is 1 where it is.

        Args:
            masks: uint8 [N, P, H, W], 0 inside the region.
            truth: uint8 [N, P, H, W], whole.
            region: bool [N, 1, H, W], what was cut out of the pair; None: a plain prediction.
        """

    def soften(self, probabilities: Tensor) -> Tensor:
        """Mean of several networks' probabilities as soft labels uint8, see :meth:`mean`."""
        return (self.mean(probabilities) * SURE).round().to(torch.uint8)

    def soft_target(self, soft: Tensor, *, decide: bool = False) -> SoftTarget:
        """Make of soft labels uint8 [N, C, H, W] what :meth:`loss` takes.

        Args:
            soft: IGNORE where nothing is learned.
            decide: learn the decision, weighted by how sure it is, in place of the probabilities.
        """
        known = (soft != IGNORE)[:, : self.planes]
        target = self.mean(soft[None].float() / SURE)  # adds up to 1 again, rounded or not
        if not decide:
            return SoftTarget(target, known.float())
        decided = self.mask_input(self.discrete(target, reserved=False))
        return SoftTarget(decided, self.sureness(target) * known)

    def pair_score(self, quality: Tensor) -> Tensor:
        """One number a pair, [N], from predicted or true quality [N, heads, C].

        The mean IoU over the classes whose detection is at least 0.5, 0 if there is none; the
        reserved index never counts.
        """
        quality = quality[:, :, -len(self.classes) :]
        iou = quality[:, 0]
        seen = quality[:, 1] >= DETECTED if self.detects else torch.ones_like(iou, dtype=torch.bool)
        return (iou * seen).sum(1) / seen.sum(1).clamp(min=1)

    def class_iou(self, tally: Tensor) -> Tensor:
        """The field's standard score: IoU of each class over the whole split, float64 [K].

        NaN for a class that neither occurs nor is predicted.
        """
        return _iou(tally[:, : len(self.classes)])

    def summary(self, tally: Tensor) -> dict[str, float]:
        """Scores of a split: the paper's (means over images) and the standard ones."""
        if not len(tally):
            return {}
        means = {name: float(values.nanmean()) for name, values in self.scores(tally).items()}
        per_class = self.class_iou(tally)
        means["mean_class_iou"] = float(per_class.nanmean())
        for name, value in zip(self.classes, per_class.tolist(), strict=True):
            means[f"class_iou/{name}"] = value
        if self.scored:
            per_class = _iou(tally[:, len(self.classes) :])
            means["mean_class_iou_scored"] = float(per_class.nanmean())
            for name, value in zip(self.scored, per_class.tolist(), strict=True):
                means[f"class_iou_scored/{name}"] = value
        return means


def _iou(overlaps: Tensor) -> Tensor:
    hit, predicted, true = overlaps.sum(0).double().unbind(-1)
    return hit / (predicted + true - hit)
