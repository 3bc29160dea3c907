"""A checksum of all that a data set says and holds."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from imasks.data.files import write_text
from imasks.data.folder import SPLITS, Dataset, Sample


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
