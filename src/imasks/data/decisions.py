"""What a person decided about unlabeled images: one small file an image, beside its mask.

    review.json                    what the data set was: task, classes, ignore value
    decisions/NAME.json            the decision, its version, and which mask files belong to it
    masks/NAME.v3.png              binary and multiclass, in the encoding of the data folder
    masks/CLASS/NAME.v3.png        multilabel

A mask is written before the decision that names it and carries that decision's version, so a kill
at any moment leaves the old pair or the new one.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from filelock import FileLock
from PIL import Image

from imasks.data.card import Card, read_labels
from imasks.data.files import Bytes
from imasks.data.folder import nfc, visible
from imasks.encoding import IGNORE
from imasks.errors import UserError
from imasks.jobs import write_atomic

State = Literal["accepted", "rejected", "to_label"]
STATES: tuple[State, ...] = get_args(State)
HEAD, DECISIONS, MASKS, LOCK = "review.json", "decisions", "masks", ".lock"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What was decided about one image.

    Args:
        name: of the image, as in the data folder.
        image: digest of the image file that was looked at.
        version: 1 for the first save, one more with each; 0: never saved.
        state: "accepted", "rejected", "to_label", or None while the mask is only being corrected.
        masks: files inside the review folder, one, or one a class for multilabel; perhaps none.
        changed: pixels (of all planes) in which the mask differs from the prediction.
        time: of the save, UTC.
    """

    name: str
    image: str
    version: int = 0
    state: State | None = None
    masks: tuple[str, ...] = ()
    changed: int = 0
    time: str = ""


class Stale(Exception):  # noqa: N818
    """A save that knew an older version than the one on the disk; nothing was written.

    Args:
        there: the decision on the disk.
    """

    def __init__(self, there: Decision) -> None:
        self.there = there
        super().__init__(f"{there.name} is at version {there.version}")


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """The folder of a review. Everything is read from the disk anew: it may have other writers.

    Args:
        folder: where it is.
        card: of the data set.
    """

    folder: Path
    card: Card

    @classmethod
    def begin(cls, folder: Path, card: Card) -> "Decisions":
        """Open a review to add to it; make it if it is not there.

        Raises:
            UserError: it is a review of another data set.
        """
        if not (folder / HEAD).exists():
            (folder / DECISIONS).mkdir(parents=True, exist_ok=True)
            write_atomic(folder / HEAD, _json(_head(card)))
        return cls.open(folder, card)

    @classmethod
    def open(cls, folder: Path, card: Card) -> "Decisions":
        """Open a review that is there.

        Raises:
            UserError: there is none, it cannot be read, or it is of another data set.
        """
        path = folder / HEAD
        if not path.is_file():
            inside = folder / "review"
            remedy = "Give the folder `review` of a run that `imasks review` was used on."
            if (inside / HEAD).is_file():
                remedy = f"Give {inside}."
            raise UserError(f"{folder} is no review: {HEAD} is missing", remedy=remedy)
        there, wanted = _read(path), _head(card)
        if there != wanted:
            raise UserError(
                f"{folder} is a review of another data set",
                value="; ".join(
                    f"{key}: {there.get(key)} -> {wanted.get(key)}"
                    for key in dict.fromkeys((*there, *wanted))
                    if there.get(key) != wanted.get(key)
                ),
                remedy="Give the review of a run on this data set.",
            )
        return cls(folder=folder, card=card)

    def read(self, name: str) -> Decision | None:
        """Read what was decided about an image; None if nothing ever was.

        Raises:
            UserError: the file is damaged.
        """
        path = self._path(name)
        return _decision(path) if path.exists() else None

    def read_all(self) -> dict[str, Decision]:
        """Read all decisions by the image's name, sorted.

        Raises:
            UserError: a file is damaged.
        """
        files = [path for path in visible(self.folder / DECISIONS) if path.suffix == ".json"]
        found = [_decision(path) for path in files]
        return {one.name: one for one in sorted(found, key=lambda one: one.name)}

    def mask_paths(self, decision: Decision) -> tuple[Path, ...]:
        """Where the masks of a decision are."""
        return tuple(self.folder / mask for mask in decision.masks)

    def read_mask(self, decision: Decision, shape: tuple[int, int] | None) -> Bytes:
        """Read the mask of a decision, uint8 [P, H, W] in the internal encoding.

        Raises:
            UserError: a file is missing, damaged, or of another size than the image.
        """
        return read_labels(self.mask_paths(decision), self.card, shape)

    def save(
        self,
        name: str,
        *,
        image: str,
        base: int,
        state: State | None,
        labels: Bytes | None = None,
        changed: int | None = None,
    ) -> Decision:
        """Write one decision; it is on the disk when this returns.

        Args:
            name: of the image.
            image: digest of its file.
            base: the version that the person saw; 0: none.
            state: what was decided.
            labels: the mask, uint8 [P, H, W] in the internal encoding; None: it stays.
            changed: pixels in which the mask differs from the prediction; None: as before.

        Raises:
            Stale: someone else saved in between.
            ValueError: an image is accepted that has no mask.
        """
        with FileLock(self.folder / LOCK):
            there = self.read(name) or Decision(name=name, image=image)
            if there.version != base:
                raise Stale(there)
            version = base + 1
            masks = there.masks if labels is None else self._write_masks(name, version, labels)
            if state == "accepted" and not masks:
                raise ValueError(f"{name} is accepted without a mask")
            decision = Decision(
                name=name,
                image=image,
                version=version,
                state=state,
                masks=masks,
                changed=there.changed if changed is None else changed,
                time=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            path = self._path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, _json(asdict(decision)))
            for old in set(there.masks) - set(masks):
                (self.folder / old).unlink(missing_ok=True)
            return decision

    def _path(self, name: str) -> Path:
        return self.folder / DECISIONS / f"{name}.json"

    def _write_masks(self, name: str, version: int, labels: Bytes) -> tuple[str, ...]:
        multilabel = self.card.task == "multilabel"
        folders = self.card.classes if multilabel else (".",)
        planes = _to_files(labels, self.card)
        written = []
        for folder, plane in zip(folders, planes, strict=True):
            path = self.folder / MASKS / folder / f"{name}.v{version}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            png = io.BytesIO()
            Image.fromarray(plane).save(png, format="PNG")
            write_atomic(path, png.getvalue())
            written.append(path.relative_to(self.folder).as_posix())
        return tuple(written)


