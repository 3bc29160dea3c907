"""Shapes with labels, as annotation tools keep them, and the masks they make together."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imasks.data.card import Card
from imasks.errors import UserError
from imasks.exchange.source import (
    BACKGROUND,
    Bools,
    Draw,
    Drawn,
    Entry,
    Finder,
    ReadOptions,
    Size,
    Source,
    check_names,
    entry_name,
    foreground_value,
    make_card,
)

if TYPE_CHECKING:
    from types import ModuleType

OTHERS = "of other classes than those asked for"
INCONSISTENCY = "inconsistency"  # the label of the inconsistency mask in annotation tools
BEYOND = "shapes reached beyond their image and were cut at its edge"
NOTHING = "shapes covered no pixel, as they lie outside of their image or are too small"
OVERLAP = "images have pixels with several classes; there, the shape on top counts"

Ring = tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One shape.

    Args:
        label: its class; None: its pixels take no part.
        paint: gives bool [H,W] for an image of (height, width) pixels.
        points: (x, y) in pixels from the upper left corner, for shapes made of points.
    """

    label: str | None
    paint: Callable[[Size], Bools]
    points: Ring = ()


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """All shapes of one image, those on top last.

    Args:
        image: the image's path or name as the tool gives it.
        shapes: perhaps none.
        split: see `imasks.exchange.source.Entry`.
        size: (height, width) of the image as the tool saw it, where it says so.
        done: somebody has labeled the image, even if there are no shapes.
        source: the file with the shapes, where each image has its own.
    """

    image: str
    shapes: tuple[Shape, ...]
    split: str | None = None
    size: Size | None = None
    done: bool = False
    source: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Sheets:
    """What an annotation tool exported.

    Args:
        labels: the classes, in the tool's order.
        sheets: one an image.
        inputs: the files read.
        left_out: reasons why shapes were left out, with their number.
    """

    labels: tuple[str, ...]
    sheets: tuple[Sheet, ...]
    inputs: tuple[Path, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def void(self) -> bool:
        """Whether some shapes mark pixels that take no part."""
        return any(shape.label is None for sheet in self.sheets for shape in sheet.shapes)

    def of(self, labels: Collection[str]) -> Sheets:
        """Leave out the shapes of other labels."""
        kept = [
            replace(
                one, shapes=tuple(s for s in one.shapes if s.label is None or s.label in labels)
            )
            for one in self.sheets
        ]
        lost = sum(len(one.shapes) for one in self.sheets) - sum(len(one.shapes) for one in kept)
        kinds = {**self.left_out, **({OTHERS: lost} if lost else {})}
        return replace(self, sheets=tuple(kept), left_out=kinds)


def polygon(label: str | None, rings: Sequence[Sequence[tuple[float, float]]]) -> Shape:
    """Make a shape of one or several outlines; a pixel belongs to it if its centre does."""
    closed = tuple(tuple((float(x), float(y)) for x, y in ring) for ring in rings)
    return Shape(
        label=label,
        paint=partial(fill, closed),
        points=tuple(point for ring in closed for point in ring),
    )


def ellipse(
    label: str | None, center: tuple[float, float], radii: tuple[float, float], turn: float = 0.0
) -> Shape:
    """Make a shape of an ellipse, as a polygon of a corner a pixel of its outline at least.

    Args:
        label: its class.
        center: (x, y) in pixels.
        radii: likewise.
        turn: degrees, clockwise on the screen.
    """
    corners = max(16, math.ceil(2 * math.pi * max(radii)))
    angles = np.arange(corners) * 2 * math.pi / corners
    xy = np.stack([radii[0] * np.cos(angles), radii[1] * np.sin(angles)], axis=1)
    return polygon(label, [rotated(xy.tolist(), center, turn)])


def rectangle(
    label: str | None,
    first: tuple[float, float],
    second: tuple[float, float],
    *,
    turn: float = 0.0,
    about: tuple[float, float] | None = None,
) -> Shape:
    """Make a shape of a rectangle between two corners.

    Args:
        label: its class.
        first: (x, y) in pixels.
        second: the opposite corner.
        turn: degrees, clockwise on the screen.
        about: what it is turned about; by default its middle.
    """
    (x0, y0), (x1, y1) = first, second
    x, y = about or ((x0 + x1) / 2, (y0 + y1) / 2)
    corners = [(x0 - x, y0 - y), (x1 - x, y0 - y), (x1 - x, y1 - y), (x0 - x, y1 - y)]
    return polygon(label, [rotated(corners, (x, y), turn)])


def rotated(
    offsets: Sequence[Sequence[float]], center: tuple[float, float], turn: float
) -> list[tuple[float, float]]:
    """Turn offsets (x, y) from a centre by degrees, clockwise on the screen; give the points."""
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    return [(center[0] + c * x - s * y, center[1] + s * x + c * y) for x, y in offsets]


def fill(rings: Sequence[Ring], size: Size) -> Bools:
    """Fill outlines together, bool [H,W]; those of less than three corners have no area."""
    coco = need_coco()
    flat = [[value for point in ring for value in point] for ring in rings if len(ring) >= 3]
    if not flat:
        return np.zeros(size, np.bool_)
    pixels: NDArray[np.uint8] = coco.decode(coco.merge(coco.frPyObjects(flat, *size)))
    return pixels.astype(np.bool_)


def place(pixels: Bools, corner: tuple[int, int], size: Size) -> Bools:
    """Put bool [h,w] at (x, y) of an image, bool [H,W]; what lies outside is cut."""
    whole = np.zeros(size, np.bool_)
    (x, y), (h, w) = corner, pixels.shape
    top, left = max(0, y), max(0, x)
    bottom, right = min(size[0], y + h), min(size[1], x + w)
    if top < bottom and left < right:
        whole[top:bottom, left:right] = pixels[top - y : bottom - y, left - x : right - x]
    return whole


def need_coco() -> ModuleType:
    """Import pycocotools' mask functions.

    Raises:
        UserError: they are not installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise UserError(
            "polygons and COCO masks need pycocotools, which is not installed",
            remedy="Install it: pip install 'imasks[exchange]'.",
        ) from error
    module: ModuleType = mask
    return module


def compose(shapes: Sequence[Shape], card: Card, size: Size) -> Drawn:
    """Make the masks of one image of its shapes; the last ones lie on top.

    Args:
        shapes: those of labels that are no classes are passed over; in binary tasks, all labels
            but the background are the foreground.
        card: the task and its classes.
        size: (height, width) in pixels.

    Returns:
        Planes in the values of new mask files, and what is to be noted. Multiclass pixels
        without a shape are background where the card's first class is; else they are ignored.

    Raises:
        UserError: a shape cannot be painted, or pixels are to be ignored and the card has no
            value for that.
    """
    planes = np.zeros((len(card.classes), *size), np.bool_)  # of one image: few bytes
    multiclass = card.task == "multiclass"
    void = np.full(size, multiclass and not has_background(card))
    im = None
    notes: list[str] = []
    for shape in shapes:
        pixels = shape.paint(size)
        if not pixels.any():
            notes.append(NOTHING)
            continue
        if _reaches_beyond(shape.points, size):
            notes.append(BEYOND)
        if shape.label == INCONSISTENCY and INCONSISTENCY not in card.classes:
            im = pixels if im is None else im | pixels
        elif shape.label is None:
            void |= pixels
            planes[:, pixels] = False
        elif (place := _place(shape.label, card)) is not None:
            if multiclass:
                if (planes[:, pixels].any(0) & ~planes[place, pixels]).any():
                    notes.append(OVERLAP)
                planes[:, pixels] = False
            planes[place] |= pixels
            void &= ~pixels
    # of an image, an overlap counts once, however many shapes make it
    notes = [note for note in notes if note != OVERLAP] + [OVERLAP] * (OVERLAP in notes)
    return Drawn(planes=_values(planes, void, card), notes=tuple(notes), im=im)


def has_background(card: Card) -> bool:
    """Say whether the first class of a multiclass card is what no other class covers."""
    return card.task == "multiclass" and card.classes[0].lower() == BACKGROUND


def ignoring(planes: NDArray[Any], void: Bools, card: Card) -> NDArray[Any]:
    """Give the pixels of `void` the card's ignore value, in [P,H,W] of mask files' values.

    Raises:
        UserError: there are some, and the card has no such value.
    """
    if not void.any():
        return planes
    if card.ignore is None:
        raise UserError(
            "pixels belong to no class",
            value=f"{int(void.sum())} pixels",
            remedy="Give them a class, or add a line such as ignore = 255 to dataset.toml.",
        )
    kind = np.uint8 if card.ignore <= 255 else np.uint16
    result = planes.astype(kind)
    result[:, void] = card.ignore
    return result


def source_of(found: Sheets, name: str, images: Path, options: ReadOptions) -> Source:
    """Make a source of what an annotation tool exported.

    Args:
        found: see `Sheets`.
        name: of the data set.
        images: the folder of the images.
        options: the user's wishes.

    Raises:
        UserError: no image is found, names are ambiguous, or the card would not be valid.
    """
    card = make_card(name, found.labels, options, ignore=found.void, where=found.inputs[0])
    if options.classes:
        found = found.of(options.classes)
    finder = Finder(images)
    skipped, entries, seen = [], [], set()
    for sheet in found.sheets:
        place = finder.find(sheet.image)
        if place is None:
            skipped.append((sheet.image, f"there is no such image in {images}"))
            continue
        seen.add(place)
        annotated = sheet.done or options.empty or _shows(sheet, card)
        entries.append(
            Entry(
                name=entry_name(place),
                image=finder.paths[place],
                draw=drawing(sheet, card) if annotated else None,
                sources=() if sheet.source is None else (sheet.source,),
                split=sheet.split,
            )
        )
    if not seen:
        raise UserError(
            f"no image named in {found.inputs[0]} lies in {images}",
            value=found.sheets[0].image if found.sheets else None,
            remedy="Give the folder of the images with --images.",
        )
    others = sorted(set(finder.paths) - seen)
    entries += [Entry(name=entry_name(place), image=finder.paths[place]) for place in others]
    return Source(
        card=card,
        entries=check_names(entries, found.inputs[0]),
        inputs=found.inputs,
        notes=tuple(left_out_notes(found)),
        skipped=tuple(skipped),
    )


def drawing(sheet: Sheet, card: Card) -> Draw:
    """Give the function that draws an image's masks; it refuses an image of another size."""
    return partial(_draw, sheet, card)


def left_out_notes(found: Sheets) -> list[str]:
    """Say how many shapes were left out, and why."""
    return [f"{count} shapes left out: {why}." for why, count in found.left_out.items()]


def _draw(sheet: Sheet, card: Card, size: Size) -> Drawn:
    if sheet.size is not None and sheet.size != size:
        raise UserError(
            "was annotated at another size",
            value=f"annotated {sheet.size}, image {size}; height first",
            remedy="Give the images that were annotated.",
        )
    return compose(sheet.shapes, card, size)


def _shows(sheet: Sheet, card: Card) -> bool:
    marks = [shape.label for shape in sheet.shapes if shape.label != INCONSISTENCY]
    if card.task == "binary":
        return bool(marks)
    return any(mark is None or mark in card.classes for mark in marks)


def _reaches_beyond(points: Ring, size: Size) -> bool:
    """Say whether a corner lies more than a pixel outside: tools round a little differently."""
    H, W = size
    return any(x < -1 or y < -1 or x > W + 1 or y > H + 1 for x, y in points)


def _place(label: str, card: Card) -> int | None:
    if card.task == "binary":
        return None if label.lower() == BACKGROUND else 0
    return card.classes.index(label) if label in card.classes else None


def _values(planes: Bools, void: Bools, card: Card) -> NDArray[Any]:
    if card.task == "multiclass":
        ids = planes.argmax(0).astype(np.uint8)[None]  # no class: 0, the background or ignored
        return ignoring(ids, void, card)
    return ignoring(planes.astype(np.uint8) * np.uint8(foreground_value(card)), void, card)
