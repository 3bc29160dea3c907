"""The task in which every pixel has one class.

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


@final
class Multiclass(Task):
    """One class a pixel; K + 1 logits, index 0 reserved for the inconsistency mask."""

    name = "multiclass"
    primary = "miou"
    detects = True
    exclusive = True
    filter = "same classes"

    @property
    def outputs(self) -> int:
        return len(self.classes) + 1

    @property
    def planes(self) -> int:
        return 1

    @property
    def values(self) -> int:
        return self.outputs

    def shows(self, labels: Tensor) -> Tensor:
        seen = self.overlaps(labels, labels)[..., 2] > 0
        return torch.cat([seen, torch.zeros_like(seen[:, :1])], 1)  # there is no background

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
        weights: Tensor | None = None,
    ) -> Tensor:
        # both names mean categorical cross-entropy here
        log = logits.float().log_softmax(1)
        hard = labels[:, 0].long()
        each = None if weights is None else weights[0]
        total = F.nll_loss(log, hard, each, ignore_index=IGNORE, reduction="sum")
        counted = labels != IGNORE
        mass = counted.sum() if each is None else each[hard[counted[:, 0]]].sum()
        if soft is not None:
            weight = soft.weight.masked_fill(counted, 0)
            target = soft.target if each is None else soft.target * each.view(1, -1, 1, 1)
            total = total - (target * log * weight).sum()
            mass = mass + (weight.sum() if each is None else (target * weight).sum())
        return total / mass.clamp(min=1 if each is None else EPSILON)

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

    @property
    def beside(self) -> tuple[str, ...]:
        return ("mean_class_iou_scored",) if self.scored else ()

    def tally(self, predicted: Tensor, truth: Tensor) -> Tensor:
        counts = self.overlaps(predicted, truth)
        if not self.scored:
            return counts
        rows = [self.classes.index(name) for name in self.scored]
        kept = torch.isin(truth, torch.tensor(rows, dtype=torch.uint8, device=truth.device) + 1)
        seen = self.overlaps(predicted, truth.masked_fill(~kept, IGNORE))
        return torch.cat([counts, seen[:, rows]], 1)

    def scores(self, tally: Tensor) -> dict[str, Tensor]:
        hit, predicted, true = tally[:, : len(self.classes)].double().unbind(-1)
        per_class = hit / (predicted + true - hit)
        present = true > 0
        absent = ~present.any(1)
        miou = per_class.where(present, 0).sum(1) / present.sum(1)
        accuracy = hit.sum(1) / true.sum(1)
        nan = float("nan")  # an image that is void everywhere has no score
        return {"miou": miou.where(~absent, nan), "pixel_accuracy": accuracy.where(~absent, nan)}

    def selection_sums(self, probabilities: Tensor, truth: Tensor) -> Tensor:
        return soft_areas(probabilities, truth)

    def selection(self, sums: Tensor, tally: Tensor) -> float:
        """Soft mean IoU over all outputs."""
        return float(soft_mean_iou(sums))

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


def confusion(predicted: Tensor, truth: Tensor, *, classes: int) -> Tensor:
    """Confusion matrices int64 [N, true, predicted] of index masks [N, 1, H, W].

    Pixels whose truth is IGNORE are left out.
    """
    N = len(truth)
    image = torch.arange(N, device=truth.device).view(N, 1, 1, 1)
    index = (image * classes + truth.long()) * classes + predicted.long()
    counted = index[truth != IGNORE]
    return torch.bincount(counted, minlength=N * classes * classes).view(N, classes, classes)


def soft_areas(p: Tensor, truth: Tensor) -> Tensor:
    """Sum probabilities [N, C, H, W] and true classes [N, 1, H, W] to float64 [C, 3].

    Columns are (intersection, predicted, true); pixels whose truth is IGNORE are left out.
    """
    counted = truth != IGNORE
    index = truth.long().where(counted, 0)[:, 0]
    true = F.one_hot(index, p.shape[1]).permute(0, 3, 1, 2) * counted
    p = p.double() * counted
    return torch.stack([(p * true).sum((0, 2, 3)), p.sum((0, 2, 3)), true.sum((0, 2, 3))], 1)


def soft_mean_iou(areas: Tensor) -> Tensor:
    """Mean IoU over classes from :func:`soft_areas`."""
    hit, predicted, true = areas.unbind(1)
    return (hit / (predicted + true - hit)).nan_to_num(0.0).mean()
