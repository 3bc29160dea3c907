"""Pictures as data URIs, within a budget of bytes.

Shape letters: P planes, H x W pixels, C image channels, K classes.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from imasks.runs.figures.painting import paint
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
    """Encode an image uint8 [H, W, 1 or 3] as a WebP, shrunk to at most ``LONGEST`` pixels."""
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).convert("RGB")
    size = shrunk(image.shape[0], image.shape[1])
    if size != image.shape[:2]:
        picture = picture.resize(size[::-1], Image.Resampling.BOX)
    return _uri(picture, "WEBP", quality=QUALITY, method=4)


def label_picture(labels: NDArray[np.uint8], task: Task, colors: NDArray[np.uint8]) -> str:
    """Encode labels uint8 [P, H, W] as a PNG that is transparent where there is no class.

    Pixels that are ignored are grey.
    """
    painted = paint(labels, None, task, colors)
    return _flat(painted, np.asarray((labels > 0).any(0)))


def mask_picture(region: NDArray[np.bool_]) -> str:
    """Encode a mask bool [H, W] as a PNG, black where it is and transparent elsewhere."""
    return _flat(np.zeros((*region.shape, 3), np.uint8), region)


def shrunk(H: int, W: int) -> tuple[int, int]:
    """Size of a picture of an image of H x W pixels, which is never enlarged."""
    factor = min(1.0, LONGEST / max(H, W))
    return max(1, round(H * factor)), max(1, round(W * factor))


def hex_colors(colors: NDArray[np.uint8]) -> list[str]:
    """Write colours uint8 [K, 3] as "#rrggbb"."""
    return ["#" + bytes(color.tolist()).hex() for color in colors]


def has_ignored(labels: NDArray[np.uint8]) -> bool:
    """Tell whether labels have pixels that take no part."""
    return bool((labels == IGNORE).any())


def _flat(painted: NDArray[np.uint8], there: NDArray[np.bool_]) -> str:
    """Encode few colours [H, W, 3] with a palette; where bool [H, W] is not, nothing is seen."""
    flat = np.where(there[..., None], painted, 0)
    found, index = np.unique(
        np.concatenate([flat, there[..., None] * np.uint8(255)], 2).reshape(-1, 4),
        axis=0,
        return_inverse=True,
    )
    if len(found) > 256:  # overlapping classes mix to more colours than a palette has
        picture = Image.fromarray(np.concatenate([flat, there[..., None] * np.uint8(255)], 2))
        return _png(picture, {})
    picture = Image.fromarray(index.reshape(there.shape).astype(np.uint8), "P")
    picture.putpalette(found[:, :3].tobytes())
    return _png(picture, {"transparency": bytes(found[:, 3].tolist())})


def _png(picture: Image.Image, extra: dict[str, bytes]) -> str:
    size = shrunk(picture.height, picture.width)
    if size != (picture.height, picture.width):
        picture = picture.resize(size[::-1], Image.Resampling.NEAREST)
    return _uri(picture, "PNG", optimize=True, **extra)


def _uri(picture: Image.Image, kind: str, **how: object) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **how)
    content = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{content}"
