"""Make a data folder from two plain folders, one of images and one of masks."""

import os
import secrets
import shutil
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imasks.data.card import CARD_NAME, MAX_CLASSES, Card, shorten, write_card
from imasks.data.files import is_lossy, ordered, read_mask
from imasks.data.folder import Sample, count_images, cut_off, list_images, nfc, visible
from imasks.encoding import TaskName
from imasks.errors import UserError

MASK_SUFFIXES = (
    *("_mask", "-mask", "_masks", "_segmentation", "-segmentation", "_seg"),
    *("_label", "-label", "_labels", "_gt", "-gt"),
)
_VOID = 255  # the field's usual value for pixels without a class


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What a folder of masks seems to hold.

    Args:
        task: "binary", "multiclass" or "multilabel".
        classes: names of sub-folders, or made-up names.
        ignore: the value of pixels without a class; None: there seems to be none.
        reasons: what the guess rests on, in sentences.
    """

    task: TaskName
    classes: tuple[str, ...]
    ignore: int | None
    reasons: tuple[str, ...]


def guess_task(mask_dir: Path, *, task: TaskName | None = None) -> Guess:
    """Guess the task from the layout and the values of all masks in a folder.

    Sub-folders mean multilabel. One value beside 0 means binary; small ids mean multiclass; 255
    beside them marks ignored pixels.

    Args:
        mask_dir: the folder of masks.
        task: if it is known, only the rest is guessed.

    Raises:
        UserError: there are no masks, one cannot be read, or their values fit no task.
    """
    _need_folder(mask_dir)
    folders = _class_folders(mask_dir)
    paths = [path for found in list_images(mask_dir)[0].values() for path in found]
    if task is None and folders and paths:
        remedy = "Say the task: multilabel reads the folders alone, the others the files alone."
        value = f"{paths[0].name}, {next(iter(folders))}/"
        raise UserError(f"{mask_dir} holds masks and folders", value=value, remedy=remedy)
    if task == "multilabel" or (task is None and folders):
        if not folders:
            remedy = "Put the masks of each class into a folder of the class's name."
            raise UserError(f"{mask_dir} holds no folders", remedy=remedy)
        why = f"{mask_dir} holds a folder for each class: multilabel."
        return Guess(task="multilabel", classes=tuple(folders), ignore=None, reasons=(why,))
    if not paths and folders:
        remedy = f"Give one of its folders, or say that the task is multilabel, not {task}."
        raise UserError(f"{mask_dir} holds no masks, only folders", remedy=remedy)
    if not paths:
        raise UserError(f"{mask_dir} holds no masks", remedy="Give the folder with the masks.")
    return guess_from_values(mask_dir, paths, task=task)


def guess_from_values(where: Path, paths: Sequence[Path], *, task: TaskName | None = None) -> Guess:
    """Guess a task of one mask an image from the values of all masks, see `guess_task`.

    Args:
        where: what an error names as their place.
        paths: the mask files, at least one.
        task: "binary" or "multiclass" if it is known.

    Raises:
        UserError: one cannot be read, or their values fit no task.
    """
    if task != "multiclass" and all(is_lossy(path) for path in paths):
        why = "All masks are compressed with loss, so only two values can be told apart: binary."
        return Guess(task="binary", classes=("foreground",), ignore=None, reasons=(why,))
    values = np.unique(np.concatenate(list(ordered(_values, paths)))).tolist()
    reasons = [f"The {len(paths)} masks hold the values {shorten(values)}."]
    ids = [value for value in values if value != _VOID]
    if task is None:
        task = _task_of(where, values, ids)
        binary = task == "binary"
        reasons.append("One value beside 0: binary." if binary else "Class ids: multiclass.")
    last = max(ids, default=0)
    ignored = _VOID in values and (task == "multiclass" or last == 1)
    if ignored:
        reasons.append(f"{_VOID} beside smaller ids marks pixels that take no part.")
    return Guess(
        task=task,
        classes=("foreground",)
        if task == "binary"
        else tuple(f"class_{index}" for index in range(last + 1)),
        ignore=_VOID if ignored else None,
        reasons=tuple(reasons),
    )


def init_folder(
    out: Path,
    *,
    images: Path,
    masks: Path,
    unlabeled: Path | None = None,
    task: TaskName | None = None,
    classes: Sequence[str] | None = None,
    test_share: float = 0.0,
    copy: bool = True,
) -> tuple[Card, tuple[str, ...]]:
    """Make a data folder; images with a mask become labeled, the others unlabeled.

    A mask belongs to the image of the same stem, or of the same stem without an ending such as
    `_mask` or `_segmentation`; it is renamed to the image's stem. No byte of a file is changed.
    The folder appears under its name only when it is complete.

    Args:
        out: the folder to make; it must not exist, or be empty.
        images: a folder of images.
        masks: a folder of masks, or of one folder a class for multilabel.
        unlabeled: a folder of further images without masks.
        task: None: guessed from the masks, see `guess_task`.
        classes: the names; None: from the folders, or made up.
        test_share: share of the labeled images that is put aside as test/, 0 to below 1.
        copy: copy the files; False links them (on the same disk), which takes no space.

    Returns:
        The card, and a summary in sentences.

    Raises:
        UserError: `out` is in use, a folder is missing, nothing fits together, names are
            ambiguous, or the card would not be valid.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not empty", remedy="Give a new folder.")
    if not 0 <= test_share < 1:
        raise UserError(
            "the test share is out of range", value=test_share, remedy="Allowed: 0 <= share < 1."
        )
    for folder in (images, masks, unlabeled):
        if folder is not None:
            _need_folder(folder)
    if images.samefile(masks):
        remedy = "Put the masks into a folder of their own."
        raise UserError("images and masks are the same folder", value=images, remedy=remedy)
    classes = [nfc(name) for name in classes or ()]
    if task is None and len(classes) > 1 and not _class_folders(masks):
        task = "multiclass"  # masks of 0 and 1 alone would be taken for binary
    guess = guess_task(masks, task=task)
    card = card_of_guess(out.resolve().name, guess, classes)
    labeled, rest, lost = pair_folders(images, masks, card)
    if unlabeled is not None:
        rest = _merge(rest, _images(unlabeled))
    test: tuple[Sample, ...] = ()
    if test_share > 0:
        labeled, test = cut_off(labeled, test_share)
    if not labeled:
        remedy = "Lower the test share, or label more images."
        raise UserError("no labeled image is left for training", remedy=remedy)
    splits = {"labeled": labeled, "unlabeled": rest, "test": test}
    _write(out, card, splits, shutil.copyfile if copy else os.link)
    lines = [*guess.reasons, f"Task: {card.task}; classes: {', '.join(card.classes)}."]
    if not classes and card.task != "multilabel":
        lines.append(f"The names of the classes are made up: change them in {CARD_NAME}.")
    lines.append(
        f"Pairs of image and mask: {len(labeled) + len(test)}; images without a mask: {len(rest)}."
    )
    lines += [f"{split}/: {len(samples)} images." for split, samples in splits.items() if samples]
    if lost:
        lines.append(f"Left out, as no image fits: {shorten(path.name for path in lost)}.")
    if strange := [path.name for path in list_images(images)[1]]:
        lines.append(f"Left out, as they are no images: {shorten(strange)}.")
    return card, tuple(lines)


