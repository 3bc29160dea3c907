"""Write a source as a data folder: resumable, and never taken for finished before it is."""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from imasks.data.card import CARD_NAME, Card, encode_mask, read_labels, shorten, write_card
from imasks.data.files import atomic, ordered, read_image, reason_of, write_png, write_text
from imasks.data.folder import SPLITS, nfc, visible
from imasks.errors import UserError
from imasks.exchange.source import Entry, Source
from imasks.prepare.staged import already, check_same, not_ours, read_mark, staged, write_mark
from imasks.runs.colors import default_colors

DONE, KEY = "done", "import.json"  # in the unfinished folder: what is written, and of what
DEPENDS = {  # parts of what a finished folder is known by, in words
    "card": "classes or task differ",
    "asked": "wishes differ",
    "splits": "images or splits differ",
    "inputs": "annotation files differ",
    "files": "images or masks differ",
}
WORDS = {  # what others call the splits
    **{name: name for name in SPLITS},
    **dict.fromkeys(("train", "training", "labelled"), "labeled"),
    **dict.fromkeys(("valid", "validation", "dev"), "val"),
    "testing": "test",
    "unlabelled": "unlabeled",
}


@dataclass(frozen=True, kw_only=True)
class Shares:
    """How the annotated images are shared among the splits.

    Args:
        val_share: share of them that is put into val/; 0: `imasks train` takes a fifth itself.
        test_share: likewise, test/.
        seed: of the draw.
        given: a CSV file of the columns name and split; names are those of the data folder.

    Raises:
        UserError: a share is out of range.
    """

    val_share: float = 0.0
    test_share: float = 0.0
    seed: int = 0
    given: Path | None = None

    def __post_init__(self) -> None:
        for name in ("val_share", "test_share"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(
                    f"{name} is out of range",
                    value=getattr(self, name),
                    remedy="Allowed: 0 <= share < 1.",
                )
        if self.val_share + self.test_share >= 1:
            raise UserError(
                "val_share and test_share leave nothing to train on",
                value=f"{self.val_share} + {self.test_share}",
                remedy="Lower one of them.",
            )


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What became of a source.

    Args:
        counts: images of every split.
        notes: what was found and what was changed, in sentences.
        skipped: what was left out, each with the reason.
    """

    counts: Mapping[str, int]
    notes: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]


def write_folder(
    out: Path,
    source: Source,
    shares: Shares,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Imported:
    """Write a data folder, or go on with one that was stopped.

    Images are copied byte for byte, and so are masks that fit as they are. All is written into a
    hidden folder beside `out`, which takes its name when it is complete. An image that cannot be
    read, or whose masks cannot be drawn, is left out and reported.

    Args:
        out: the folder to make. It must not exist or be empty; where it was made of the same, it is
            left as it is.
        source: what a reader gave.
        shares: how the splits are drawn.
        on_progress: is called with (images done, images in all).

    Raises:
        UserError: `out` is in use or made by another process, a split is unknown, or no labeled
            image is left.
    """
    splits = assign(source.entries, shares)
    identity = {"splits": splits, **_identity(source)}
    if (made := _made_before(out, identity)) is not None:
        return made
    with staged(out, word="importing") as temp:
        made = _fill(temp, source, identity, on_progress)
        write_mark(temp, {"own": _digests(identity), **asdict(made)})
        write_card(source.card, temp / CARD_NAME)
        shutil.rmtree(temp / DONE)
        (temp / KEY).unlink()
    return made


def _fill(
    temp: Path,
    source: Source,
    identity: Mapping[str, Any],
    on_progress: Callable[[int, int], None] | None,
) -> Imported:
    _begin(temp, identity)
    card, splits = source.card, identity["splits"]
    tasks = [(entry, splits[entry.name]) for entry in source.entries]
    records = []
    for done, record in enumerate(ordered(partial(_write, temp, card), tasks), start=1):
        records.append(record)
        if on_progress:
            on_progress(done, len(tasks))
    skipped = [
        (entry.image.name, record["skipped"])
        for entry, record in zip(source.entries, records, strict=True)
        if record["skipped"]
    ]
    kept = Counter(
        split for (_, split), one in zip(tasks, records, strict=True) if not one["skipped"]
    )
    if not kept["labeled"]:
        shutil.rmtree(temp)
        raise _nothing_left(skipped)
    return Imported(
        counts={split: kept[split] for split in SPLITS if kept[split]},
        notes=(*source.notes, *_count_notes(records)),
        skipped=(*source.skipped, *skipped),
    )


def _made_before(out: Path, identity: Mapping[str, Any]) -> Imported | None:
    """What was told when `out` was made of the same; None if there is nothing yet.

    Raises:
        UserError: `out` holds something else, or was made of something else.
    """
    if (mark := read_mark(out)) is None:
        return None
    try:
        before: dict[str, str] = dict(mark["own"])
        made = Imported(
            counts=mark["counts"],
            notes=(already(out), *mark["notes"]),
            skipped=tuple((name, reason) for name, reason in mark["skipped"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise not_ours(out) from error
    now = _digests(identity)
    check_same(out, [DEPENDS[key] for key in DEPENDS if before.get(key) != now[key]])
    return made


def _digests(identity: Mapping[str, Any]) -> dict[str, str]:
    """Digest what a finished folder depends on, part by part; not by what version it was made."""
    return {
        key: hashlib.blake2b(
            json.dumps(identity[key], sort_keys=True).encode(), digest_size=16
        ).hexdigest()
        for key in DEPENDS
    }


def _nothing_left(skipped: Sequence[tuple[str, str]]) -> UserError:
    """Say why there is no labeled image: what was left out comes before what may be missing."""
    what = "no labeled image is left for training"
    remedy = "Annotate more images, or lower the shares of val and test."
    if not skipped:
        return UserError(what, remedy=remedy)
    name, reason = skipped[0]
    value = f"{len(skipped)} left out, the first: {name}: {reason}"
    return UserError(what, value=value, remedy=f"Correct what was left out. {remedy}")


def assign(entries: Sequence[Entry], shares: Shares) -> dict[str, str]:
    """Give every image its split: as given, or drawn by the seed among the annotated ones.

    Images without masks are unlabeled. The draw depends on the names alone.

    Raises:
        UserError: a split is unknown, or the file of splits names an image that is not there.
    """
    given = {entry.name: entry.split for entry in entries if entry.split is not None}
    if shares.given is not None:
        given |= _given(shares.given, {entry.name for entry in entries})
    splits = {entry.name: "labeled" if entry.annotated else "unlabeled" for entry in entries}
    annotated = {entry.name for entry in entries if entry.annotated}
    for name, word in given.items():
        if word.strip().lower() not in WORDS:
            raise UserError(
                f"the split of {name} is unknown",
                value=word,
                remedy=f"Use {', '.join(SPLITS)}.",
            )
        if name in annotated:
            splits[name] = WORDS[word.strip().lower()]
    free = sorted(annotated - given.keys())
    mixed = random.Random(shares.seed).sample(free, len(free))
    for split, share in (("test", shares.test_share), ("val", shares.val_share)):
        count = max(1, round(share * len(free))) if share and free else 0
        for name in mixed[:count]:
            splits[name] = split
        del mixed[:count]
    return splits


def card_colors(card: Card) -> list[tuple[int, int, int]] | None:
    """Return the palette of multiclass mask files, 256 colours; None for other tasks.

    Ids of more than 8 bits have no palette.
    """
    if card.task != "multiclass" or (card.ignore or 0) > 255:
        return None
    own = [tuple(bytes.fromhex(color[1:])) for color in card.colors]
    colors = own or [tuple(color) for color in default_colors(len(card.classes)).tolist()]
    white = (255, 255, 255)
    return [(r, g, b) for r, g, b in (*colors, *[white] * (256 - len(colors)))]


def write_planes(folder: Path, name: str, planes: NDArray[Any], card: Card) -> list[Path]:
    """Write the masks of one image, [P,H,W] in the values of mask files, below a folder `masks`.

    Returns:
        The files, one a plane.
    """
    places = [folder / sub / f"{name}.png" for sub in plane_folders(card)]
    for path, plane in zip(places, planes, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, plane, card_colors(card))
    return places


def plane_folders(card: Card) -> tuple[str, ...]:
    """Name the sub-folders of `masks`: one a class for multilabel."""
    return card.classes if card.task == "multilabel" else (".",)


def _given(path: Path, names: set[str]) -> dict[str, str]:
    if not path.is_file():
        raise UserError(f"{path} is not a file", remedy="Give a CSV of the columns name and split.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns, rows = list(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV file", value=error, remedy="Save it anew.") from error
    if not {"name", "split"} <= set(columns):
        raise UserError(
            f"{path} lacks a column",
            value=", ".join(columns),
            remedy="Write the columns name and split.",
        )
    found: dict[str, str] = {}
    strange = []
    for row in rows:
        given, split = nfc(row["name"] or ""), row["split"] or ""
        name = given if given in names else Path(given).stem
        if name not in names:
            strange.append(given)
        elif found.setdefault(name, split) != split:
            raise UserError(
                f"{path} gives {name} two splits",
                value=f"{found[name]}, {split}",
                remedy="Keep one of the lines.",
            )
    if strange:
        raise UserError(
            f"{path} names images that are not there",
            value=shorten(strange),
            remedy="Use the images' file names.",
        )
    return found


def _identity(source: Source) -> dict[str, Any]:
    """Describe all that the folder's content depends on, to be compared as JSON."""
    card = asdict(source.card)

    def stamp(path: Path) -> list[Any]:
        stat = path.stat()
        return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]

    files = [
        [entry.name, entry.annotated, *map(stamp, (entry.image, *entry.copies, *entry.sources))]
        for entry in source.entries
    ]
    return {
        "version": importlib.metadata.version("imasks"),
        "card": card,
        "asked": source.asked,
        "inputs": [stamp(path) for path in source.inputs],
        "files": files,
    }


