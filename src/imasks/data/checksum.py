"""A checksum of all that a data set says and holds, and which files made it another one."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TypeAlias

from imasks.data.card import CARD_NAME
from imasks.data.files import write_text
from imasks.data.folder import SPLITS, Dataset, Sample

_Entry: TypeAlias = list[object]
"""Of one file: size in bytes, time of last change in nanoseconds, digest."""


def checksum(dataset: Dataset, cache: Path | None, *, expected: str | None = None) -> str:
    """Digest the card and the bytes of every file, with its split, name and role.

    The card's name and colours and the folder's place do not enter, as no number depends on them;
    nor what run.toml holds itself.

    Args:
        dataset: what to digest.
        cache: a JSON file that remembers each file's digest by its path, size and time of last
            change, so that unchanged files are not read again; None: read all.
        expected: the cache is written only where the data have this checksum, or the one that
            the cache was written with: it tells what the data were, see `changed_files`.

    Returns:
        32 hexadecimal digits.
    """
    known, remembered = _read_cache(cache)
    found = _entries(dataset, known)
    total = hashlib.blake2b(digest_size=16)
    total.update(_card(dataset))
    for split, sample, role, path in _files(dataset):
        digest = found[_key(dataset, path)][2]
        total.update(json.dumps([split, sample.name, role, digest]).encode())
    result = total.hexdigest()
    if cache is not None and found != known and result in (expected, remembered):
        write_text(cache, json.dumps({"checksum": result, "files": found}))
    return result


def changed_files(dataset: Dataset, cache: Path) -> list[str]:
    """Name the files that are not as the cache of `checksum` remembers them.

    Returns:
        Paths inside the data folder, each with "(changed)", "(added)" or "(removed)", sorted;
        none if there is no cache.
    """
    known, _ = _read_cache(cache)
    if not known:
        return []
    found = _entries(dataset, known)
    changes = {path: "removed" for path in known if path not in found}
    changes |= {path: "added" for path in found if path not in known}
    changes |= {
        path: "changed"
        for path, entry in found.items()
        if path in known and entry[2] != known[path][2]
    }
    return [f"{path} ({change})" for path, change in sorted(changes.items())]


def _entries(dataset: Dataset, known: Mapping[str, _Entry]) -> dict[str, _Entry]:
    """Describe every file by its path inside the data folder, and what counts of the card."""
    card = hashlib.blake2b(_card(dataset), digest_size=16).hexdigest()
    entries: dict[str, _Entry] = {CARD_NAME: [0, 0, card]}
    for _, _, _, path in _files(dataset):
        key = _key(dataset, path)
        if key in entries:  # another page of a stack
            continue
        stat = path.stat()
        entry = known.get(key, [])
        if entry[:2] != [stat.st_size, stat.st_mtime_ns]:
            entry = [stat.st_size, stat.st_mtime_ns, digest_of(path)]
        entries[key] = entry
    return entries


def _card(dataset: Dataset) -> bytes:
    # what does not count is blanked, not left out: runs that have begun keep their checksums
    counts = {**asdict(dataset.card), "name": None, "colors": ()}
    if counts["pages"] == "images":
        del counts["pages"]  # likewise: cards once had no such key
    for key in ("ladder", "points", "weights", "scored"):  # newer than these checksums
        del counts[key]
    return json.dumps(counts, sort_keys=True).encode()


def _files(dataset: Dataset) -> Iterator[tuple[str, Sample, str, Path]]:
    for split in SPLITS:
        for sample in dataset.splits[split]:
            yield split, sample, "image", sample.image
            for plane, path in enumerate(sample.masks):
                yield split, sample, f"mask {plane}", path


def _key(dataset: Dataset, path: Path) -> str:
    if dataset.review is not None and path.is_relative_to(dataset.review.folder):
        # a run reads them from its own copy, which is laid out alike
        return f"(review) {path.relative_to(dataset.review.folder).as_posix()}"
    inside = path.is_relative_to(dataset.folder)
    return (path.relative_to(dataset.folder) if inside else path).as_posix()


def digest_of(path: Path) -> str:
    """Digest one file's bytes: 32 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _read_cache(path: Path | None) -> tuple[dict[str, _Entry], str | None]:
    """Read the remembered files and their checksum; an unreadable memory is an empty one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path else {}
        return dict(content["files"]), str(content["checksum"])
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return {}, None
