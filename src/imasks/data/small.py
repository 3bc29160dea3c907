"""Objects that become too small to be seen where images are resized for training.

Shape letters: P label planes, K classes, H height, W width, n objects.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imasks.data.card import CARD_NAME, Card, read_labels
from imasks.data.files import Bytes, UnreadableFile, ordered
from imasks.data.folder import Dataset, Finding, Sample
from imasks.data.prepare import STEP, Preparation

FEWEST = 3  # pixels that an object needs on its shorter side
SHARE = 0.1  # of a class's objects that may be smaller without a warning
Sizes = NDArray[np.int64]


class Objects(NamedTuple):
    """The objects in the masks of one image.

    Attributes:
        shape: height and width of the image in pixels.
        sizes: of every class the heights and widths of its objects, int64 [n,2].
    """

    shape: tuple[int, int]
    sizes: tuple[Sizes, ...]


def objects_in(labels: Bytes, card: Card) -> Objects:
    """Measure the objects in labels uint8 [P,H,W]: boxes around connected pixels of one class."""
    K = len(card.classes)
    if card.task == "multiclass":
        planes = [labels[0] == k + 1 for k in range(K)]
    else:
        planes = [plane == 1 for plane in labels]
    return Objects((labels.shape[1], labels.shape[2]), tuple(map(_boxes, planes)))


def too_small(
    found: Sequence[Objects], classes: Sequence[str], size: tuple[int, int]
) -> list[Finding]:
    """Warn, once for all classes, of objects that are lost where whole images are resized.

    Objects that have fewer than 3 pixels in their own image already are not counted.

    Args:
        found: of the labeled images.
        classes: their names.
        size: height and width that images are resized to.
    """
    told, side = [], 0
    for k, name in enumerate(classes):
        own = np.concatenate([one.sizes[k] for one in found] or [np.zeros((0, 2), np.int64)])
        factors = [np.tile(np.array(size) / one.shape, (len(one.sizes[k]), 1)) for one in found]
        seen = own * np.concatenate(factors or [np.ones((0, 2))])
        counted = own.min(1) >= FEWEST
        own, seen = own[counted], seen[counted]
        lost = int((seen.min(1) < FEWEST).sum())
        if not len(own) or lost < SHARE * len(own):
            continue
        more = FEWEST / max(1e-9, float(np.quantile(seen.min(1), SHARE)))
        side = max(side, STEP * int(np.ceil(max(size) * max(1.0, more) / STEP)))
        told.append(f"{lost} of {len(own)} of {name!r}")
    if not told:
        return []
    what = f"at the training size of {size[0]} x {size[1]} pixels objects are less than {FEWEST}"
    remedy = f"Train with --longer-side {side} or more{' for all' if len(told) > 1 else ''}, or "
    return [
        Finding(
            level="warning",
            what=f"{what} pixels wide: {', '.join(told)}",
            files=(),
            remedy=f'{remedy}write fit = "tile" into {CARD_NAME}: networks then see tiles of the '
            "images' own pixels.",
        )
    ]


def small_objects(dataset: Dataset, prep: Preparation) -> list[Finding]:
    """Read the masks of the labeled images and warn of objects that resizing loses.

    Masks that cannot be read are passed over: preparing the data tells of them.
    """
    if prep.fit == "tile":
        return []

    def measure(sample: Sample) -> Objects | None:
        try:
            labels = read_labels(sample.masks, dataset.card, None, page=sample.mask_page)
        except UnreadableFile:
            return None
        return objects_in(labels, dataset.card)

    found = [one for one in ordered(measure, dataset.splits["labeled"]) if one is not None]
    return too_small(found, dataset.card.classes, prep.size)


def _boxes(plane: NDArray[np.bool_]) -> Sizes:
    """Heights and widths of the connected parts of bool [H,W], int64 [n,2]; holes are none."""
    from contourpy import contour_generator  # a part of matplotlib that it cannot do without

    if not plane.any():
        return np.zeros((0, 2), np.int64)
    generator = contour_generator(z=np.pad(plane, 1).astype(np.float32), line_type="Separate")
    outlines = [np.asarray(line) for line in generator.lines(0.5)]
    boxes = [np.ptp(line, axis=0)[::-1] for line in outlines if _is_outer(line)]
    return np.rint(boxes).astype(np.int64).reshape(-1, 2)


def _is_outer(line: NDArray[np.float64]) -> bool:
    """Say whether a closed outline [m,2] goes around an object, not around a hole in one."""
    x, y = line.T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()) > 0
