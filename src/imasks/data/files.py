"""Reading image and mask files exactly, in their own depth, and writing files atomically."""

from __future__ import annotations

import io
import os
import re
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from imasks.data.resources import cores
from imasks.errors import UserError

if TYPE_CHECKING:
    from imasks.data.tiff import Pages

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")

Bytes = NDArray[np.uint8]

ONE_DEPTH = "Convert all images to one depth: the grey levels of two cannot be compared."

In = TypeVar("In")
Out = TypeVar("Out")

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112  # the EXIF and TIFF tag
MAX_CHANNELS = 64  # more is a stack that lies in the file the other way round


class UnreadableFile(UserError):  # noqa: N818
    """A file that cannot be used as an image or a mask.

    Args:
        path: the file.
        reason: why not, in words that fit every file with this trouble.
        value: what is special to this file.
        remedy: what to do about it.
    """

    def __init__(
        self,
        path: Path,
        reason: str,
        *,
        value: object = None,
        remedy: str = "Replace the file or take it out.",
    ) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path} {reason}", value=value, remedy=remedy)


def reason_of(error: UserError) -> str:
    """Say what is wrong with a file in a list that names the file itself."""
    what = error.reason if isinstance(error, UnreadableFile) else error.what
    return what if error.value is None else f"{what} ({error.value})"


@dataclass(frozen=True, kw_only=True)
class Raster:
    """What a file holds, upright: [H,W] or [H,W,C], bool for one bit; palette uint8 [256,3].

    Args:
        pixels: the values as stored.
        palette: the colours that they stand for; None: they are the values themselves.
    """

    pixels: NDArray[Any]
    palette: Bytes | None = None


def read_image(path: Path, *, page: int | None = None, pages: Pages = "images") -> NDArray[Any]:
    """Read one image in its own depth.

    One-bit images become 0 and 255, palettes are looked up, alpha is dropped, and the EXIF
    orientation is applied. Integers of more than 16 bits and doubles become float32.

    Args:
        path: the file.
        page: of a TIFF stack, from 0; None: the file holds only one image.
        pages: what the pages of a TIFF file are, where it does not say so itself.

    Returns:
        [H,W,C] with C from 1 to 64, of dtype uint8, uint16 or float32.

    Raises:
        UnreadableFile: the file is missing, damaged, of an unknown kind, holds several images and
            no page is given, too many channels, or values that are not finite.
    """
    raster = _decode(path, page, pages)
    pixels = raster.pixels if raster.palette is None else raster.palette[raster.pixels]
    return np.require(as_image(path, pixels), requirements=["C", "W"])


def as_image(path: Path, pixels: NDArray[Any]) -> NDArray[Any]:
    """Bring stored values [H,W] or [H,W,C] to the dtypes and the shape of images."""
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    elif pixels.dtype not in (np.uint8, np.uint16):
        pixels = pixels.astype(np.float32, copy=False)
        if not np.isfinite(pixels).all():
            raise UnreadableFile(path, "holds values that are not finite (NaN or infinite)")
    return pixels[..., None] if pixels.ndim == 2 else pixels


def read_mask(path: Path, *, page: int | None = None) -> NDArray[Any]:
    """Read one mask as the integer values its file holds.

    The indices of a palette are the values; one-bit files give 0 and 1; of three equal channels
    one is taken; alpha is dropped.

    Args:
        path: the file.
        page: of a TIFF stack, from 0; None: the file holds only one mask.

    Returns:
        [H,W] of dtype uint8 or uint16.

    Raises:
        UnreadableFile: as for `read_image`, or the mask is colour-coded, or its values are not
            integers from 0 to 65535.
    """
    pixels = _decode(path, page, "images").pixels
    if pixels.ndim == 3:
        if not (pixels == pixels[..., :1]).all():
            raise UnreadableFile(
                path,
                "is colour-coded: its three channels differ",
                remedy="Save class ids as grey values or as a palette image: one number a pixel.",
            )
        pixels = pixels[..., 0]
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8)
    if pixels.dtype not in (np.uint8, np.uint16):
        ids = np.clip(np.nan_to_num(pixels), 0, 65535).astype(np.uint16)
        if not (ids == pixels).all():
            raise UnreadableFile(path, "holds mask values that are not integers from 0 to 65535")
        pixels = ids
    return np.require(pixels, requirements=["C", "W"])


