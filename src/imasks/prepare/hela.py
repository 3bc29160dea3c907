"""HeLa cells in brightfield: alive, dead, and their positions. Source: METHOD 12, 14.1, 14.16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imasks.data.card import Card
from imasks.data.files import IMAGE_SUFFIXES, Bytes, UnreadableFile, read_image, write_png
from imasks.data.folder import list_images
from imasks.errors import UserError
from imasks.prepare.folder import Record, Records, Work, write_folder
from imasks.prepare.pixels import grey, place
from imasks.prepare.registry import About, Request
from imasks.prepare.source import Pair, draw, need_partners, need_tree, wrong_source
from imasks.tasks.points import draw_places, find_places, need_opencv

SIDE, OVERLAP = 256, 0.6
FOREGROUND = 10  # masks: more than this
CLASSES = ("alive", "dead", "position")
WEIGHTS = (1.0, 1.0, 3.0)

ABOUT = About(
    title="HeLa",
    task="multilabel",
    classes=CLASSES,
    colors=("#009e73", "#d55e00", "#56b4e9"),
    where="released by the authors of the paper Inconsistency Masks: see arXiv 2401.14387 and the "
    "code repository that it names",
    licence="as the authors state it where the data set is published",
    citation="Vorndran and Roeck, Inconsistency Masks: Removing the Uncertainty from "
    "Input-Pseudo-Label Pairs, arXiv 2401.14387",
    tree="""\
train/
  brightfield/
    NAME.png ...            grey images, at least 256 x 256
  alive/
    NAME.png ...            masks, brighter than 10
  dead/
    NAME.png ...
  position/                 or mod_position/: discs drawn already
    NAME.png ...
val/
  the same four folders
test/
  the same four folders""",
)


def prepare(request: Request) -> tuple[str, ...]:
    """Make a data folder of crops of 256 x 256 pixels, each once.

    Positions become discs around the centres of the marks, drawn on the whole image before it is
    cut, so that a crop's border changes none. The labeled share is drawn from source images, so
    that no crop without labels overlaps one with labels; from crops with `paper_split`.
    """
    options = request.options
    need_opencv()
    pairs, labeled = _plan(request)

    def make(pair: Pair, folder: Path) -> Record:
        return _make(pair, folder, labeled)

    def finish(records: Records) -> tuple[Card, list[str]]:
        card = Card(
            name=ABOUT.title,
            task="multilabel",
            classes=CLASSES,
            size=(SIDE, SIDE),
            channels=1,
            free_rotation=True,
            colors=ABOUT.colors,
            ladder="hela",
            points=("position",),
            weights=WEIGHTS,
        )
        crops = sum(record["crops"] for record in records.values())
        doubles = sum(record["doubles"] for record in records.values())
        told = [f"{crops} crops of {len(records)} images; {doubles} more would have been doubles."]
        if empty := sum(record["empty"] for record in records.values()):
            told.append(
                f"{empty} images have masks without anything brighter than {FOREGROUND}: masks of "
                "0 and 1 are to be saved as 0 and 255."
            )
        return card, told

    settings = {**options, "labeled_crops": sorted(labeled)}
    work = Work(
        name="hela",
        source=request.source,
        settings=settings,
        pairs=pairs,
        make=make,
        finish=finish,
    )
    return write_folder(request.out, work, request.on_progress)


def crop_corners(height: int, width: int, side: int = SIDE, overlap: float = OVERLAP) -> np.ndarray:
    """List the corners of all crops as published, doubles included: int64 [n, 2], x before y."""
    columns, rows = (_starts(length, side, overlap) for length in (width, height))
    return np.array([(x, y) for x in columns for y in rows], np.int64)


def distinct_crops(height: int, width: int) -> dict[int, tuple[int, int]]:
    """List the corners (x, y) of crops that differ, by their published numbers."""
    corners: dict[tuple[int, int], int] = {}
    for number, (x, y) in enumerate(crop_corners(height, width).tolist()):
        corners.setdefault((x, y), number)
    return {number: corner for corner, number in corners.items()}


def redrawn(mask: NDArray[Any]) -> Bytes:
    """Draw marks of positions as discs, as published for true masks: uint8 [H,W] of 0 and 1."""
    return draw_places(find_places(mask), mask.shape, lone=3, soften=True)


def _starts(length: int, side: int, overlap: float) -> list[int]:
    count = round(length / (side * (1 - overlap)))
    return [min(int(number * (length / count)), length - side) for number in range(count)]


def _plan(request: Request) -> tuple[list[Pair], frozenset[str]]:
    """List the pairs of all splits, and the names of labeled crops with `paper_split`."""
    source, options = request.source, request.options
    whole = {split: _split_folder(source, split) for split in ("train", "val", "test")}
    need_tree(
        source,
        ABOUT,
        [f"{path}/{kind}" for path in whole.values() for kind in ("brightfield", "alive", "dead")],
    )
    missing: list[str] = []
    found: dict[str, dict[str, tuple[Path, tuple[Path, ...]]]] = {}
    for split, path in whole.items():
        kinds = ("alive", "dead", _positions(source / path))
        if kinds[2] is None:
            missing.append(f"{path}/position")
            continue
        images = _images(source / path / "brightfield")
        masks = [_images(source / path / str(kind)) for kind in kinds]
        for kind, plane in zip(kinds, masks, strict=True):
            missing += need_partners(images, plane, where=f"{path}/{kind}")
        if not images:
            missing.append(f"images in {path}/brightfield")
        found[split] = {
            name: (images[name], tuple(plane[name] for plane in masks))
            for name in images
            if all(name in plane for plane in masks)
        }
    if missing:
        raise wrong_source(source, ABOUT, missing)
    by_crop = options["paper_split"]
    labeled = frozenset[str]()
    if by_crop:
        labeled = draw(_crop_names(found["train"]), options["labeled_share"], options["seed"])
    drawn = draw(found["train"], options["labeled_share"], options["seed"])
    pairs = []
    for split, samples in found.items():
        for name, (image, planes) in samples.items():
            goes = split if split != "train" else "labeled" if name in drawn else "unlabeled"
            goes = "train" if by_crop and split == "train" else goes
            pairs.append(Pair(split=goes, name=name, image=image, masks=planes))
    return pairs, labeled


def _split_folder(source: Path, split: str) -> str:
    # the publication's own scripts call the whole training set so
    return "train_full" if split == "train" and (source / "train_full").is_dir() else split


def _positions(folder: Path) -> str | None:
    return next((one for one in ("position", "mod_position") if (folder / one).is_dir()), None)


def _images(folder: Path) -> dict[str, Path]:
    found = list_images(folder)[0]
    doubles = [paths for paths in found.values() if len(paths) > 1]
    if doubles:
        raise UserError(
            f"two files in {folder} share one name, up to the ending",
            value=", ".join(path.name for path in doubles[0]),
            remedy=f"Keep one of them; read are {', '.join(IMAGE_SUFFIXES)}.",
        )
    return {name: paths[0] for name, paths in found.items()}


def _crop_names(samples: dict[str, tuple[Path, tuple[Path, ...]]]) -> list[str]:
    names = []
    for name, (path, _) in samples.items():
        height, width = _shape(path)
        if min(width, height) >= SIDE:  # smaller ones are refused when they are read
            names += [f"{name}_{number}" for number in distinct_crops(height, width)]
    return names


def _shape(path: Path) -> tuple[int, int]:
    """Return (height, width) without decoding the pixels, where that is possible."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, Image.DecompressionBombError):  # Pillow does not know all that we read
        height, width = read_image(path).shape[:2]
        return height, width


