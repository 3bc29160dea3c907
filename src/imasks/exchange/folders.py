"""Masks that are files of class ids already: two folders, or a table of paths."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from imasks.data.card import shorten
from imasks.data.scaffold import (
    Guess,
    card_of_guess,
    guess_from_values,
    guess_task,
    pair_folders,
)
from imasks.encoding import TaskName
from imasks.errors import UserError
from imasks.exchange.source import Entry, ReadOptions, Source, check_names, entry_name

IMAGE, MASK, SPLIT = "image", "mask", "split"  # columns of the table


def read_folders(source: Path, options: ReadOptions) -> Source:
    """Read two folders, paired and guessed as by `imasks init`.

    Args:
        source: a folder with `images/` and `masks/`, unless the options say where these are.
        options: see `ReadOptions`.

    Raises:
        UserError: see `imasks.data.scaffold.init_folder`.
    """
    images, masks = options.images or source / "images", options.masks or source / "masks"
    for folder in (images, masks):
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder", remedy="Give it with --images or --masks.")
    has_folders = any(path.is_dir() for path in masks.iterdir())
    guess = guess_task(masks, task=_asked_task(options, several_folders=has_folders))
    card = card_of_guess(source.resolve().name, guess, options.classes)
    labeled, rest, lost = pair_folders(images, masks, card)
    entries = [
        Entry(name=sample.name, image=sample.image, copies=sample.masks)
        for sample in (*labeled, *rest)
    ]
    return Source(
        card=card,
        entries=check_names(entries, images),
        notes=guess.reasons,
        skipped=tuple((path.name, "no image fits this mask") for path in lost),
    )


def read_table(source: Path, options: ReadOptions) -> Source:
    """Read a CSV of paths, as seen from its folder.

    The columns are `image` and `mask`, or `image` and one `mask/CLASS` a class (multilabel), and
    perhaps `split`: labeled (or train), unlabeled, val or test. Without a mask, an image is
    unlabeled.

    Raises:
        UserError: the table cannot be read, a column is missing, a file is not there, or the
            masks fit no task.
    """
    rows, columns = _rows(source)
    planes = [name for name in columns if name == MASK or name.startswith(f"{MASK}/")]
    if IMAGE not in columns or not planes or (MASK in planes and len(planes) > 1):
        raise UserError(
            f"{source} lacks a column",
            value=", ".join(columns),
            remedy=f"Needed, with commas between them, are {IMAGE}, and {MASK} or one "
            f"{MASK}/CLASS a class.",
        )
    classes = [name.removeprefix(f"{MASK}/") for name in planes if name != MASK]
    entries = [_entry(source, line, row, planes) for line, row in enumerate(rows, start=2)]
    masks = [path for entry in entries for path in entry.copies]
    if not masks:
        raise UserError(f"{source} names no masks", remedy="Fill the column of the masks.")
    if classes and options.task not in (None, "multilabel"):
        raise UserError(
            f"{source} has a column for each class, so its masks may overlap",
            value=f"task {options.task}",
            remedy=f"Choose multilabel, or give one column {MASK}.",
        )
    if classes:
        why = f"{source} has a column for each class: multilabel."
        guess = Guess(task="multilabel", classes=tuple(classes), ignore=None, reasons=(why,))
    else:
        task = _asked_task(options, several_folders=False)
        guess = guess_from_values(source, masks, task=task)
    card = card_of_guess(source.stem, guess, options.classes)
    kept = [planes.index(f"{MASK}/{name}") for name in card.classes] if classes else [0]
    chosen = [_planes(entry, kept) for entry in entries]
    return Source(
        card=card, entries=check_names(chosen, source), inputs=(source,), notes=guess.reasons
    )


def _asked_task(options: ReadOptions, *, several_folders: bool) -> TaskName | None:
    """Say the task where it is known: masks of 0 and 1 alone would be taken for binary."""
    if options.task is None and len(options.classes) > 1 and not several_folders:
        return "multiclass"
    return options.task


def _rows(source: Path) -> tuple[list[dict[str, str]], Sequence[str]]:
    if not source.is_file():
        raise UserError(f"{source} is not a file", remedy="Give the CSV file.")
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [
                {name.strip(): (cell or "").strip() for name, cell in row.items() if name}
                for row in reader
            ]
            columns = [name.strip() for name in reader.fieldnames or ()]
    except (UnicodeDecodeError, csv.Error, AttributeError) as error:
        raise UserError(f"{source} is no CSV file", value=error, remedy="Save it anew.") from error
    if not rows:
        raise UserError(f"{source} holds no rows", remedy="Write one row an image.")
    twice = [name for name, count in Counter(columns).items() if name and count > 1]
    if twice:
        raise UserError(
            f"{source} has columns of one name", value=shorten(twice), remedy="Keep one of them."
        )
    return rows, columns


def _entry(source: Path, line: int, row: Mapping[str, str], planes: Sequence[str]) -> Entry:
    cells = [row.get(name, "") for name in planes]
    if any(cells) and not all(cells):
        raise UserError(
            f"{source}, line {line}: some classes have no mask",
            value=shorten(name for name, cell in zip(planes, cells, strict=True) if not cell),
            remedy="Give all masks of an image or none; a class that does not occur has an "
            "empty one.",
        )
    image, *masks = [_file(source, line, cell) for cell in (row.get(IMAGE, ""), *cells) if cell]
    if not row.get(IMAGE):
        raise UserError(f"{source}, line {line}: there is no image", remedy="Give its path.")
    return Entry(
        name=entry_name(image.name),
        image=image,
        copies=tuple(masks),
        split=row.get(SPLIT) or None,
    )


def _file(source: Path, line: int, cell: str) -> Path:
    path = source.parent / cell
    if not path.is_file():
        raise UserError(
            f"{source}, line {line}: a file is missing",
            value=cell,
            remedy="Give its path from the table's folder, or an absolute one.",
        )
    return path


def _planes(entry: Entry, kept: Sequence[int]) -> Entry:
    copies = tuple(entry.copies[place] for place in kept) if entry.copies else ()
    return Entry(name=entry.name, image=entry.image, copies=copies, split=entry.split)
