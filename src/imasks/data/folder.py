"""The data folder: which images and masks each split holds, and a checksum of all of it."""

import hashlib
import json
import random
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from imasks.data.card import Card, read_card, shorten
from imasks.data.files import IMAGE_SUFFIXES, write_text
from imasks.errors import UserError

SPLITS = ("labeled", "unlabeled", "val", "test")
VAL_SHARE = 0.2
VAL_SEED = 42


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image and its masks.

    Args:
        name: the stem of the image file, in Unicode's composed form (NFC).
        image: the image file.
        masks: none; or one for binary and multiclass, one a class in the card's order for
            multilabel.
    """

    name: str
    image: Path
    masks: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data folder whose pairs are complete.

    Args:
        folder: where it is.
        card: what it is.
        splits: "labeled", "unlabeled", "val", "test" -> samples sorted by name, perhaps none.
        val_cut: the names that were taken from labeled/ for validation, as there is no val/.
        skipped: files that were left aside, each with the reason.
    """

    folder: Path
    card: Card
    splits: Mapping[str, tuple[Sample, ...]]
    val_cut: tuple[str, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something about a data folder that its owner should know.

    Args:
        level: an "error" stands in the way of training, a "warning" does not.
        what: what it is, with the split.
        files: the files or names concerned, perhaps none.
        remedy: what to do about it.
    """

    level: Literal["error", "warning"]
    what: str
    files: tuple[str, ...]
    remedy: str


def open_dataset(folder: Path | str) -> Dataset:
    """Read a data folder's card and list its pairs; no image is opened.

    Images and masks belong together by their stems. Where val/ holds no images, a fifth of
    labeled/ is taken for validation, always the same one.

    Raises:
        UserError: the card is wrong, there is nothing labeled, or pairs are incomplete or
            ambiguous.
    """
    folder = Path(folder)
    card = read_card(folder / "dataset.toml")
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
    """Divide samples in two by a fixed seed: (the rest, `share` of them but at least one)."""
    names = sorted(sample.name for sample in samples)
    cut = set(random.Random(VAL_SEED).sample(names, max(1, round(share * len(names)))))
    rest = tuple(sample for sample in samples if sample.name not in cut)
    return rest, tuple(sample for sample in samples if sample.name in cut)


def list_images(folder: Path) -> tuple[dict[str, tuple[Path, ...]], tuple[Path, ...]]:
    """List a folder's image files by stem (NFC), sorted, and whatever else lies there.

    Hidden files are passed over. A folder that does not exist is an empty one.
    """
    stems: defaultdict[str, list[Path]] = defaultdict(list)
    others: list[Path] = []
    for path in _visible(folder):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            stems[_nfc(path.stem)].append(path)
        else:
            others.append(path)
    return {stem: tuple(stems[stem]) for stem in sorted(stems)}, tuple(others)


def checksum(dataset: Dataset, cache: Path | None) -> str:
    """Digest the card and the bytes of every file, with its split, name and role.

    The card's name and the folder's place do not enter: a data set that is moved stays the same.

    Args:
        dataset: what to digest.
        cache: a JSON file that remembers each file's digest by its path, size and time of last
            change, so that unchanged files are not read again; None: read all.

    Returns:
        32 hexadecimal digits.
    """
    known: dict[str, list[object]] = _read_cache(cache) if cache else {}
    seen: dict[str, list[object]] = {}
    total = hashlib.blake2b(digest_size=16)
    total.update(json.dumps({**asdict(dataset.card), "name": None}, sort_keys=True).encode())
    for split, sample, role, path in _files(dataset):
        stat, key = path.stat(), str(path.resolve())
        entry = known.get(key, [])
        if entry[:2] != [stat.st_size, stat.st_mtime_ns]:
            entry = [stat.st_size, stat.st_mtime_ns, _digest(path)]
        seen[key] = entry
        total.update(json.dumps([split, sample.name, role, entry[2]]).encode())
    if cache and (merged := known | seen) != known:
        write_text(cache, json.dumps(merged))
    return total.hexdigest()


def _scan_split(folder: Path, split: str, card: Card) -> tuple[tuple[Sample, ...], list[Finding]]:
    images, others = list_images(folder / split / "images")
    masks, strange = _list_masks(folder / split / "masks", card)
    findings = _ambiguous(folder, [images, *masks])
    complete = {name for name in images if all(name in plane for plane in masks)}
    if split != "unlabeled":
        findings += _without_mask(split, images, masks, card)
    findings += _left_aside(folder, images, masks, (*others, *strange))
    samples = tuple(
        Sample(
            name=name,
            image=paths[0],
            masks=tuple(plane[name][0] for plane in masks) if name in complete else (),
        )
        for name, paths in images.items()
    )
    return samples, findings


_Listing = dict[str, tuple[Path, ...]]


def _list_masks(folder: Path, card: Card) -> tuple[list[_Listing], tuple[Path, ...]]:
    """List the mask files of each plane, and whatever else lies among them."""
    if card.task != "multilabel":
        listing, others = list_images(folder)
        return [listing], others
    found = {_nfc(path.name): path for path in _visible(folder)}
    planes = [list_images(found.pop(_nfc(name), folder / name)) for name in card.classes]
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
    folder: Path, images: _Listing, masks: list[_Listing], others: tuple[Path, ...]
) -> list[Finding]:
    alone = [
        path
        for listing in masks
        for name, paths in listing.items()
        if name not in images
        for path in paths
    ]
    found = [
        ("a mask without an image", alone, "Add the image, or delete the mask."),
        ("not an image file", others, f"Read are only {', '.join(IMAGE_SUFFIXES)}."),
    ]
    return [
        Finding(
            level="warning",
            what=what,
            files=tuple(_inside(folder, path) for path in paths),
            remedy=remedy,
        )
        for what, paths, remedy in found
        if paths
    ]


def _error(what: str, files: tuple[str, ...], remedy: str) -> Finding:
    return Finding(level="error", what=what, files=files, remedy=remedy)


def _visible(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _nfc(text: str) -> str:
    """Compose accents: some systems store them apart, so equal names would differ."""
    return unicodedata.normalize("NFC", text)


def _inside(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _files(dataset: Dataset) -> Iterator[tuple[str, Sample, str, Path]]:
    for split in SPLITS:
        for sample in dataset.splits[split]:
            yield split, sample, "image", sample.image
            for plane, path in enumerate(sample.masks):
                yield split, sample, f"mask {plane}", path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _read_cache(path: Path) -> dict[str, list[object]]:
    """Read the remembered digests; an unreadable memory is an empty one, as all can be redone."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
