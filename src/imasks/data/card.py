"""The card of a data set, `dataset.toml`: what its masks mean and how it wants to be trained.

Shape letters: P label planes (1 for binary and multiclass, one a class for multilabel), H height,
W width, K classes.
"""

import difflib
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from imasks.data.files import (
    MAX_CHANNELS,
    Bytes,
    UnreadableFile,
    is_lossy,
    read_mask,
    write_text,
)
from imasks.data.tiff import PAGES, Pages
from imasks.encoding import IGNORE, TaskName
from imasks.errors import UserError

FitName = Literal["auto", "resize", "tile"]

CARD_NAME = "dataset.toml"
MAX_CLASSES = 250  # uint8 labels also need an index for the inconsistency mask, and IGNORE
MAX_ID = 65535  # masks are read in 8 or 16 bits
CUT = 128  # lossy masks: at least this is foreground
WIDTHS = (1 / 16, 16.0)  # below 1/16 the first layer of the network has no channel left


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a data set is.

    Args:
        name: what tables and figures call it; a file without it takes the folder's name.
        task: "binary", "multiclass" or "multilabel".
        classes: the names; exactly one for binary, in the order of the ids for multiclass, the
            names of the mask folders for multilabel.
        size: (height, width) in pixels at which networks see the images; None: found from them.
        channels: how many networks see; None: found from the images.
        pages: what the pages of a TIFF stack are where it does not say so itself: "images" of
            their own, or "channels" of one image.
        ignore: the value in mask files that marks pixels which take no part; None: there is none.
        fit: "resize" whole images, cut them into a "tile" grid, or decide by their size: "auto".
        free_rotation: whether flips and quarter turns leave an image plausible; None: not said.
        colors: one "#rrggbb" a class for overlays, or empty for the default colours.
        width: width factor of the network; None: the preset's.
        ladder: whose noise, growth and thresholds fit these images, see `imasks.approaches`; None:
            the task's usual ones.
        points: classes of a multilabel task whose masks mark places, one disc a thing: they are
            drawn anew in pseudo-labels, and counted.
        weights: what a pixel of each class of a multilabel task counts in the loss; empty: 1.
        scored: classes of a multiclass task on which the field's own evaluation rests; pixels of
            all others take no part in it. Empty: there is none beside that of all classes.

    Raises:
        UserError: a value is out of range; it names the key and what is allowed.
    """

    name: str
    task: TaskName
    classes: tuple[str, ...]
    size: tuple[int, int] | None = None
    channels: int | None = None
    pages: Pages = "images"
    ignore: int | None = None
    fit: FitName = "auto"
    free_rotation: bool | None = None
    colors: tuple[str, ...] = ()
    width: float | None = None
    ladder: str | None = None
    points: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    scored: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _one_of("task", self.task, get_args(TaskName))
        _one_of("fit", self.fit, get_args(FitName))
        _one_of("pages", self.pages, PAGES)
        _check_classes(self.task, self.classes)
        if self.size is not None and min(self.size) < 1:
            raise _bad("size", list(self.size), "two positive integers, [height, width]")
        if self.channels is not None:
            allowed = f"a number from 1 to {MAX_CHANNELS}"
            if not 1 <= self.channels <= MAX_CHANNELS:
                raise _bad("channels", self.channels, allowed)
        lowest = 0 if self.task == "multiclass" else 1  # 0 is the background of the other two
        if self.ignore is not None and not lowest <= self.ignore <= MAX_ID:
            raise _bad("ignore", self.ignore, f"an integer from {lowest} to {MAX_ID}, usually 255")
        if any(not re.fullmatch(r"#[0-9a-fA-F]{6}", color) for color in self.colors):
            raise _bad("colors", list(self.colors), 'colours written "#rrggbb"')
        if self.colors and len(self.colors) != len(self.classes):
            raise _bad("colors", list(self.colors), f"{len(self.classes)} colours, one a class")
        if self.width is not None and not WIDTHS[0] <= self.width <= WIDTHS[1]:
            raise _bad("width", self.width, f"a number from {WIDTHS[0]} to {WIDTHS[1]}")
        _check_some("points", self.points, self.classes, fits=self.task == "multilabel")
        _check_some("scored", self.scored, self.classes, fits=self.task == "multiclass")
        if self.weights and (self.task != "multilabel" or len(self.weights) != len(self.classes)):
            wanted = f"{len(self.classes)} numbers, one a class of a multilabel task"
            raise _bad("weights", list(self.weights), wanted)
        if not all(0 < weight < math.inf for weight in self.weights):
            raise _bad("weights", list(self.weights), "numbers above 0")


def read_card(path: Path) -> Card:
    """Read `dataset.toml`, given as the file or as the folder that holds it.

    Raises:
        UserError: the file is missing or no TOML, or a key is unknown, missing, of the wrong type
            or out of range; it names file, key, value and what is allowed.
    """
    path = path / CARD_NAME if path.is_dir() else path
    if not path.is_file():
        raise UserError(
            f"{path} is missing",
            remedy="Write it, or let `imasks init` make the folder from your images and masks.",
        )
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML", value=error, remedy="Correct it.") from error
    try:
        return _card_from(table, path.resolve().parent.name)
    except UserError as error:
        raise UserError(f"{path}: {error.what}", value=error.value, remedy=error.remedy) from None


def write_card(card: Card, path: Path) -> None:
    """Write a card as TOML, atomically, leaving out what was not said."""
    import tomli_w

    said = {key: value for key, value in asdict(card).items() if value not in (None, ())}
    if card.pages == "images":
        del said["pages"]
    write_text(path, tomli_w.dumps(said))


def encode_mask(masks: Sequence[NDArray[Any]], card: Card, *, source: Path = Path("mask")) -> Bytes:
    """Turn the values of mask files into the internal labels, see `imasks.encoding`.

    Args:
        masks: the planes as read from files, each [H,W]; one, or one a class for multilabel.
        card: the task, the classes and the ignored value.
        source: what an error names as the file.

    Returns:
        uint8 [P,H,W] in the internal encoding.

    Raises:
        UnreadableFile: a multiclass id stands for no class.
    """
    values = np.stack(list(masks))
    ignored = np.zeros(values.shape, np.bool_) if card.ignore is None else values == card.ignore
    labels: Bytes
    if card.task == "multiclass":
        K = len(card.classes)
        strange = np.unique(values[(values >= K) & ~ignored])
        if strange.size:
            raise UnreadableFile(
                source,
                "holds ids that no class has",
                value=shorten(strange.tolist()),
                remedy=f"Allowed are 0 to {K - 1}, in the order of the card's classes, and the "
                f"card's ignore value ({'none' if card.ignore is None else card.ignore}).",
            )
        labels = np.minimum(values, K).astype(np.uint8) + np.uint8(1)
    else:
        labels = (values != 0).astype(np.uint8)
    labels[ignored] = IGNORE
    return labels


def read_labels(
    paths: Sequence[Path], card: Card, shape: tuple[int, int] | None, *, page: int | None = None
) -> Bytes:
    """Read the masks of one image into the internal labels at the image's own size.

    JPEG and lossy WebP masks count as foreground from 128 on.

    Args:
        paths: one mask file, or one a class for multilabel.
        card: what the values mean.
        shape: (height, width) of the image in pixels; None: not compared.
        page: of stacks, from 0; None: each file holds one mask.

    Returns:
        uint8 [P,H,W].

    Raises:
        UnreadableFile: a mask is damaged, differs in size from its image, holds an unknown id, or
            is lossy where values must be exact.
    """
    planes = []
    for path in paths:
        plane = read_mask(path, page=page)
        if shape is not None and plane.shape != shape:
            raise UnreadableFile(
                path,
                "differs in size from its image",
                value=f"mask {plane.shape}, image {shape}; height first",
                remedy="Save the mask at the size of the image.",
            )
        if is_lossy(path):
            if card.task == "multiclass" or card.ignore is not None:
                reason = "is compressed with loss, so its values are no longer exact"
                raise UnreadableFile(path, reason, remedy="Save masks as PNG.")
            plane = (plane >= CUT).astype(np.uint8)
        planes.append(encode_mask([plane], card, source=path))
    return np.concatenate(planes)


def shorten(names: Iterable[object]) -> str | None:
    """Join the first five names for a message; None where there are none."""
    listed = [str(name) for name in names]
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    return ", ".join(listed[:5]) + more or None


def _card_from(table: Mapping[str, object], folder_name: str) -> Card:
    known = [field.name for field in fields(Card)]
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            raise UserError("unknown key", value=key, remedy=f"{hint}Known: {', '.join(known)}.")
    for key in ("task", "classes"):
        if key not in table:
            raise UserError(f"{key!r} is missing", remedy=f"Add {_EXAMPLES[key]}.")
    values = {key: _typed(key, value) for key, value in table.items()}
    return Card(**cast("dict[str, Any]", {"name": folder_name, **values}))


_EXAMPLES = {
    "task": 'a line such as task = "binary"; "multiclass" and "multilabel" are the others',
    "classes": 'a line such as classes = ["lesion"]',
}


def _typed(key: str, value: object) -> object:
    """Check the TOML type of one value; lists become tuples, and true is no integer."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    match key:
        case "name" | "task" | "fit" | "pages" | "ladder":
            fine, wanted = isinstance(value, str), "a string"
        case "classes" | "colors" | "points" | "scored":
            fine = isinstance(value, list) and all(isinstance(item, str) for item in value)
            wanted = "a list of strings"
        case "weights":
            fine = isinstance(value, list) and all(type(item) in (int, float) for item in value)
            wanted = "a list of numbers"
            value = [float(item) for item in value] if isinstance(value, list) and fine else value
        case "size":
            fine = isinstance(value, list) and [type(item) for item in value] == [int, int]
            wanted = "two positive integers, [height, width]"
        case "free_rotation":
            fine, wanted = isinstance(value, bool), "true or false"
        case "width":
            fine, wanted = whole or isinstance(value, float), "a number"
        case _:
            fine, wanted = whole, "an integer"
    if not fine:
        raise _bad(key, value, wanted)
    if isinstance(value, list):
        return tuple(value)
    return float(cast("float", value)) if key == "width" else value


