"""Classes that the cut at inconsistent pixels takes from the training set (multiclass only)."""

from __future__ import annotations

import numpy as np

from imasks.encoding import IGNORE
from imasks.labelling.labellers import PseudoLabels

CHUNK = 64


def starved(labeled: np.ndarray, pseudo: PseudoLabels) -> np.ndarray:
    """Order classes by how much the cut starves them.

    A class is starved if its share of the pixels that all networks agree on, over all unlabeled
    images, is below half of its share of the labeled pixels.

    Args:
        labeled: true labels uint8 [M, 1, H, W].
        pseudo: of a multiclass task; filters and morphology do not count.

    Returns:
        uint8 [256]: 0 for classes that are not starved; the others count up to the one that is
        left the smallest part of its share.
    """
    true = _shares(labeled, None)
    left = _shares(pseudo.labels, pseudo.im)
    part = np.divide(left, true, out=np.ones_like(true), where=true > 0)
    worst_last = np.argsort(-part, kind="stable")
    worst_last = worst_last[part[worst_last] < 0.5]
    order = np.zeros(256, np.uint8)
    order[worst_last] = np.arange(1, len(worst_last) + 1)
    return order


def _shares(labels: np.ndarray, im: np.ndarray | None) -> np.ndarray:
    """Share of every class, float64 [256]; masked, void and reserved pixels are no class."""
    counts = np.zeros(256)
    for start in range(0, len(labels), CHUNK):
        rows = slice(start, start + CHUNK)
        seen = labels[rows] if im is None else labels[rows][~im[rows]]
        counts += np.bincount(seen.reshape(-1), minlength=256)
    counts[[0, IGNORE]] = 0
    shares: np.ndarray = counts / max(1.0, float(counts.sum()))
    return shares
