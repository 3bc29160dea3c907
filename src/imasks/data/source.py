"""Images that are read some rows at a time, so that they need not fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from imasks.data.files import (
    as_image,
    check_shape,
    decoding,
    is_tiff,
    picture_pixels,
    read_image,
)
from imasks.data.tiff import Pages, open_tiff


@dataclass(frozen=True, kw_only=True)
class Source:
    """An image whose rows can be asked for.

    Args:
        shape: height, width and channels.
        dtype: "uint8", "uint16" or "float32".
        rows: gives rows start to stop, [stop - start, W, C]; asked from top to bottom, it decodes
            nothing twice.
    """

    shape: tuple[int, int, int]
    dtype: str
    rows: Callable[[int, int], NDArray[Any]]


def in_memory(image: NDArray[Any]) -> Source:
    """Make a source of an image [H,W,C]."""
    H, W, C = image.shape
    return Source(
        shape=(H, W, C), dtype=str(image.dtype), rows=lambda start, stop: image[start:stop]
    )


@contextmanager
def open_image(path: Path, *, page: int | None = None, pages: Pages = "images") -> Iterator[Source]:
    """Open one image.

    Of TIFF files only what is asked for is decoded: strips, tiles, or rows where they lie in the
    file as they are. Other formats, and TIFF files that are turned, mirrored, inverted or have a
    palette, are decoded as a whole.

    Args:
        path: the file.
        page: of a TIFF stack, from 0; None: the file holds only one image.
        pages: what the pages of a TIFF file are, where it does not say so itself.

    Raises:
        UnreadableFile: as for :func:`imasks.data.files.read_image`; for what is found in some rows
            only, when these are read.
    """
    with ExitStack() as stack:
        yield _tiff(path, page, pages, stack) or in_memory(read_image(path, page=page, pages=pages))


def _tiff(path: Path, page: int | None, pages: Pages, stack: ExitStack) -> Source | None:
    """Open a TIFF file whose rows can be read, until the stack is closed; None: it is not one."""
    if not is_tiff(path):
        return None
    with decoding(path):
        image = stack.enter_context(open_tiff(path, page, pages))

    def rows(start: int, stop: int) -> NDArray[Any]:
        with decoding(path):
            return as_image(path, image.rows(start, stop))

    if not image.plain:
        return None
    H, W = image.shape
    first = rows(0, 1)
    check_shape(path, (H, W, first.shape[2]))
    return Source(shape=(H, W, first.shape[2]), dtype=str(first.dtype), rows=rows)


def image_pixels(path: Path, *, page: int | None = None, pages: Pages = "images") -> int:
    """Count the pixels of an image, of which nothing is decoded.

    Raises:
        UnreadableFile: the file is missing, of an unknown kind, or its head is damaged.
    """
    with decoding(path):
        if not is_tiff(path):
            return picture_pixels(path)
        with open_tiff(path, page, pages) as image:
            H, W = image.shape
            return H * W
