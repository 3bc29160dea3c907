"""The tasks whose outputs are planes of their own, each decided at one half.

Shape letters: N images, K user classes, P planes of a discrete mask (1 for binary and multiclass,
K for multilabel), C network outputs, H x W pixels.
"""

from __future__ import annotations

from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from imasks.encoding import IGNORE
from imasks.tasks.points import UNCLEAR, draw_places, find_places, kinds_of
from imasks.tasks.task import EPSILON, LossName, SoftTarget, Task

LEAST_AREA, POINT_AREA = 0.01, 0.001  # shares of an image from which EvalNets see a class as there


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
            each = (logits.float().sigmoid() - self.weighted(target)).square()
        else:
            each = F.binary_cross_entropy_with_logits(
                logits.float(), target, reduction="none", pos_weight=self._by_plane(target)
            )
        least = 1 if weights is None else EPSILON
        return (each * weight).sum() / weight.sum().clamp(min=least)

    def weighted(self, target: Tensor) -> Tensor:
        """Multiply targets [N, P, H, W] by the classes' weights, as published."""
        weights = self._by_plane(target)
        return target if weights is None else target * weights

    def _by_plane(self, like: Tensor) -> Tensor | None:
        """The classes' weights [P, 1, 1] on the device of ``like``; None: all are 1."""
        if not self.weights:
            return None
        weights = torch.tensor(self.weights, dtype=torch.float32, device=like.device)
        return weights.view(-1, 1, 1)

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

    def scores(self, tally: Tensor) -> dict[str, Tensor]:
        hit, predicted, true = tally[:, 0].double().unbind(-1)
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

    def selection(self, sums: Tensor, tally: Tensor) -> float:
        """IoU of the foreground over all pixels of the split, at 0.5."""
        return float(self.class_iou(tally).nan_to_num(0.0)[0])

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

    @property
    def areas(self) -> tuple[str, ...]:
        """The classes that are no points."""
        return tuple(name for name in self.classes if name not in self.points)

    @property
    def beside(self) -> tuple[str, ...]:
        if not self.points:
            return ()
        return ("miou_ad", "count_error") if self.areas else ("count_error",)

    @property
    def counted(self) -> tuple[str, ...]:
        kinds = (*self.areas, "unclear") if self.areas else ()
        return tuple(
            name
            for point in self.points
            for name in (point, *(f"{point}/{kind}" for kind in kinds))
        )

    def count(self, labels: Tensor) -> Tensor:
        if not self.points:
            return super().count(labels)
        planes = (labels == 1).cpu().numpy()
        return torch.tensor([self._count(image) for image in planes], dtype=torch.int64).view(
            len(planes), len(self.counted)
        )

    def _count(self, planes: np.ndarray) -> list[int]:
        """Count in one image bool [P, H, W], in the order of :attr:`counted`."""
        areas = planes[[self.classes.index(name) for name in self.areas]]
        found = []
        for point in self.points:
            places = find_places(planes[self.classes.index(point)])
            found.append(len(places))
            if self.areas:
                kinds = kinds_of(places, areas)
                found += [int((kinds == k).sum()) for k in (*range(len(areas)), UNCLEAR)]
        return found

    def redraw(self, labels: Tensor, places: Tensor) -> Tensor:
        redrawn = labels.clone() if self.points else labels
        for point in self.points:
            k = self.classes.index(point)
            masks = (places[:, k] == 1).cpu().numpy()
            for n, mask in enumerate(masks):
                disc = draw_places(find_places(mask), mask.shape)
                redrawn[n, k] = torch.from_numpy(disc).to(labels.device)
        return redrawn

    def tally(self, predicted: Tensor, truth: Tensor) -> Tensor:
        counts = self.overlaps(predicted, truth)
        if not self.points:
            return counts
        void = truth == IGNORE
        numbers = [self.count(one.masked_fill(void, 0)) for one in (predicted, truth)]
        rows = torch.stack([torch.zeros_like(numbers[0]), *numbers], -1)
        return torch.cat([counts, rows.to(counts.device)], 1)

    def scores(self, tally: Tensor) -> dict[str, Tensor]:
        K = len(self.classes)
        hit, predicted, true = tally[:, :K].double().unbind(-1)
        per_class = hit / (predicted + true - hit + EPSILON)
        named = {f"iou/{name}": per_class[:, k] for k, name in enumerate(self.classes)}
        return {"miou": per_class.mean(1), **named, **self._point_scores(per_class, tally[:, K:])}

    def _point_scores(self, per_class: Tensor, numbers: Tensor) -> dict[str, Tensor]:
        """Scores of tasks with points, from IoUs [N, K] and counts [N, Q, 3].

        ``miou_ad`` is the mean over the other classes (the paper's alive and dead);
        ``count_error`` how far the numbers of things of these classes are off, summed. Things that
        belong to none of them are not counted, unless there are no other classes.
        """
        if not self.points:
            return {}
        found: dict[str, Tensor] = {}
        off = (numbers[..., 1] - numbers[..., 2]).abs().double()
        kept = [f"{point}/{kind}" for point in self.points for kind in self.areas]
        each = {name: off[:, self.counted.index(name)] for name in kept or self.points}
        if self.areas:
            places = [self.classes.index(name) for name in self.areas]
            found["miou_ad"] = per_class[:, places].mean(1)
        found["count_error"] = torch.stack(list(each.values())).sum(0)
        return found | {f"count_error/{name}": values for name, values in each.items()}

    def selection_sums(self, probabilities: Tensor, truth: Tensor) -> Tensor:
        counted = truth != IGNORE
        squared = ((probabilities - self.weighted(truth.float())).square() * counted).sum()
        return torch.stack([squared.double(), counted.sum().double()])

    def selection(self, sums: Tensor, tally: Tensor) -> float:
        """The published loss, negated."""
        squared, pixels = sums.tolist()
        return -squared / pixels if pixels else 0.0

    def pair_quality(self, masks: Tensor, truth: Tensor, region: Tensor | None = None) -> Tensor:
        hit, predicted, true = self.overlaps(masks, truth).double().unbind(-1)
        least = [POINT_AREA if name in self.points else LEAST_AREA for name in self.classes]
        share = torch.tensor(least, dtype=torch.float64, device=true.device)
        detected = (true > 0) & (true >= share * (truth != IGNORE).sum((2, 3)))
        iou = hit / (predicted + true - hit)
        return torch.stack([iou.where(detected, 0), detected], 1).float()
