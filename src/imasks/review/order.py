"""In which order a person should see unlabeled images.

"random" is a fair sample of them. "unsure" shows bad masks first: the score of an image is u * d,
where u says how unsure the networks are of it, d how unlike it is to all that has a label or comes
before it. So no two images in a row teach the same, however bad both of their masks are.

Shape letters: N images, M images that count as seen, D features, C channels, H x W pixels.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from imasks.data.files import Bytes
from imasks.labelling.calibration import ranks

SPREAD = 2000
"""Images that are chosen one after another for being unlike; the rest follows by u alone."""
BINS = 8
STEPS = (1, 2, 4)  # pixels over which differences are taken: fine to coarse texture

Order = Literal["unsure", "random"]
ORDERS: tuple[Order, ...] = get_args(Order)

Floats = NDArray[np.float64]


def features(image: Bytes) -> Floats:
    """Describe colour and texture of uint8 [H, W, C]: float64 [D], D = 11 C.

    For each channel a histogram of 8 bins and the mean absolute difference of pixels 1, 2 and 4
    apart, as a share of the whole range. Where things lie in the image does not count.
    """
    pixels = image.reshape(-1, image.shape[2])
    bins = pixels >> np.uint8(5)
    found = [np.bincount(channel, minlength=BINS) / len(pixels) for channel in bins.T]
    levels = image.astype(np.float64) / 255
    for step in STEPS:
        down = np.abs(levels[step:] - levels[:-step]).mean((0, 1))
        right = np.abs(levels[:, step:] - levels[:, :-step]).mean((0, 1))
        found.append((down + right) / 2)
    return np.concatenate(found)


def uncertainty(im_share: Floats, quality: Floats | None) -> Floats:
    """Rank images by how unsure networks are of them: float64 [N], above 0 and up to 1.

    Args:
        im_share: share of the inconsistency mask, [N]; the larger, the less sure.
        quality: expected score, [N]; the lower, the less sure. None where it is not known of all.

    Returns:
        The mean of both ranks, or the one, as a share of N; equal values share their rank.
    """
    found = [ranks(im_share)]
    if quality is not None:
        found.append(ranks(-quality))
    mean: Floats = np.mean(found, axis=0)
    return mean / max(1, len(im_share))


def order(unsure: Floats, described: Floats, seen: Floats) -> NDArray[np.int64]:
    """Order images by u * d, one after another.

    Args:
        unsure: u, [N], see :func:`uncertainty`.
        described: features, [N, D].
        seen: features of the labeled images, [M, D]; M may be 0.

    Returns:
        int64 [N], a permutation; the first of equal images comes first. d is the Euclidean
        distance to the nearest image that is labeled or was chosen before, with every feature
        divided by its deviation over all images.
    """
    N = len(unsure)
    together = np.concatenate([described, seen])
    deviation = together.std(0)
    scale = np.where(deviation > 0, deviation, 1)
    points, known = described / scale, seen / scale
    distance = np.full(N, np.inf)
    for one in known:
        distance = np.minimum(distance, _distances(points, one))
    left = np.ones(N, np.bool_)
    chosen: list[int] = []
    for _ in range(min(N, SPREAD)):
        apart = np.where(np.isfinite(distance), distance, 1.0)  # nothing is seen yet: u alone
        best = int(np.where(left, unsure * apart, -1.0).argmax())
        chosen.append(best)
        left[best] = False
        distance = np.minimum(distance, _distances(points, points[best]))
    rest = np.flatnonzero(left)
    rest = rest[np.argsort(-unsure[rest], kind="stable")]
    return np.concatenate([np.array(chosen, np.int64), rest])


def shuffled(count: int) -> NDArray[np.int64]:
    """Return so many numbers in an order of chance, always the same: int64 [N], a permutation."""
    return np.random.default_rng(0).permutation(count)


def _distances(points: Floats, one: Floats) -> Floats:
    found: Floats = np.sqrt(((points - one) ** 2).sum(1))
    return found
