"""Colour-coded masks, with the palette given or found."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imasks.data.card import MAX_CLASSES, Card, shorten
from imasks.data.files import UnreadableFile, is_lossy, ordered, read_image
from imasks.data.folder import nfc
from imasks.data.scaffold import mask_owner
from imasks.encoding import TaskName
from imasks.errors import UserError
from imasks.exchange.source import (
    BACKGROUND,
    IGNORE_VALUE,
    Drawn,
    Entry,
    ReadOptions,
    Size,
    Source,
    check_names,
    entry_name,
    find_images,
    foreground_value,
)

LABELMAP = "labelmap.txt"
VOID = ("ignore", "void", "unlabeled", "unlabelled")
SPLITS = Path("ImageSets") / "Segmentation"


@dataclass(frozen=True, kw_only=True)
class Palette:
    """Colours and what they stand for; names may repeat, those of `VOID` take no part."""

    colors: tuple[tuple[int, int, int], ...]
    names: tuple[str, ...]


def read_palette(source: Path, options: ReadOptions) -> Source:
    """Read colour-coded masks.

    Args:
        source: a folder with `images/` and `masks/`, unless the options say where these are.
        options: `palette` is a CSV of the columns name, red, green, blue, or a label map as CVAT
            writes it (`name:red,green,blue::`). Without it, the colours that occur are the
            classes, called by their hexadecimal numbers; black is the background.

    Raises:
        UserError: a folder or the palette is missing or damaged, or there are more colours than
            classes can be.
    """
    images, masks = options.images or source / "images", options.masks or source / "masks"
    files = find_images(masks)
    palette = (
        find_palette(masks, list(files.values()))
        if options.palette is None
        else load_palette(options.palette)
    )
    inputs = () if options.palette is None else (options.palette,)
    return _source(source, images, files, palette, options, inputs, splits={})


def read_label_map(source: Path, options: ReadOptions) -> Source:
    """Read CVAT's "Segmentation mask 1.1" (or PASCAL VOC's layout with a label map).

    Args:
        source: the folder with `labelmap.txt` and `SegmentationClass/`; perhaps
            `ImageSets/Segmentation/NAME.txt` with the images of a split.
        options: `images` is the folder of the images; by default `JPEGImages/` or `images/`.

    Raises:
        UserError: as for :func:`read_palette`.
    """
    palette = load_palette(source / LABELMAP)
    images = options.images or next(
        (source / name for name in ("JPEGImages", "images") if (source / name).is_dir()),
        source / "JPEGImages",
    )
    files = find_images(source / "SegmentationClass")
    lists = sorted((source / SPLITS).glob("*.txt"))
    splits = _listed(path for path in lists if path.stem.lower() != "default")
    return _source(source, images, files, palette, options, (source / LABELMAP, *lists), splits)


def _listed(lists: Iterable[Path]) -> dict[str, str]:
    """Read which split each image is of: its name in the data folder -> the list's name.

    Raises:
        UserError: a list cannot be read, or an image stands in two.
    """
    splits: dict[str, str] = {}
    for path in lists:
        for line in _lines(path):
            name = "__".join(map(nfc, PurePosixPath(line.strip()).parts))
            if splits.setdefault(name, path.stem) != path.stem:
                raise UserError(
                    f"{line.strip()} stands in two lists of {path.parent}",
                    value=f"{splits[name]}.txt, {path.name}",
                    remedy="Take it out of one of them, or take one of the lists away.",
                )
    return splits


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is no text in UTF-8", value=error, remedy="Save it in UTF-8."
        ) from error
    return [line for line in text.splitlines() if line.strip()]


def load_palette(path: Path) -> Palette:
    """Read a palette file, see :func:`read_palette`.

    Raises:
        UserError: it is missing or damaged, or one colour has two names.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file", remedy="Give the palette file.")
    lines = _lines(path)
    by_color: dict[tuple[int, int, int], str] = {}
    for line in lines:
        entry = _label_map_line(line) or _csv_line(line)
        if entry is None and line is lines[0]:
            continue  # the head of the table
        if entry is None:
            raise UserError(
                f"{path}: a line names no class and colour",
                value=line,
                remedy="Write name,red,green,blue or name:red,green,blue:: with 0 to 255.",
            )
        name, color = entry
        if by_color.setdefault(color, name) != name:
            raise UserError(
                f"{path}: two classes have one colour",
                value=f"{by_color[color]}, {name}: {color}",
                remedy="Give each class its own colour.",
            )
    if not by_color:
        raise UserError(f"{path} names no colours", remedy="Write name,red,green,blue a line.")
    return Palette(colors=tuple(by_color), names=tuple(by_color.values()))


def find_palette(where: Path, paths: Sequence[Path]) -> Palette:
    """Collect the colours of all masks, black first.

    Raises:
        UserError: a mask is lossy or unreadable, or there are more colours than classes can be.
    """
    found: set[int] = set()
    for packed in ordered(_packed_colors, paths):
        found |= packed
        if len(found) > MAX_CLASSES:
            raise UserError(
                f"the masks in {where} have too many colours",
                value=f"more than {MAX_CLASSES}",
                remedy="Give the palette, or save masks without smooth edges and compression.",
            )
    colors = [(one >> 16, one >> 8 & 255, one & 255) for one in sorted(found)]
    names = [
        BACKGROUND if not any(color) else "#{:02x}{:02x}{:02x}".format(*color) for color in colors
    ]
    return Palette(colors=tuple(colors), names=tuple(names))


