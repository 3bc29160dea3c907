"""Pictures of a run that a person looks at: pseudo-labels and inconsistency masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imasks.data.arrays import Arrays, load_arrays
from imasks.jobs import write_atomic
from imasks.labelling.labellers import PseudoLabels, load_pseudo_labels
from imasks.runs.colors import class_colors
from imasks.runs.plan import Line
from imasks.runs.run import Run
from imasks.tasks import IGNORE, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MASK_GREY = 128
IMAGES = 6


def write_pictures(run: Run) -> list[Path]:
    """Draw every approach that votes, as far as it has come; return the files written.

    One picture an approach (its first seed): unlabeled images from little to much disputed, and
    for every generation the pseudo-label with the inconsistency mask in grey.
    """
    drawn: dict[str, Path] = {}
    for line in run.plan.lines:
        approach = line.approach
        if approach.labels != "inconsistency" or approach.name in drawn:
            continue
        figure = pseudo_label_figure(run, line)
        if figure is None:
            continue
        name = approach.name.lower().replace("+", "_plus").replace(" ", "_")
        path = run.folder / "report" / f"pseudo_labels_{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        _save(figure, path)
        drawn[approach.name] = path
    return list(drawn.values())


def pseudo_label_figure(run: Run, line: Line) -> Figure | None:
    """Draw one approach's pseudo-labels over its finished generations; None before the first."""
    labelled = [
        (generation.number, load_pseudo_labels(run.store.folder(generation.label)))
        for generation in line.generations
        if generation.label is not None and run.store.done(generation.label)
    ]
    if not labelled:
        return None
    unlabeled = load_arrays(run.store.folder(run.plan.prepare), "unlabeled")
    chosen = _spread_of_dispute(labelled[0][1].region)
    title = f"{line.approach.name}, seed {line.seed}"
    return _draw(run, unlabeled, labelled, chosen, title)


def paint(
    labels: np.ndarray, region: np.ndarray | None, task: Task, colors: np.ndarray
) -> np.ndarray:
    """Paint one image's labels uint8 [P, H, W] as uint8 [H, W, 3].

    Classes have their colours, background is black, the region bool [H, W] and ignored pixels are
    grey; where the planes of a multilabel task overlap, their colours are mixed.
    """
    if task.name == "multiclass":
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


def _draw(
    run: Run,
    unlabeled: Arrays,
    labelled: list[tuple[int, PseudoLabels]],
    chosen: list[int],
    title: str,
) -> Figure:
    from matplotlib.figure import Figure

    task = run.config.make_task()
    colors = class_colors(task, run.config.colors)
    known = unlabeled.labels is not None
    titles = ["image", *(f"generation {g}" for g, _ in labelled), *(["true mask"] if known else [])]
    H, W = unlabeled.images.shape[1:3]
    side = 1.9
    figure = Figure(
        figsize=(side * len(titles), side * H / W * len(chosen) + 1.1), layout="constrained"
    )
    axes = figure.subplots(len(chosen), len(titles), squeeze=False)
    for row, index in zip(axes, chosen, strict=True):
        panels = [_shown(unlabeled.images[index])]
        panels += [paint(p.labels[index], p.region[index], task, colors) for _, p in labelled]
        if unlabeled.labels is not None:
            panels.append(paint(unlabeled.labels[index], None, task, colors))
        for axis, panel in zip(row, panels, strict=True):
            axis.imshow(panel, interpolation="nearest")
            axis.set_axis_off()
    for axis, text in zip(axes[0], titles, strict=True):
        axis.set_title(text, fontsize=9)
    figure.suptitle(f"Pseudo-labels of {title}", fontsize=10)
    _legend(figure, task, colors)
    return figure


def _legend(figure: Figure, task: Task, colors: np.ndarray) -> None:
    from matplotlib.patches import Patch

    grey = [(MASK_GREY / 255,) * 3]
    patches = [
        Patch(facecolor=color, edgecolor="black", linewidth=0.5, label=name)
        for color, name in zip(
            [*(colors / 255).tolist(), *grey], [*task.classes, "inconsistency mask"], strict=True
        )
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=4, fontsize=8, frameon=False)


def _shown(image: np.ndarray) -> np.ndarray:
    return image if image.shape[2] == 3 else image.repeat(3, 2)


def _spread_of_dispute(region: np.ndarray) -> list[int]:
    """Choose images evenly from the least to the most disputed."""
    order = np.argsort(region.mean((1, 2)), kind="stable")
    places = np.linspace(0, len(order) - 1, min(IMAGES, len(order))).round().astype(int)
    return [int(order[place]) for place in places]


def _save(figure: Figure, path: Path) -> None:
    from io import BytesIO

    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    write_atomic(path, buffer.getvalue())
