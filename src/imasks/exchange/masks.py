"""Plain masks, as they lie in the data folder, and back."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from imasks.data.card import Card, read_labels
from imasks.data.files import read_mask, write_png, write_text
from imasks.data.folder import list_images
from imasks.errors import UserError
from imasks.exchange.folder import plane_folders, write_planes
from imasks.exchange.labelled import About, Labelled
from imasks.exchange.source import Draw, Drawn, Size, file_values, foreground_value

MASKS, UNSURE = "masks", "inconsistency"
TABLE = "qualities.csv"


def write_masks(out: Path, about: About, labelled: Iterable[Labelled]) -> None:
    """Write `masks/`, `inconsistency/` (255 where the networks disagree) and `qualities.csv`.

    Masks have the values and the layout of the data folder's own.
    """
    rows = []
    for one in labelled:
        card, found = about.card, one.prediction
        planes = found.mask.reshape(-1, *found.im.shape)
        if card.task != "multiclass":
            planes = planes * np.uint8(foreground_value(card))
        write_planes(out / MASKS, one.name, planes, card)
        (out / UNSURE).mkdir(exist_ok=True)
        write_png(out / UNSURE / f"{one.name}.png", found.im * np.uint8(255))
        rows.append(one)
    write_text(out / TABLE, table(rows))


def masks_back(source: Path, card: Card) -> dict[str, Draw]:
    """Read masks of the data folder's own values: NAME -> how they are drawn.

    Args:
        source: a folder with `masks/`, or of masks; and perhaps `inconsistency/`.
        card: of the data folder.

    Raises:
        UserError: there are no masks, or a name has several.
    """
    folder = source / MASKS if (source / MASKS).is_dir() else source
    planes = [_listing(folder / sub) for sub in plane_folders(card)]
    unsure = _listing(source / UNSURE, needed=False)
    names = [name for name in planes[0] if all(name in plane for plane in planes)]
    if lost := sorted({name for plane in planes for name in plane} - set(names)):
        raise UserError(
            f"{folder}: some classes have no mask of an image",
            value=lost[0],
            remedy="Add the missing masks; a class that does not occur has an empty one.",
        )
    return {
        name: partial(_draw, [plane[name] for plane in planes], unsure.get(name), card)
        for name in names
    }


def table(rows: Iterable[Labelled]) -> str:
    """Return a CSV of what the run says of every image."""
    text = io.StringIO()
    columns = ["file", "quality", "agreement", "im_share", "confidence"]
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({"file": one.file, **one.says()} for one in rows)
    return text.getvalue()


def _listing(folder: Path, *, needed: bool = True) -> dict[str, Path]:
    found, _ = list_images(folder)
    if needed and not found:
        raise UserError(f"{folder} holds no masks", remedy="Give the folder of the masks.")
    for name, paths in found.items():
        if len(paths) > 1:
            raise UserError(
                f"{folder} holds several masks of {name}",
                value=", ".join(path.name for path in paths),
                remedy="Keep one of them.",
            )
    return {name: paths[0] for name, paths in found.items()}


def _draw(paths: Sequence[Path], unsure: Path | None, card: Card, size: Size) -> Drawn:
    labels = read_labels(paths, card, size)
    im = None if unsure is None else read_mask(unsure) > 0
    return Drawn(planes=file_values(labels, card), im=im)
