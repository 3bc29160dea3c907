"""What a reader of annotations gives: the card of a data set, its images, how masks are drawn.

Shape letters: P planes of mask files (1 for binary and multiclass, one a class for multilabel),
H x W pixels of an image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imasks.data.card import Card, shorten
from imasks.data.files import IMAGE_SUFFIXES
from imasks.data.folder import nfc, stem_of, visible
from imasks.encoding import IGNORE, TaskName
from imasks.errors import UserError

IGNORE_VALUE = 255  # in the mask files that are written here
BACKGROUND = "background"

Size = tuple[int, int]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The masks of one image.

    Args:
        planes: uint8 or uint16 [P,H,W] in the values of mask files, see `docs/data.md`.
        notes: what happened while drawing, in words that fit every image; they are counted.
        im: bool [H,W], the pixels still marked as inconsistent; None: nothing is said of them.
    """

    planes: NDArray[Any]
    notes: tuple[str, ...] = ()
    im: Bools | None = None


Draw = Callable[[Size], Drawn]
"""Draws the masks of an image of (height, width) pixels; raises UserError where it cannot."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One image of a source.

    Args:
        name: what it is called in the data folder, without suffix.
        image: the image file.
        draw: draws its masks; None: there are none, or `copies` holds them.
        copies: mask files that fit as they are, one a plane.
        sources: files that `draw` reads.
        split: "labeled", "unlabeled", "val" or "test" where the source says so.
    """

    name: str
    image: Path
    draw: Draw | None = None
    copies: tuple[Path, ...] = ()
    sources: tuple[Path, ...] = ()
    split: str | None = None

    @property
    def annotated(self) -> bool:
        """Whether there are masks."""
        return self.draw is not None or bool(self.copies)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set in a foreign form.

    Args:
        card: what it is.
        entries: its images, sorted by name.
        inputs: the files that hold annotations of many images.
        notes: what was found, in sentences.
        skipped: what was left out, each with the reason.
        asked: what masks depend on beside the card, the entries and the inputs.
    """

    card: Card
    entries: tuple[Entry, ...]
    inputs: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    asked: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a user may say about a source.

    Args:
        images: the folder of the images, where the format does not say.
        masks: the folder of the masks, likewise.
        task: None: found from the annotations.
        classes: those wanted, in this order; empty: all.
        palette: a file of colours and class names.
        crowd: "class" or "ignore": what the regions are that COCO marks as a crowd.
        empty: images without any shape show no class; otherwise nobody has labeled them.
    """

    images: Path | None = None
    masks: Path | None = None
    task: TaskName | None = None
    classes: tuple[str, ...] = ()
    palette: Path | None = None
    crowd: str = "class"
    empty: bool = False


def make_card(
    name: str,
    labels: Sequence[str],
    options: ReadOptions,
    *,
    ignore: bool = False,
    where: Path,
) -> Card:
    """Make the card of a source whose shapes bear labels.

    One label makes a binary task, several a multiclass one with the background first, unless
    the user says otherwise.

    Raises:
        UserError: there are no labels, a class that is asked for has none, or the card would not
            be valid.
    """
    if not labels:
        raise UserError(
            f"{where} holds no annotations", remedy="Give a file with annotated images."
        )
    for wanted in options.classes:
        if wanted not in labels and wanted.lower() != BACKGROUND:
            raise UserError(
                f"{where} has no class of this name",
                value=wanted,
                remedy=f"It has {shorten(labels)}.",
            )
    chosen = list(options.classes or labels)
    solid = [label for label in chosen if label.lower() != BACKGROUND]
    task = options.task or ("binary" if len(solid) == 1 else "multiclass")
    if task == "multiclass":
        own = [label for label in chosen if label.lower() == BACKGROUND]
        classes = [*(own or [BACKGROUND]), *solid]
    elif task == "multilabel":
        classes = solid
    else:
        classes = solid if len(solid) == 1 else ["foreground"]
    return Card(
        name=name, task=task, classes=tuple(classes), ignore=IGNORE_VALUE if ignore else None
    )


