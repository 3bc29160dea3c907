"""Class colours, and overlays that show a prediction on its image.

Shape letters: K classes, H x W pixels. Masks are in the user's encoding: binary [H,W] 0/1,
multiclass [H,W] ids, multilabel [K,H,W] 0/1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imasks.encoding import RESERVED
from imasks.runs.deciding import Meaning

if TYPE_CHECKING:
    from imasks.runs.config import RunConfig

OPACITY = 0.45
HATCH_OPACITY = 0.65
STRIPES = (235, 95)  # two greys, so that the hatch shows on bright and on dark images
PIXELS_PER_LINE = 500  # outlines grow by one pixel for each so many pixels of the longer side

# Okabe and Ito's colours, told apart by colour-blind people too; without black, which dark images
# hide, and with the strongest first.
PALETTE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
)

Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]


def class_colors(task: Meaning, colors: Sequence[str] = ()) -> Bytes:
    """Return one colour a class, uint8 [K,3].

    Args:
        task: its classes.
        colors: "#rrggbb" of every class as the card says them; empty for the default colours,
            which are colour-blind safe up to seven classes and distinct far beyond.
    """
    if colors:
        return np.array([list(bytes.fromhex(color[1:])) for color in colors], np.uint8)
    return default_colors(len(task.classes))


def legend(config: RunConfig) -> dict[str, Any]:
    """Say what the values of a run's masks mean, to be kept with what it predicts.

    Returns:
        data set, task, classes in the order of ids or planes, and "#rrggbb" of each;
        ``reserved_index`` is the inconsistency mask's among the networks' outputs, which masks for
        users never hold, or None: the task has none.
    """
    task = config.make_task()
    colors = ["#" + bytes(color).hex() for color in class_colors(task, config.colors).tolist()]
    return {
        "data": config.title,
        "task": config.task,
        "classes": list(config.classes),
        "colors": colors,
        "reserved_index": RESERVED if task.name == "multiclass" else None,
    }


def default_colors(count: int) -> Bytes:
    """Return `count` colours, uint8 [count,3]; fewer are always the first of more.

    After the palette, each next colour is the one farthest from all before it.
    """
    chosen = [np.array(color) for color in PALETTE[:count]]
    candidates = _vivid()
    distance = np.full(len(candidates), np.inf)
    for color in chosen:
        distance = np.minimum(distance, ((candidates - color) ** 2).sum(1))
    while len(chosen) < count:
        color = candidates[distance.argmax()]
        chosen.append(color)
        distance = np.minimum(distance, ((candidates - color) ** 2).sum(1))
    return np.array(chosen, np.uint8).reshape(count, 3)


def overlay(image: Bytes, mask: Bytes, im: Bools, task: Meaning, colors: Bytes) -> Bytes:
    """Draw a prediction on its image.

    Classes are tinted and outlined (the background of binary and multilabel masks is not); where
    classes of a multilabel mask overlap, their tints mix. The inconsistency mask is hatched in
    grey below the outlines.

    Args:
        image: uint8 [H,W] or [H,W,C], see :func:`as_rgb`.
        mask: uint8, in the user's encoding.
        im: bool [H,W], where the networks disagree.
        task: what the mask's values mean.
        colors: uint8 [K,3], see :func:`class_colors`.

    Returns:
        uint8 [H,W,3].
    """
    H, W = im.shape
    canvas = np.empty((H, W, 3), np.float32)
    canvas[:] = as_rgb(image.reshape(H, W, -1))
    line = 1 + max(H, W) // PIXELS_PER_LINE
    tint, painted = _tint(mask, task, colors)
    _blend(canvas, tint, painted, OPACITY)
    _blend(canvas, _hatch(H, W, line), im, HATCH_OPACITY)
    for color, edge in _outlines(mask, task, colors, line):
        canvas[edge] = color
    return np.rint(canvas).astype(np.uint8)


def as_rgb(image: Bytes) -> Bytes:
    """Show an image [H,W,C] in colours, [H,W,3]: grey is repeated, of more channels the first three
    are red, green and blue, and of two there is no blue."""
    H, W, C = image.shape
    if C == 1:
        return image.repeat(3, 2)
    return image[..., :3] if C > 2 else np.concatenate([image, np.zeros((H, W, 1), np.uint8)], 2)


def _vivid() -> NDArray[np.int64]:
    """List a grid of colours that are neither near grey, which marks disagreement, nor dark."""
    levels = np.linspace(0, 255, 12).astype(np.int64)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    vivid: NDArray[np.int64] = grid[(np.ptp(grid, axis=1) >= 90) & (grid.max(1) >= 130)]
    return vivid


def _tint(mask: Bytes, task: Meaning, colors: Bytes) -> tuple[NDArray[np.float32], Bools]:
    """Find the colour of every pixel, float32 [H,W,3], and where there is one, bool [H,W]."""
    if task.name == "multiclass":
        return colors[mask].astype(np.float32), np.ones(mask.shape, np.bool_)
    planes = mask.reshape(-1, *mask.shape[-2:])
    total = np.zeros((*mask.shape[-2:], 3), np.float32)
    for plane, color in zip(planes, colors, strict=True):
        total += plane[..., None] * color.astype(np.float32)
    count = planes.sum(0)
    return total / np.maximum(count, 1)[..., None].astype(np.float32), count > 0


def _hatch(H: int, W: int, line: int) -> NDArray[np.float32]:
    """Draw diagonal stripes of two greys, float32 [H,W,1]."""
    y, x = np.ogrid[:H, :W]
    stripe = (y + x) // (2 * line) % 2
    greys: NDArray[np.float32] = np.array(STRIPES, np.float32)[stripe]
    return greys[..., None]


def _outlines(
    mask: Bytes, task: Meaning, colors: Bytes, line: int
) -> list[tuple[NDArray[np.generic], Bools]]:
    """Pair colours, [3] or one a pixel, with the inner edges they paint, bool [H,W]."""
    if task.name == "multiclass":
        edge = _edge(mask, line)
        return [(colors[mask[edge]], edge)]
    planes = mask.reshape(-1, *mask.shape[-2:])
    return [
        (color, _edge(plane, line) & (plane > 0))
        for color, plane in zip(colors, planes, strict=True)
    ]


def _edge(values: Bytes, line: int) -> Bools:
    """Find pixels that differ from one at most `line` pixels beside, above or below, bool [H,W]."""
    edge = np.zeros(values.shape, np.bool_)
    for axis in (0, 1):
        along, edge_along = np.moveaxis(values, axis, 0), np.moveaxis(edge, axis, 0)
        for step in range(1, min(line, len(along) - 1) + 1):
            differs = along[step:] != along[:-step]
            edge_along[step:] |= differs
            edge_along[:-step] |= differs
    return edge


def _blend(
    canvas: NDArray[np.float32], paint: NDArray[np.float32], where: Bools, opacity: float
) -> None:
    canvas += opacity * where[..., None] * (paint - canvas)
