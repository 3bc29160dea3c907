"""A review that is open: what the page asks for, and what it saves.

Everything lies in RUN/review: the decisions (see :mod:`imasks.data.decisions`) and, in
``predicted/``, what the networks said.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from imasks.data.card import read_labels
from imasks.data.checksum import digest_of
from imasks.data.decisions import Decision, Decisions, State
from imasks.data.files import Bytes, UnreadableFile, read_image, read_mask, safe_name
from imasks.data.prepare import Preparation, to_uint8
from imasks.runs.choice import Chosen
from imasks.runs.colors import as_rgb
from imasks.runs.predictions import INCONSISTENCY, MASKS
from imasks.tasks import Task

PREDICTED = "predicted"  # what the networks said; may be deleted


class Outdated(Exception):  # noqa: N818
    """A mask was accepted that is not the one the networks predict now; nothing was saved."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """An unlabeled image that can be reviewed.

    Args:
        name: of the image, by which decisions know it.
        path: of its file.
        page: of a stack, from 0; None: the file holds one image.
        result: path of its predictions without suffix, below each of their folders.
        height: pixels.
        width: pixels.
        im_share: share of the inconsistency mask.
        quality: the score to expect of the predicted mask, or None.
    """

    name: str
    path: Path
    page: int | None
    result: str
    height: int
    width: int
    im_share: float
    quality: float | None


@dataclass(frozen=True, kw_only=True)
class Session:
    """What the page asks for. Nothing that was decided is remembered: it is read from the disk.

    Args:
        folder: RUN/review.
        task: of the run.
        colors: of the classes, "#rrggbb" or empty.
        preparation: how the networks saw images; grey levels are shown alike.
        decisions: on the disk.
        items: in the order in which they should be seen.
        skipped: images that cannot be reviewed, with the reason.
        chosen: whose predictions they are.
    """

    folder: Path
    task: Task
    colors: tuple[str, ...]
    preparation: Preparation
    decisions: Decisions
    items: tuple[Item, ...]
    skipped: tuple[str, ...]
    chosen: Chosen

    @cached_property
    def by_name(self) -> Mapping[str, Item]:
        """Items by the names of their images."""
        return {item.name: item for item in self.items}

    def decision(self, item: Item) -> Decision:
        """What is on the disk about an image; version 0 if there is nothing."""
        return self.decisions.read(item.name) or Decision(name=item.name, image="")

    def predicted(self, item: Item) -> Bytes:
        """The mask that the networks predict, uint8 [P, H, W] in the internal encoding."""
        root, name = self.folder / PREDICTED / MASKS, f"{item.result}.png"
        multilabel = self.task.name == "multilabel"
        folders = map(safe_name, self.task.classes) if multilabel else (".",)
        card = replace(self.decisions.card, ignore=None)  # no prediction is ignored
        return read_labels([root / f / name for f in folders], card, (item.height, item.width))

    def shown(self, item: Item) -> tuple[Decision, Bytes]:
        """What is on the disk, and the mask to show: the person's if there is one."""
        decision = self.decision(item)
        if not decision.masks:
            return decision, self.predicted(item)
        try:
            return decision, self.decisions.read_mask(decision, (item.height, item.width))
        except UnreadableFile:
            if self.decision(item).version == decision.version:
                raise
            return self.shown(item)  # it was replaced just now

    def inconsistency(self, item: Item) -> Bytes:
        """The inconsistency mask, uint8 [H, W] of 0 and 1."""
        path = self.folder / PREDICTED / INCONSISTENCY / f"{item.result}.png"
        return (read_mask(path) > 0).astype(np.uint8)

    def picture(self, item: Item) -> bytes:
        """The image as PNG of 8 bits, for a browser."""
        prep = self.preparation
        pixels = read_image(item.path, page=item.page, pages=prep.pages)
        shown = to_uint8(pixels, prep, source=item.path)
        png = io.BytesIO()
        Image.fromarray(as_rgb(shown)).save(png, format="PNG", compress_level=1)
        return png.getvalue()

    def save(
        self, item: Item, *, base: int, state: State | None, labels: Bytes | None, seen: str | None
    ) -> Decision:
        """Save a decision.

        Args:
            item: the image.
            base: the version that the person saw.
            state: what was decided.
            labels: the mask if it was changed, uint8 [P, H, W] in the internal encoding.
            seen: the tag (see :func:`tag`) of the mask that is accepted unchanged.

        Raises:
            Stale: another version was saved in between.
            Outdated: the mask on the disk is not the one that was seen.
        """
        changed = None
        if labels is None and state == "accepted":
            _, labels = self.shown(item)
            if tag(labels) != seen:
                raise Outdated
        if labels is not None:
            changed = int((labels != self.predicted(item)).sum())
        return self.decisions.save(
            item.name,
            image=digest_of(item.path),
            base=base,
            state=state,
            labels=labels,
            changed=changed,
        )

    def counts(self) -> Mapping[str, int]:
        """How many of the items are in each state; "" stands for those that are open."""
        decided = self.decisions.read_all()
        states = [decided[item.name].state if item.name in decided else None for item in self.items]
        return Counter(state or "" for state in states)


def tag(labels: Bytes) -> str:
    """A short name of a mask's content."""
    return hashlib.blake2b(labels.tobytes(), digest_size=8).hexdigest()