def foreground_value(card: Card) -> int:
    """Return the value of the foreground in new mask files: 255, which is seen, unless ignored."""
    return 1 if card.ignore == IGNORE_VALUE else 255


def file_values(labels: NDArray[np.uint8], card: Card) -> NDArray[Any]:
    """Turn internal labels [P,H,W], see `imasks.encoding`, into the values of new mask files."""
    values: NDArray[Any]
    if card.task == "multiclass":
        values = np.maximum(labels, 1) - np.uint8(1)
    else:
        values = (labels == 1).astype(np.uint8) * np.uint8(foreground_value(card))
    void = labels == IGNORE
    if card.ignore is not None and void.any():
        values = values.astype(np.uint8 if card.ignore <= 255 else np.uint16)
        values[void] = card.ignore
    return values


def find_images(folder: Path) -> dict[str, Path]:
    """List the images in a folder and its sub-folders by their path below it, in posix form.

    Raises:
        UserError: there is no such folder, or it holds no images.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder", remedy="Give the folder of the images.")
    found = {path.relative_to(folder).as_posix(): path for path in _walk(folder)}
    if not found:
        raise UserError(
            f"{folder} holds no images", remedy=f"Read are {', '.join(IMAGE_SUFFIXES)}."
        )
    return found


class Finder:
    """Finds the image that an annotation tool means, by its path or by its file name.

    Args:
        folder: where the images lie, sub-folders included.

    Raises:
        UserError: there is no such folder, or it holds no images.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = find_images(folder)
        self._by_end: dict[str, list[str]] = {}
        for place in self.paths:
            self._by_end.setdefault(PurePosixPath(nfc(place)).name, []).append(place)

    def find(self, given: str) -> str | None:
        """Return the image's path below the folder; None if there is none.

        One of the two paths must be the end of the other: images of the same name in other
        folders are others.

        Raises:
            UserError: several images of different folders fit.
        """
        given = nfc(given.replace("\\", "/"))
        if given in self.paths:
            return given
        wanted = PurePosixPath(given)
        ends = self._by_end.get(wanted.name, [])
        inner = [end for end in ends if f"/{wanted}".endswith(f"/{nfc(end)}")]
        fits = [end for end in ends if f"/{nfc(end)}".endswith(f"/{wanted}")]
        if inner:
            fits.append(max(inner, key=len))
        if len(fits) > 1:
            raise UserError(
                f"several images in {self.folder} are called alike",
                value=shorten(fits),
                remedy=f"Give the folder in which {given!r} names one image.",
            )
        return fits[0] if fits else None


def entry_name(place: str) -> str:
    """Name an image by its path below the images' folder, without suffix and folders."""
    path = Path(place)
    return "__".join((*map(nfc, path.parent.parts), stem_of(path)))


def check_names(entries: Iterable[Entry], where: Path) -> tuple[Entry, ...]:
    """Sort entries by name.

    Raises:
        UserError: two have the same name.
    """
    owners: dict[str, Entry] = {}
    for entry in entries:
        other = owners.setdefault(entry.name, entry)
        if other is not entry:
            raise UserError(
                f"{where}: two images would be called {entry.name}",
                value=f"{other.image}, {entry.image}",
                remedy="Rename one of them.",
            )
    return tuple(owners[name] for name in sorted(owners))


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: it is missing or damaged.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file", remedy="Give the JSON file.")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UserError(
            f"{path} is no valid JSON", value=error, remedy="Export it once more."
        ) from error


def malformed(path: Path, error: object, *, form: str) -> UserError:
    """Say that a file is not in the form that was asked for."""
    if isinstance(error, KeyError):
        error = f"{error} is missing"
    return UserError(
        f"{path} is not in the form of {form}",
        value=error,
        remedy="Choose the format that it was written in, or export it once more.",
    )


def _walk(folder: Path) -> Iterable[Path]:
    for path in visible(folder):
        if path.is_dir():
            yield from _walk(path)
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            yield path