def _check_classes(task: str, classes: tuple[str, ...]) -> None:
    names = list(classes)
    if not names or any(not name.strip() for name in names):
        raise _bad("classes", names, "at least one class, each with a name")
    if len(set(names)) != len(names):
        raise _bad("classes", names, "a different name for each class")
    if task == "binary" and len(names) != 1:
        raise _bad("classes", names, "exactly one class for a binary task: the foreground")
    if task == "multiclass" and len(names) > MAX_CLASSES:
        raise _bad("classes", f"{len(names)} classes", f"at most {MAX_CLASSES} classes")
    if task == "multilabel" and any(re.search(r"[/\\]|^\.", name) for name in names):
        raise _bad("classes", names, "names that can be folders, for a multilabel task")


def _check_some(key: str, names: tuple[str, ...], classes: tuple[str, ...], *, fits: bool) -> None:
    """Check a list that singles out some of the classes, each once."""
    if names and not fits:
        task = "multilabel" if key == "points" else "multiclass"
        raise _bad(key, list(names), f"nothing, unless the task is {task}")
    if len(set(names)) != len(names) or not set(names) <= set(classes):
        raise _bad(key, list(names), f"some of {', '.join(classes)}, each once")


def _one_of(key: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        close = difflib.get_close_matches(str(value), [str(one) for one in allowed], n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise _bad(key, value, " or ".join(repr(one) for one in allowed) + hint)


def _bad(key: str, value: object, wanted: str) -> UserError:
    end = "" if wanted.endswith("?") else "."
    return UserError(f"{key!r} is not allowed so", value=value, remedy=f"Allowed: {wanted}{end}")
