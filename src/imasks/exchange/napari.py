"""napari: label layers as TIFF files of int32, which it opens as labels without any plugin."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imasks.data.card import Card, shorten
from imasks.data.files import UnreadableFile, atomic, write_text
from imasks.data.folder import list_images
from imasks.errors import UserError
from imasks.exchange.folder import plane_folders
from imasks.exchange.labelled import About, Labelled
from imasks.exchange.masks import TABLE, table
from imasks.exchange.sheets import ignoring
from imasks.exchange.source import Draw, Drawn, Size, foreground_value

LABELS, UNSURE = "labels", "inconsistency"


def write_napari(out: Path, about: About, labelled: Iterable[Labelled]) -> None:
    """Write `labels/NAME.tif`, `inconsistency/NAME.tif` and `qualities.csv`.

    In labels, 0 is what napari shows transparent: the background of binary tasks and of
    multilabel ones, which have a layer a class (`labels/CLASS/NAME.tif`). Class k of a multiclass
    task is k + 1.
    """
    rows = []
    for one in labelled:
        mask = one.prediction.mask
        planes = mask + np.uint8(1) if about.card.task == "multiclass" else mask
        planes = planes.reshape(-1, *one.prediction.im.shape)
        for sub, plane in zip(plane_folders(about.card), planes, strict=True):
            _write(out / LABELS / sub / f"{one.name}.tif", plane)
        _write(out / UNSURE / f"{one.name}.tif", one.prediction.im)
        rows.append(one)
    write_text(out / TABLE, table(rows))


def napari_back(source: Path, card: Card) -> dict[str, Draw]:
    """Read what :func:`write_napari` wrote, and napari saved again.

    Raises:
        UserError: there are no label files.
    """
    folders = [source / LABELS / sub for sub in plane_folders(card)]
    planes = [{k: v[0] for k, v in list_images(folder)[0].items()} for folder in folders]
    names = [name for name in planes[0] if all(name in plane for plane in planes)]
    if not names:
        raise UserError(
            f"{folders[0]} holds no labels", remedy="Give the folder that was exported for napari."
        )
    unsure = {k: v[0] for k, v in list_images(source / UNSURE)[0].items()}
    return {
        name: partial(_draw, [plane[name] for plane in planes], unsure.get(name), card)
        for name in names
    }


def _write(path: Path, labels: NDArray[Any]) -> None:
    import tifffile

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temp:
        tifffile.imwrite(temp, labels.astype(np.int32), compression="zlib")


def _draw(paths: list[Path], unsure: Path | None, card: Card, size: Size) -> Drawn:
    labels = np.stack([_read(path, size) for path in paths])
    void = np.zeros(size, np.bool_)
    if card.task == "multiclass":
        K = len(card.classes)
        strange = np.unique(labels[(labels < 0) | (labels > K)])
        if strange.size:
            raise UnreadableFile(
                paths[0],
                "holds labels that no class has",
                value=shorten(strange.tolist()),
                remedy=f"Allowed are 1 to {K}, and 0 for pixels without a class.",
            )
        void = (labels == 0).any(0)
        planes = np.maximum(labels, 1).astype(np.uint8) - np.uint8(1)
    else:
        planes = (labels != 0).astype(np.uint8) * np.uint8(foreground_value(card))
    im = None if unsure is None else _read(unsure, size) != 0
    return Drawn(planes=ignoring(planes, void, card), im=im)


def _read(path: Path, size: Size) -> NDArray[Any]:
    import tifffile

    try:
        labels: NDArray[Any] = tifffile.imread(path)
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise UnreadableFile(path, "is no TIFF file that can be read", value=error) from error
    if labels.shape != size or labels.dtype.kind not in "iub":
        raise UnreadableFile(
            path,
            "does not fit its image",
            value=f"{labels.dtype} {labels.shape}, image {size}; height first",
            remedy="Save the labels layer as it was opened.",
        )
    return labels