def _begin(temp: Path, identity: Mapping[str, Any]) -> None:
    """Make the unfinished folder; one that was begun of something else is made anew."""
    wanted = json.dumps(identity, sort_keys=True)
    key = temp / KEY
    if key.is_file() and key.read_text(encoding="utf-8") == wanted:
        return
    for old in visible(temp):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    (temp / DONE).mkdir()
    write_text(key, wanted)


def _write(temp: Path, card: Card, task: tuple[Entry, str]) -> dict[str, Any]:
    """Write one image with its masks, then a record of it; what has one is not written again."""
    entry, split = task
    record_file = temp / DONE / f"{entry.name}.json"
    if record_file.is_file():
        record: dict[str, Any] = json.loads(record_file.read_text(encoding="utf-8"))
        return record
    try:
        record = {"skipped": None, "notes": list(_write_masks(temp / split, card, entry))}
    except UserError as error:
        record = {"skipped": reason_of(error), "notes": []}
    else:
        image = temp / split / "images" / (entry.name + entry.image.suffix)
        _copy(entry.image, image)
    record_file.parent.mkdir(exist_ok=True)
    write_text(record_file, json.dumps(record))
    return record


def _write_masks(folder: Path, card: Card, entry: Entry) -> tuple[str, ...]:
    """Write the masks of an image that can be read; return notes."""
    H, W = read_image(entry.image).shape[:2]
    masks = folder / "masks"
    if entry.copies:
        read_labels(entry.copies, card, (H, W))
        for sub, path in zip(plane_folders(card), entry.copies, strict=True):
            _copy(path, masks / sub / (entry.name + path.suffix))
        return ()
    if entry.draw is None:
        return ()
    drawn = entry.draw((H, W))
    encode_mask(list(drawn.planes), card, source=entry.image)
    write_planes(masks, entry.name, drawn.planes, card)
    return drawn.notes


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic(target) as temp:
        shutil.copyfile(source, temp)


def _count_notes(records: Iterable[Mapping[str, Any]]) -> list[str]:
    counts = Counter(note for record in records for note in record["notes"])
    return [f"{count} {note}." for note, count in counts.items()]