def _source(
    source: Path,
    images: Path,
    files: dict[str, Path],
    palette: Palette,
    options: ReadOptions,
    inputs: tuple[Path, ...],
    splits: dict[str, str],
) -> Source:
    card = _card(source.resolve().name, palette, options)
    places = find_images(images)
    names = {entry_name(place): place for place in places}
    masks: dict[str, Path] = {}
    skipped = []
    for place, path in files.items():
        name = mask_owner(entry_name(place), names)
        if name is None:
            skipped.append((place, f"there is no such image in {images}"))
        elif name in masks:
            raise UserError(
                f"two masks fit {name}",
                value=f"{masks[name]}, {path}",
                remedy="Keep one of them.",
            )
        else:
            masks[name] = path
    lost = [name for name in splits if name not in names]
    skipped += [(name, f"it is in a list, and not in {images}") for name in lost]
    if not masks:
        raise UserError(
            f"no mask of {source} belongs to an image in {images} by its name",
            value=next(iter(files)),
            remedy="Give each mask the name of its image.",
        )
    entries = [
        Entry(
            name=name,
            image=places[place],
            draw=partial(_draw, masks[name], palette, card) if name in masks else None,
            sources=(masks[name],) if name in masks else (),
            split=splits.get(name),
        )
        for name, place in names.items()
    ]
    return Source(
        card=card,
        entries=check_names(entries, images),
        inputs=inputs,
        notes=(f"{len(palette.colors)} colours: {shorten(palette.names)}.",),
        skipped=tuple(skipped),
    )


def _card(name: str, palette: Palette, options: ReadOptions) -> Card:
    named = list(dict.fromkeys(n for n in palette.names if n.lower() not in VOID))
    for wanted in options.classes:
        if wanted not in named:
            raise UserError(
                "the palette has no class of this name",
                value=wanted,
                remedy=f"It has {shorten(named)}.",
            )
    classes = list(options.classes) or named
    solid = [one for one in classes if one.lower() != BACKGROUND]
    others = len(classes) > 1 or bool(options.classes)  # there may be pixels of no class
    task: TaskName = options.task or ("binary" if len(solid) == 1 and others else "multiclass")
    if task == "multilabel" or (task == "binary" and len(solid) != 1):
        raise UserError(
            "colour-coded masks give each pixel one class",
            value=f"task {task}, classes {shorten(classes)}",
            remedy="Choose multiclass, or one class for binary.",
        )
    # pixels of classes that are left out are background where there is one, else they take no part
    whole = task == "binary" or set(named) <= set(classes) or BACKGROUND in classes
    void = any(n.lower() in VOID for n in palette.names) or not whole
    by_name = dict(zip(palette.names, palette.colors, strict=True))
    kept = tuple(solid if task == "binary" else classes)
    return Card(
        name=name,
        task=task,
        classes=kept,
        ignore=IGNORE_VALUE if void else None,
        colors=tuple("#{:02x}{:02x}{:02x}".format(*by_name[one]) for one in kept),
    )


def _draw(path: Path, palette: Palette, card: Card, size: Size) -> Drawn:
    """Look up the class of every pixel's colour."""
    packed = _pack(path)
    if packed.shape != size:
        raise UnreadableFile(
            path,
            "differs in size from its image",
            value=f"mask {packed.shape}, image {size}; height first",
            remedy="Save the mask at the size of the image.",
        )
    keys = np.array([r << 16 | g << 8 | b for r, g, b in palette.colors])
    values = np.array([_value(name, card) for name in palette.names], np.uint8)
    order = keys.argsort()
    place = np.searchsorted(keys[order], packed).clip(max=len(keys) - 1)
    strange = np.unique(packed[keys[order][place] != packed])
    if strange.size:
        raise UnreadableFile(
            path,
            "holds colours that the palette lacks",
            value=shorten(f"#{one:06x}" for one in strange.tolist()),
            remedy="Add them to the palette.",
        )
    return Drawn(planes=values[order][place][None])


def _value(name: str, card: Card) -> int:
    """Return the value in mask files for a name of the palette."""
    if name.lower() in VOID:
        return IGNORE_VALUE
    if card.task == "binary":
        return foreground_value(card) if name == card.classes[0] else 0
    if name in card.classes:
        return card.classes.index(name)
    return card.classes.index(BACKGROUND) if BACKGROUND in card.classes else IGNORE_VALUE


def _packed_colors(path: Path) -> set[int]:
    return set(np.unique(_pack(path)).tolist())


def _pack(path: Path) -> NDArray[Any]:
    """Read colours as one number a pixel, int64 [H,W]."""
    if is_lossy(path):
        raise UnreadableFile(
            path,
            "is compressed with loss, so its colours are no longer exact",
            remedy="Save masks as PNG.",
        )
    pixels = read_image(path).astype(np.int64)
    if pixels.max(initial=0) > 255:
        raise UnreadableFile(path, "has colours of more than 8 bits", remedy="Save it as 8-bit.")
    r, g, b = (pixels[..., channel % pixels.shape[2]] for channel in range(3))
    packed: NDArray[Any] = r << 16 | g << 8 | b
    return packed


def _label_map_line(line: str) -> tuple[str, tuple[int, int, int]] | None:
    found = re.fullmatch(r"(.+?):(\d+),(\d+),(\d+)(:.*)?", line.strip())
    return _entry(found[1], found.groups()[1:4]) if found else None


def _csv_line(line: str) -> tuple[str, tuple[int, int, int]] | None:
    cells = next(csv.reader([line]))
    return _entry(cells[0], cells[1:]) if len(cells) == 4 else None


def _entry(name: str, levels: Sequence[str]) -> tuple[str, tuple[int, int, int]] | None:
    if not name.strip() or not all(re.fullmatch(r"\s*\d{1,3}\s*", level) for level in levels):
        return None
    r, g, b = (int(level) for level in levels)
    return None if max(r, g, b) > 255 else (name.strip(), (r, g, b))
