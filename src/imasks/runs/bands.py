"""Large images in bands of rows: shown in tiles, resized on the way in and on the way out.

No more than a few bands lie in memory, whatever the height of the image.

Shape letters: E networks, C network outputs, H x W pixels of the image, h x w pixels as networks
see it, R rows of one band.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from imasks.data.prepare import Preparation, resize_part, to_uint8
from imasks.data.source import Source

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Rows = Callable[[int, int], Bytes]
"""Rows start to stop of an image, uint8 [stop - start, w, channels]."""

TILES_AT_ONCE = 16
SOURCE_ROWS = 512  # of the image, that are resized at once
VALUES_AT_ONCE = 16_000_000  # probabilities that are resized or decided at once


def resized(source: Source, size: tuple[int, int], preparation: Preparation) -> Rows:
    """Give the rows of a source at 8 bits and of another size, as if it was resized as a whole.

    A level of grey may be rounded the other way.
    """
    (H, W, _), (h, w) = source.shape, size
    scale = H / h
    reach = 0 if (h, w) == (H, W) else math.ceil(max(scale, 1)) + 1  # as far as the filter sees
    step = max(1, int(SOURCE_ROWS / scale))

    def part(start: int, stop: int) -> Bytes:
        top, bottom = start * scale, min(H, stop * scale)
        first = max(0, math.floor(top) - reach)
        pixels = to_uint8(source.rows(first, min(H, math.ceil(bottom) + reach)), preparation)
        if not reach:
            return pixels
        return resize_part(pixels, (stop - start, w), (0, top - first, W, bottom - first))

    def rows(start: int, stop: int) -> Bytes:
        parts = [part(at, min(at + step, stop)) for at in range(start, stop, step)]
        return np.concatenate(parts)

    return rows


def tiled(
    rows: Rows,
    size: tuple[int, int],
    tile: tuple[int, int],
    show: Callable[[Bytes], Floats],
) -> Iterator[Floats]:
    """Show an image in tiles that overlap by half.

    Each tile counts most in its middle and almost nothing at its borders, where it lacks context,
    so that no seam shows. An image smaller than a tile is padded by reflection.

    Args:
        rows: of the image.
        size: its height and width.
        tile: height and width of what networks see.
        show: uint8 [n, *tile, channels] to probabilities float32 [E, n, C, *tile].

    Yields:
        Bands from top to bottom, float32 [E, C, R, w].
    """
    (h, w), (th, tw) = size, tile
    H, W = max(h, th), max(w, tw)
    window = raised_cosine(th)[:, None] * raised_cosine(tw)
    weight = np.zeros((th, W), np.float32)
    total = np.zeros((1, 1, th, W), np.float32)
    tops, lefts = starts(H, th), starts(W, tw)
    for y, after in zip(tops, [*tops[1:], H], strict=True):
        strip = rows(y, min(y + th, h))
        strip = np.pad(strip, ((0, th - len(strip)), (0, W - w), (0, 0)), mode="reflect")
        for first in range(0, len(lefts), TILES_AT_ONCE):
            some = lefts[first : first + TILES_AT_ONCE]
            each = show(np.stack([strip[:, x : x + tw] for x in some]))
            if total.shape[:2] != (each.shape[0], each.shape[2]):
                total = np.zeros((each.shape[0], each.shape[2], th, W), np.float32)
            for x, one in zip(some, each.swapaxes(0, 1), strict=True):
                total[..., x : x + tw] += one * window
                weight[:, x : x + tw] += window
        done = after - y
        yield (total[..., :done, :] / weight[:done])[..., : max(0, h - y), :w]
        total, weight = _moved(total, done), _moved(weight, done)


def rescaled(
    bands: Iterable[Floats], size: tuple[int, int], wanted: tuple[int, int]
) -> Iterator[Floats]:
    """Enlarge probabilities, bilinear.

    Args:
        bands: from top to bottom, float32 [E, C, r, w].
        size: height and width of all of them together.
        wanted: height and width, neither smaller.

    Yields:
        Bands of the wanted width, float32 [E, C, R, W], of few enough rows to be worked on.
    """
    (h, w), (H, W) = size, wanted
    columns = _places(np.arange(W), w, W)
    held, first, done = None, 0, 0  # rows from `first` on; `done` rows are given away
    for band in bands:
        held = band if held is None else np.concatenate([held, band], axis=2)
        known = first + held.shape[2]
        step = max(1, VALUES_AT_ONCE // (held.shape[0] * held.shape[1] * W))
        while done < H:
            place = _places(np.arange(done, min(done + step, H)), h, H)
            inside = place if known == h else place[np.ceil(place) < known]
            if not len(inside):
                break
            yield _between(_between(held, inside - first, 2), columns, 3)
            done += len(inside)
        keep = min(known - 1, int(_places(np.array([done]), h, H)[0]))
        held, first = held[:, :, keep - first :], keep


def raised_cosine(length: int) -> Floats:
    """Weigh the pixels of a tile's side, float32 [length], never with zero."""
    angle = 2 * math.pi * (np.arange(length) + 0.5) / length
    return (0.5 - 0.5 * np.cos(angle)).astype(np.float32)


def starts(length: int, tile: int) -> list[int]:
    """Spread the fewest tiles that overlap by half or more evenly."""
    gaps = math.ceil((length - tile) / (tile / 2))
    return [round(index * (length - tile) / max(1, gaps)) for index in range(gaps + 1)]


def _places(numbers: NDArray[np.int64], old: int, new: int) -> NDArray[np.float64]:
    """Where the middles of these among `new` pixels lie among `old` ones."""
    return np.clip((numbers + 0.5) * (old / new) - 0.5, 0, old - 1)


def _between(values: Floats, place: NDArray[np.float64], axis: int) -> Floats:
    """Interpolate linearly at these places of one axis."""
    before = np.floor(place).astype(np.intp)
    share = (place - before).astype(np.float32)
    near = values.take(before, axis)
    if not share.any():
        return near
    after = values.take(np.minimum(before + 1, values.shape[axis] - 1), axis)
    share = share[:, None] if axis == 2 else share
    near += share * (after - near)
    return near


def _moved(values: Floats, rows: int) -> Floats:
    """Let rows leave at the top and zeros come in at the bottom of [...,H,W]."""
    moved = np.zeros_like(values)
    moved[..., : values.shape[-2] - rows, :] = values[..., rows:, :]
    return moved
