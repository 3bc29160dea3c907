"""What the three segmentation tasks mean: outputs, decisions, losses, scores.

Shape letters: N images, K user classes, P planes of a discrete mask (1 for binary and multiclass,
K for multilabel), C network outputs, H x W pixels.

Discrete masks are uint8 [N, P, H, W] in the internal encoding, see :mod:`imasks.encoding`.
Source: METHOD 2, 5 and 9.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor

from imasks.encoding import IGNORE, SURE, TaskName
from imasks.errors import UserError

EPSILON = 1e-7
DETECTED = 0.5
"""The least answer of an EvalNet that says a class is there."""

LossName = Literal["paper", "cross-entropy"]

__all__ = [
    "IGNORE",
    "TASKS",
    "Binary",
    "LossName",
    "Multiclass",
    "Multilabel",
    "SoftTarget",
    "Task",
    "TaskName",
    "confusion",
    "make_task",
]


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
    extra_views: ClassVar[int] = 1
    """How many more views than its nominal number an input ensemble has, as published."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)

    @property
    @abc.abstractmethod
    def outputs(self) -> int:
        """Network outputs C."""

    @property
    @abc.abstractmethod
    def planes(self) -> int:
        """Planes P of a discrete mask."""

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
    ) -> Tensor:
        """Mean loss over all pixels that are not IGNORE; labels uint8 [N, P, H, W].

        ``soft`` says what is learned at those that are, with which weight in the mean.
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

    @abc.abstractmethod
    def scores(self, overlaps: Tensor) -> dict[str, Tensor]:
        """The paper's scores of every image, float64 [N] each, from :meth:`overlaps`."""

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

    def class_iou(self, overlaps: Tensor) -> Tensor:
        """The field's standard score: IoU of each class over the whole split, float64 [K].

        NaN for a class that neither occurs nor is predicted.
        """
        hit, predicted, true = overlaps.sum(0).double().unbind(-1)
        return hit / (predicted + true - hit)

    def summary(self, overlaps: Tensor) -> dict[str, float]:
        """Scores of a split: the paper's (means over images) and the standard ones."""
        if not len(overlaps):
            return {}
        means = {name: float(values.nanmean()) for name, values in self.scores(overlaps).items()}
        per_class = self.class_iou(overlaps)
        means["mean_class_iou"] = float(per_class.nanmean())
        for name, value in zip(self.classes, per_class.tolist(), strict=True):
            means[f"class_iou/{name}"] = value
        return means


@final
class Binary(Task):
    """One class against the background; one logit."""

    name = "binary"
    primary = "iou"
    detects = False
    extra_views = 0

    @property
    def outputs(self) -> int:
        return 1

    @property
    def planes(self) -> int:
        return 1

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.float().sigmoid()

    def discrete(self, probabilities: Tensor, *, reserved: bool = True) -> Tensor:
        return (probabilities > 0.5).to(torch.uint8)

    def consensus(self, probabilities: Tensor) -> Tensor:
        return _intersection(self, probabilities)

    def view_consensus(self, probabilities: Tensor) -> Tensor:
        return _intersection(self, probabilities)

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        kind: LossName = "paper",
        soft: SoftTarget | None = None,
    ) -> Tensor:
        return _planes_loss(logits, labels, kind, soft)

    def mean(self, probabilities: Tensor) -> Tensor:
        return probabilities.mean(0)

    def sureness(self, probabilities: Tensor) -> Tensor:
        return (2 * probabilities - 1).abs()

    def overlaps(self, predicted: Tensor, truth: Tensor) -> Tensor:
        return _plane_overlaps(predicted, truth)

    def scores(self, overlaps: Tensor) -> dict[str, Tensor]:
        hit, predicted, true = overlaps[:, 0].double().unbind(-1)
        return {
            "iou": hit / (predicted + true - hit + EPSILON),
            "dice": (2 * hit + 1) / (predicted + true + 1),
            # the other convention: nothing to find and nothing found is a full score
            "iou_empty_is_one": torch.where(
                predicted + true == 0, 1.0, hit / (predicted + true - hit + EPSILON)
            ),
        }

    def to_user(self, labels: Tensor) -> Tensor:
        return labels

    def mask_input(self, masks: Tensor) -> Tensor:
        return (masks == 1).float()

    def pair_quality(self, masks: Tensor, truth: Tensor, region: Tensor | None = None) -> Tensor:
        return self.scores(self.overlaps(masks, truth))["iou"].float().view(-1, 1, 1)


