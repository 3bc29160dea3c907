"""Predictions for images that are too large to be held in memory several times over.

Shape letters: E networks, C network outputs, K classes, H x W pixels of the image.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imasks.data.files import atomic
from imasks.data.prepare import Preparation, Value, resize_mask
from imasks.data.source import Source
from imasks.runs.bands import rescaled, resized, tiled
from imasks.runs.deciding import Prediction, predict_from, resize_floats
from imasks.runs.ensemble import Ensemble

LARGE = 64_000_000
"""Pixels from which on an image is read, predicted and written piece by piece."""
TILE = 512  # side of the tiles in files
SHRUNK_ROWS = 64  # of a picture, that are made at once

Bytes = NDArray[np.uint8]
Progress = Callable[[float], None]


def predict_large(
    predictor: Ensemble,
    source: Source,
    folder: Path,
    *,
    on_progress: Progress = lambda share: None,
) -> Prediction:
    """Predict an image in bands of rows; memory grows with its width, not with its height.

    The mask is that of calling the predictor, up to rounding.

    Args:
        predictor: see :func:`imasks.runs.predictor.predictor_of`.
        source: the image.
        folder: for the files that mask and inconsistency mask are mapped from; they are needed as
            long as the prediction is.
        on_progress: is called with the share that is done.

    Returns:
        The prediction, its arrays mapped from files. It has no quality.

    Raises:
        UserError: the image has another dtype or other channels than the training images.
    """
    H, W, _ = source.shape
    task = predictor.task
    shape = (len(task.classes), H, W) if task.name == "multilabel" else (1, H, W)
    disputed, sure, done = 0, 0.0, 0
    pixels = np.zeros(len(task.classes), np.int64)
    mask_path, im_path = folder / "mask.raw", folder / "im.raw"
    with mask_path.open("wb") as mask_file, im_path.open("wb") as im_file:
        for band in _bands(predictor, source):
            found = predict_from(band, task, (band.shape[2], W))
            for number, plane in enumerate(found.mask.reshape(-1, *found.im.shape)):
                mask_file.seek((number * H + done) * W)
                mask_file.write(plane.tobytes())
            im_file.write(found.im.tobytes())
            disputed += int(found.im.sum())
            pixels += np.rint(np.array([*found.areas.values()]) * found.im.size).astype(np.int64)
            sure += found.confidence * found.im.size
            done += len(found.im)
            on_progress(done / H)
    mask = np.memmap(mask_path, np.uint8, "r", shape=shape)
    return Prediction(
        mask=mask if task.name == "multilabel" else mask[0],
        im=np.memmap(im_path, np.bool_, "r", shape=(H, W)),
        agreement=1 - disputed / (H * W),
        im_share=disputed / (H * W),
        confidence=sure / (H * W),
        areas=dict(zip(task.classes, (pixels / (H * W)).tolist(), strict=True)),
    )


def write_tiles(
    path: Path, array: NDArray[Any], palette: Sequence[tuple[int, int, int]] | None = None
) -> None:
    """Write uint8 or bool [H,W], of any size, as a tiled and compressed TIFF file, atomically.

    Args:
        path: where to.
        array: may be mapped from a file; one row of tiles is read at a time. True becomes 255.
        palette: colours of the values 0, 1, ...
    """
    import tifffile

    options: dict[str, Any] = {"photometric": "minisblack"}
    if palette is not None:
        colors = np.zeros((3, 256), np.uint16)
        colors[:, : len(palette)] = np.array(palette, np.uint16).T * 257
        options = {"photometric": "palette", "colormap": colors}
    with atomic(path) as temp:
        tifffile.imwrite(
            temp,
            _tiles(array),
            shape=array.shape,
            dtype=np.uint8,
            tile=(TILE, TILE),
            compression="zlib",
            bigtiff=array.size > 2**31,
            metadata=None,
            buffersize=2**24,  # bytes that are compressed at once
            **options,
        )


def reduced(
    source: Source, prediction: Prediction, preparation: Preparation, *, side: int
) -> Reduced:
    """Shrink an image and its prediction to a longer side of so many pixels, for a picture."""
    H, W, _ = source.shape
    scale = min(1.0, side / max(H, W))
    size = max(1, round(H * scale)), max(1, round(W * scale))
    image = resized(source, size, preparation)(0, size[0])
    return Reduced(image, _shrunk(prediction.mask, size), _shrunk(prediction.im, size))


class Reduced(NamedTuple):
    """An image uint8 [h,w,C] and its masks, see :class:`imasks.runs.deciding.Prediction`."""

    image: Bytes
    mask: Bytes
    im: NDArray[np.bool_]


def _bands(predictor: Ensemble, source: Source) -> Iterator[NDArray[np.float32]]:
    """Show an image to all networks; float32 [E,C,R,W], from top to bottom."""
    H, W, _ = source.shape
    preparation, inside = predictor.preparation, predictor.inner_size(source.shape)
    rows = resized(source, inside, preparation)
    if predictor.shows_whole(source.shape):
        shown = iter([predictor.show(rows(0, inside[0])[None])[:, 0]])
    else:
        shown = tiled(rows, inside, preparation.size, predictor.show)
    if inside[0] > H or inside[1] > W:
        # Networks see it enlarged, and so all they say is held to be shrunk again.
        whole = np.concatenate(list(shown), axis=2)
        size = min(H, inside[0]), min(W, inside[1])
        shrunk = np.stack([resize_floats(one, size) for one in whole])
        shown, inside = iter([shrunk]), size
    return rescaled(shown, inside, (H, W))


def _tiles(array: NDArray[Any]) -> Iterator[Bytes]:
    """Cut [H,W] into tiles, row by row; those at the borders are filled up with zeros."""
    H, W = array.shape
    for y in range(0, H, TILE):
        strip = np.asarray(array[y : y + TILE])
        strip = strip * np.uint8(255) if strip.dtype == np.bool_ else strip.copy()
        strip = np.pad(strip, ((0, TILE - len(strip)), (0, -W % TILE)))
        _let_go(array)
        for x in range(0, W, TILE):
            yield np.ascontiguousarray(strip[:, x : x + TILE])


def _shrunk(array: NDArray[Value], size: tuple[int, int]) -> NDArray[Value]:
    """Shrink [...,H,W], perhaps mapped from a file, to the nearest pixels, some rows at a time."""
    H, h = array.shape[-2], size[0]
    parts = []
    for first in range(0, h, SHRUNK_ROWS):
        rows = ((np.arange(first, min(first + SHRUNK_ROWS, h)) + 0.5) * H / h).astype(np.intp)
        chosen = np.asarray(array[..., rows, :])
        parts.append(resize_mask(chosen, (len(rows), size[1])))
        _let_go(array)
    return np.concatenate(parts, axis=-2)


def _let_go(array: NDArray[Any]) -> None:
    """Let the system forget what was read of a mapped file; it would stay with the process."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):  # Windows has no such advice
        base.madvise(mmap.MADV_DONTNEED)
