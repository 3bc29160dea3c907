"""Look through a whole data folder and report all that is wrong with it at once."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imasks.data.card import CARD_NAME, Card, read_card, read_labels
from imasks.data.files import ONE_DEPTH, Bytes, UnreadableFile, is_lossy, ordered, read_image
from imasks.data.folder import SPLITS, Finding, Level, Sample, scan
from imasks.data.prepare import ONE_KIND, decide_size
from imasks.data.small import Objects, objects_in, too_small
from imasks.encoding import IGNORE
from imasks.errors import UserError

Counts = NDArray[np.int64]
FEW_PIXELS, FEW_IMAGES = 0.01, 5  # below which a class counts as rare


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """What one split holds, as far as it can be read.

    Args:
        images: number of images, the unreadable included.
        masked: number of images whose masks were read.
        empty: number of those whose masks hold no class: all background, or all ignored.
        heights: smallest, median and largest in pixels; None where no image was read.
        widths: likewise.
        kinds: number of images of each kind, such as "uint8 RGB".
        pixel_shares: class -> share of the pixels that are not ignored, 0 to 1.
        image_counts: class -> number of images in which it occurs.
    """

    images: int
    masked: int
    empty: int
    heights: tuple[int, int, int] | None
    widths: tuple[int, int, int] | None
    kinds: Mapping[str, int]
    pixel_shares: Mapping[str, float]
    image_counts: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What a look through a data folder found.

    Args:
        folder: the data folder.
        card: its card.
        splits: "labeled", "unlabeled", "val" and "test" as they lie on the disk.
        findings: errors first, then warnings.
    """

    folder: Path
    card: Card
    splits: Mapping[str, SplitReport]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing stands in the way of training."""
        return all(finding.level != "error" for finding in self.findings)


def check_folder(
    folder: Path | str, *, on_progress: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Read every file of a data folder and collect all problems.

    Args:
        folder: the data folder.
        on_progress: is called with (images done, images in all).

    Raises:
        UserError: the card itself cannot be used; without it nothing else has a meaning.
    """
    folder = Path(folder)
    card = read_card(folder / CARD_NAME)
    splits, findings = scan(folder, card)
    tasks = [(split, sample) for split in SPLITS for sample in splits[split]]
    records: list[_Record] = []
    for record in ordered(partial(_look, folder, card), tasks):
        records.append(record)
        if on_progress:
            on_progress(len(records), len(tasks))
    by_split = {split: [each for each in records if each.split == split] for split in SPLITS}
    found = [
        *findings,
        *_problems(records),
        *_depths(records),
        *_channels(records),
        *_duplicates(records),
        *_small(records, card),
    ]
    reports = {split: _summarise(each, card) for split, each in by_split.items()}
    found += _classes(reports, card)
    return CheckReport(
        folder=folder,
        card=card,
        splits=reports,
        findings=tuple(sorted(found, key=lambda finding: finding.level)),
    )


class _Problem(NamedTuple):
    """One problem of one file; those that differ in the file alone become one finding."""

    level: Level
    what: str
    remedy: str
    file: str

    @classmethod
    def of(cls, level: Level, folder: Path, error: UnreadableFile) -> "_Problem":
        file = error.path.relative_to(folder).as_posix()
        detail = "" if error.value is None else f" ({error.value})"
        return cls(level, error.reason, error.remedy, file + detail)


@dataclass(frozen=True, kw_only=True)
class _Record:
    """What was seen of one sample.

    Args:
        split: where it lies.
        name: of the sample.
        size: height and width, if the image can be read.
        kind: depth and channels, likewise.
        digest: of the pixels, likewise.
        counts: pixels of each class, and those not ignored, if the masks can be read.
        objects: in the masks of labeled/, likewise.
        problems: what is wrong.
    """

    split: str
    name: str
    size: tuple[int, int] | None = None
    kind: str = ""
    digest: bytes = b""
    counts: tuple[Counts, Counts] | None = None
    objects: Objects | None = None
    problems: tuple[_Problem, ...] = ()