def mask_owner(stem: str, names: Container[str]) -> str | None:
    """Find the image that a mask of this stem belongs to, by the names of the images."""
    shorter = [stem.removesuffix(suffix) for suffix in MASK_SUFFIXES]
    return next((each for each in (stem, *shorter) if each in names), None)


def pair_folders(
    images: Path, masks: Path, card: Card
) -> tuple[tuple[Sample, ...], tuple[Sample, ...], list[Path]]:
    """Bring the images and masks of two folders together by their names.

    Returns:
        The samples with masks, those without, and the masks that belong to no image.

    Raises:
        UserError: nothing fits together, or names are ambiguous.
    """
    all_images = _images(images)
    names = {sample.name for sample in all_images}
    folders = [masks]
    if card.task == "multilabel":
        found = _class_folders(masks)
        folders = [found[name] for name in card.classes]
    planes, lost = [], []
    for folder in folders:
        plane, unused = _match(folder, names)
        planes.append(plane)
        lost += unused
    some = {name for plane in planes for name in plane}
    partly = sorted(name for name in some if not all(name in plane for plane in planes))
    if partly:
        remedy = "Add the missing masks; a class that does not occur has an empty one."
        raise UserError(
            "some classes have no mask of an image", value=shorten(partly), remedy=remedy
        )
    if not some and lost:
        raise UserError(
            f"no mask in {masks} belongs to an image in {images} by its name",
            value=f"image {all_images[0].image.name}, mask {lost[0].name}",
            remedy="Give each mask the name of its image, perhaps with an ending such as _mask.",
        )
    if not some:
        raise UserError(f"{masks} holds no masks", remedy="Give the folder with the masks.")
    labeled = tuple(
        Sample(name=one.name, image=one.image, masks=tuple(plane[one.name] for plane in planes))
        for one in all_images
        if one.name in some
    )
    return labeled, tuple(one for one in all_images if one.name not in some), lost


