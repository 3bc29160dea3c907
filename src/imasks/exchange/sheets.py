"""What annotation tools keep of images, sheets of shapes, and the masks these make together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imasks.data.card import Card
from imasks.errors import UserError
from imasks.exchange.shapes import Ring, Shape
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

OTHERS = "of other classes than those asked for"
INCONSISTENCY = "inconsistency"  # the label of the inconsistency mask in annotation tools
BEYOND = "shapes reached beyond their image and were cut at its edge"
NOTHING = "shapes covered no pixel, as they lie outside of their image or are too small"
OVERLAP = "images have pixels with several classes; there, the shape on top counts"


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """All shapes of one image, those on top last.

    Args:
        image: the image's path or name as the tool gives it.
        shapes: perhaps none.
        split: see `imasks.exchange.source.Entry`.
        size: (height, width) of the image as the tool saw it, where it says so.
        done: whether somebody has labeled the image, even if there are no shapes; None: the tool
            does not say.
        source: the file with the shapes, where each image has its own.
        kept_as: the name under which the tool keeps the image, where that is another one.
    """

    image: str
    shapes: tuple[Shape, ...]
    split: str | None = None
    size: Size | None = None
    done: bool | None = None
    source: Path | None = None
    kept_as: str | None = None


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
    multiclass = card.task == "multiclass"
    P = len(card.classes) if card.task == "multilabel" else 1
    labels = np.zeros((P, *size), np.uint8)  # 0: no class; else k + 1 of class k, if multiclass
    void = np.zeros(size, np.bool_)
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
            labels[:, pixels] = 0
        elif (place := _place(shape.label, card)) is not None:
            value = place + 1 if multiclass else 1
            plane = labels[0 if multiclass else place]
            if not set(np.unique(plane[pixels]).tolist()) <= {0, value} and OVERLAP not in notes:
                notes.append(OVERLAP)
            plane[pixels] = value
            void &= ~pixels
        elif card.task == "binary":  # the background, drawn on top: a hole
            labels[:, pixels] = 0
            void &= ~pixels
    if multiclass and not has_background(card):
        void |= labels[0] == 0
    if multiclass:
        values = np.maximum(labels, 1) - np.uint8(1)
    else:
        values = labels * np.uint8(foreground_value(card))
    return Drawn(planes=ignoring(values, void, card), notes=tuple(notes), im=im)


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
        free = 255 if card.task == "multiclass" else 254  # where 255 is what people draw with
        raise UserError(
            f"pixels belong to no class; ignore = {free} in dataset.toml would leave them out",
            value=f"{int(void.sum())} pixels",
            remedy="Or give them a class.",
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
        place = finder.find(sheet.kept_as or sheet.image) or finder.find(sheet.image)
        if place is None:
            skipped.append((sheet.image, f"there is no such image in {images}"))
            continue
        seen.add(place)
        empty = sheet.done or (sheet.done is None and options.empty)
        annotated = empty or _shows(sheet, card)
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
        asked=(options.crowd, *options.classes),
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
