"""Classes that get lost on the way: never predicted, or gone from the pseudo-labels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
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
    All generations count, whether or not validation chose them; what approaches share counts once.
    """
    places = [(one, step) for one in outcomes for step in one.steps]
    taught: dict[str, tuple[Outcome, Step]] = {}
    trained: dict[str, tuple[Outcome, Step]] = {}
    for one, step in places:
        trained.setdefault(step.network, (one, step))
        if step.labels:
            taught.setdefault(step.labels, (one, step))
    return [
        *_notes("not in the pseudo-labels any more", taught.values(), lambda s: s.vanished),
        *_notes(
            "never predicted on the validation images",
            trained.values(),
            lambda s: s.never_predicted,
        ),
    ]


def _notes(
    what: str,
    places: Collection[tuple[Outcome, Step]],
    lost: Callable[[Step], tuple[str, ...]],
) -> Iterator[str]:
    for name in dict.fromkeys(name for _, step in places for name in lost(step)):
        where = [
            f"{one.approach}, seed {one.seed}, generation {step.generation}"
            for one, step in places
            if name in lost(step)
        ]
        few = "; ".join(where)
        many = f"in {len(where)} of {len(places)} generations of all approaches and seeds"
        yield f"{name}: {what}: {few if len(where) <= NAMED else many}"
