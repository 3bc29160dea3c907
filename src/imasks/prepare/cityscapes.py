"""Cityscapes: street scenes with 34 label ids. Source: METHOD 12 and 14.9."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from imasks.data.card import Card, shorten
from imasks.data.files import Bytes, UnreadableFile, read_image, read_mask, write_png
from imasks.data.folder import visible
from imasks.data.prepare import STEP, resize_image, resize_mask
from imasks.errors import UserError
from imasks.prepare.folder import Record, Records, Work, write_folder
from imasks.prepare.pixels import place, to_8_bit
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

VOID = 255
NUMBERS = {"train": 2975, "val": 500}
PARTITIONS = (2, 4, 8, 16)


class Label(NamedTuple):
    """One label id, in the order of the ids."""

    name: str
    color: str
    scored: bool = False


LABELS = (
    Label("unlabeled", "#000000"),
    Label("ego vehicle", "#000000"),
    Label("rectification border", "#000000"),
    Label("out of roi", "#000000"),
    Label("static", "#000000"),
    Label("dynamic", "#6f4a00"),
    Label("ground", "#510051"),
    Label("road", "#804080", scored=True),
    Label("sidewalk", "#f423e8", scored=True),
    Label("parking", "#faaaa0"),
    Label("rail track", "#e6968c"),
    Label("building", "#464646", scored=True),
    Label("wall", "#66669c", scored=True),
    Label("fence", "#be9999", scored=True),
    Label("guard rail", "#b4a5b4"),
    Label("bridge", "#966464"),
    Label("tunnel", "#96785a"),
    Label("pole", "#999999", scored=True),
    Label("polegroup", "#999999"),
    Label("traffic light", "#faaa1e", scored=True),
    Label("traffic sign", "#dcdc00", scored=True),
    Label("vegetation", "#6b8e23", scored=True),
    Label("terrain", "#98fb98", scored=True),
    Label("sky", "#4682b4", scored=True),
    Label("person", "#dc143c", scored=True),
    Label("rider", "#ff0000", scored=True),
    Label("car", "#00008e", scored=True),
    Label("truck", "#000046", scored=True),
    Label("bus", "#003c64", scored=True),
    Label("caravan", "#00005a"),
    Label("trailer", "#00006e"),
    Label("train", "#005064", scored=True),
    Label("motorcycle", "#0000e6", scored=True),
    Label("bicycle", "#770b20", scored=True),
)
SCORED = tuple(label.name for label in LABELS if label.scored)

ABOUT = About(
    title="Cityscapes",
    task="multiclass",
    classes=tuple(label.name for label in LABELS),
    colors=tuple(label.color for label in LABELS),
    where="www.cityscapes-dataset.com/downloads, the archives leftImg8bit_trainvaltest and "
    "gtFine_trainvaltest; free for non-commercial use, after registration",
    licence="Cityscapes' own terms: non-commercial research and teaching; no redistribution",
    citation="Cordts et al., The Cityscapes Dataset for Semantic Urban Scene Understanding, "
    "CVPR 2016, arXiv 1604.01685",
    tree="""\
leftImg8bit/
  train/
    CITY/
      CITY_000000_000019_leftImg8bit.png ... (2975 in 18 cities)
  val/
    CITY/
      CITY_000000_000294_leftImg8bit.png ... (500 in 3 cities)
gtFine/
  train/
    CITY/
      CITY_000000_000019_gtFine_labelIds.png ... (2975)
  val/
    CITY/
      CITY_000000_000294_gtFine_labelIds.png ... (500)""",
)


def prepare(request: Request) -> tuple[str, ...]:
    """Make a data folder: official training images, the official val split halved to val and test.

    Raises:
        UserError: the source is not whole, an option is out of range, or a list of labeled images
            does not fit.
    """
    options = request.options
    factor, classes = options["factor"], options["classes"]
    if not 0 < factor <= 1:
        raise UserError(
            "the factor is out of range", value=factor, remedy="Use more than 0, up to 1."
        )
    if classes not in (len(LABELS), len(SCORED)):
        raise UserError("there are no such classes", value=classes, remedy="Use 34 or 19.")
    frames = _frames(request)
    labeled, told = _labeled(request, frames["train"])

    def finish(records: Records) -> tuple[Card, list[str]]:
        sizes = Counter(tuple(record["size"]) for record in records.values())
        height, width = sizes.most_common(1)[0][0]
        size = None if options["tiles"] else (height, width)
        return _card(classes, size, options["tiles"]), told

    chosen = options["labeled_list"]
    work = Work(
        name="cityscapes",
        source=request.source,
        settings={**options, "labeled_list": sorted(labeled) if chosen else None},
        pairs=_pairs(frames, labeled, options["seed"]),
        make=partial(_make, factor=factor, ids=_new_ids(classes)),
        finish=finish,
    )
    return write_folder(request.out, work, request.on_progress)


def scaled(shape: tuple[int, int], factor: float) -> tuple[int, int]:
    """Multiply (height, width) by a factor and round both up to multiples of 16."""
    exact = Fraction(str(factor))  # 0.2 as it is written: a float would be a little more
    height, width = (STEP * math.ceil(side * exact / STEP) for side in shape)
    return height, width


def read_list(path: Path, known: Mapping[str, object]) -> frozenset[str]:
    """Read which training images are labeled: one a line, by name or path; more on it is ignored.

    `CITY_000000_000019` and `leftImg8bit/train/CITY/CITY_000000_000019_leftImg8bit.png ...` name
    the same image.

    Raises:
        UserError: the file is missing, names nothing, something twice, or no training image.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read as a list", value=error, remedy="Give a text file in UTF-8."
        ) from error
    words = [line.split()[0] for line in lines if line.strip()]
    names = [Path(word).name.removesuffix(".png").removesuffix("_leftImg8bit") for word in words]
    twice = [name for name, count in Counter(names).items() if count > 1]
    strange = [name for name in names if name not in known]
    if not names or twice or strange:
        raise UserError(
            f"{path} is no list of training images",
            value=f"twice: {shorten(twice)}" if twice else shorten(strange) or "nothing in it",
            remedy="Name each labeled training image once, one a line.",
        )
    return frozenset(names)


