"""From what an EvalNet says to what may be expected, and how good what it says is.

Everything here is about float [N] arrays: ``scores``, what was predicted, and ``quality``, the true
score of the same pairs, known for held-out labeled images. Pairs without a true score (NaN: images
that are void everywhere) are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from imasks.errors import UserError

ENOUGH = 30
"""Pairs from which the shape of a calibration is fitted freely."""
BAD = 0.5
"""True scores below this are bad predictions."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Expected true quality of a score: straight lines between knots, constant beyond them.

    Args:
        scores: float64 [K], increasing.
        quality: float64 [K] in 0..1, never decreasing.
    """

    scores: np.ndarray
    quality: np.ndarray

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return the expected quality, float64 [N]."""
        return np.asarray(np.interp(scores, self.scores, self.quality))

    def to_json(self) -> dict[str, list[float]]:
        """Return the knots."""
        return {"scores": self.scores.tolist(), "quality": self.quality.tolist()}

    @classmethod
    def from_json(cls, values: Mapping[str, Sequence[float]]) -> Calibration:
        """Rebuild from what :meth:`to_json` gave."""
        return cls(**{name: np.array(values[name], np.float64) for name in ("scores", "quality")})


def calibrate(scores: np.ndarray, quality: np.ndarray) -> Calibration:
    """Fit the expected quality of a score on labeled images that no network has trained on.

    With 30 pairs or more, by isotonic regression: neighbours in the order of scores are pooled
    until quality never falls, and knots stand at the means of the pools, so that nearly all
    different scores keep different expectations. With fewer, by a straight line whose slope is
    held between 0 and 1: networks are over-confident rather than too cautious, and a steeper line
    through few points is more likely chance.

    Raises:
        UserError: there is no pair.
    """
    x, y = known(scores, quality)
    if not len(x):
        raise UserError(
            "there is no held-out pair to calibrate scores on",
            remedy="Add labeled images to the validation split.",
        )
    if len(x) >= ENOUGH:
        knots, expected = _pool(x, y)
    else:
        knots = np.unique(x)
        expected = y.mean() + np.clip(slope(x, y), 0, 1) * (knots - x.mean())
    return Calibration(scores=knots, quality=expected.clip(0, 1))


def known(scores: np.ndarray, quality: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the pairs whose true score is known, in float64."""
    there = np.isfinite(quality)
    return scores[there].astype(np.float64), quality[there].astype(np.float64)


def slope(scores: np.ndarray, quality: np.ndarray) -> float:
    """How much quality rises with scores (least squares); 0 where scores are all equal."""
    if not len(scores) or np.ptp(scores) == 0:
        return 0.0
    x = scores - scores.mean()
    return float((x * quality).sum() / (x * x).sum())


def prediction_quality(scores: np.ndarray, quality: np.ndarray) -> dict[str, float]:
    """How good predicted scores are.

    Returns:
        ``pearson`` and ``spearman`` correlation (NaN where either side is constant), ``mae``,
        the mean absolute error, ``bad``, the share of pairs with a true score below 0.5, and
        ``bad_in_lowest_tenth``, the share of these that stands in the tenth with the lowest scores
        (equal scores: on average over their orders; NaN if nothing is bad). The last cannot exceed
        0.1 / ``bad``, and is 0.1 where scores know nothing.
    """
    x, y = known(scores, quality)
    bad = y < BAD
    return {
        "pearson": _correlation(x, y),
        "spearman": _correlation(ranks(x), ranks(y)),
        "mae": float(np.abs(x - y).mean()) if len(x) else float("nan"),
        "bad": float(bad.mean()) if len(x) else float("nan"),
        "bad_in_lowest_tenth": float(_in_lowest(x, 0.1)[bad].mean()) if bad.any() else float("nan"),
    }


def _pool(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pool adjacent violators: means of x and y of every pool, both increasing."""
    x, member, counts = np.unique(x, return_inverse=True, return_counts=True)
    sums = np.bincount(member, weights=y)
    pools: list[np.ndarray] = []  # count, sum of x, sum of y
    for pool in np.stack([counts, x * counts, sums], 1):
        pools.append(pool)
        while len(pools) > 1 and pools[-2][2] / pools[-2][0] >= pools[-1][2] / pools[-1][0]:
            last = pools.pop()
            pools[-1] = pools[-1] + last
    count, x_sum, y_sum = np.stack(pools).T
    return x_sum / count, y_sum / count


def _in_lowest(x: np.ndarray, share: float) -> np.ndarray:
    """Probability of each value to be among the lowest ceil(share N), ties in random order."""
    count = int(np.ceil(share * len(x)))
    limit = np.sort(x)[count - 1]
    below, tied = x < limit, x == limit
    return np.asarray(below + tied * (count - below.sum()) / tied.sum())


def ranks(x: np.ndarray) -> np.ndarray:
    """Ranks from 1, ascending, float64 [N]; equal values get the mean of theirs."""
    _, member, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[member]


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))
