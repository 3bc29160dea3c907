"""Labels as colours, and axes that show pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imasks.runs.colors import as_rgb
from imasks.tasks import IGNORE, Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MASK_GREY = 128


def paint(
    labels: np.ndarray, region: np.ndarray | None, task: Task, colors: np.ndarray
) -> np.ndarray:
    """Paint one image's labels uint8 [P, H, W] as uint8 [H, W, 3].

    Classes have their colours, background is black, the region bool [H, W] and ignored pixels are
    grey; where the planes of a multilabel task overlap, their colours are mixed.
    """
    if task.exclusive:
        palette = np.concatenate([np.zeros((1, 3), np.uint8), colors])
        painted = palette[np.where(labels[0] == IGNORE, 0, labels[0])]
    else:
        set_ = (labels == 1)[..., None]
        mixed = (set_ * colors[:, None, None].astype(np.float32)).sum(0)
        painted = (mixed / np.maximum(1, set_.sum(0))).astype(np.uint8)
    painted = painted.copy()
    painted[(labels == IGNORE).any(0)] = MASK_GREY
    if region is not None:
        painted[region] = MASK_GREY
    return painted


def show(axes: Axes, picture: np.ndarray, *, title: str = "", below: str = "") -> None:
    """Show a picture uint8 [H, W, C] without ticks, with a thin frame."""
    axes.imshow(as_rgb(picture), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color="#999999", linewidth=0.5)
    if title:
        axes.set_title(title, fontsize=8)
    if below:
        axes.set_xlabel(below, fontsize=7, labelpad=2)


def empty(axes: Axes, text: str = "") -> None:
    """Leave axes empty but for a word in the middle."""
    axes.set_axis_off()
    if text:
        axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=8, transform=axes.transAxes)


def class_legend(
    figure: Figure, task: Task, colors: np.ndarray, *, others: Sequence[str] = ()
) -> None:
    """Name the colours of the classes below a figure, and the meanings of grey."""
    from matplotlib.patches import Patch

    named = zip(task.classes, (colors / 255).tolist(), strict=True)
    grey = [(name, [MASK_GREY / 255] * 3) for name in others]
    patches = [
        Patch(facecolor=color, edgecolor="black", linewidth=0.5, label=name)
        for name, color in (*named, *grey)
    ]
    columns = max(2, min(len(patches), round(figure.get_figwidth() / 1.6)))
    figure.legend(
        handles=patches, loc="outside lower center", ncols=columns, fontsize=8, frameon=False
    )


def spread_of(values: np.ndarray, count: int) -> list[int]:
    """Choose indices evenly from the lowest to the highest of values [N]."""
    order = np.argsort(values, kind="stable")
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return [int(order[place]) for place in places]