_Frames = dict[str, dict[str, tuple[Path, Path]]]


def _frames(request: Request) -> _Frames:
    """List image and mask of every frame in train and val, city by city."""
    source = request.source
    need_tree(
        source, ABOUT, [f"{kind}/{part}" for kind in ("leftImg8bit", "gtFine") for part in NUMBERS]
    )
    missing: list[str] = []
    frames: _Frames = {}
    for part, number in NUMBERS.items():
        images = _files(source / "leftImg8bit" / part, r"(\w+_\d+_\d+)_leftImg8bit\.png")
        masks = _files(source / "gtFine" / part, r"(\w+_\d+_\d+)_gtFine_labelIds\.png")
        missing += need_partners(images, masks, where=part)
        missing += need_number(
            len(images), number, what=f"images in {part}", subset=request.options["subset"]
        )
        frames[part] = {name: (images[name], masks[name]) for name in images if name in masks}
    if missing:
        raise wrong_source(source, ABOUT, missing)
    return frames


def _files(folder: Path, pattern: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for city in visible(folder):
        if city.is_dir():
            found |= matching(city, pattern)
    return found


def _labeled(request: Request, train: Mapping[str, object]) -> tuple[frozenset[str], list[str]]:
    options = request.options
    if options["labeled_list"] is None:
        return draw(train, options["labeled_share"], options["seed"]), []
    labeled = read_list(options["labeled_list"], train)
    part = next((one for one in PARTITIONS if len(labeled) == round(len(train) / one)), None)
    usual = f": the usual 1/{part} partition by its size" if part else ""
    return labeled, [f"{len(labeled)} of {len(train)} training images are labeled{usual}."]


def _pairs(frames: _Frames, labeled: frozenset[str], seed: int) -> list[Pair]:
    test = draw(frames["val"], 0.5, seed)
    pairs = []
    for part, found in frames.items():
        for name, (image, mask) in sorted(found.items()):
            if part == "train":
                goes = "labeled" if name in labeled else "unlabeled"
            else:
                goes = "test" if name in test else "val"
            pairs.append(Pair(split=goes, name=name, image=image, masks=(mask,)))
    return pairs


def _new_ids(classes: int) -> Bytes:
    """Return what each label id becomes, uint8 [256]: itself, or its place among those scored."""
    table = np.full(256, VOID, np.uint8)
    scored = iter(range(len(SCORED)))
    for number, label in enumerate(LABELS):
        if classes == len(LABELS):
            table[number] = number
        elif label.scored:
            table[number] = next(scored)
    return table


def _make(pair: Pair, folder: Path, *, factor: float, ids: Bytes) -> Record:
    mask = read_mask(pair.masks[0])
    if mask.max(initial=0) >= len(LABELS):
        raise UnreadableFile(
            pair.masks[0],
            "holds values that are no label ids",
            value=int(mask.max()),
            remedy="Label ids are 0 to 33: give the files *_gtFine_labelIds.png as downloaded.",
        )
    image = to_8_bit(read_image(pair.image), pair.image)
    if mask.shape != image.shape[:2]:
        raise UnreadableFile(
            pair.masks[0],
            "differs in size from its image",
            value=f"mask {mask.shape}, image {image.shape[:2]}; height first",
            remedy="Download both again.",
        )
    size = scaled(image.shape[:2], factor)
    files = [f"{pair.split}/{kind}/{pair.name}.png" for kind in ("images", "masks")]
    if size == image.shape[:2]:
        shutil.copyfile(pair.image, place(folder, files[0]))
    else:
        write_png(place(folder, files[0]), resize_image(image, size))
    write_png(place(folder, files[1]), resize_mask(ids[mask], size))
    return {"files": files, "size": size}


def _card(classes: int, size: tuple[int, int] | None, tiles: bool) -> Card:
    kept = [label for label in LABELS if label.scored or classes == len(LABELS)]
    names = tuple(label.name for label in kept)
    return Card(
        name=ABOUT.title,
        task="multiclass",
        classes=names,
        size=size,
        channels=3,
        ignore=VOID if classes == len(SCORED) else None,
        fit="tile" if tiles else "auto",
        free_rotation=False,
        colors=tuple(label.color for label in kept),
        ladder="cityscapes",
        scored=SCORED if classes == len(LABELS) else (),
    )
