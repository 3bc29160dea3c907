"""TIFF files: which images they hold, and their pixels, whole or some rows at a time.

Shape letters: H height, W width, C channels, S samples of one page.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from imasks.data.files import Raster, UnreadableFile, several, upright

Pages = Literal["images", "channels"]
"""What the pages of a stack are: images of their own, or channels of one image."""
PAGES = get_args(Pages)

_ORIENTATION = 0x0112
_GREY, _RGB, _PALETTE, _MINISWHITE = 1, 2, 3, 0  # photometric interpretations
# Of other kinds, slide scanners' for example, further series are labels and previews.
_ALL_SERIES = ("generic", "uniform", "shaped", "ome", "imagej")


@dataclass(kw_only=True)
class TiffImage:
    """One image of an open TIFF file.

    Args:
        path: the file.
        planes: its pages, one a group of channels, each of the same shape.
    """

    path: Path
    planes: tuple[Any, ...]
    _bands: dict[tuple[int, int], tuple[int, NDArray[Any]]] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels, as stored."""
        return self.planes[0].imagelength, self.planes[0].imagewidth

    @property
    def plain(self) -> bool:
        """Whether the stored values are the image's own, upright, so that rows can be read."""
        page = self.planes[0]
        grey = int(page.photometric) in (_GREY, _RGB)
        return (grey or _is_jpeg(page)) and _orientation(page) == 1

    def whole(self) -> Raster:
        """Decode all."""
        page = self.planes[0]
        pixels = self._together([_channels_last(one, one.asarray()) for one in self.planes])
        palette = None
        if int(page.photometric) == _PALETTE and page.colormap is not None:
            palette = (np.asarray(page.colormap).T >> 8).astype(np.uint8)
        if len(self.planes) > 1:
            palette = None  # a channel beside others is a number, not a colour
        return Raster(pixels=upright(pixels, _orientation(page)), palette=palette)

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Decode rows start to stop of a plain image, and no more than the strips or tiles there.

        What the last call decoded is kept, as the next one often begins within it.

        Returns:
            [stop - start, W] or [stop - start, W, C], as stored.
        """
        for key in [key for key, (end, _) in self._bands.items() if end <= start]:
            del self._bands[key]
        planes = enumerate(self.planes)
        return self._together([self._rows(number, page, start, stop) for number, page in planes])

    def _rows(self, number: int, page: Any, start: int, stop: int) -> NDArray[Any]:
        if page.is_memmappable:
            return _stored_rows(page, start, stop)
        parts = []
        height = page.chunks[0]
        for band in range(start // height, -(-stop // height)):
            if (number, band) not in self._bands:
                end = min((band + 1) * height, page.imagelength)
                self._bands[number, band] = end, _decoded_band(page, band)
            first = band * height
            parts.append(self._bands[number, band][1][max(0, start - first) : stop - first])
        return np.concatenate(parts)

    def _together(self, planes: list[NDArray[Any]]) -> NDArray[Any]:
        page = self.planes[0]
        photometric, extra = int(page.photometric), tuple(int(one) for one in page.extrasamples)
        if photometric not in (_MINISWHITE, _GREY, _RGB, _PALETTE) and not _is_jpeg(page):
            raise UnreadableFile(
                self.path, "is neither grey nor RGB", remedy="Save the TIFF file as grey or RGB."
            )
        # A further sample is transparency only where the file says so; else it is a channel.
        if planes[0].ndim == 3 and len(extra) == 1 and extra[0] in (1, 2):
            planes = [one[..., :-1] for one in planes]
        pixels = planes[0]
        if len(planes) > 1:
            pixels = np.concatenate([one.reshape(*one.shape[:2], -1) for one in planes], axis=2)
        if photometric == _MINISWHITE and pixels.dtype.kind in "bu":
            pixels = ~pixels
        return pixels


@contextmanager
def open_tiff(path: Path, page: int | None, pages: Pages) -> Iterator[TiffImage]:
    """Open one image of a TIFF file.

    Where the file names its axes (OME-TIFF, ImageJ), channels are channels, and every other axis
    but height and width counts pages.

    Args:
        path: the file.
        page: the number of the image, from 0; None: there must be only one.
        pages: whether pages are images, or channels of one image whatever the file calls them.

    Raises:
        UnreadableFile: the file holds several images and none is asked for, or fewer than that.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        images = _images(path, file, pages)
        if page is None and len(images) > 1:
            raise several(path, f"{len(images)} pages")
        if (page or 0) >= len(images):
            raise UnreadableFile(path, f"holds no page {(page or 0) + 1}", value=len(images))
        series, numbers = images[page or 0]
        planes = tuple(_full(path, series.pages[number]) for number in numbers)
        if len({(plane.shape, plane.dtype) for plane in planes}) > 1:
            raise UnreadableFile(path, "holds pages of several kinds in one image")
        length = path.stat().st_size
        for plane in planes:
            ends = zip(plane.dataoffsets, plane.databytecounts, strict=True)
            if any(offset + count > length for offset, count in ends):
                raise UnreadableFile(path, "is damaged", value="ends too early")
        yield TiffImage(path=path, planes=planes)


