"""Writing a data folder so that it is complete or absent, and so that a stop loses little.

Everything is written into a hidden folder beside the one wanted, which gets its name when all is
done. A journal there says what is finished, so that the same command goes on where it was.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imasks.data.card import CARD_NAME, Card, shorten, write_card
from imasks.data.files import ordered
from imasks.errors import UserError
from imasks.prepare.source import Pair, check_outside
from imasks.prepare.staged import (
    LOCK,
    already,
    check_same,
    not_ours,
    read_mark,
    staged,
    write_mark,
)

JOURNAL = ".journal.jsonl"

Record = dict[str, Any]
Records = Mapping[str, Record]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What there is to do.

    Args:
        name: of the preparer.
        source: the folder that holds all files.
        settings: everything but the files that the result depends on, as plain JSON.
        pairs: what is prepared, each from its own files.
        make: writes the files of one pair below a folder, in any thread, and says in plain JSON
            what there is to know of them; under "files" their paths inside the folder.
        finish: is called with all records, by `key_of` their pairs; gives the card and what there
            is to tell in sentences. Files that it takes out of a record are deleted.
    """

    name: str
    source: Path
    settings: Mapping[str, Any]
    pairs: Sequence[Pair]
    make: Callable[[Pair, Path], Record]
    finish: Callable[[Records], tuple[Card, Sequence[str]]]


def key_of(pair: Pair) -> str:
    """What a pair is called in records."""
    return f"{pair.split}/{pair.name}"


def write_folder(out: Path, work: Work, on_progress: Callable[[int, int], None]) -> tuple[str, ...]:
    """Make the data folder, or go on making it, or find it made.

    Returns:
        What there is to tell, in sentences.

    Raises:
        UserError: `out` lies in the source or holds something else, another process is at it, or a
            file cannot be used.
    """
    check_outside(out, [work.source])
    stamps = {key_of(pair): _stamp(pair) for pair in work.pairs}
    if len(stamps) < len(work.pairs):
        raise UserError("two images would get one name", remedy="Rename one of them.")
    whole = _digest([work.name, work.settings, sorted(stamps.items())])
    if (told := _made_before(out, work, whole)) is not None:
        return (already(out), *told)
    with staged(out, word="preparing") as partial:
        records = _fill(partial, work, stamps, on_progress)
        card, sentences = work.finish(records)
        _sweep(partial, records)
        write_card(card, partial / CARD_NAME)
        mark = {"prepared": work.name, "settings": work.settings, "files": whole}
        write_mark(partial, {**mark, "told": list(sentences)})
    (out / JOURNAL).unlink()
    return tuple(sentences)


def _made_before(out: Path, work: Work, whole: str) -> Sequence[str] | None:
    """What was told when `out` was made of the same; None if there is nothing yet."""
    if (mark := read_mark(out)) is None:
        return None
    try:
        made, told = mark["files"], [str(line) for line in mark["told"]]
        differs = _differences({"of": mark["prepared"], **mark["settings"]}, work)
    except (KeyError, TypeError) as error:
        raise not_ours(out) from error
    if made != whole:
        others = "other files: names, sizes or times differ"
        check_same(out, [shorten(differs) or others])
    return told


def _differences(before: Record, work: Work) -> list[str]:
    """Name the settings that are not as they were."""
    # as JSON gives them back, which knows no tuples
    now = json.loads(json.dumps({"of": work.name, **work.settings}))
    changed = {
        key: (before.get(key), now.get(key))
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    }
    return [
        key if list in map(type, both) else f"{key} was {both[0]}, is {both[1]}"
        for key, both in changed.items()
    ]


def _fill(
    partial: Path,
    work: Work,
    stamps: Mapping[str, str],
    on_progress: Callable[[int, int], None],
) -> Records:
    """Make what the journal does not name yet."""
    records = _read_journal(partial, work, stamps)
    left = [pair for pair in work.pairs if key_of(pair) not in records]
    on_progress(len(records), len(work.pairs))
    with (partial / JOURNAL).open("a", encoding="utf-8") as journal:
        made = ordered(lambda pair: work.make(pair, partial), left)
        for pair, record in zip(left, made, strict=True):
            key = key_of(pair)
            records[key] = record
            line = {"item": key, "stamp": stamps[key], "record": record}
            journal.write(json.dumps(line) + "\n")
            journal.flush()
            on_progress(len(records), len(work.pairs))
    # in the order of the pairs, whatever was made when
    return {key_of(pair): records[key_of(pair)] for pair in work.pairs}


def _read_journal(partial: Path, work: Work, stamps: Mapping[str, str]) -> dict[str, Record]:
    """Read what is finished; what was begun of other files or settings is thrown away."""
    version = importlib.metadata.version("imasks")
    began = _digest([version, work.name, work.settings, sorted(stamps)])
    path = partial / JOURNAL
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    entries = []
    for line in lines[:-1]:  # the last is empty, or was being written when the process was killed
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    if (
        entries
        and entries[0] == {"began": began}
        and all(stamps[entry["item"]] == entry["stamp"] for entry in entries[1:])
    ):
        path.write_bytes(b"".join(json.dumps(entry).encode() + b"\n" for entry in entries))
        return {entry["item"]: entry["record"] for entry in entries[1:]}
    for old in partial.iterdir():
        if old.is_dir():
            shutil.rmtree(old)
        elif old.name != LOCK:
            old.unlink()
    path.write_text(json.dumps({"began": began}) + "\n", encoding="utf-8")
    return {}


def _sweep(partial: Path, records: Records) -> None:
    """Delete files that no record names, such as those of a file that was replaced meanwhile."""
    named = {partial / name for record in records.values() for name in record["files"]}
    for path in sorted(partial.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in named and path.parent != partial:
            path.unlink()


def _stamp(pair: Pair) -> str:
    """Recognise the files of a pair by name, size and time of last change."""
    stats = [(path.name, path.stat()) for path in pair.files]
    return _digest([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])


def _digest(value: object) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()
