"""Pictures as data URIs, within a budget of bytes.

Shape letters: P planes, H x W pixels, C image channels, K classes.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from imasks.runs.colors import as_rgb
from imasks.runs.figures.painting import MASK_GREY
from imasks.tasks import IGNORE, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST = 320  # pixels of a picture's longer side
QUALITY = 80
BUDGET = 8_000_000  # bytes of all pictures of a page, as they stand in it


@dataclass
class Album:
    """All pictures of a page; each is a number.

    Args:
        budget: bytes that may be used, as text.
    """

    budget: int = BUDGET
    uris: list[str] = field(default_factory=list)
    size: int = 0

    def add(self, *pictures: str) -> list[int] | None:
        """Take all of these data URIs and return their numbers; None if they do not fit."""
        more = sum(map(len, pictures))
        if self.size + more > self.budget:
            return None
        first = len(self.uris)
        self.uris += pictures
        self.size += more
        return list(range(first, len(self.uris)))


def photo(image: NDArray[np.uint8]) -> str:
    """Encode an image uint8 [H, W, C] as a WebP, shrunk to at most ``LONGEST`` pixels."""
    picture = Image.fromarray(np.ascontiguousarray(as_rgb(image)))
    size = shrunk(image.shape[0], image.shape[1])
    if size != image.shape[:2]:
        picture = picture.resize(size[::-1], Image.Resampling.BOX)
    return _uri(picture, "WEBP", quality=QUALITY, method=4)


def label_picture(labels: NDArray[np.uint8], task: Task, colors: NDArray[np.uint8]) -> str:
    """Encode labels uint8 [P, H, W] as a PNG that is transparent where there is no class.

    Pixels that are ignored are grey. Where classes of a multilabel task overlap, the smaller one is
    seen: mixed colours would stand in no legend.
    """
    if task.exclusive:
        index = labels[0]
    else:
        index = np.zeros(labels.shape[1:], np.uint8)
        for k in np.argsort(-(labels == 1).sum((1, 2)), kind="stable"):
            index[labels[k] == 1] = k + 1
    grey = len(colors) + 1
    index = np.where((labels == IGNORE).any(0), np.uint8(grey), index)
    palette = np.full((grey + 1, 3), MASK_GREY, np.uint8)
    palette[1:grey] = colors
    return _flat(index, palette)


def mask_picture(region: NDArray[np.bool_]) -> str:
    """Encode a mask bool [H, W] as a PNG, black where it is and transparent elsewhere."""
    return _flat(region.astype(np.uint8), np.zeros((2, 3), np.uint8))


def shrunk(H: int, W: int) -> tuple[int, int]:
    """Size of a picture of an image of H x W pixels, which is never enlarged."""
    factor = min(1.0, LONGEST / max(H, W))
    return max(1, round(H * factor)), max(1, round(W * factor))


def hex_colors(colors: NDArray[np.uint8]) -> list[str]:
    """Write colours uint8 [K, 3] as "#rrggbb"."""
    return ["#" + bytes(color.tolist()).hex() for color in colors]


def _flat(index: NDArray[np.uint8], palette: NDArray[np.uint8]) -> str:
    """Encode colours uint8 [256 or fewer, 3] by their index [H, W]; 0 is transparent."""
    picture = Image.fromarray(index, "P")
    picture.putpalette(palette.tobytes())
    size = shrunk(*index.shape)
    if size != index.shape:
        picture = picture.resize(size[::-1], Image.Resampling.NEAREST)
    return _uri(picture, "PNG", optimize=True, transparency=0)


def _uri(picture: Image.Image, kind: str, **how: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **how)
    content = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{content}"
