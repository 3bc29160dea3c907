"""What rare classes count: in the loss, and in how often images that show them are drawn.

Shape letters: N pairs, M chosen rows, P label planes, V values of a plane, K classes, H x W pixels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from imasks.encoding import IGNORE
from imasks.tasks import Task
from imasks.training.batches import Part

CHUNK = 256
MOST = 10.0
"""What is rare counts at most so many times what is common: a single image must not rule."""


def loss_weights(labels: np.ndarray, task: Task) -> Tensor:
    """Weigh the values of labels by the inverse square root of how many pixels have them.

    The mean weight over the pixels of each plane is 1, so that the loss keeps its size. Values that
    never occur weigh 1, as does the index that is reserved for the inconsistency mask.

    Args:
        labels: true labels uint8 [N, P, H, W], may be memory-mapped; at least one pixel is not
            IGNORE.
        task: says how many values a plane has.

    Returns:
        float32 [P, V].
    """
    counts = np.zeros((labels.shape[1], task.values))
    for start in range(0, len(labels), CHUNK):
        for plane, values in enumerate(labels[start : start + CHUNK].swapaxes(0, 1)):
            found = np.bincount(values[values != IGNORE].reshape(-1), minlength=task.values)
            counts[plane] += found[: task.values]
    there = counts > 0
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    roots = np.where(there, 1 / np.sqrt(np.where(there, shares, 1)), np.inf)
    least = roots.min(1, keepdims=True)
    weights = np.where(there, np.minimum(roots / np.where(there, least, 1), MOST), 0)
    mean = (weights * shares).sum(1, keepdims=True)
    weights = np.where(there, weights / np.where(mean > 0, mean, 1), 1)
    return torch.from_numpy(weights).float()


def with_weights(part: Part, task: Task) -> Part:
    """Weigh the pairs of a part so that images with rare classes come as often as others.

    A pair weighs as much as its rarest class, and a class as often as it is rarer than the most
    frequent one, counted in pairs of this part that show it, but at most 10 times. Pairs in which
    background is labelled and no class make up a class of their own; pairs in which nothing is
    labelled weigh 1. The weights of a part have the mean 1: parts keep their shares of a batch.
    """
    shows = _shows(part, task)
    known, where = np.unique(_rows(part), return_inverse=True)
    shows = shows[where] if len(known) else shows
    pairs = shows.sum(0)
    rarity = np.minimum(pairs.max(initial=0) / np.maximum(1, pairs), MOST)
    weights = np.where(shows, rarity, 1.0).max(1) if len(shows) else np.ones(0)
    return replace(part, weights=weights / weights.mean() if len(weights) else weights)


def class_pixels(labels: np.ndarray, task: Task, rows: np.ndarray | None = None) -> np.ndarray:
    """Count the pixels of every class, int64 [K].

    Args:
        labels: uint8 [N, P, H, W], may be memory-mapped.
        task: says what they mean.
        rows: int64 [M], those that count; None: all.
    """
    wanted = np.arange(len(labels)) if rows is None else rows
    counts = np.zeros(len(task.classes), np.int64)
    for start in range(0, len(wanted), CHUNK):
        found = torch.from_numpy(labels[wanted[start : start + CHUNK]])
        counts += task.overlaps(found, found)[..., 2].sum(0).numpy()
    return counts


def _rows(part: Part) -> np.ndarray:
    return np.arange(len(part.images)) if part.rows is None else part.rows


def _shows(part: Part, task: Task) -> np.ndarray:
    """Which classes the images of a part show as they are learned: bool [chosen images, K + 1]."""
    rows = np.unique(_rows(part))
    found = [np.zeros((0, len(task.classes) + 1), np.bool_)]
    for start in range(0, len(rows), CHUNK):
        chosen = rows[start : start + CHUNK]
        labels = torch.from_numpy(part.labels[chosen])
        if part.cut is not None:
            labels = labels.masked_fill(torch.from_numpy(part.cut[chosen]), part.cut_to)
        found.append(task.shows(labels).numpy())
    return np.concatenate(found)
