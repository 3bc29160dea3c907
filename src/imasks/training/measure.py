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
        tally: int64 [M, R, 3] of M images, see :meth:`imasks.tasks.Task.tally`.
        scores: the split's scores by name.
        selection: the number by which epochs are compared; larger is better.
    """

    tally: Tensor
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
    tallies, sums = [], []
    for rows, each in probabilities(
        [network], split.images, task, device=device, precision=precision or recipe.precision
    ):
        truth = torch.from_numpy(np.ascontiguousarray(split.labels[rows])).to(device)
        tallies.append(task.tally(task.discrete(each[0], reserved=False), truth).cpu())
        if recipe.select == "paper":
            sums.append(task.selection_sums(each[0], truth))
    counted = sum_by_image(torch.cat(tallies), split)
    scores = task.summary(counted)
    by_paper = task.selection(sum(sums[1:], sums[0]), counted) if sums else None
    best_by = scores[task.primary] if by_paper is None else by_paper
    return Measured(tally=counted, scores=scores, selection=best_by)


def measure_loss(
    network: nn.Module, split: Arrays, task: Task, recipe: Recipe, *, device: torch.device
) -> Measured:
    """Like :func:`measure`, but epochs are compared by the recipe's loss, negated."""
    assert split.labels is not None
    tallies = []
    loss, values = 0.0, 0
    for rows, (logits,) in outputs(
        [network], split.images, device=device, precision=recipe.precision
    ):
        truth = torch.from_numpy(np.ascontiguousarray(split.labels[rows])).to(device)
        predicted = task.discrete(task.probabilities(logits), reserved=False)
        tallies.append(task.tally(predicted, truth).cpu())
        counted = int((truth != IGNORE).sum())
        loss += float(task.loss(logits, truth, kind=recipe.loss)) * counted
        values += counted
    summed = sum_by_image(torch.cat(tallies), split)
    return Measured(tally=summed, scores=task.summary(summed), selection=-loss / max(1, values))


def sum_by_image(tally: Tensor, split: Arrays) -> Tensor:
    """Sum the tallies of a split's rows to those of its images, so that images are scored.

    A row may be a tile that shows nothing of what its image holds; its own score means nothing.
    A thing that the border of a tile cuts is counted on both sides, if enough of it is there.

    Args:
        tally: int64 [N, R, 3], on the CPU.
        split: says which image each of the N rows shows.

    Returns:
        int64 [M, R, 3].
    """
    if split.source is None:
        return tally
    summed = tally.new_zeros((len(split.names), *tally.shape[1:]))
    return summed.index_add_(0, torch.from_numpy(split.source), tally)