def card_of_guess(name: str, guess: Guess, classes: Sequence[str]) -> Card:
    """Make the card of what masks were found to hold; `classes` are the user's own names.

    Raises:
        UserError: the names do not fit what was found.
    """
    if classes and guess.task == "multiclass" and len(classes) < len(guess.classes):
        remedy = f"Name {len(guess.classes)} classes, for the ids from 0 on."
        raise UserError("there are more ids than classes", value=list(classes), remedy=remedy)
    if classes and guess.task == "multilabel" and not set(classes) <= set(guess.classes):
        remedy = f"There are folders for {', '.join(guess.classes)}."
        raise UserError("not every class has a folder", value=list(classes), remedy=remedy)
    names = tuple(classes or guess.classes)
    return Card(name=name, task=guess.task, classes=names, ignore=guess.ignore)


def _task_of(where: Path, values: list[int], ids: list[int]) -> TaskName:
    last = max(ids, default=0)
    if sum(value != 0 for value in values) == 1 or last == 1:
        return "binary"
    if 1 < last < MAX_CLASSES and 2 * len(ids) > last:  # some ids may occur nowhere, not most
        return "multiclass"
    remedy = "Say the task, or save the masks with the ids 0, 1, 2, ... as values."
    raise UserError(f"the masks in {where} fit no task", value=shorten(values), remedy=remedy)


def _values(path: Path) -> NDArray[np.uint16]:
    count = count_images(path, "images")
    pages = [None] if count == 1 else range(count)
    values = [np.unique(read_mask(path, page=page)) for page in pages]
    return np.unique(np.concatenate(values)).astype(np.uint16)


def _match(folder: Path, names: set[str]) -> tuple[dict[str, Path], list[Path]]:
    """Find the image that each mask of a folder belongs to: (image name -> mask, unused masks)."""
    plane: dict[str, Path] = {}
    unused = []
    for stem, paths in list_images(folder)[0].items():
        name = mask_owner(stem, names)
        for path in paths:
            if name is None:
                unused.append(path)
            elif name in plane:
                value = f"{plane[name].name}, {path.name}"
                raise UserError(
                    f"two masks in {folder} fit {name}", value=value, remedy="Keep one of them."
                )
            else:
                plane[name] = path
    return plane, unused


def _images(folder: Path) -> tuple[Sample, ...]:
    found, _ = list_images(folder)
    doubles = [path.name for paths in found.values() if len(paths) > 1 for path in paths]
    if doubles:
        what = f"images in {folder} share one name, up to the ending"
        raise UserError(what, value=shorten(doubles), remedy="Keep one of each, or rename them.")
    if not found:
        raise UserError(f"{folder} holds no images", remedy="Give a folder of image files.")
    return tuple(Sample(name=name, image=paths[0]) for name, paths in found.items())


def _merge(first: tuple[Sample, ...], second: tuple[Sample, ...]) -> tuple[Sample, ...]:
    both = sorted({one.name for one in first} & {one.name for one in second})
    if both:
        what = "images without a mask and further unlabeled ones share names"
        raise UserError(what, value=shorten(both), remedy="Rename one of each.")
    return first + second


def _write(
    out: Path,
    card: Card,
    splits: Mapping[str, tuple[Sample, ...]],
    transfer: Callable[[Path, Path], object],
) -> None:
    """Fill a hidden folder beside `out` and rename it, so that `out` is complete or absent."""
    temp = out.resolve().with_name(f".{secrets.token_hex(8)}.tmp")
    planes = card.classes if card.task == "multilabel" else (".",)
    try:
        for split, samples in splits.items():
            if samples:
                (temp / split / "images").mkdir(parents=True)
                for plane in planes[: len(samples[0].masks)]:
                    (temp / split / "masks" / plane).mkdir(parents=True)
            for sample in samples:
                file = sample.name + sample.image.suffix
                transfer(sample.image, temp / split / "images" / file)
                for plane, mask in zip(planes, sample.masks, strict=False):
                    transfer(mask, temp / split / "masks" / plane / (sample.name + mask.suffix))
        write_card(card, temp / CARD_NAME)
        if out.exists():
            out.rmdir()  # it is empty
        temp.rename(out)
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _class_folders(folder: Path) -> dict[str, Path]:
    return {nfc(path.name): path for path in visible(folder) if path.is_dir()}


def _need_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder", remedy="Give an existing folder.")
