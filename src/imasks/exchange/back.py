"""Corrected masks come back: unlabeled images of a data folder become labeled pairs."""

from __future__ import annotations

import secrets
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imasks.data.card import CARD_NAME, Card, encode_mask, read_card, read_labels, shorten
from imasks.data.files import read_image, reason_of
from imasks.data.folder import Sample, list_images, scan, stem_of
from imasks.errors import UserError
from imasks.exchange.folder import plane_folders, write_planes
from imasks.exchange.sheets import INCONSISTENCY, Sheets, drawing, ignoring
from imasks.exchange.source import Draw, Drawn

FATES = ("labeled", "replaced", "unchanged")
WHAT_TO_DO = ("drop", "ignore")  # with pixels still marked as inconsistent


@dataclass(frozen=True, kw_only=True)
class BackOptions:
    """What a user may say about corrected masks.

    Args:
        overwrite: masks of images that are labeled already may be replaced.
        inconsistency: "drop": what is still marked as inconsistent is as the classes say;
            "ignore": it takes no part.
        dry: say what would be done, and do nothing.

    Raises:
        UserError: there is nothing of this kind to do with inconsistent pixels.
    """

    overwrite: bool = False
    inconsistency: str = "drop"
    dry: bool = False

    def __post_init__(self) -> None:
        if self.inconsistency not in WHAT_TO_DO:
            raise UserError(
                "inconsistent pixels cannot be treated so",
                value=self.inconsistency,
                remedy=f"Use {' or '.join(WHAT_TO_DO)}.",
            )


@dataclass(frozen=True, kw_only=True)
class Returned:
    """What became of corrected masks.

    Args:
        labeled: unlabeled images that are labeled now.
        replaced: labeled images whose masks were replaced.
        unchanged: labeled images that had the very same masks.
        notes: what was found and what was changed, in sentences.
        skipped: what was left out, each with the reason.
    """

    labeled: tuple[str, ...]
    replaced: tuple[str, ...]
    unchanged: tuple[str, ...]
    notes: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]


