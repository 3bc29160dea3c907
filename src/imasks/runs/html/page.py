"""What the report says, as plain data that a template can write down. Nothing here knows HTML.

Pictures are numbers in an :class:`imasks.runs.html.pictures.Album`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from imasks.runs.html.charts import Chart


@dataclass(frozen=True, kw_only=True)
class Advice:
    """A warning in plain words, and what can be done about it.

    Args:
        text: what was found.
        remedy: what the reader can do.
        serious: whether it puts results in question; otherwise it is only good to know.
    """

    text: str
    remedy: str
    serious: bool = True


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells as text.

    Args:
        caption: what it shows.
        columns: their names; the first column names the row.
        rows: one text a column.
        notes: what the columns mean.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Swatch:
    """A class and its colour as "#rrggbb"."""

    name: str
    color: str


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One image in one generation of one approach.

    Args:
        label: the pseudo-label, transparent where there is none.
        mask: the inconsistency mask, black; None if it is empty.
        text: share in doubt, whether learned from, score against the truth; for all readers.
    """

    label: int
    mask: int | None
    text: str


@dataclass(frozen=True, kw_only=True)
class Strand:
    """The generations of one approach.

    Args:
        name: the approach and its seed.
        generations: their numbers.
        frames: one an image for each generation, in the order of :attr:`Viewer.images`.
        blacked: whether networks see the inconsistency mask black.
        input: what they see, in words.
    """

    name: str
    generations: tuple[int, ...]
    frames: tuple[tuple[Frame, ...], ...]
    blacked: bool
    input: str


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An unlabeled image of the viewer; the truth is None where it is not known."""

    name: str
    picture: int
    truth: int | None


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """Unlabeled images over the generations.

    Args:
        images: those that are shown.
        strands: one an approach.
        height: of all pictures, in pixels.
        width: likewise.
        total: how many unlabeled images there are.
    """

    images: tuple[Shown, ...]
    strands: tuple[Strand, ...]
    height: int
    width: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Still:
    """A picture that does not change, with its caption and its alternative text."""

    picture: int
    caption: str
    alt: str


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """Everything about one image, side by side."""

    name: str
    note: str
    stills: tuple[Still, ...]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Some images of a kind.

    Args:
        title: what they have in common.
        text: how they were chosen.
        exhibits: the images; may be empty, then ``text`` says why.
    """

    title: str
    text: str
    exhibits: tuple[Exhibit, ...]


@dataclass(frozen=True, kw_only=True)
class ClassShare:
    """How much of the pixels one class has.

    Args:
        swatch: name and colour.
        shares: by where, in 0..1; None where it is not known.
        iou: on the test, or else the validation images; None where it has none.
    """

    swatch: Swatch
    shares: Mapping[str, float | None]
    iou: float | None


@dataclass(frozen=True, kw_only=True)
class RunPage:
    """All about one run.

    Args:
        title: what it is called.
        summary: the outcome in a sentence or two.
        facts: name and value, about the data and the training.
        advice: warnings, the serious ones first.
        scores: the main table.
        empty: scores by other conventions about images without foreground; None if all agree.
        charts: scores, and sizes of masks, over generations.
        learning: learning curves.
        quality: expected against true scores.
        viewer: None where nothing has been labelled.
        galleries: best, worst and most disputed images.
        legend: classes and colours.
        classes: shares of pixels.
        iou_of: which images the IoU of classes is of.
        commands: that give the run again.
        configuration: name and value.
        folder: of the run, as it was given.
    """

    title: str
    summary: str
    facts: tuple[tuple[str, str], ...]
    advice: tuple[Advice, ...]
    scores: Table
    empty: Table | None
    charts: tuple[Chart, ...]
    learning: tuple[Chart, ...]
    quality: tuple[Chart, ...]
    viewer: Viewer | None
    galleries: tuple[Gallery, ...]
    legend: tuple[Swatch, ...]
    classes: tuple[ClassShare, ...]
    iou_of: str
    commands: tuple[str, ...]
    configuration: tuple[tuple[str, str], ...]
    folder: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """The whole report.

    Args:
        runs: at least one.
        pictures: data URIs; all numbers of pictures count in here.
        version: of imasks.
    """

    runs: tuple[RunPage, ...]
    pictures: tuple[str, ...]
    version: str
