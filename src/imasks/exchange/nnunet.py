"""nnU-Net v2: a raw data set of true and predicted masks, and label files back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imasks.data.card import Card, read_labels, shorten
from imasks.data.files import UnreadableFile, read_image, read_mask, write_png, write_text
from imasks.data.folder import Sample, list_images
from imasks.data.prepare import to_uint8
from imasks.encoding import IGNORE
from imasks.errors import UserError
from imasks.exchange.labelled import About, Labelled
from imasks.exchange.sheets import has_background, ignoring
from imasks.exchange.source import BACKGROUND, Draw, Drawn, Size, foreground_value

FILE, SPLITS = "dataset.json", "splits_final.json"
MOST_PLANES = 7  # combinations of more classes and `ignore` do not fit into 8 bits
PREFIX = "unlabeled_"
ENDING = ".png"


def write_nnunet(out: Path, about: About, labelled: Iterable[Labelled]) -> None:
    """Write `Dataset001_NAME/`: put it into the folder that `nnUNet_raw` names.

    Training cases are the labeled and validation images with their true masks, and the unlabeled
    ones with their predictions; pixels of the inconsistency mask and ignored ones are nnU-Net's
    `ignore` label. Images are of 8 bits, as the run's networks see them. `splits_final.json` has
    one fold, so that no prediction validates: put it into the data set's folder in
    `nnUNet_preprocessed`.

    Label 0 is nnU-Net's background: that of the task, or the class of that name; without one, it
    does not occur. Classes of multilabel tasks are regions: label files hold sums of 2**k for the
    classes k that are there.

    Raises:
        UserError: a multilabel task has more than 7 classes.
    """
    card = about.card
    labels = label_values(card)
    slug = re.sub(r"\W+", "_", card.name).strip("_") or "data"
    folder = out / f"Dataset001_{slug}"
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    fold: dict[str, list[str]] = {"train": [], "val": []}
    for case, part, sample, ids in _true_cases(about):
        _write_case(folder, case, sample, ids, about)
        fold[part].append(case)
    for one in labelled:
        ids = to_ids(one.prediction.mask, one.prediction.im, card)
        _write_case(folder, PREFIX + one.name, one.sample, ids, about)
        fold["train"].append(PREFIX + one.name)
    C = about.preparation.channels
    channels = ("R", "G", "B") if C == 3 else tuple(f"channel {c}" for c in range(1, C + 1))
    content: dict[str, Any] = {
        "name": card.name,
        "description": f"predicted masks by {about.model}",
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": labels,
        "numTraining": sum(map(len, fold.values())),
        "file_ending": ENDING,
        "overwrite_image_reader_writer": "NaturalImage2DIO",
    }
    if card.task == "multilabel":
        content["regions_class_order"] = [1 << k for k in range(len(card.classes))]
    write_text(folder / FILE, json.dumps(content, indent=1))
    write_text(folder / SPLITS, json.dumps([fold], indent=1))


def label_values(card: Card) -> dict[str, int | list[int]]:
    """Return nnU-Net's `labels`: names and their values in label files.

    Raises:
        UserError: a multilabel task has more than 7 classes.
    """
    if card.task != "multilabel":
        names = card.classes[1:] if has_background(card) else card.classes
        plain = {name: number for number, name in enumerate(names, start=1)}
        return {BACKGROUND: 0, **plain, "ignore": len(names) + 1}
    K = len(card.classes)
    if K > MOST_PLANES:
        raise UserError(
            "nnU-Net's label files cannot hold so many classes that overlap",
            value=f"{K} classes",
            remedy=f"Export a task of at most {MOST_PLANES} classes.",
        )
    regions: dict[str, int | list[int]] = {
        name: [value for value in range(1, 1 << K) if value >> k & 1]
        for k, name in enumerate(card.classes)
    }
    return {BACKGROUND: 0, **regions, "ignore": 1 << K}


def to_ids(mask: NDArray[np.uint8], void: NDArray[np.bool_], card: Card) -> NDArray[np.uint8]:
    """Turn a mask in the encoding of `Prediction.mask` into a label file, uint8 [H,W]."""
    if card.task == "multilabel":
        ids = sum((plane << np.uint8(k) for k, plane in enumerate(mask)), np.zeros_like(mask[0]))
    elif card.task == "multiclass" and not has_background(card):
        ids = mask + np.uint8(1)
    else:
        ids = mask
    return np.where(void, np.uint8(ignore_value(card)), ids)


def ignore_value(card: Card) -> int:
    """Return the value of nnU-Net's ignore label, the last of all."""
    value = label_values(card)["ignore"]
    assert isinstance(value, int)
    return value


