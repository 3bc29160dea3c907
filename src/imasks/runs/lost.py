"""Classes that get lost on the way: never predicted, or gone from the pseudo-labels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from torch import Tensor

from imasks.data.arrays import load_arrays
from imasks.labelling.labellers import load_pseudo_labels
from imasks.runs.results import Outcome
from imasks.tasks import Task
from imasks.training.balance import class_pixels

REMEDY = (
    "Label more images that show them, or try --sampling balanced or --class-weights balanced in a "
    "new run."
)


def labeled_classes(data: Path, task: Task) -> dict[str, bool]:
    """Say of every class whether it stands in the labeled masks of prepared data."""
    labels = load_arrays(data, "labeled").labels
    assert labels is not None
    return dict(zip(task.classes, (class_pixels(labels, task) > 0).tolist(), strict=True))


def never_predicted(overlaps: Tensor, labeled: dict[str, bool]) -> list[str]:
    """Name the classes that are labeled, stand in a split's true masks and are never predicted.

    Args:
        overlaps: int64 [M, K, 3] of the split's images.
        labeled: see :func:`labeled_classes`.
    """
    _, predicted, true = overlaps.sum(0).unbind(-1)
    lost = ((predicted == 0) & (true > 0)).tolist()
    return [name for name, gone in zip(labeled, lost, strict=True) if gone and labeled[name]]


def vanished(folder: Path, labeled: dict[str, bool], task: Task) -> list[str]:
    """Name the classes that are labeled and of which no pseudo-label that is kept has a pixel.

    Args:
        folder: of the pseudo-labels.
        labeled: see :func:`labeled_classes`.
        task: says what they mean.
    """
    pseudo = load_pseudo_labels(folder)
    pixels = class_pixels(pseudo.labels, task, np.flatnonzero(pseudo.keep)).tolist()
    return [name for name, n in zip(labeled, pixels, strict=True) if labeled[name] and not n]


def lost_notes(outcomes: Iterable[Outcome]) -> list[str]:
    """Say in sentences which labeled classes got lost where; none if none did."""
    notes = []
    for one in outcomes:
        for step in one.steps:
            where = f"{one.approach}, seed {one.seed}, generation {step.generation}"
            if step.vanished:
                names = ", ".join(step.vanished)
                notes.append(f"{where}: not in the pseudo-labels any more: {names}")
            if step.never_predicted:
                names = ", ".join(step.never_predicted)
                notes.append(f"{where}: never predicted on the validation images: {names}")
    return notes
