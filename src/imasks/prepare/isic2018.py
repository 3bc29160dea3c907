"""ISIC 2018 task 1: lesions on skin. Source: METHOD 12 and 14.2."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np

from imasks.data.card import CUT, Card
from imasks.data.files import UnreadableFile, read_image, write_png
from imasks.data.prepare import resize_image, resize_mask
from imasks.prepare.folder import Record, Records, Work, write_folder
from imasks.prepare.pixels import grey, place, to_8_bit
from imasks.prepare.registry import About, Request
from imasks.prepare.source import (
    Pair,
    draw,
    matching,
    need_number,
    need_partners,
    need_tree,
    wrong_source,
)

SIZE = (256, 256)
PARTS = {"train": ("Training", 2594), "val": ("Validation", 100), "test": ("Test", 1000)}

ABOUT = About(
    title="ISIC 2018",
    task="binary",
    classes=("lesion",),
    colors=("#e69f00",),
    where="challenge.isic-archive.com/data/#2018, the six archives of task 1 (images and ground "
    "truth of training, validation and test); free, but the site may ask for an account",
    licence="as LICENSE.txt and ATTRIBUTION.txt in the archives state it; CC0 for the training set",
    citation="Codella et al., Skin Lesion Analysis Toward Melanoma Detection 2018, "
    "arXiv 1902.03368; Tschandl, Rosendahl and Kittler, The HAM10000 dataset, Scientific Data 5, "
    "2018, doi 10.1038/sdata.2018.161",
    tree="""\
ISIC2018_Task1-2_Training_Input/
  ISIC_0000000.jpg ... (2594)
ISIC2018_Task1_Training_GroundTruth/
  ISIC_0000000_segmentation.png ... (2594)
ISIC2018_Task1-2_Validation_Input/
  ISIC_0012255.jpg ... (100)
ISIC2018_Task1_Validation_GroundTruth/
  ISIC_0012255_segmentation.png ... (100)
ISIC2018_Task1-2_Test_Input/
  ISIC_0012169.jpg ... (1000)
ISIC2018_Task1_Test_GroundTruth/
  ISIC_0012169_segmentation.png ... (1000)""",
)


def prepare(request: Request) -> tuple[str, ...]:
    """Make a data folder of the official split; a share of the training images is labeled.

    Images are 256 x 256 PNG files, or copies of the originals with `full`; masks are 0 and 255.
    """
    options = request.options
    full = bool(options["full"])
    pairs = _pairs(request)

    def finish(records: Records) -> tuple[Card, list[str]]:
        card = Card(
            name=ABOUT.title,
            task="binary",
            classes=ABOUT.classes,
            size=SIZE,
            channels=3,
            free_rotation=True,
            colors=ABOUT.colors,
            ladder="isic2018",
        )
        empty = sum(record["empty"] for record in records.values())
        return card, [f"{empty} masks show no lesion."] if empty else []

    work = Work(
        name="isic2018",
        source=request.source,
        settings=dict(options),
        pairs=pairs,
        make=partial(_make, full=full),
        finish=finish,
    )
    return write_folder(request.out, work, request.on_progress)


def _pairs(request: Request) -> list[Pair]:
    source, options = request.source, request.options
    folders = {
        split: (f"ISIC2018_Task1-2_{part}_Input", f"ISIC2018_Task1_{part}_GroundTruth")
        for split, (part, _) in PARTS.items()
    }
    need_tree(source, ABOUT, [folder for both in folders.values() for folder in both])
    missing: list[str] = []
    pairs: list[Pair] = []
    for split, (image_folder, mask_folder) in folders.items():
        images = matching(source / image_folder, r"(ISIC_\d+)\.(?i:jpe?g)")
        masks = matching(source / mask_folder, r"(ISIC_\d+)_segmentation\.(?i:png)")
        number = PARTS[split][1]
        missing += need_partners(images, masks, where=image_folder)
        missing += need_number(
            len(images), number, what=f"images in {image_folder}", subset=options["subset"]
        )
        drawn = frozenset[str]()
        if split == "train" and images:
            drawn = draw(images, options["labeled_share"], options["seed"])
        for name in sorted(images.keys() & masks.keys()):
            goes = split if split != "train" else "labeled" if name in drawn else "unlabeled"
            pairs.append(Pair(split=goes, name=name, image=images[name], masks=(masks[name],)))
    if missing:
        raise wrong_source(source, ABOUT, missing)
    return pairs


def _make(pair: Pair, folder: Path, *, full: bool) -> Record:
    image = to_8_bit(read_image(pair.image), pair.image)
    mask = grey(to_8_bit(read_image(pair.masks[0]), pair.masks[0]))
    if mask.shape != image.shape[:2]:
        raise UnreadableFile(
            pair.masks[0],
            "differs in size from its image",
            value=f"mask {mask.shape}, image {image.shape[:2]}; height first",
            remedy="Download it again.",
        )
    lesion = (mask >= CUT).astype(np.uint8) * np.uint8(255)
    target = f"{pair.split}/images/{pair.name}{'.jpg' if full else '.png'}"
    if full:
        shutil.copyfile(pair.image, place(folder, target))
    else:
        lesion = resize_mask(lesion, SIZE)
        write_png(place(folder, target), resize_image(image, SIZE))
    mask_target = f"{pair.split}/masks/{pair.name}.png"
    write_png(place(folder, mask_target), lesion)
    return {"files": [target, mask_target], "empty": not lesion.any()}