def nnunet_back(source: Path, card: Card) -> dict[str, Draw]:
    """Read label files: those of :func:`write_nnunet`, or what nnU-Net predicted.

    Args:
        source: the exported folder, its `Dataset...` or a folder of label files.
        card: of the data folder.

    Raises:
        UserError: there are no label files.
    """
    inner = sorted(source.glob("Dataset*"))
    folder = inner[0] if len(inner) == 1 else source
    folder = folder / "labelsTr" if (folder / "labelsTr").is_dir() else folder
    found = {name: paths[0] for name, paths in list_images(folder)[0].items()}
    # the labeled and validation images are there with their own masks
    ours = {n.removeprefix(PREFIX): p for n, p in found.items() if n.startswith(PREFIX)}
    if not found:
        raise UserError(f"{folder} holds no label files", remedy="Give the folder of label files.")
    return {name: partial(_draw, path, card) for name, path in (ours or found).items()}


def _true_cases(
    about: About,
) -> Iterator[tuple[str, str, Sample, NDArray[np.uint8]]]:
    """Give case, fold part, image and label file of the labeled and validation images."""
    card = about.card
    for split, part in (("labeled", "train"), ("val", "val")):
        for sample in about.dataset.splits[split]:
            labels = read_labels(sample.masks, card, None, page=sample.page)
            void = (labels == IGNORE).any(0)
            mask = np.maximum(labels, 1) - np.uint8(1) if card.task == "multiclass" else labels == 1
            planes = mask.astype(np.uint8)
            ids = to_ids(planes if card.task == "multilabel" else planes[0], void, card)
            yield f"{split}_{sample.name}", part, sample, ids


def _write_case(
    folder: Path, case: str, sample: Sample, ids: NDArray[np.uint8], about: About
) -> None:
    """Write the label file and the image: one file, or one a channel where they are no colours."""
    prep, path = about.preparation, sample.image
    image = to_uint8(read_image(path, page=sample.page, pages=prep.pages), prep, source=path)
    parts = [image] if prep.channels == 3 else np.split(image, prep.channels, axis=2)
    for number, part in enumerate(parts):
        write_png(folder / "imagesTr" / f"{case}_{number:04}{ENDING}", part)
    write_png(folder / "labelsTr" / f"{case}{ENDING}", ids)


def _draw(path: Path, card: Card, size: Size) -> Drawn:
    ids = read_mask(path)
    if ids.shape != size:
        raise UnreadableFile(
            path,
            "differs in size from its image",
            value=f"labels {ids.shape}, image {size}; height first",
            remedy="Save the labels at the size of the image.",
        )
    last = ignore_value(card)
    strange = np.unique(ids[ids > last])
    if strange.size:
        raise UnreadableFile(
            path,
            "holds labels that no class has",
            value=shorten(strange.tolist()),
            remedy=f"Allowed are 0 to {last}, as in {FILE}.",
        )
    void = ids == last
    ids = np.where(void, 0, ids).astype(np.uint8)
    if card.task == "multilabel":
        planes = np.stack([ids >> k & 1 for k in range(len(card.classes))])
    elif card.task == "multiclass" and not has_background(card):
        void |= ids == 0
        planes = np.maximum(ids, 1)[None] - np.uint8(1)
    else:
        planes = ids[None]
    if card.task != "multiclass":
        planes = planes * np.uint8(foreground_value(card))
    return Drawn(planes=ignoring(planes, void, card))
