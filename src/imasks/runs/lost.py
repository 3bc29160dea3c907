"""Classes that get lost on the way: never predicted, or gone from the pseudo-labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from imasks.data.arrays import load_arrays
from imasks.labelling.labellers import load_pseudo_labels
from imasks.runs.results import Outcome, Step
from imasks.tasks import Task
from imasks.training.balance import class_pixels

REMEDY = (
    "Label more images that show them, or try --sampling balanced or --class-weights balanced in a "
    "new run."
)
NAMED = 4  # places that are named one by one; of more only how many there are


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
    """Say in sentences which labeled classes got lost where; none if none did.

    One sentence for a class and a way to get lost, however many approaches and seeds there are.
    """
    found = [(one, step) for one in outcomes for step in one.steps]
    taught = [(one, step) for one, step in found if step.kept is not None]
    notes = []
    ways: list[tuple[str, list[tuple[Outcome, Step]], Callable[[Step], tuple[str, ...]]]] = [
        ("not in the pseudo-labels any more", taught, lambda step: step.vanished),
        ("never predicted on the validation images", found, lambda step: step.never_predicted),
    ]
    for what, places, lost in ways:
        for name in dict.fromkeys(name for _, step in places for name in lost(step)):
            where = [(one, step) for one, step in places if name in lost(step)]
            notes.append(f"{name}: {what}: {_places(where, len(places))}")
    return notes


def _places(where: Sequence[tuple[Outcome, Step]], count: int) -> str:
    """Name the places where a class got lost; only count them where they are many."""
    if len(where) <= NAMED:
        return "; ".join(
            f"{one.approach}, seed {one.seed}, generation {step.generation}" for one, step in where
        )
    names = dict.fromkeys(one.approach for one, _ in where)
    whose = f" ({', '.join(names)})" if len(names) <= NAMED else ""
    return (
        f"{len(where)} of {count} times, in {_number(len(names), 'approach', 'approaches')}{whose}"
    )


def _number(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