def bring_back(
    data: Path,
    corrected: Mapping[str, Draw],
    options: BackOptions,
    *,
    skipped: tuple[tuple[str, str], ...] = (),
    notes: tuple[str, ...] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> Returned:
    """Make labeled pairs of unlabeled images whose masks were corrected.

    All masks are drawn and checked before anything is changed. Then each takes its place, and
    its image moves from unlabeled/ to labeled/. Killed in between, the same call again does the
    rest: whoever reads the folder sees an image as unlabeled or as labeled, never without mask.

    Args:
        data: the data folder.
        corrected: image name -> how its masks are drawn.
        options: see `BackOptions`.
        skipped: of what was left out before.
        notes: of what was found before.
        on_progress: is called with (images drawn, images in all).

    Raises:
        UserError: the data folder is none, no name is one of its images, or labeled images have
            other masks and may not be replaced. Nothing was changed then.
    """
    card = read_card(data / CARD_NAME)
    splits, _ = scan(data, card)
    splits_of: defaultdict[str, list[tuple[str, Sample]]] = defaultdict(list)
    for split, samples in splits.items():
        for sample in samples:
            splits_of[sample.name].append((split, sample))
    places = {
        name: found[0]
        for name, found in splits_of.items()
        if len(found) == 1 and found[0][1].page is None
    }
    here = {name: draw for name, draw in corrected.items() if name in places}
    lost = [(name, _why_not(data, splits_of[name])) for name in corrected if name not in places]
    if corrected and not here:
        raise UserError(
            f"{data} has none of the images, or not by unique names",
            value=f"{lost[0][0]}: {lost[0][1]}",
            remedy="Give the data folder whose images were exported, each name once.",
        )
    staging = data / f".{secrets.token_hex(8)}.tmp"
    drawn: list[_Drawn] = []
    try:
        for done, (name, draw) in enumerate(sorted(here.items()), start=1):
            drawn.append(_stage(staging, name, *places[name], draw, card, options))
            if on_progress:
                on_progress(done, len(here))
        by_fate = {fate: tuple(o.name for o in drawn if o.fate == fate) for fate in FATES}
        if by_fate["replaced"] and not options.overwrite:
            raise UserError(
                f"{data}: images that are labeled already have other masks",
                value=shorten(by_fate["replaced"]),
                remedy="Take them out, or say --overwrite to replace their masks.",
            )
        if not options.dry:
            for name in (*by_fate["labeled"], *by_fate["replaced"]):
                _commit(data, staging, *places[name], card)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    counts = Counter(note for one in drawn for note in one.notes)
    known = sum(bool(places[name][1].masks) for name in by_fate["labeled"])
    if known:
        counts["true masks stay in unlabeled/masks, where nothing reads them any more"] = known
    return Returned(
        labeled=by_fate["labeled"],
        replaced=by_fate["replaced"],
        unchanged=by_fate["unchanged"],
        notes=(*notes, *(f"{count} {note}." for note, count in counts.items())),
        skipped=(*skipped, *lost, *((one.name, one.reason) for one in drawn if one.reason)),
    )


def corrected_by(
    found: Sheets, card: Card, *, empty: bool
) -> tuple[dict[str, Draw], tuple[tuple[str, str], ...]]:
    """Turn shapes into masks of a data folder's classes.

    Returns:
        Image name -> how its masks are drawn, and the images without any.

    Raises:
        UserError: a class is none of the card's.
    """
    allowed = {*card.classes, INCONSISTENCY}
    marks = [(one.image, shape.label) for one in found.sheets for shape in one.shapes]
    for image, label in marks:
        if label is not None and label not in allowed:
            raise UserError(
                f"{found.inputs[0]}: a shape in {image} has a class that the data folder lacks",
                value=label,
                remedy=f"Its classes are {', '.join(card.classes)}: rename the label.",
            )
    corrected: dict[str, Draw] = {}
    skipped = []
    for sheet in found.sheets:
        name = stem_of(Path(sheet.image.replace("\\", "/")))
        classes = [s.label for s in sheet.shapes if s.label not in (None, INCONSISTENCY)]
        if not classes and sheet.done is False:
            skipped.append((name, "nobody has annotated it; predictions do not count"))
        elif not classes and sheet.done is None and not empty:
            skipped.append((name, "it has no shapes; --empty takes it as showing no class"))
        elif name in corrected:
            raise UserError(
                f"{found.inputs[0]} names an image twice",
                value=name,
                remedy="Export images of one data folder, each once.",
            )
        else:
            corrected[name] = drawing(sheet, card)
    return corrected, tuple(skipped)


def _why_not(data: Path, found: Sequence[tuple[str, Sample]]) -> str:
    """Say why masks of a name cannot be taken: it is no image's, or several images bear it."""
    if not found:
        return f"{data} has no image of this name"
    if len(found) == 1:
        return "it is a page of a stack: save the pages as files of their own"
    return f"images in {' and '.join(split for split, _ in found)} have this name: rename one"


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """What became of one image: a fate of `FATES`, or the reason why it is left out."""

    name: str
    fate: str = ""
    reason: str = ""
    notes: tuple[str, ...] = ()


def _stage(
    staging: Path,
    name: str,
    split: str,
    sample: Sample,
    draw: Draw,
    card: Card,
    options: BackOptions,
) -> _Drawn:
    """Draw and check the masks of one image, and write them beside the data folder's own."""
    try:
        drawn = _checked(draw, sample, card, options)
    except UserError as error:
        return _Drawn(name=name, reason=reason_of(error))
    write_planes(staging, name, drawn.planes, card)
    fate = "replaced"
    if split == "unlabeled" or not sample.masks:
        fate = "labeled"
    elif _equal(sample, drawn.planes, card):
        fate = "unchanged"
    return _Drawn(name=name, fate=fate, notes=drawn.notes)


def _checked(draw: Draw, sample: Sample, card: Card, options: BackOptions) -> Drawn:
    """Draw the masks of one image, and see that they are what the data folder can hold."""
    H, W = read_image(sample.image, pages=card.pages).shape[:2]
    drawn = draw((H, W))
    planes = drawn.planes
    if options.inconsistency == "ignore" and drawn.im is not None:
        planes = ignoring(planes, drawn.im, card)
    encode_mask(list(planes), card, source=sample.image)
    return Drawn(planes=planes, notes=drawn.notes)


def _equal(sample: Sample, planes: NDArray[Any], card: Card) -> bool:
    try:
        there = read_labels(sample.masks, card, planes.shape[1:])
    except UserError:
        return False
    return np.array_equal(there, encode_mask(list(planes), card))


def _commit(data: Path, staging: Path, split: str, sample: Sample, card: Card) -> None:
    """Put the masks of one image into place, then the image."""
    target = "labeled" if split == "unlabeled" else split
    for sub in plane_folders(card):
        folder = data / target / "masks" / sub
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / f"{sample.name}.png"
        (staging / sub / new.name).replace(new)
        for old in list_images(folder)[0].get(sample.name, ()):
            if old != new and not (new.exists() and old.samefile(new)):
                old.unlink()  # of another format: a pair has one mask
    if split == "unlabeled":
        images = data / "labeled" / "images"
        images.mkdir(parents=True, exist_ok=True)
        sample.image.rename(images / sample.image.name)