def is_lossy(path: Path) -> bool:
    """Say whether a file is JPEG or lossy WebP, whose values are only near those once saved."""
    with path.open("rb") as file:
        head = file.read(4096)
    webp = head[8:12] == b"WEBP"
    return head.startswith(b"\xff\xd8") or (webp and b"VP8L" not in head)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what is written there takes its place if all goes well.

    The file is flushed to the disk before it is renamed, so a reader, and a machine that loses
    power, sees either the old file or the whole new one.
    """
    temp = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        yield temp
        with temp.open("rb+") as file:
            os.fsync(file.fileno())
        temp.replace(path)
    finally:
        temp.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with atomic(path) as temp:
        temp.write_text(text, encoding="utf-8", newline="\n")


def write_png(
    path: Path, array: NDArray[Any], palette: Sequence[tuple[int, int, int]] | None = None
) -> None:
    """Write a PNG file atomically.

    Args:
        path: where to.
        array: uint8 [H,W], [H,W,1] or [H,W,3], or uint16 [H,W].
        palette: colours of the values 0, 1, ...; only for uint8 [H,W].

    Raises:
        ValueError: the array is of another shape or dtype.
    """
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    colour = array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8
    if not colour and (array.ndim != 2 or array.dtype not in (np.uint8, np.uint16)):
        raise ValueError(f"no PNG for shape {array.shape} and dtype {array.dtype}")
    image = Image.fromarray(np.ascontiguousarray(array))
    if palette is not None:
        if image.mode != "L":
            raise ValueError(f"a palette goes with uint8 [H,W], not with mode {image.mode}")
        image.putpalette([level for color in palette for level in color])
    with atomic(path) as temp:
        image.save(temp, format="PNG")


def safe_name(name: str) -> str:
    """Change a name so that every system accepts it for a file: what one forbids becomes "_"."""
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", name)
    name = re.sub(r"[. ]+$", lambda found: "_" * len(found[0]), name)
    reserved = re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name, re.IGNORECASE)
    return f"_{name}" if reserved else name


def ordered(
    function: Callable[[In], Out], items: Iterable[In], *, at_once: int | None = None
) -> Iterator[Out]:
    """Apply a function in threads and give the results in order, a few of them ahead at most.

    Args:
        function: is called with one item.
        items: of any number.
        at_once: the most items that are worked on, or worked on and not given yet; None: as many as
            keep all cores busy.
    """
    threads = min(8, cores() + 1)
    ahead = 2 * threads if at_once is None else min(2 * threads, at_once - 1)
    running: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                running.append(pool.submit(function, item))
                if len(running) > ahead:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into an error that names the file."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise UnreadableFile(path, "is not an image, or not a whole one") from error
    except Exception as error:  # decoders raise errors of any kind on damaged bytes
        raise UnreadableFile(
            path, "is damaged", value=str(error) or type(error).__name__
        ) from error


def is_tiff(path: Path) -> bool:
    """Say whether a file is TIFF by what it holds.

    Raises:
        UnreadableFile: it is empty or cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise UnreadableFile(path, "cannot be read", value=error.strerror) from error
    if not head:
        raise UnreadableFile(path, "is empty", value="zero bytes")
    return head in _TIFF_MAGIC


def check_shape(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse what is no image.

    Raises:
        UnreadableFile: the shape is neither [H,W] nor [H,W,C].
    """
    channels = 1 if len(shape) == 2 else shape[-1]
    if len(shape) not in (2, 3) or 0 in shape or channels > MAX_CHANNELS:
        raise UnreadableFile(
            path,
            "has an unusual shape",
            value=shape,
            remedy=f"Images are grey, RGB or of up to {MAX_CHANNELS} channels.",
        )


def _decode(path: Path, page: int | None, pages: Pages) -> Raster:
    tiff = is_tiff(path)
    with decoding(path):
        if tiff:
            from imasks.data.tiff import open_tiff

            with open_tiff(path, page, pages) as image:
                raster = image.whole()
        elif page:
            raise UnreadableFile(path, f"holds no page {page + 1}", value="one image")
        else:
            raster = _from_pillow(path, path.read_bytes())
    check_shape(path, raster.pixels.shape)
    return raster


def _from_pillow(path: Path, data: bytes) -> Raster:
    palette = None
    with _opened(io.BytesIO(data)) as image:
        # MPO is what many phones write: a JPEG file with further views behind the first.
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            raise several(path, "an animation")
        orientation = image.getexif().get(_ORIENTATION, 1)
        if data.startswith(_PNG_MAGIC) and data[24] == 16:
            import imagecodecs

            pixels = np.asarray(imagecodecs.png_decode(data))
        elif image.mode == "P":
            colors = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
            palette = np.zeros((256, 3), np.uint8)
            palette[: len(colors)] = colors
            pixels = np.asarray(image)
        elif image.mode in ("1", "L", "LA", "RGB", "RGBA"):
            pixels = np.asarray(image)
        else:
            pixels = np.asarray(image.convert("RGB"))
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        pixels = pixels[..., :-1]
    return Raster(pixels=upright(pixels, orientation), palette=palette)


def picture_pixels(path: Path) -> int:
    """Count the pixels of a PNG, JPEG, BMP or WebP file without decoding them."""
    with path.open("rb") as file, _opened(file) as image:
        return image.width * image.height


def _opened(file: IO[bytes]) -> Image.Image:
    """Open an image without Pillow's limit on its size: it is the user's own.

    The limit is a global setting of Pillow, which is not ours to change.
    """
    Image.init()
    head = file.read(16)
    file.seek(0)
    for kind in ("PNG", "JPEG", "BMP", "WEBP"):
        factory, accept = Image.OPEN[kind]
        if accept is None or accept(head) is True:
            return factory(file, "")
    raise UnidentifiedImageError


def several(path: Path, what: str) -> UnreadableFile:
    """Make the error of a file that holds several images where one is asked for."""
    return UnreadableFile(
        path,
        "holds several images where one is expected",
        value=what,
        remedy="Only TIFF files may be stacks, as images and masks of a data folder or as inputs "
        "of `imasks predict`. Save each page as a file of its own.",
    )


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply an EXIF orientation, 1 to 8, to [H,W] or [H,W,C]; other numbers mean nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
