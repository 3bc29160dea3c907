"""Figures of images: how a mask comes about, what it becomes, where it is better than the truth.

Shape letters: E networks, P planes, H x W pixels, C image channels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imasks.labelling.agree import Morphology, cut_region, grow_labels, inconsistency
from imasks.runs.figures.painting import class_legend, empty, paint, show
from imasks.runs.figures.style import score_name
from imasks.tasks import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

SIDE, NOTE, MARGIN = 1.35, 0.08, 0.8  # inches: a picture's width, words below it, the page's ends
FLAT, TALL = 0.4, 2.0  # shapes beyond these would make odd pages


@dataclass(frozen=True, kw_only=True)
class Voted:
    """An image, uint8 [H, W, C], and what E networks voted, uint8 [E, P, H, W]."""

    image: np.ndarray
    votes: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """An image's pseudo-label in one generation.

    Args:
        generation: that learned from it.
        labels: uint8 [P, H, W].
        region: bool [H, W], the inconsistency mask.
        keep: whether the image was learned from.
    """

    generation: int
    labels: np.ndarray
    region: np.ndarray
    keep: bool


@dataclass(frozen=True, kw_only=True)
class Course:
    """An image, uint8 [H, W, C], its true labels if known, its pseudo-labels by generation."""

    image: np.ndarray
    truth: np.ndarray | None
    labelled: tuple[Labelled, ...]


@dataclass(frozen=True, kw_only=True)
class Rivals:
    """One test image as two networks see it.

    Args:
        image: uint8 [H, W, C].
        truth: uint8 [P, H, W].
        first: prediction of full supervision, likewise.
        second: of the other approach.
        scores: of both.
    """

    image: np.ndarray
    truth: np.ndarray
    first: np.ndarray
    second: np.ndarray
    scores: tuple[float, float]


def creation_figure(
    shown: Sequence[Voted], task: Task, colors: np.ndarray, *, morphology: Morphology
) -> Figure:
    """Draw votes, their sum, the inconsistency mask and the label, one row an image.

    Args:
        shown: at least one image, all with the same number of votes.
        task: what votes mean.
        colors: uint8 [K, 3].
        morphology: of the mask.
    """
    E = len(shown[0].votes)
    titles = (
        *("image", *(f"network {number}" for number in range(1, E + 1))),
        *("sum of the votes", "inconsistency mask", "pseudo-label"),
    )
    figure, grid = _grid(len(shown), len(titles), shown[0].image)
    for row, (axes, one) in enumerate(zip(grid, shown, strict=True)):
        label, im = inconsistency(one.votes[:, None])
        region = cut_region(im, morphology)[0, 0]
        if morphology.erode and task.grows:
            label = grow_labels(label)
        painted = [paint(vote, None, task, colors) for vote in one.votes]
        # halfway between two votes' colours lies their sum, for any number of classes
        total = np.mean(np.stack(painted).astype(np.float32), 0).round().astype(np.uint8)
        mask = np.where(region, 255, 0).astype(np.uint8)[..., None]
        pictures = [one.image, *painted, total, mask, paint(label[0], region, task, colors)]
        for column, (axis, picture) in enumerate(zip(axes, pictures, strict=True)):
            show(axis, picture, title=titles[column] if row == 0 else "")
        axes[-2].set_xlabel(f"{region.mean():.1%} of the pixels", fontsize=7, labelpad=2)
    class_legend(figure, task, colors, others=["inconsistency mask"])
    return figure


def generations_figure(
    shown: Sequence[Course], task: Task, colors: np.ndarray, *, title: str
) -> Figure:
    """Draw images over the generations: blacked out above, pseudo-label below.

    Args:
        shown: at least one image, all with the same generations.
        task: what labels mean.
        colors: uint8 [K, 3].
        title: of the figure.
    """
    columns = 1 + len(shown[0].labelled)
    figure, grid = _grid(2 * len(shown), columns, shown[0].image)
    for number, one in enumerate(shown):
        above, below = grid[2 * number], grid[2 * number + 1]
        show(above[0], one.image, title="image" if number == 0 else "")
        if one.truth is None:
            empty(below[0])
        else:
            show(below[0], paint(one.truth, None, task, colors), below="true mask")
        for column, step in enumerate(one.labelled, start=1):
            black = np.where(step.region[..., None], 0, one.image).astype(np.uint8)
            show(above[column], black, title=f"generation {step.generation}" if not number else "")
            note = f"{step.region.mean():.1%} in doubt" + ("" if step.keep else ", left out")
            show(below[column], paint(step.labels, step.region, task, colors), below=note)
    figure.suptitle(title, fontsize=10)
    class_legend(figure, task, colors, others=["inconsistency mask"])
    return figure


def rivals_figure(
    better: Sequence[Rivals],
    worse: Sequence[Rivals],
    task: Task,
    colors: np.ndarray,
    *,
    names: tuple[str, str],
) -> Figure:
    """Draw the images on which two approaches differ most, one block each way.

    Args:
        better: images on which the second approach is better.
        worse: those on which the first is; at least one of the two holds an image.
        task: what labels mean.
        colors: uint8 [K, 3].
        names: of both approaches.
    """
    blocks = [
        (block, f"{winner} is better")
        for block, winner in ((better, names[1]), (worse, names[0]))
        if block
    ]
    H, W = blocks[0][0][0].image.shape[:2]
    rows = max(len(block) for block, _ in blocks)
    figure = _page(4 * SIDE * len(blocks), rows * (SIDE * _shape(H, W) + 2 * NOTE) + MARGIN)
    parts = figure.subfigures(1, len(blocks), wspace=0.04, squeeze=False)[0]
    for part, (block, title) in zip(parts, blocks, strict=True):
        _rivals_block(part, block, rows, task, colors, names)
        part.suptitle(title, fontsize=10)
    class_legend(figure, task, colors, others=["ignored"] if _any_ignored(better, worse) else [])
    return figure


def _rivals_block(
    part: SubFigure,
    block: Sequence[Rivals],
    rows: int,
    task: Task,
    colors: np.ndarray,
    names: tuple[str, str],
) -> None:
    grid = part.subplots(rows, 4, squeeze=False)
    for row, axes in enumerate(grid):
        if row >= len(block):
            for axis in axes:
                empty(axis)
            continue
        one = block[row]
        titles = ("image", "true mask", *names) if row == 0 else ("",) * 4
        labels = [paint(each, None, task, colors) for each in (one.truth, one.first, one.second)]
        notes = (
            "",
            "",
            *(f"{score_name(task.primary)} {score:.3f}" for score in one.scores),
        )
        for axis, picture, title, note in zip(
            axes, (one.image, *labels), titles, notes, strict=True
        ):
            show(axis, picture, title=title, below=note)


def _any_ignored(*blocks: Sequence[Rivals]) -> bool:
    from imasks.tasks import IGNORE

    return any((one.truth == IGNORE).any() for block in blocks for one in block)


def _grid(rows: int, columns: int, image: np.ndarray) -> tuple[Figure, np.ndarray]:
    width = max(4.2, SIDE * columns)
    figure = _page(width, rows * (width / columns * _shape(*image.shape[:2]) + NOTE) + MARGIN)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _page(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(h_pad=0.02, w_pad=0.03, hspace=0, wspace=0)
    return Figure(figsize=(width, height), layout=layout)


def _shape(H: int, W: int) -> float:
    return min(TALL, max(FLAT, H / W))
