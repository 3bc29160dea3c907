"""The tasks whose outputs are planes of their own, each decided at one half.

Shape letters: N images, K user classes, P planes of a discrete mask (1 for binary and multiclass,
K for multilabel), C network outputs, H x W pixels.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from imasks.encoding import IGNORE
from imasks.tasks.task import EPSILON, LossName, SoftTarget, Task


class Planes(Task):
    """One logit a plane; planes may overlap."""

    @property
    def values(self) -> int:
        return 2

    def shows(self, labels: Tensor) -> Tensor:
        seen = (labels == 1).flatten(2).any(2)
        nothing = (labels == 0).flatten(1).any(1) & ~seen.any(1)
        return torch.cat([seen, nothing[:, None]], 1)

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.float().sigmoid()

    def view_consensus(self, probabilities: Tensor) -> Tensor:
        return self.intersection(probabilities)

    def intersection(self, probabilities: Tensor) -> Tensor:
        """Planes that all of [E, N, C, H, W] call foreground, uint8 [N, P, H, W]."""
        return torch.stack([self.discrete(one) for one in probabilities]).amin(0)

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        kind: LossName = "paper",
        soft: SoftTarget | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        weight = counted = labels != IGNORE
        target = labels.float() * counted
        if soft is not None:
            target = torch.where(counted, target, soft.target)
            weight = torch.where(counted, 1.0, soft.weight)
        if weights is not None:
            background, foreground = weights.view(1, -1, 1, 1, 2).unbind(-1)
            weight = weight * (background + target * (foreground - background))
        if kind == "paper":
            each = (logits.float().sigmoid() - target).square()
        else:
            each = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
        least = 1 if weights is None else EPSILON
        return (each * weight).sum() / weight.sum().clamp(min=least)

    def mean(self, probabilities: Tensor) -> Tensor:
        return probabilities.mean(0)

    def sureness(self, probabilities: Tensor) -> Tensor:
        return (2 * probabilities - 1).abs()

    def overlaps(self, predicted: Tensor, truth: Tensor) -> Tensor:
        counted = truth != IGNORE
        p = (predicted > 0) & counted
        t = (truth > 0) & counted
        return torch.stack([(p & t).sum((2, 3)), p.sum((2, 3)), t.sum((2, 3))], dim=-1)

    def to_user(self, labels: Tensor) -> Tensor:
        return labels

    def mask_input(self, masks: Tensor) -> Tensor:
        return (masks == 1).float()


@final
class Binary(Planes):
    """One class against the background; one logit."""

    name = "binary"
    primary = "iou"
    detects = False
    grows = False
    filter = "mostly agreed"
    filtered = True
    extra_views = 0
    conventions = ("iou_empty_is_one", "iou_without_empty")

    @property
    def outputs(self) -> int:
        return 1

    @property
    def planes(self) -> int:
        return 1

    def discrete(self, probabilities: Tensor, *, reserved: bool = True) -> Tensor:
        return (probabilities > 0.5).to(torch.uint8)

    def consensus(self, probabilities: Tensor) -> Tensor:
        return self.intersection(probabilities)

    def scores(self, overlaps: Tensor) -> dict[str, Tensor]:
        hit, predicted, true = overlaps[:, 0].double().unbind(-1)
        iou = hit / (predicted + true - hit + EPSILON)
        return {
            "iou": iou,
            "dice": (2 * hit + 1) / (predicted + true + 1),
            # other conventions: nothing to find and nothing found is a full score; images with
            # nothing to find have no score
            "iou_empty_is_one": torch.where(predicted + true == 0, 1.0, iou),
            "iou_without_empty": torch.where(true == 0, float("nan"), iou),
        }

    def selection_sums(self, probabilities: Tensor, truth: Tensor) -> Tensor:
        return torch.zeros(0, dtype=torch.float64)

    def selection(self, sums: Tensor, overlaps: Tensor) -> float:
        """IoU of the foreground over all pixels of the split, at 0.5."""
        return float(self.class_iou(overlaps).nan_to_num(0.0)[0])

    def pair_quality(self, masks: Tensor, truth: Tensor, region: Tensor | None = None) -> Tensor:
        return self.scores(self.overlaps(masks, truth))["iou"].float().view(-1, 1, 1)


@final
class Multilabel(Planes):
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

    def discrete(self, probabilities: Tensor, *, reserved: bool = True) -> Tensor:
        return (probabilities >= 0.5).to(torch.uint8)

    def consensus(self, probabilities: Tensor) -> Tensor:
        return self.discrete(probabilities.mean(0))

    def scores(self, overlaps: Tensor) -> dict[str, Tensor]:
        hit, predicted, true = overlaps.double().unbind(-1)
        per_class = hit / (predicted + true - hit + EPSILON)
        named = {f"iou/{name}": per_class[:, k] for k, name in enumerate(self.classes)}
        return {"miou": per_class.mean(1), **named}

    def selection_sums(self, probabilities: Tensor, truth: Tensor) -> Tensor:
        counted = truth != IGNORE
        squared = ((probabilities - truth.float()).square() * counted).sum()
        return torch.stack([squared.double(), counted.sum().double()])

    def selection(self, sums: Tensor, overlaps: Tensor) -> float:
        """The published loss, negated."""
        squared, pixels = sums.tolist()
        return -squared / pixels if pixels else 0.0

    def pair_quality(self, masks: Tensor, truth: Tensor, region: Tensor | None = None) -> Tensor:
        hit, predicted, true = self.overlaps(masks, truth).double().unbind(-1)
        detected = (true > 0) & (true >= 0.01 * (truth != IGNORE).sum((2, 3)))
        iou = hit / (predicted + true - hit)
        return torch.stack([iou.where(detected, 0), detected], 1).float()
