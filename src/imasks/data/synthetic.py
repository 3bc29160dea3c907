"""Micrographs drawn from a seed: data for the demonstration and for tests, with exact masks.

Shape letters: N images, H height, W width.
"""

from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np

from imasks.data._micrographs import DRAWING, SMALLEST, draw
from imasks.data.card import CARD_NAME
from imasks.data.files import Bytes, write_png, write_text
from imasks.errors import UserError

MARKER = "# Drawn by imasks; drawn anew when these change:"


def draw_cells(count: int, *, size: tuple[int, int] = (96, 96), seed: int) -> tuple[Bytes, Bytes]:
    """Draw colour micrographs of cells together with their true masks.

    Ten laboratories, from stained sections to fluorescence and phase contrast, take turns. Every
    image holds at least one cell. Image i depends on `size`, `seed` and i alone, so a larger
    `count` continues a smaller one; a larger `size` shows more cells, not larger ones.

    Args:
        count: the number N of images.
        size: height H and width W in pixels, each at least 32.
        seed: 0 or more; the same seed gives the same bytes.

    Returns:
        Images uint8 `[N, H, W, 3]` (red, green, blue) and masks uint8 `[N, H, W]`, 1 where the
        centre of the pixel lies inside the outline of a cell, else 0.

    Raises:
        UserError: `count` or `seed` is negative, or `size` is too small.
    """
    _check({"count": count}, size, seed)
    images = np.zeros((count, *size, 3), dtype=np.uint8)
    masks = np.zeros((count, *size), dtype=np.uint8)
    for number, (image, mask) in enumerate(draw(count, size, seed, stream=0)):
        images[number], masks[number] = image, mask
    return images, masks


def write_demo_dataset(
    folder: Path,
    *,
    seed: int = 0,
    labeled: int = 12,
    unlabeled: int = 120,
    val: int = 20,
    test: int = 60,
    size: tuple[int, int] = (96, 96),
) -> None:
    """Write a complete binary data set of drawn cells into `folder`.

    Each split holds RGB images in `images/`, and `masks/` of the same names (0 and 255), numbered
    from `cell_0000.png` on over all splits; the unlabelled images have masks too, so that a
    demonstration can show the upper bound. `dataset.toml` is written last: a folder without it
    is unfinished and is drawn anew, as is one drawn with other parameters. A finished one with
    the same parameters is left alone.

    Args:
        folder: created if need be.
        seed: 0 or more; the splits draw from separate streams of it.
        labeled: number of images in `labeled/`.
        unlabeled: number of images in `unlabeled/`.
        val: number of images in `val/`.
        test: number of images in `test/`.
        size: height and width in pixels, each at least 32.

    Raises:
        UserError: a number is negative, `size` is too small, or `folder` holds something else.
    """
    counts = {"labeled": labeled, "unlabeled": unlabeled, "val": val, "test": test}
    _check(counts, size, seed)
    numbers = counts | {"height": size[0], "width": size[1], "seed": seed, "drawing": DRAWING}
    listed = " ".join(f"{name}={value}" for name, value in numbers.items())
    card = f'{MARKER} {listed}\ntask = "binary"\nclasses = ["cell"]\n'
    if _is_complete(folder, card, counts):
        return
    unfinished = _claim(folder)
    for stream, (split, names) in enumerate(_names(counts).items(), start=1):
        _write_split(folder / split, names, draw(counts[split], size, seed, stream))
    write_text(folder / CARD_NAME, card)
    unfinished.unlink(missing_ok=True)


def _check(counts: dict[str, int], size: tuple[int, int], seed: int) -> None:
    for name, value in {**counts, "seed": seed}.items():
        if value < 0:
            raise UserError(f"{name} is negative", value=value, remedy="Give 0 or more.")
    if min(size) < SMALLEST:
        remedy = f"Give a height and a width of at least {SMALLEST} pixels."
        raise UserError("the size is too small to hold a cell", value=size, remedy=remedy)


def _names(counts: dict[str, int]) -> dict[str, list[str]]:
    numbers = count()
    return {
        split: [f"cell_{number:04d}.png" for number in islice(numbers, size)]
        for split, size in counts.items()
    }


def _is_complete(folder: Path, card: str, counts: dict[str, int]) -> bool:
    path = folder / CARD_NAME
    return (
        path.is_file()
        and path.read_bytes() == card.encode()
        and all(
            (folder / split / kind / name).is_file()
            for split, names in _names(counts).items()
            for kind in ("images", "masks")
            for name in names
        )
    )


def _claim(folder: Path) -> Path:
    """Mark the folder as being drawn and return the mark; refuse one that we did not write."""
    mark, finished = folder / ".drawing", folder / CARD_NAME
    ours = finished.is_file() and finished.read_bytes().startswith(MARKER.encode())
    empty = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not (empty or ours or mark.is_file()):
        remedy = "Name a folder that is new or empty; nothing was changed."
        raise UserError(
            "the demonstration's folder holds something else", value=folder, remedy=remedy
        )
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
    finished.unlink(missing_ok=True)
    return mark


def _write_split(folder: Path, names: list[str], drawn: Iterator[tuple[Bytes, Bytes]]) -> None:
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for path in (folder / kind).glob("cell_*.png"):
            if path.name not in names:  # of an earlier drawing
                path.unlink()
    for name, (image, mask) in zip(names, drawn, strict=True):
        write_png(folder / "images" / name, image)
        write_png(folder / "masks" / name, mask * np.uint8(255))
