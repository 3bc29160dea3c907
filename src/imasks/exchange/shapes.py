"""Shapes with labels, as annotation tools keep them, and their pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imasks.errors import UserError
from imasks.exchange.source import Bools, Size
from imasks.extras import needed

if TYPE_CHECKING:
    from types import ModuleType


Ring = tuple[tuple[float, float], ...]

FARTHEST = 2**20  # pixels: pycocotools follows outlines pixel by pixel, and crashes on NaN
MOST_CORNERS = 2**16  # of an ellipse


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One shape.

    Args:
        label: its class; None: its pixels take no part.
        paint: gives bool [H,W] for an image of (height, width) pixels.
        points: (x, y) in pixels from the upper left corner, for shapes made of points.
    """

    label: str | None
    paint: Callable[[Size], Bools]
    points: Ring = ()


def polygon(label: str | None, rings: Sequence[Sequence[tuple[float, float]]]) -> Shape:
    """Make a shape of one or several outlines; a pixel belongs to it if its centre does."""
    need_coco()  # or every image would fail on its own
    closed = tuple(tuple((float(x), float(y)) for x, y in ring) for ring in rings)
    return Shape(
        label=label,
        paint=partial(fill, closed),
        points=tuple(point for ring in closed for point in ring),
    )


def ellipse(
    label: str | None, center: tuple[float, float], radii: tuple[float, float], turn: float = 0.0
) -> Shape:
    """Make a shape of an ellipse, as a polygon of a corner a pixel of its outline at least.

    Args:
        label: its class.
        center: (x, y) in pixels.
        radii: likewise.
        turn: degrees, clockwise on the screen.
    """
    around = 2 * math.pi * max(radii)
    corners = max(16, math.ceil(around)) if around < MOST_CORNERS else MOST_CORNERS
    angles = np.arange(corners) * 2 * math.pi / corners
    xy = np.stack([radii[0] * np.cos(angles), radii[1] * np.sin(angles)], axis=1)
    return polygon(label, [rotated(xy.tolist(), center, turn)])


def rectangle(
    label: str | None,
    first: tuple[float, float],
    second: tuple[float, float],
    *,
    turn: float = 0.0,
    about: tuple[float, float] | None = None,
) -> Shape:
    """Make a shape of a rectangle between two corners.

    Args:
        label: its class.
        first: (x, y) in pixels.
        second: the opposite corner.
        turn: degrees, clockwise on the screen.
        about: what it is turned about; by default its middle.
    """
    (x0, y0), (x1, y1) = first, second
    x, y = about or ((x0 + x1) / 2, (y0 + y1) / 2)
    corners = [(x0 - x, y0 - y), (x1 - x, y0 - y), (x1 - x, y1 - y), (x0 - x, y1 - y)]
    return polygon(label, [rotated(corners, (x, y), turn)])


def rotated(
    offsets: Sequence[Sequence[float]], center: tuple[float, float], turn: float
) -> list[tuple[float, float]]:
    """Turn offsets (x, y) from a centre by degrees, clockwise on the screen; give the points."""
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    return [(center[0] + c * x - s * y, center[1] + s * x + c * y) for x, y in offsets]


def fill(rings: Sequence[Ring], size: Size) -> Bools:
    """Fill outlines together, bool [H,W]; those of less than three corners have no area.

    Raises:
        UserError: a corner is no number, or lies where no image reaches.
    """
    coco = need_coco()
    flat = [[value for point in ring for value in point] for ring in rings if len(ring) >= 3]
    if not flat:
        return np.zeros(size, np.bool_)
    # written so that NaN is strange, too
    strange = [value for ring in flat for value in ring if not abs(value) <= FARTHEST]
    if strange:
        raise UserError(
            "a shape has a corner that lies nowhere",
            value=strange[0],
            remedy="Draw the shape once more.",
        )
    pixels: NDArray[np.uint8] = coco.decode(coco.merge(coco.frPyObjects(flat, *size)))
    return pixels.astype(np.bool_)


def place(pixels: Bools, corner: tuple[int, int], size: Size) -> Bools:
    """Put bool [h,w] at (x, y) of an image, bool [H,W]; what lies outside is cut."""
    whole = np.zeros(size, np.bool_)
    (x, y), (h, w) = corner, pixels.shape
    top, left = max(0, y), max(0, x)
    bottom, right = min(size[0], y + h), min(size[1], x + w)
    if top < bottom and left < right:
        whole[top:bottom, left:right] = pixels[top - y : bottom - y, left - x : right - x]
    return whole


def need_coco() -> ModuleType:
    """Import pycocotools' mask functions.

    Raises:
        UserError: they are not installed.
    """
    module: ModuleType = needed(
        "pycocotools.mask", extra="exchange", what="a polygon or a COCO mask"
    )
    return module