def _look(folder: Path, card: Card, task: tuple[str, Sample]) -> _Record:
    split, sample = task
    record = _Record(split=split, name=sample.name)
    problems: list[_Problem] = []
    shape: tuple[int, int] | None = None
    # Training leaves out unlabeled images and masks that it cannot use.
    level: Level = "warning" if split == "unlabeled" else "error"
    try:
        image = read_image(sample.image, page=sample.page, pages=card.pages)
    except UnreadableFile as error:
        problems.append(_Problem.of(level, folder, error))
    else:
        shape = (image.shape[0], image.shape[1])
        kind = f"{image.dtype} {channels_name(image.shape[2])}"
        digest = hashlib.blake2b(f"{kind} {shape}".encode() + image.tobytes()).digest()
        record = replace(record, size=shape, kind=kind, digest=digest)
    planes = []
    for path in sample.masks:
        try:
            planes.append(read_labels((path,), card, shape, page=sample.page))
        except UnreadableFile as error:
            problems.append(_Problem.of(level, folder, error))
        else:
            if is_lossy(path):
                reason = "is a mask compressed with loss; it is cut at half of 255"
                lossy = UnreadableFile(path, reason, remedy="Better save masks as PNG.")
                problems.append(_Problem.of("warning", folder, lossy))
    if planes and len(planes) == len(sample.masks):
        labels = np.concatenate(planes)
        objects = objects_in(labels, card) if split == "labeled" else None
        record = replace(record, counts=_count(labels, card), objects=objects)
    return replace(record, problems=tuple(problems))


def _count(labels: Bytes, card: Card) -> tuple[Counts, Counts]:
    """Count from [P,H,W] the pixels of each class and those not ignored, [K] each."""
    K = len(card.classes)
    valid = (labels != IGNORE).sum(axis=(1, 2))
    if card.task == "multiclass":
        return np.bincount(labels.ravel(), minlength=K + 1)[1 : K + 1], np.repeat(valid, K)
    return (labels == 1).sum(axis=(1, 2)), valid


def _summarise(records: Sequence[_Record], card: Card) -> SplitReport:
    sizes = np.array([record.size for record in records if record.size is not None])
    counts = [record.counts for record in records if record.counts is not None]
    pixels = np.array([count for count, _ in counts]).reshape(len(counts), len(card.classes))
    valid = np.array([each for _, each in counts]).reshape(pixels.shape)
    shares = pixels.sum(0) / np.maximum(1, valid.sum(0))
    return SplitReport(
        images=len(records),
        masked=len(counts),
        empty=int((pixels.sum(1) == 0).sum()),
        heights=_spread(sizes[:, 0]) if len(sizes) else None,
        widths=_spread(sizes[:, 1]) if len(sizes) else None,
        kinds=Counter(sorted(record.kind for record in records if record.kind)),
        pixel_shares=dict(zip(card.classes, shares.tolist(), strict=True)),
        image_counts=dict(zip(card.classes, (pixels > 0).sum(0).tolist(), strict=True)),
    )


def _spread(sides: NDArray[np.int64]) -> tuple[int, int, int]:
    return int(sides.min()), round(float(np.median(sides))), int(sides.max())


def _problems(records: Sequence[_Record]) -> Iterator[Finding]:
    """Join the problems that differ in the file alone."""
    files: defaultdict[tuple[Level, str, str], list[str]] = defaultdict(list)
    for record in records:
        for level, what, remedy, file in record.problems:
            files[level, what, remedy].append(file)
    for (level, what, remedy), listed in files.items():
        yield Finding(
            level=level, what=f"{len(listed)} x {what}", files=tuple(listed), remedy=remedy
        )


def channels_name(count: int) -> str:
    """Say of how many channels an image is."""
    return {1: "grey", 3: "RGB"}.get(count, f"{count} channels")


def _channels(records: Sequence[_Record]) -> Iterator[Finding]:
    """Find images whose channels cannot be brought to those of labeled/; grey and RGB can."""
    kinds = [(record, record.kind.split(" ", 1)[1]) for record in records if record.kind]
    kinds = [(record, "grey or RGB" if kind in ("grey", "RGB") else kind) for record, kind in kinds]
    labeled = Counter(kind for record, kind in kinds if record.split == "labeled")
    if not labeled:
        return
    common = labeled.most_common(1)[0][0]
    files: defaultdict[Level, list[str]] = defaultdict(list)
    for record, kind in kinds:
        if kind != common:
            level: Level = "warning" if record.split == "unlabeled" else "error"
            files[level].append(f"{record.split}/{record.name} ({kind})")
    for level, listed in files.items():
        what = f"{len(listed)} images have other channels than most of labeled/: {common}"
        yield Finding(level=level, what=what, files=tuple(listed), remedy=ONE_KIND)