def _to_files(labels: Bytes, card: Card) -> np.ndarray:
    """Turn internal labels [P, H, W] into the values of mask files, the way back of reading."""
    if card.task == "multiclass":
        values = labels.astype(np.int64) - 1
    else:
        # any value but 0 and the ignored one is foreground
        values = labels.astype(np.int64) * (1 if card.ignore == 255 else 255)
    if (labels == IGNORE).any():
        if card.ignore is None:
            raise ValueError("the data set has no value for pixels that are ignored")
        values[labels == IGNORE] = card.ignore
    return values.astype(np.uint8 if values.max(initial=0) <= 255 else np.uint16)


def _head(card: Card) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "task": card.task,
        "classes": list(card.classes),
        "ignore": card.ignore,
    }


def _decision(path: Path) -> Decision:
    values = _read(path)
    try:
        decision = Decision(**{**values, "masks": tuple(cast("Sequence[str]", values["masks"]))})
    except (TypeError, KeyError) as error:
        raise _damaged(path, error) from error
    paths = [Path(mask) for mask in decision.masks]
    inside = not any(mask.is_absolute() or ".." in mask.parts for mask in paths)
    if decision.state not in (*STATES, None) or nfc(path.stem) != nfc(decision.name) or not inside:
        raise _damaged(path, "it does not say what this file should")
    return decision


def _read(path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if not isinstance(values, dict):
        raise _damaged(path, "no table")
    return values


def _damaged(path: Path, why: object) -> UserError:
    return UserError(
        f"{path} cannot be read",
        value=why,
        remedy="Restore it, or delete it and review the image again.",
    )


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()