@final
class Multilabel(Task):
    """Classes that may overlap; one logit each."""

    name = "multilabel"
    primary = "miou"
    detects = True

    @property
    def outputs(self) -> int:
        return len(self.classes)

    @property
    def planes(self) -> int:
        return len(self.classes)

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.float().sigmoid()

    def discrete(self, probabilities: Tensor, *, reserved: bool = True) -> Tensor:
        return (probabilities >= 0.5).to(torch.uint8)

    def consensus(self, probabilities: Tensor) -> Tensor:
        return self.discrete(probabilities.mean(0))

    def view_consensus(self, probabilities: Tensor) -> Tensor:
        return _intersection(self, probabilities)

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        kind: LossName = "paper",
        soft: SoftTarget | None = None,
    ) -> Tensor:
        return _planes_loss(logits, labels, kind, soft)

    def mean(self, probabilities: Tensor) -> Tensor:
        return probabilities.mean(0)

    def sureness(self, probabilities: Tensor) -> Tensor:
        return (2 * probabilities - 1).abs()

    def overlaps(self, predicted: Tensor, truth: Tensor) -> Tensor:
        return _plane_overlaps(predicted, truth)

    def scores(self, overlaps: Tensor) -> dict[str, Tensor]:
        hit, predicted, true = overlaps.double().unbind(-1)
        per_class = hit / (predicted + true - hit + EPSILON)
        named = {f"iou/{name}": per_class[:, k] for k, name in enumerate(self.classes)}
        return {"miou": per_class.mean(1), **named}

    def to_user(self, labels: Tensor) -> Tensor:
        return labels

    def mask_input(self, masks: Tensor) -> Tensor:
        return (masks == 1).float()

    def pair_quality(self, masks: Tensor, truth: Tensor, region: Tensor | None = None) -> Tensor:
        hit, predicted, true = self.overlaps(masks, truth).double().unbind(-1)
        detected = (true > 0) & (true >= 0.01 * (truth != IGNORE).sum((2, 3)))
        iou = hit / (predicted + true - hit)
        return torch.stack([iou.where(detected, 0), detected], 1).float()


