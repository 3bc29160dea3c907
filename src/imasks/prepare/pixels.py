"""What preparers do with pixels and paths, in common."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imasks.data.files import Bytes, UnreadableFile
from imasks.data.prepare import LUMINANCE


def grey(image: NDArray[Any]) -> NDArray[Any]:
    """Bring [H,W,C] to [H,W], by luminance (Rec. 601) where there is colour; the dtype stays."""
    plane: NDArray[Any] = image[..., 0]
    if image.shape[2] == 3 and (image != image[..., :1]).any():
        plane = np.rint(image.astype(np.float64) @ np.array(LUMINANCE)).astype(image.dtype)
    return plane


def to_8_bit(image: NDArray[Any], source: Path) -> Bytes:
    """Return an image that has 8 bits a channel.

    Raises:
        UnreadableFile: it has more, which no image of this data set has.
    """
    if image.dtype != np.uint8:
        raise UnreadableFile(
            source, "is not of 8 bits a channel", value=image.dtype, remedy="Download it again."
        )
    return image


def fingerprint(image: NDArray[Any]) -> str:
    """Recognise an image by its pixels, however it is stored."""
    head = f"{image.shape} {image.dtype} ".encode()
    return hashlib.blake2b(head + np.ascontiguousarray(image).tobytes(), digest_size=16).hexdigest()


def place(folder: Path, name: str) -> Path:
    """Return a path below a folder, whose own folder is there."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