def count_images(path: Path, pages: Pages) -> int:
    """Count the images in a TIFF file; 1 for one that cannot be read, which tells when it is."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            return 1 if len(file.pages) == 1 else len(_images(path, file, pages))
    except Exception:  # decoders raise errors of any kind on damaged bytes
        return 1


class _Image(NamedTuple):
    """The pages, by their numbers in a series, that make up one image."""

    series: Any
    numbers: tuple[int, ...]


def _images(path: Path, file: Any, pages: Pages) -> list[_Image]:
    """List the images of a file; of its pages no more is read than needed."""
    found: list[_Image] = []
    for series in file.series:
        if found and (series.kind not in _ALL_SERIES or series.keyframe.is_reduced):
            continue
        found += _images_of(path, series, pages)
    if pages == "channels" and len(found) > 1:
        reason = "holds several series of pages, which cannot be channels of one image"
        raise UnreadableFile(path, reason, value=len(found))
    return found


def _images_of(path: Path, series: Any, pages: Pages) -> list[_Image]:
    inner = series.keyframe.axes
    if inner not in ("YX", "YXS", "SYX") or not series.axes.endswith(inner):
        reason = "has axes that are no image's"
        raise UnreadableFile(path, reason, value=series.axes, remedy="Save it as pages [Y, X].")
    outer = series.axes[: len(series.axes) - len(inner)]
    shape = series.shape[: len(outer)]
    number = np.arange(int(np.prod(shape, dtype=np.int64))).reshape(shape)
    if len(series.pages) != number.size:
        raise _elsewhere(path)
    if pages == "channels":
        number = number.reshape(1, -1)
    elif "C" in outer:
        number = np.moveaxis(number, outer.index("C"), -1).reshape(-1, shape[outer.index("C")])
    else:
        number = number.reshape(-1, 1)
    return [_Image(series, tuple(one)) for one in number.tolist()]


def _full(path: Path, page: Any) -> Any:
    """Frames know their places alone; the rest stands in the page that they are like."""
    if page is None:
        raise _elsewhere(path)
    return page.aspage()


def _elsewhere(path: Path) -> UnreadableFile:
    reason = "keeps its pages in a way that cannot be read, perhaps in other files"
    return UnreadableFile(path, reason, remedy="Save it again as a plain TIFF file.")


def _orientation(page: Any) -> int:
    tag = page.tags.get(_ORIENTATION)
    return 1 if tag is None else int(tag.value)


def _is_jpeg(page: Any) -> bool:
    return int(page.compression) in (6, 7)  # decoded to RGB whatever it is stored as


def _rows_axis(page: Any) -> int:
    return 1 if page.axes == "SYX" else 0


def _channels_last(page: Any, pixels: NDArray[Any]) -> NDArray[Any]:
    return np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels


def _stored_rows(page: Any, start: int, stop: int) -> NDArray[Any]:
    """Read rows that lie in the file as they are, one after another."""
    dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
    planes = page.shape[0] if page.axes == "SYX" else 1
    width = int(np.prod(page.shape[_rows_axis(page) + 1 :]))
    found = []
    for plane in range(planes):
        first = (plane * page.imagelength + start) * width * dtype.itemsize
        page.parent.filehandle.seek(page.dataoffsets[0] + first)
        data = page.parent.filehandle.read((stop - start) * width * dtype.itemsize)
        found.append(np.frombuffer(data, dtype).astype(dtype.newbyteorder("=")))
    if page.axes == "SYX":
        return np.stack([one.reshape(stop - start, -1) for one in found], axis=-1)
    return found[0].reshape(stop - start, *page.shape[1:])


def _decoded_band(page: Any, band: int) -> NDArray[Any]:
    """Decode the strips or tiles of one row of them."""
    axis = _rows_axis(page)
    height, width = page.chunks[:2]
    shape = list(page.shape)
    shape[axis] = min(height, page.imagelength - band * height)
    out = np.zeros(shape, page.dtype)
    view = out if page.axes == "SYX" else out.reshape(1, shape[0], shape[1], -1)
    for index, place in enumerate(np.ndindex(*page.chunked)):
        if place[axis] != band:
            continue
        file = page.parent.filehandle
        file.seek(page.dataoffsets[index])
        data = file.read(page.databytecounts[index]) if page.databytecounts[index] else None
        segment, (plane, _, _, x, _), _ = page.decode(data, index, jpegtables=page.jpegtables)
        if segment is None:
            view[plane, :, x : x + width] = page.nodata
            continue
        cut = segment[0, : shape[axis], : page.imagewidth - x]
        part = cut[..., 0] if page.axes == "SYX" else cut
        view[plane, : part.shape[0], x : x + part.shape[1]] = part
    return _channels_last(page, out)
