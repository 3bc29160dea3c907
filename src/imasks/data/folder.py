"""The data folder: which images and masks each split holds."""

import random
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from imasks.data.card import CARD_NAME, Card, read_card, shorten
from imasks.data.files import IMAGE_SUFFIXES, ordered
from imasks.data.tiff import Pages
from imasks.errors import UserError

SPLITS = ("labeled", "unlabeled", "val", "test")
STACK_SUFFIXES = (".tif", ".tiff")
VAL_SHARE = 0.2
VAL_SEED = 42

Level = Literal["error", "warning"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image and its masks.

    Args:
        name: the stem of the image file, in Unicode's composed form (NFC); for a page of a stack
            followed by "_page" and its number from 1.
        image: the image file.
        masks: none; or one for binary and multiclass, one a class in the card's order for
            multilabel.
        page: of image and masks, from 0; None: they are no stacks.
        apart: whether the masks are files of this page alone.
    """

    name: str
    image: Path
    masks: tuple[Path, ...] = ()
    page: int | None = None
    apart: bool = False

    @property
    def mask_page(self) -> int | None:
        """Page of the masks, from 0; None: they are no stacks."""
        return None if self.apart else self.page


@dataclass(frozen=True, kw_only=True)
class Review:
    """What a person's decisions made of the unlabeled images, see `imasks.data.reviewed`.

    Args:
        folder: of the decisions.
        digest: of the decisions that count and of their masks, wherever they lie.
        accepted: names of the images that became labeled.
        corrected: those of them whose masks the person changed.
        rejected: names of the images that were taken out.
        unused: names of decided images that are not among the unlabeled ones any more.
    """

    folder: str
    digest: str
    accepted: tuple[str, ...]
    corrected: tuple[str, ...]
    rejected: tuple[str, ...]
    unused: tuple[str, ...] = ()

    def __str__(self) -> str:
        corrected = f" ({len(self.corrected)} of them corrected)" if self.corrected else ""
        text = f"{len(self.accepted)} accepted{corrected}, {len(self.rejected)} rejected"
        if self.unused:
            text += f"; not used, as no longer in unlabeled/: {shorten(self.unused)}"
        return text


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data folder whose pairs are complete.

    Args:
        folder: where it is.
        card: what it is.
        splits: "labeled", "unlabeled", "val", "test" -> samples sorted by name, perhaps none.
        val_cut: the names that were taken from labeled/ for validation, as there is no val/.
        skipped: files that were left aside, each with the reason.
        review: the decisions that are part of the splits; None: they are as they lie there.
    """

    folder: Path
    card: Card
    splits: Mapping[str, tuple[Sample, ...]]
    val_cut: tuple[str, ...]
    skipped: tuple[str, ...]
    review: Review | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something about a data folder that its owner should know.

    Args:
        level: an "error" stands in the way of training, a "warning" does not.
        what: what it is, with the split.
        files: the files or names concerned, perhaps none.
        remedy: what to do about it.
    """

    level: Level
    what: str
    files: tuple[str, ...]
    remedy: str


def open_dataset(folder: Path | str) -> Dataset:
    """Read a data folder's card and list its pairs; no pixel is decoded.

    Images and masks belong together by their stems. A TIFF stack is as many images as it has
    pages, and its masks are stacks alike. Where val/ holds no images, a fifth of
    labeled/ is taken for validation, always the same one.

    Raises:
        UserError: the card is wrong, there is nothing labeled, or pairs are incomplete or
            ambiguous.
    """
    folder = Path(folder)
    card = read_card(folder / CARD_NAME)
    splits, findings = scan(folder, card)
    for finding in findings:
        if finding.level == "error":
            raise UserError(
                f"{folder}: {finding.what}", value=shorten(finding.files), remedy=finding.remedy
            )
    labeled, val = splits["labeled"], splits["val"]
    cut = not val
    if cut:
        labeled, val = cut_off(labeled, VAL_SHARE)
    return Dataset(
        folder=folder,
        card=card,
        splits={**splits, "labeled": labeled, "val": val},
        val_cut=tuple(sample.name for sample in val) if cut else (),
        skipped=tuple(f"{file} ({each.what})" for each in findings for file in each.files),
    )


def scan(folder: Path, card: Card) -> tuple[dict[str, tuple[Sample, ...]], tuple[Finding, ...]]:
    """List the samples of every split as they lie on the disk, and all that is wrong with them.

    Returns:
        split -> samples (those of incomplete pairs have no masks), and the findings.
    """
    splits: dict[str, tuple[Sample, ...]] = {}
    findings: list[Finding] = []
    for split in SPLITS:
        splits[split], found = _scan_split(folder, split, card)
        findings += found
    if not splits["labeled"]:
        remedy = "Put at least one image with its mask into labeled/images and labeled/masks."
        findings.insert(0, _error("labeled/images holds no images", (), remedy))
    elif len(splits["labeled"]) < 2 and not splits["val"]:
        remedy = "Label one more image, or give val/ images and masks of its own."
        what = "one labeled image cannot be shared between training and validation"
        findings.append(_error(what, (), remedy))
    return splits, tuple(findings)


def cut_off(
    samples: tuple[Sample, ...], share: float
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Divide samples in two by a fixed seed: (the rest, `share` of them but at least one).

    The pages of a stack stay together, as neighbours are much alike; of a single stack, the last
    pages are cut off.
    """
    stacks = sorted({_stack(sample) for sample in samples})
    if len(stacks) == 1:
        count = max(1, round(share * len(samples)))
        return samples[:-count], samples[-count:]
    cut = set(random.Random(VAL_SEED).sample(stacks, max(1, round(share * len(stacks)))))
    rest = tuple(sample for sample in samples if _stack(sample) not in cut)
    return rest, tuple(sample for sample in samples if _stack(sample) in cut)


def page_names(stem: str, count: int) -> list[str]:
    """Name the images of a file: by its stem, and by the number of the page if there are several.

    Args:
        stem: of the file's name.
        count: of the images in it.
    """
    if count == 1:
        return [stem]
    digits = len(str(count))
    return [f"{stem}_page{number:0{digits}}" for number in range(1, count + 1)]


def count_images(path: Path, pages: Pages) -> int:
    """Count the images in a file: the pages of a TIFF stack; 1 for any other file."""
    from imasks.data import tiff

    return tiff.count_images(path, pages) if path.suffix.lower() in STACK_SUFFIXES else 1


def _stack(sample: Sample) -> str:
    return sample.name if sample.page is None else stem_of(sample.image)


def list_images(folder: Path) -> tuple[dict[str, tuple[Path, ...]], tuple[Path, ...]]:
    """List a folder's image files by stem (NFC), sorted, and whatever else lies there.

    See `visible` for what is passed over.
    """
    stems: defaultdict[str, list[Path]] = defaultdict(list)
    others: list[Path] = []
    for path in visible(folder):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            stems[stem_of(path)].append(path)
        else:
            others.append(path)
    return {stem: tuple(stems[stem]) for stem in sorted(stems)}, tuple(others)


def visible(folder: Path) -> list[Path]:
    """List what is not hidden in a folder, sorted; a folder that does not exist is an empty one."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def stem_of(path: Path) -> str:
    """Name a file without its ending (.ome.tif is one), in Unicode's composed form (NFC)."""
    stem = path.stem
    if path.suffix.lower() in STACK_SUFFIXES and stem.lower().endswith(".ome"):
        stem = stem[: -len(".ome")]
    return nfc(stem)


def nfc(text: str) -> str:
    """Compose accents: some systems store them apart, so equal names would differ."""
    return unicodedata.normalize("NFC", text)


def _scan_split(folder: Path, split: str, card: Card) -> tuple[tuple[Sample, ...], list[Finding]]:
    images, others = list_images(folder / split / "images")
    masks, strange = _list_masks(folder / split / "masks", card)
    findings = _ambiguous(folder, [images, *masks])
    complete = {name for name in images if all(name in plane for plane in masks)}
    if split != "unlabeled":
        findings += _without_mask(split, images, masks, card)
    findings += _left_aside(folder, split, images, masks, (*others, *strange))
    files = [
        Sample(
            name=name,
            image=paths[0],
            masks=tuple(plane[name][0] for plane in masks) if name in complete else (),
        )
        for name, paths in images.items()
    ]
    samples = []
    for file, count, masks_count in ordered(partial(_count, card=card), files):
        if masks_count is not None:
            findings.append(_unequal(folder, split, file, count, masks_count))
        pages = enumerate(page_names(file.name, count))
        samples += [replace(file, name=n, page=p if count > 1 else None) for p, n in pages]
    samples.sort(key=lambda sample: sample.name)
    return tuple(samples), [*findings, *_same_name(split, samples)]


def _count(file: Sample, *, card: Card) -> tuple[Sample, int, int | None]:
    """Count the images in a file, and in its masks if that is another number (else None)."""
    count = count_images(file.image, card.pages)
    if count == 1:
        return file, count, None
    counts = [count_images(mask, "images") for mask in file.masks]
    return file, count, next((other for other in counts if other != count), None)


def _unequal(folder: Path, split: str, file: Sample, count: int, masks: int) -> Finding:
    level: Level = "warning" if split == "unlabeled" else "error"
    return Finding(
        level=level,
        what=f"a stack of {count} pages has masks of {masks}",
        files=(_inside(folder, file.image),),
        remedy='Give the masks one page for each of the image, or say pages = "channels" in '
        f"{CARD_NAME} if the pages are channels of one image.",
    )


def _same_name(split: str, samples: list[Sample]) -> list[Finding]:
    counts = Counter(sample.name for sample in samples)
    files = tuple(name for name, count in counts.items() if count > 1)
    what = f"a page of a stack and another image in {split}/ are both called so"
    return [_error(what, files, "Rename the other image.")] if files else []


_Listing = dict[str, tuple[Path, ...]]


def _list_masks(folder: Path, card: Card) -> tuple[list[_Listing], tuple[Path, ...]]:
    """List the mask files of each plane, and whatever else lies among them."""
    if card.task != "multilabel":
        listing, others = list_images(folder)
        return [listing], others
    found = {nfc(path.name): path for path in visible(folder)}
    planes = [list_images(found.pop(nfc(name), folder / name)) for name in card.classes]
    others = tuple(path for _, plane_others in planes for path in plane_others)
    return [listing for listing, _ in planes], (*found.values(), *others)


def _ambiguous(folder: Path, listings: list[_Listing]) -> list[Finding]:
    doubles = [paths for listing in listings for paths in listing.values() if len(paths) > 1]
    files = tuple(_inside(folder, path) for paths in doubles for path in paths)
    what = "several files share one name, up to the ending"
    return [_error(what, files, "Keep one of each, or rename them.")] if files else []


def _without_mask(split: str, images: _Listing, masks: list[_Listing], card: Card) -> list[Finding]:
    planes = [""]
    if card.task == "multilabel":
        planes = [f" for the class {name!r} in {split}/masks/{name}" for name in card.classes]
    findings = []
    for plane, listing in zip(planes, masks, strict=True):
        missing = tuple(name for name in images if name not in listing)
        if missing:
            what = f"{len(missing)} images of {split}/ have no mask{plane}"
            remedy = "Add the masks, or move the images to unlabeled/images."
            findings.append(_error(what, missing, remedy))
    return findings


def _left_aside(
    folder: Path, split: str, images: _Listing, masks: list[_Listing], others: tuple[Path, ...]
) -> list[Finding]:
    alone = [
        path
        for listing in masks
        for name, paths in listing.items()
        if name not in images
        for path in paths
    ]
    lost = [path for path in others if path.is_symlink() and not path.exists()]
    folders = [path for path in others if path.is_dir()]
    files = [path for path in others if path not in lost and path not in folders]
    found: list[tuple[Level, str, list[Path], str]] = [
        ("warning", "a mask without an image", alone, "Add the image, or delete the mask."),
        (
            "warning" if split == "unlabeled" else "error",
            "a link that leads nowhere",
            lost,
            "Bring back the file it led to, or delete the link.",
        ),
        (
            "warning",
            "a folder where files are expected",
            folders,
            "Only masks of a multilabel task lie in folders, which are named like its classes.",
        ),
        ("warning", "not an image file", files, f"Read are only {', '.join(IMAGE_SUFFIXES)}."),
    ]
    return [
        Finding(
            level=level,
            what=what,
            files=tuple(_inside(folder, path) for path in paths),
            remedy=remedy,
        )
        for level, what, paths, remedy in found
        if paths
    ]


def _error(what: str, files: tuple[str, ...], remedy: str) -> Finding:
    return Finding(level="error", what=what, files=files, remedy=remedy)


def _inside(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()
