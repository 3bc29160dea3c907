"""One mask an object, to be merged: the layout of the 2018 Data Science Bowl."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from imasks.data.card import CUT, Card
from imasks.data.files import UnreadableFile, is_lossy, read_mask
from imasks.data.folder import list_images, stem_of, visible
from imasks.errors import UserError
from imasks.exchange.source import (
    Drawn,
    Entry,
    ReadOptions,
    Size,
    Source,
    check_names,
    foreground_value,
)


def read_instances(source: Path, options: ReadOptions) -> Source:
    """Read `ID/images/ID.png` and `ID/masks/*.png`, one mask an object.

    A pixel is foreground if any object covers it. Images without a folder of masks, or with an
    empty one, are unlabeled; with `options.empty`, an empty one says that there is no object.

    Raises:
        UserError: there are no such folders, a folder holds not exactly one image, or the options
            ask for another task than binary.
    """
    if options.task not in (None, "binary") or len(options.classes) > 1:
        raise UserError(
            "objects have no classes in this layout",
            value=options.task or ", ".join(options.classes),
            remedy="Choose binary and one class.",
        )
    folders = [path for path in visible(source) if (path / "images").is_dir()]
    if not folders:
        raise UserError(
            f"{source} holds no folders with images in them",
            remedy="Give the folder that holds ID/images/ and ID/masks/ for every image.",
        )
    name = options.classes[0] if options.classes else "object"
    card = Card(name=source.resolve().name, task="binary", classes=(name,))
    entries = [_entry(folder, card, empty=options.empty) for folder in folders]
    if not any(entry.annotated for entry in entries):
        raise UserError(f"{source} holds no masks", remedy="Give the folder with the training set.")
    return Source(card=card, entries=check_names(entries, source))


def _entry(folder: Path, card: Card, *, empty: bool) -> Entry:
    images = [path for paths in list_images(folder / "images")[0].values() for path in paths]
    if len(images) != 1:
        raise UserError(
            f"{folder / 'images'} must hold one image",
            value=f"{len(images)} images",
            remedy="Keep one image a folder.",
        )
    masks = tuple(path for paths in list_images(folder / "masks")[0].values() for path in paths)
    annotated = bool(masks) or (empty and (folder / "masks").is_dir())
    return Entry(
        name=stem_of(images[0]),
        image=images[0],
        draw=partial(_draw, masks, card) if annotated else None,
        sources=masks,
    )


def _draw(masks: tuple[Path, ...], card: Card, size: Size) -> Drawn:
    total = np.zeros(size, np.bool_)
    for path in masks:
        mask = read_mask(path)
        if mask.shape != size:
            raise UnreadableFile(
                path,
                "differs in size from its image",
                value=f"mask {mask.shape}, image {size}; height first",
                remedy="Save the mask at the size of the image.",
            )
        total |= mask >= (CUT if is_lossy(path) else 1)
    return Drawn(planes=total[None].astype(np.uint8) * np.uint8(foreground_value(card)))
