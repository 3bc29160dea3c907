"""How much of the pixels each class has, where it is true and where it is only said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from imasks.data.arrays import load_arrays
from imasks.encoding import IGNORE
from imasks.models.weights import load_network
from imasks.runs.choice import Chosen
from imasks.runs.html.page import ClassShare, Swatch
from imasks.runs.html.viewer import Thread
from imasks.runs.run import Run
from imasks.tasks import Task
from imasks.training.predict import probabilities

PREDICTED = 64  # validation images that are predicted again
CHUNK = 64
LABELED, VALIDATION = "labeled", "validation"


@dataclass(frozen=True, kw_only=True)
class ClassCounts:
    """Shares of pixels, float64 [K] each, by where they were counted.

    Args:
        shares: of the pixels that take part.
        whose: the approach whose pseudo-labels were counted; None if there are none.
        validated: how many validation images, or tiles, were predicted again.
        iou: of each class over the whole split ``of``, NaN where it has none; None without result.
        of: "test" or "validation".
    """

    shares: dict[str, np.ndarray]
    whose: str | None
    validated: int
    iou: np.ndarray | None
    of: str


def count_classes(run: Run, chosen: Chosen | None, threads: Sequence[Thread]) -> ClassCounts | None:
    """Count classes in true masks, pseudo-labels and predictions; None before data are prepared."""
    if not run.store.done(run.plan.prepare):
        return None
    task, folder = run.config.make_task(), run.store.folder(run.plan.prepare)
    found: dict[str, np.ndarray] = {}
    for name, split in ((LABELED, "labeled"), (VALIDATION, "val")):
        labels = load_arrays(folder, split).labels
        if labels is not None and len(labels):
            found[name] = shares_of(labels, task)
    whose = None
    if threads:
        same = [t for t in threads if chosen and t.line.approach.name == chosen.approach]
        thread = (same or list(threads))[-1]
        whose, pseudo = thread.line.approach.name, thread.steps[-1][1]
        found[pseudo_labels_of(whose)] = shares_of(pseudo.labels, task)
    validated = 0
    if chosen is not None:
        val = load_arrays(folder, "val")
        rows = np.unique(np.linspace(0, len(val.images) - 1, PREDICTED).round().astype(int))
        validated = len(rows)
        networks = [load_network(run.store.folder(fit)) for fit in chosen.fits]
        cpu = torch.device("cpu")
        said = [
            task.discrete(each.mean(0), reserved=False).numpy()
            for _, each in probabilities(networks, val.images[rows], task, device=cpu)
        ]
        found[f"predicted on validation by {chosen.approach}"] = shares_of(
            np.concatenate(said), task
        )
    iou, of = _class_iou(run, chosen, task)
    return ClassCounts(shares=found, whose=whose, validated=validated, iou=iou, of=of)


def shares_of(labels: np.ndarray, task: Task) -> np.ndarray:
    """Share of every class in labels uint8 [N, P, H, W], float64 [K]; ignored pixels count nowhere.

    Pixels without a class (background, in doubt) count in what a share is of.
    """
    K = len(task.classes)
    counts, total = np.zeros(K, np.int64), np.zeros(K, np.int64)
    for start in range(0, len(labels), CHUNK):
        chunk = np.asarray(labels[start : start + CHUNK])
        if task.exclusive:
            by_value = np.bincount(chunk.reshape(-1), minlength=256)
            counts += by_value[1 : K + 1]
            total += chunk.size - by_value[IGNORE]
        else:
            counts += (chunk == 1).sum((0, 2, 3))
            total += (chunk != IGNORE).sum((0, 2, 3))
    return counts / np.maximum(total, 1)


def pseudo_labels_of(whose: str | None) -> str:
    """Name the shares that were counted in an approach's pseudo-labels."""
    return f"pseudo-labels of {whose}"


def class_table(
    counts: ClassCounts | None, legend: Sequence[Swatch]
) -> tuple[tuple[ClassShare, ...], str]:
    """Write counts down for every class; and which images the IoU is of."""
    if counts is None:
        return (), ""
    rows = []
    for k, swatch in enumerate(legend):
        iou = None if counts.iou is None else float(counts.iou[k])
        rows.append(
            ClassShare(
                swatch=swatch,
                shares={name: float(values[k]) for name, values in counts.shares.items()},
                iou=None if iou is None or math.isnan(iou) else iou,
            )
        )
    return tuple(rows), counts.of


def _class_iou(run: Run, chosen: Chosen | None, task: Task) -> tuple[np.ndarray | None, str]:
    if chosen is None:
        return None, ""
    result = run.store.result(chosen.rank)["ensemble"]
    split = "test" if "test" in result else "val"
    values = [result[split][f"class_iou/{name}"] for name in task.classes]
    return np.array(values, np.float64), {"test": "test", "val": "validation"}[split]
