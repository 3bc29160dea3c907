"""Is a source what it should be? Its tree beside the one expected, its pairs, its numbers."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from imasks.data.card import shorten
from imasks.data.folder import nfc, visible
from imasks.errors import UserError
from imasks.prepare.registry import About

DEPTH, MOST_FOLDERS, MOST_LINES = 4, 6, 40  # of a tree that is shown


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An image of a source with its masks.

    Args:
        split: where it goes: "labeled", "unlabeled", "val" or "test".
        name: what its files are called there.
        image: the image file.
        masks: the mask files.
    """

    split: str
    name: str
    image: Path
    masks: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """All files it is made of."""
        return (self.image, *self.masks)


def need_tree(source: Path, about: About, folders: Sequence[str]) -> None:
    """Make sure that a source has the folders of its data set.

    Raises:
        UserError: it has not; the expected tree stands beside the one found.
    """
    if not source.is_dir():
        raise UserError(
            f"{source} is not a folder",
            remedy="Extract the downloaded archives into one folder, and give that.",
        )
    missing = [folder for folder in folders if not (source / folder).is_dir()]
    if not missing:
        return
    near = [source.parent, *(path for path in visible(source) if path.is_dir())]
    right = next((at for at in near if all((at / folder).is_dir() for folder in folders)), None)
    if right:
        raise UserError(
            f"{source} is not the folder of {about.title}",
            value=f"missing: {shorten(missing)}",
            remedy=f"Give {right}: it has them.",
        )
    raise wrong_source(source, about, missing)


def check_outside(out: Path, sources: Iterable[Path]) -> None:
    """Make sure that a data folder is not made where its source is read.

    Raises:
        UserError: it would be.
    """
    place = out.resolve()
    for source in sources:
        if place.is_relative_to(source.resolve()):
            raise UserError(
                f"{out} lies in the source",
                value=source,
                remedy="Give a folder outside of it; a source is only read.",
            )


def wrong_source(source: Path, about: About, missing: Iterable[str]) -> UserError:
    """Say what a source lacks, with the tree expected beside the tree found."""
    expected, found = about.tree.splitlines(), tree(source)
    if len(found) > MOST_LINES:
        found[MOST_LINES:] = [f"... ({len(found) - MOST_LINES} more lines)"]
    width = max(map(len, ["expected", *expected]))
    rows = zip_longest(["expected", *expected], ["found", *found], fillvalue="")
    beside = "\n".join(f"  {left:<{width}}   {right}".rstrip() for left, right in rows)
    return UserError(
        f"{source} is not the whole of {about.title} as it is downloaded",
        value=f"missing: {shorten(missing)}",
        remedy=f"Complete it, or get the data set again: {about.where}\n{beside}",
    )


def tree(folder: Path, *, depth: int = DEPTH) -> list[str]:
    """Draw a folder as lines: its folders, and how many files of each kind they hold."""
    paths = visible(folder)
    kinds = Counter(path.suffix for path in paths if not path.is_dir())
    first = {suffix: next(p.name for p in paths if p.suffix == suffix) for suffix in kinds}
    lines = [
        first[suffix] if count == 1 else f"{first[suffix]} ... ({count} {suffix or 'files'})"
        for suffix, count in sorted(kinds.items())
    ]
    folders = [path for path in paths if path.is_dir()]
    for path in folders[:MOST_FOLDERS] if depth else []:
        lines.append(f"{path.name}/")
        lines += [f"  {line}" for line in tree(path, depth=depth - 1)]
    if len(folders) > MOST_FOLDERS:
        lines.append(f"... ({len(folders) - MOST_FOLDERS} more folders)")
    return lines or ["(nothing)"]


def matching(folder: Path, pattern: str) -> dict[str, Path]:
    """List files whose whole names fit a regular expression, by its first group; sorted.

    Raises:
        UserError: two files stand for the same name.
    """
    found: dict[str, Path] = {}
    for path in visible(folder):
        match = re.fullmatch(pattern, path.name)
        if match and path.is_file():
            name = nfc(match[1])
            if name in found:
                raise UserError(
                    f"two files in {folder} stand for {name}",
                    value=f"{found[name].name}, {path.name}",
                    remedy="Keep one of them.",
                )
            found[name] = path
    return found


def need_partners(
    images: Mapping[str, object], masks: Mapping[str, object], *, where: str
) -> list[str]:
    """Name images without a mask and masks without an image, as lines for `wrong_source`."""
    alone = sorted(images.keys() - masks.keys())
    lost = sorted(masks.keys() - images.keys())
    return [
        *(f"the mask of {where}/{name}" for name in alone),
        *(f"the image of {where}/{name}" for name in lost),
    ]


def need_number(found: int, official: int, *, what: str, subset: bool) -> list[str]:
    """Compare a number with the official one, as lines for `wrong_source`.

    Args:
        found: how many there are.
        official: how many there should be.
        what: of what.
        subset: fewer will do, but not none.
    """
    if found == official or (subset and found):
        return []
    more = "" if subset else "; --subset takes what is there"
    return [f"{what} ({found} of {official} found{more})"]


def draw(names: Iterable[str], share: float, seed: int) -> frozenset[str]:
    """Draw a share of names, at least one, by a seed alone.

    Raises:
        UserError: the share is not above 0 and at most 1, or the seed is negative.
    """
    if seed < 0:
        raise UserError("the seed is negative", value=seed, remedy="Use 0 or more.")
    if not 0 < share <= 1:
        raise UserError(
            "the labeled share is out of range", value=share, remedy="Use more than 0, up to 1."
        )
    pool = sorted(names)
    count = min(len(pool), max(1, round(share * len(pool))))
    return frozenset(random.Random(seed).sample(pool, count))