def _depths(records: Sequence[_Record]) -> Iterator[Finding]:
    """Find images of another depth than most of labeled/, to which all others must be alike."""
    depths = [(record, record.kind.split()[0]) for record in records if record.kind]
    labeled = Counter(depth for record, depth in depths if record.split == "labeled")
    if not labeled:
        return
    common = labeled.most_common(1)[0][0]
    files: defaultdict[Level, list[str]] = defaultdict(list)
    for record, depth in depths:
        if depth != common:
            level: Level = "warning" if record.split == "unlabeled" else "error"
            files[level].append(f"{record.split}/{record.name} ({depth})")
    for level, listed in files.items():
        left_out = " As they are, they are left out of training." if level == "warning" else ""
        yield Finding(
            level=level,
            what=f"{len(listed)} images are of another depth than most of labeled/: {common}",
            files=tuple(listed),
            remedy=ONE_DEPTH + left_out,
        )


def _duplicates(records: Sequence[_Record]) -> Iterator[Finding]:
    """Find what stands in two splits: the same pixels, or at least the same name."""
    same_pixels: defaultdict[bytes, list[_Record]] = defaultdict(list)
    same_name: defaultdict[str, list[_Record]] = defaultdict(list)
    for record in records:
        same_name[record.name].append(record)
        if record.digest:
            same_pixels[record.digest].append(record)
    for what, groups in (
        ("the same image stands in several splits", list(same_pixels.values())),
        ("different images of several splits share a name", list(same_name.values())),
    ):
        by_name = what.startswith("different")
        files = [
            " = ".join(f"{each.split}/{each.name}" for each in group)
            for group in groups
            if len({each.split for each in group}) > 1
            and not (by_name and len({each.digest for each in group}) == 1)
        ]
        if files:
            remedy = "Keep each image in one split only, else scores look better than they are."
            yield Finding(level="warning", what=what, files=tuple(files), remedy=remedy)


def _small(records: Sequence[_Record], card: Card) -> Iterator[Finding]:
    """Find classes whose objects get lost at the size that training chooses by itself."""
    found = [record.objects for record in records if record.objects is not None]
    if not found:
        return
    try:
        _, fit, size = decide_size(card, [one.shape for one in found])
    except UserError as error:
        files = () if error.value is None else (str(error.value),)
        yield Finding(level="error", what=error.what, files=files, remedy=error.remedy)
        return
    if fit == "resize":
        yield from too_small(found, card.classes, size)


def _classes(reports: Mapping[str, SplitReport], card: Card) -> Iterator[Finding]:
    labeled = reports["labeled"]
    hint = f" Or is {card.ignore} really a value to ignore?" if card.ignore is not None else ""
    absent = tuple(name for name, count in labeled.image_counts.items() if count == 0)
    if labeled.masked and absent:
        yield Finding(
            level="error" if len(absent) == len(card.classes) else "warning",
            what="classes that never occur in labeled/ cannot be learnt",
            files=absent,
            remedy=f"Move images that show them into labeled/.{hint}",
        )
    yield from _rare(reports, card)
    empty = [f"{split}: {report.empty}" for split, report in reports.items() if report.empty]
    if empty:
        yield Finding(
            level="warning",
            what="there are images whose masks hold no class at all",
            files=tuple(empty),
            remedy=f"Nothing to do if these images really show none.{hint}",
        )


def _rare(reports: Mapping[str, SplitReport], card: Card) -> Iterator[Finding]:
    """Find labeled classes that may get lost, and those that no score will tell of."""
    labeled = reports["labeled"]
    few = min(FEW_IMAGES, labeled.masked / 3)
    shown = [name for name in card.classes if labeled.image_counts[name]]
    rare = [
        f"{name} ({labeled.pixel_shares[name]:.2%} in {labeled.image_counts[name]})"
        for name in shown
        if labeled.pixel_shares[name] < FEW_PIXELS or labeled.image_counts[name] < few
    ]
    if rare:
        yield Finding(
            level="warning",
            what="classes that cover few of the labeled pixels, or stand in few labeled images, "
            "are easily lost in training",
            files=tuple(rare),
            remedy="Label more images that show them; try --sampling balanced (few images) or "
            "--class-weights balanced (few pixels). Where one gets lost, the report says so.",
        )
    for split in ("val", "test"):
        absent = [name for name in shown if not reports[split].image_counts[name]]
        if absent and reports[split].masked:
            yield Finding(
                level="warning",
                what=f"classes that no image in {split}/ shows: its scores do not tell of them",
                files=tuple(absent),
                remedy=f"Move some images that show them into {split}/.",
            )
