"""Validation while training, and the scores of every image at the end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from imasks.data.arrays import Arrays
from imasks.tasks import IGNORE, Task
from imasks.training.predict import outputs, probabilities
from imasks.training.recipe import Precision, Recipe


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a network is worth on a split.

    Args:
        overlaps: int64 [M, K, 3] of M images, see :meth:`imasks.tasks.Task.overlaps`.
        scores: the split's scores by name.
        selection: the number by which epochs are compared; larger is better.
    """

    overlaps: Tensor
    scores: dict[str, float]
    selection: float


def measure(
    network: nn.Module,
    split: Arrays,
    task: Task,
    recipe: Recipe,
    *,
    device: torch.device,
    precision: Precision | None = None,
) -> Measured:
    """Predict a split with true masks and score it; the reserved class is never answered.

    Args:
        network: in evaluation mode, on the device.
        split: images and labels; must not be empty.
        task: gives the scores.
        recipe: says by what epochs are selected.
        device: where the network lies.
        precision: of the convolutions; the recipe's if not given.
    """
    assert split.labels is not None
    overlaps, sums = [], []
    for rows, each in probabilities(
        [network], split.images, task, device=device, precision=precision or recipe.precision
    ):
        truth = torch.from_numpy(np.ascontiguousarray(split.labels[rows])).to(device)
        overlaps.append(task.overlaps(task.discrete(each[0], reserved=False), truth).cpu())
        if recipe.select == "paper":
            sums.append(task.selection_sums(each[0], truth))
    counted = sum_by_image(torch.cat(overlaps), split)
    scores = task.summary(counted)
    by_paper = task.selection(sum(sums[1:], sums[0]), counted) if sums else None
    best_by = scores[task.primary] if by_paper is None else by_paper
    return Measured(overlaps=counted, scores=scores, selection=best_by)


def measure_loss(
    network: nn.Module, split: Arrays, task: Task, recipe: Recipe, *, device: torch.device
) -> Measured:
    """Like :func:`measure`, but epochs are compared by the recipe's loss, negated."""
    assert split.labels is not None
    overlaps = []
    loss, values = 0.0, 0
    for rows, (logits,) in outputs(
        [network], split.images, device=device, precision=recipe.precision
    ):
        truth = torch.from_numpy(np.ascontiguousarray(split.labels[rows])).to(device)
        predicted = task.discrete(task.probabilities(logits), reserved=False)
        overlaps.append(task.overlaps(predicted, truth).cpu())
        counted = int((truth != IGNORE).sum())
        loss += float(task.loss(logits, truth, kind=recipe.loss)) * counted
        values += counted
    summed = sum_by_image(torch.cat(overlaps), split)
    return Measured(overlaps=summed, scores=task.summary(summed), selection=-loss / max(1, values))


def sum_by_image(overlaps: Tensor, split: Arrays) -> Tensor:
    """Sum the overlaps of a split's rows to those of its images, so that images are scored.

    A row may be a tile that shows nothing of what its image holds; its own score means nothing.

    Args:
        overlaps: int64 [N, K, 3], on the CPU.
        split: says which image each of the N rows shows.

    Returns:
        int64 [M, K, 3].
    """
    if split.source is None:
        return overlaps
    summed = overlaps.new_zeros((len(split.names), *overlaps.shape[1:]))
    return summed.index_add_(0, torch.from_numpy(split.source), overlaps)
