"""All formats: what reads data sets, what writes predictions, and what brings them back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from imasks.data.card import Card
from imasks.errors import UserError
from imasks.exchange.back import corrected_by
from imasks.exchange.coco import coco_sheets, read_coco, write_coco
from imasks.exchange.cvat import cvat_sheets, read_cvat, write_cvat
from imasks.exchange.folders import read_folders, read_table
from imasks.exchange.instances import read_instances
from imasks.exchange.labelled import About, Labelled
from imasks.exchange.labelme import read_labelme
from imasks.exchange.labelstudio import labelstudio_sheets, read_labelstudio, write_labelstudio
from imasks.exchange.masks import masks_back, write_masks
from imasks.exchange.napari import napari_back, write_napari
from imasks.exchange.nnunet import nnunet_back, write_nnunet
from imasks.exchange.palette import read_palette
from imasks.exchange.sheets import Sheets, left_out_notes
from imasks.exchange.source import Draw, ReadOptions, Source

Use = Literal["read", "write", "back"]


@dataclass(frozen=True, kw_only=True)
class Corrections:
    """Masks that come back.

    Args:
        masks: image name -> how its masks are drawn.
        notes: what was found, in sentences.
        skipped: images without masks, each with the reason.
    """

    masks: Mapping[str, Draw]
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Format:
    """One foreign form of images and masks.

    Args:
        name: as users type it.
        summary: what it is.
        read: makes a source of a data set in this form.
        write: writes predictions of a run in this form into an empty folder.
        back: reads corrected masks for the classes of a card; the last argument says whether
            images without any shape show no class.
    """

    name: str
    summary: str
    read: Callable[[Path, ReadOptions], Source] | None = None
    write: Callable[[Path, About, Iterable[Labelled]], None] | None = None
    back: Callable[[Path, Card, bool], Corrections] | None = None


def find_format(name: str, use: Use) -> Format:
    """Find a format by its name.

    Args:
        name: as a user typed it.
        use: what it is wanted for.

    Raises:
        UserError: there is none of this name for this use.
    """
    known = [one for one in FORMATS.values() if getattr(one, use) is not None]
    found = next((one for one in known if one.name == name), None)
    if found is None:
        raise UserError(
            "there is no such format",
            value=name,
            remedy=f"Use {', '.join(one.name for one in known)}.",
        )
    return found


def _shapes_back(
    read: Callable[[Path], Sheets], source: Path, card: Card, empty: bool
) -> Corrections:
    found = read(source)
    masks, skipped = corrected_by(found, card, empty=empty)
    return Corrections(masks=masks, notes=tuple(left_out_notes(found)), skipped=skipped)


def _masks_back(
    read: Callable[[Path, Card], Mapping[str, Draw]], source: Path, card: Card, empty: bool
) -> Corrections:
    return Corrections(masks=read(source, card))  # an empty mask is a mask


FORMATS: Mapping[str, Format] = {
    one.name: one
    for one in (
        Format(
            name="folders",
            summary="two folders, images and masks of class ids",
            read=read_folders,
        ),
        Format(name="table", summary="a CSV of image and mask paths", read=read_table),
        Format(
            name="palette",
            summary="colour-coded masks, with the palette given or found",
            read=read_palette,
        ),
        Format(
            name="instances",
            summary="one mask an object, as in the 2018 Data Science Bowl",
            read=read_instances,
        ),
        Format(name="labelme", summary="Labelme's JSON, one file an image", read=read_labelme),
        Format(
            name="coco",
            summary="COCO JSON: polygons and runs",
            read=read_coco,
            write=write_coco,
            back=partial(_shapes_back, coco_sheets),
        ),
        Format(
            name="cvat",
            summary="CVAT: images 1.1 (XML); segmentation mask 1.1 only to read data sets",
            read=read_cvat,
            write=write_cvat,
            back=partial(_shapes_back, cvat_sheets),
        ),
        Format(
            name="labelstudio",
            summary="Label Studio's JSON: brush masks and polygons",
            read=read_labelstudio,
            write=write_labelstudio,
            back=partial(_shapes_back, labelstudio_sheets),
        ),
        Format(
            name="masks",
            summary="masks as in the data folder, and inconsistency masks",
            write=write_masks,
            back=partial(_masks_back, masks_back),
        ),
        Format(
            name="nnunet",
            summary="nnU-Net v2: a raw data set, inconsistent pixels as its ignore label",
            write=write_nnunet,
            back=partial(_masks_back, nnunet_back),
        ),
        Format(
            name="napari",
            summary="label layers for napari (TIFF)",
            write=write_napari,
            back=partial(_masks_back, napari_back),
        ),
    )
}