def _make(pair: Pair, folder: Path, labeled: frozenset[str]) -> Record:
    image = grey(read_image(pair.image))
    if image.dtype not in (np.uint8, np.uint16):
        raise UnreadableFile(
            pair.image,
            "is not of 8 or 16 bits",
            value=image.dtype,
            remedy="Convert all images of the data set to 8 or 16 bits alike.",
        )
    if min(image.shape) < SIDE:
        raise UnreadableFile(
            pair.image,
            f"is smaller than a crop of {SIDE} x {SIDE} pixels",
            value=image.shape,
            remedy="Take it out.",
        )
    planes = [_plane(path, image.shape) for path in pair.masks]
    if pair.masks[2].parent.name == "position":
        planes[2] = redrawn(planes[2])
    files = []
    corners = distinct_crops(*image.shape)
    for number, (x, y) in corners.items():
        name = f"{pair.name}_{number}"
        split = pair.split
        if split == "train":
            split = "labeled" if name in labeled else "unlabeled"
        window = (slice(y, y + SIDE), slice(x, x + SIDE))
        targets = {f"{split}/images/{name}.png": image[window]}
        for kind, plane in zip(CLASSES, planes, strict=True):
            targets[f"{split}/masks/{kind}/{name}.png"] = plane[window] * np.uint8(255)
        for target, pixels in targets.items():
            write_png(place(folder, target), pixels)
        files += list(targets)
    doubles = len(crop_corners(*image.shape)) - len(corners)
    empty = not any(plane.any() for plane in planes)
    return {"files": files, "crops": len(corners), "doubles": doubles, "empty": empty}


def _plane(path: Path, shape: tuple[int, ...]) -> Bytes:
    mask = grey(read_image(path))
    if mask.shape != shape:
        raise UnreadableFile(
            path,
            "differs in size from its image",
            value=f"mask {mask.shape}, image {shape}; height first",
            remedy="Save the mask at the size of the image.",
        )
    plane: Bytes = (mask > FOREGROUND).astype(np.uint8)
    return plane
