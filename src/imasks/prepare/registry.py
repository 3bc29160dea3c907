"""What `imasks prepare` knows, as data: a further format is one more entry of PREPARERS.

Imports nothing heavy: the command line's help is made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any


def _silent(done: int, total: int) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of a preparer.

    Args:
        name: a Python name; the command line writes it with dashes.
        kind: bool, int, float, str or Path; also as `| None`.
        default: what is taken if nothing is said.
        help: one sentence.
    """

    name: str
    kind: Any
    default: Any
    help: str


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user wants prepared.

    Args:
        source: what was downloaded or exported.
        out: the data folder to make.
        options: a value for every option of the preparer.
        on_progress: is called with (items done, items in all).
    """

    source: Path
    out: Path
    options: Mapping[str, Any]
    on_progress: Callable[[int, int], None] = _silent


@dataclass(frozen=True, kw_only=True)
class About:
    """What one should know of a published data set before preparing it.

    Args:
        title: its name.
        task: "binary", "multiclass" or "multilabel".
        classes: their names.
        colors: "#rrggbb" of each.
        where: where to get it, and whether one must register.
        licence: as the source states it.
        citation: what to cite.
        tree: the folders and files expected below SOURCE, as lines.
    """

    title: str
    task: str
    classes: tuple[str, ...]
    colors: tuple[str, ...]
    where: str
    licence: str
    citation: str
    tree: str


@dataclass(frozen=True, kw_only=True)
class Preparer:
    """One thing that can be prepared.

    Args:
        name: what users type.
        description: one line for people who choose.
        options: its own options.
        function: makes the data folder and tells in sentences what it did. It raises a UserError
            where the source is wrong, and leaves no folder that looks finished and is not.
        about: what `--list` says, for published data sets.
    """

    name: str
    description: str
    options: tuple[Option, ...]
    function: Callable[[Request], tuple[str, ...]]
    about: Callable[[], About] | None = None


SPLITTING = (
    Option(
        name="labeled_share",
        kind=float,
        default=0.1,
        help="Share of the training images that keep their masks.",
    ),
    Option(name="seed", kind=int, default=42, help="Of all that is drawn."),
    Option(
        name="subset",
        kind=bool,
        default=False,
        help="Take what is there, although it is not the whole data set.",
    ),
)


def _published(name: str, description: str, *options: Option) -> Preparer:
    """Enter a data set whose module holds ABOUT and prepare()."""
    module = f"imasks.prepare.{name}"

    def function(request: Request) -> tuple[str, ...]:
        told: tuple[str, ...] = import_module(module).prepare(request)
        return told

    def about() -> About:
        found: About = import_module(module).ABOUT
        return found

    return Preparer(
        name=name,
        description=description,
        options=(*SPLITTING, *options),
        function=function,
        about=about,
    )


PREPARERS: dict[str, Preparer] = {
    one.name: one
    for one in (
        _published(
            "isic2018",
            "ISIC 2018 task 1: skin lesions, binary.",
            Option(
                name="full",
                kind=bool,
                default=False,
                help="Keep images at their own size; each run then shrinks them itself.",
            ),
        ),
        _published(
            "hela",
            "HeLa cells in brightfield: alive, dead and their positions, multilabel with points.",
            Option(
                name="paper_split",
                kind=bool,
                default=False,
                help="Draw the labeled share from crops, as published: crops of one image then "
                "are labeled and unlabeled, and overlap.",
            ),
        ),
        _published(
            "suim",
            "SUIM: underwater scenes, 8 classes.",
            Option(
                name="keep_unclear",
                kind=bool,
                default=False,
                help="Take unclear mask colours for the nearest class, as published, instead of "
                "ignoring these pixels.",
            ),
            Option(
                name="drop_doubles",
                kind=bool,
                default=False,
                help="Leave out test images that are training images too.",
            ),
        ),
        _published(
            "cityscapes",
            "Cityscapes: street scenes, 34 label ids, or the 19 classes of its evaluation.",
            Option(
                name="factor",
                kind=float,
                default=0.2,
                help="Size of the images, up to 1; both sides are rounded up to multiples of 16.",
            ),
            Option(
                name="tiles",
                kind=bool,
                default=False,
                help="Show networks tiles of the images instead of whole ones.",
            ),
            Option(
                name="classes",
                kind=int,
                default=34,
                help="34: all label ids, as published; 19: the evaluated classes, others ignored.",
            ),
            Option(
                name="labeled_list",
                kind=Path | None,
                default=None,
                help="A text file that names the labeled images, one a line, such as those of the "
                "usual 1/16, 1/8, 1/4 and 1/2 partitions; instead of --labeled-share.",
            ),
        ),
    )
}