@final
class Multiclass(Task):
    """One class a pixel; K + 1 logits, index 0 reserved for the inconsistency mask."""

    name = "multiclass"
    primary = "miou"
    detects = True

    @property
    def outputs(self) -> int:
        return len(self.classes) + 1

    @property
    def planes(self) -> int:
        return 1

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.float().softmax(1)

    def discrete(self, probabilities: Tensor, *, reserved: bool = True) -> Tensor:
        if reserved:
            return probabilities.argmax(1, keepdim=True).to(torch.uint8)
        return (probabilities[:, 1:].argmax(1, keepdim=True) + 1).to(torch.uint8)

    def consensus(self, probabilities: Tensor) -> Tensor:
        return self.discrete(probabilities.mean(0))

    def view_consensus(self, probabilities: Tensor) -> Tensor:
        return self.discrete(probabilities.mean(0))

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        kind: LossName = "paper",
        soft: SoftTarget | None = None,
    ) -> Tensor:
        # both names mean categorical cross-entropy here
        log = logits.float().log_softmax(1)
        total = F.nll_loss(log, labels[:, 0].long(), ignore_index=IGNORE, reduction="sum")
        counted = labels != IGNORE
        if soft is None:
            return total / counted.sum().clamp(min=1)
        weight = soft.weight.masked_fill(counted, 0)
        total = total - (soft.target * log * weight).sum()
        return total / (counted.sum() + weight.sum()).clamp(min=1)

    def mean(self, probabilities: Tensor) -> Tensor:
        mean = probabilities.mean(0)
        classes = mean[:, 1:] + EPSILON  # all alike where nothing but the reserved index is likely
        return torch.cat([torch.zeros_like(mean[:, :1]), classes / classes.sum(1, keepdim=True)], 1)

    def sureness(self, probabilities: Tensor) -> Tensor:
        K = len(self.classes)
        doubt = 1 - probabilities[:, 1:].amax(1, keepdim=True)
        return (1 - doubt * K / max(1, K - 1)).clamp(min=0)

    def overlaps(self, predicted: Tensor, truth: Tensor) -> Tensor:
        matrix = confusion(predicted, truth, classes=self.outputs)
        hit = matrix.diagonal(dim1=1, dim2=2)
        counts = torch.stack([hit, matrix.sum(1), matrix.sum(2)], dim=-1)
        return counts[:, 1:]

    def scores(self, overlaps: Tensor) -> dict[str, Tensor]:
        hit, predicted, true = overlaps.double().unbind(-1)
        per_class = hit / (predicted + true - hit)
        present = true > 0
        absent = ~present.any(1)
        miou = per_class.where(present, 0).sum(1) / present.sum(1)
        accuracy = hit.sum(1) / true.sum(1)
        nan = float("nan")  # an image that is void everywhere has no score
        return {"miou": miou.where(~absent, nan), "pixel_accuracy": accuracy.where(~absent, nan)}

    def to_user(self, labels: Tensor) -> Tensor:
        return torch.where(labels == IGNORE, labels, labels.clamp(min=1) - 1)

    def mask_input(self, masks: Tensor) -> Tensor:
        index = torch.arange(self.outputs, device=masks.device).view(1, -1, 1, 1)
        return (masks == index).float()

    def pair_quality(self, masks: Tensor, truth: Tensor, region: Tensor | None = None) -> Tensor:
        hit, predicted, true = self.overlaps(masks, truth).double().unbind(-1)
        pixels = (truth != IGNORE).sum((2, 3))
        if region is None:
            detected = true > 0.01 * pixels
            cut = torch.zeros_like(pixels, dtype=torch.bool)
        else:
            left = self.overlaps(truth.masked_fill(region, 0), truth)[..., 0]
            detected = (true > 0) & ((left >= 0.3 * true) | (left >= 0.1 * pixels))
            cut = region.flatten(1).any(1, keepdim=True)
        iou = (hit / (predicted + true - hit)).where(detected, 0)
        # the reserved index is right wherever something was cut out
        return torch.stack([torch.cat([cut, iou], 1), torch.cat([cut, detected], 1)], 1).float()


TASKS: Mapping[TaskName, type[Task]] = {
    "binary": Binary,
    "multiclass": Multiclass,
    "multilabel": Multilabel,
}


def make_task(name: str, classes: Sequence[str]) -> Task:
    """Build a task from its name in ``dataset.toml``.

    Raises:
        UserError: the name is none of the three.
    """
    for known, kind in TASKS.items():
        if known == name:
            return kind(classes)
    raise UserError("task is not known", value=name, remedy=f"Use one of {', '.join(TASKS)}.")


def confusion(predicted: Tensor, truth: Tensor, *, classes: int) -> Tensor:
    """Confusion matrices int64 [N, true, predicted] of index masks [N, 1, H, W].

    Pixels whose truth is IGNORE are left out.
    """
    N = len(truth)
    image = torch.arange(N, device=truth.device).view(N, 1, 1, 1)
    index = (image * classes + truth.long()) * classes + predicted.long()
    counted = index[truth != IGNORE]
    return torch.bincount(counted, minlength=N * classes * classes).view(N, classes, classes)


def _intersection(task: Task, probabilities: Tensor) -> Tensor:
    """Planes that all of [E, N, C, H, W] call foreground, uint8 [N, P, H, W]."""
    return torch.stack([task.discrete(one) for one in probabilities]).amin(0)


def _planes_loss(logits: Tensor, labels: Tensor, kind: LossName, soft: SoftTarget | None) -> Tensor:
    weight = counted = labels != IGNORE
    target = labels.float() * counted
    if soft is not None:
        target = torch.where(counted, target, soft.target)
        weight = torch.where(counted, 1.0, soft.weight)
    if kind == "paper":
        each = (logits.float().sigmoid() - target).square()
    else:
        each = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    return (each * weight).sum() / weight.sum().clamp(min=1)


def _plane_overlaps(predicted: Tensor, truth: Tensor) -> Tensor:
    counted = truth != IGNORE
    p = (predicted > 0) & counted
    t = (truth > 0) & counted
    return torch.stack([(p & t).sum((2, 3)), p.sum((2, 3)), t.sum((2, 3))], dim=-1)
