"""Some unlabeled images over the generations, as many as the album has room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from imasks.data.arrays import Arrays, load_arrays
from imasks.jobs import Job
from imasks.labelling.labellers import PseudoLabels, load_pseudo_labels
from imasks.runs.figures.painting import spread_of
from imasks.runs.figures.style import score_name
from imasks.runs.html.page import Frame, Shown, Strand, Viewer
from imasks.runs.html.pictures import Album, label_picture, mask_picture, photo, shrunk
from imasks.runs.line import Line
from imasks.runs.run import Run
from imasks.tasks import IGNORE, Task

IMAGES = 12  # at most, however many there are


@dataclass(frozen=True, kw_only=True)
class Thread:
    """A line with its finished labellings: (generation that learned from it, what it says)."""

    line: Line
    steps: tuple[tuple[int, PseudoLabels], ...]


def threads_of(run: Run) -> list[Thread]:
    """Open the finished labellings of every approach, of the first seed that has any."""
    found: dict[str, Thread] = {}
    for line in run.plan.lines:
        jobs = labellings(run, line)
        if jobs and line.approach.name not in found:
            steps = tuple((n, load_pseudo_labels(run.store.folder(job))) for n, job in jobs)
            found[line.approach.name] = Thread(line=line, steps=steps)
    return list(found.values())


def labellings(run: Run, line: Line) -> list[tuple[int, Job]]:
    """List the jobs that made the labels of a line, as far as they are done."""
    return [
        (generation.number, generation.label)
        for generation in line.generations
        if generation.label is not None and run.store.done(generation.label)
    ]


def viewer_of(
    run: Run, threads: Sequence[Thread], album: Album, colors: np.ndarray
) -> Viewer | None:
    """Picture images from little to much disputed; None where nothing is labelled yet."""
    if not threads:
        return None
    unlabeled = load_arrays(run.store.folder(run.plan.prepare), "unlabeled")
    task = run.config.make_task()
    rows = chosen_rows(threads)
    found: dict[int, tuple[Shown, list[list[Frame]]]] = {}
    for row in spread_first(rows):
        pictured = _pictured(unlabeled, threads, row, task, colors, album)
        if pictured is None:
            break
        found[row] = pictured
    if not found:
        return None
    images, columns = zip(*(found[row] for row in rows if row in found), strict=True)
    H, W = shrunk(*unlabeled.images.shape[1:3])
    return Viewer(
        images=images,
        strands=tuple(
            _strand(run, thread, [column[t] for column in columns])
            for t, thread in enumerate(threads)
        ),
        height=H,
        width=W,
        total=len(unlabeled.images),
    )


def _strand(run: Run, thread: Thread, columns: Sequence[Sequence[Frame]]) -> Strand:
    """Put the frames of every image, by generation, together."""
    black = _cuts(thread) and thread.line.how.policy.input == "black"
    seen = "Input: the image as networks see it before augmentation"
    if black:
        seen += ", black where it is in doubt"
    elif _cuts(thread):
        seen += "; where it is in doubt, --im-label says what they learn"
    return Strand(
        name=f"{thread.line.approach.name}, seed {thread.line.seed}",
        generations=tuple(number for number, _ in thread.steps),
        frames=tuple(tuple(column[g] for column in columns) for g in range(len(thread.steps))),
        blacked=black,
        input=f"{seen}.",
    )


def chosen_rows(threads: Sequence[Thread]) -> list[int]:
    """Choose rows from little to much disputed; where no networks vote, from first to last."""
    voting = [thread for thread in threads if _cuts(thread)]
    if voting:
        dispute = shares(voting[-1].steps[0][1].region)
    else:
        dispute = np.arange(len(threads[0].steps[0][1].labels), dtype=np.float64)
    return spread_of(dispute, IMAGES)


def spread_first(rows: Sequence[int]) -> list[int]:
    """Order rows such that any beginning is spread out: middle, last, first, what lies between."""
    ends = [len(rows) // 2, len(rows) - 1, 0]
    order = dict.fromkeys([*ends, *range(1, len(rows), 2), *range(len(rows))])
    return [rows[place] for place in order]


def shares(region: np.ndarray) -> np.ndarray:
    """Share of the pixels of each of bool [N, H, W], float64 [N]; in chunks, as it may be large."""
    return np.concatenate(
        [region[start : start + 256].mean((1, 2)) for start in range(0, len(region), 256)]
    )


def row_name(split: Arrays, row: int) -> str:
    """Name a row of a split: its image, and which of its tiles where it has several."""
    if split.source is None:
        return split.names[row]
    place = int(split.source[row])
    tiles = np.flatnonzero(split.source == place)
    name = split.names[place]
    return name if len(tiles) == 1 else f"{name}, tile {row - int(tiles[0]) + 1} of {len(tiles)}"


def _cuts(thread: Thread) -> bool:
    return thread.line.approach.labels == "inconsistency"


def _pictured(
    unlabeled: Arrays,
    threads: Sequence[Thread],
    row: int,
    task: Task,
    colors: np.ndarray,
    album: Album,
) -> tuple[Shown, list[list[Frame]]] | None:
    """Put all pictures of one image into the album; None if they do not fit."""
    truth = None if unlabeled.labels is None else unlabeled.labels[row]
    pictures = [photo(unlabeled.images[row])]
    if truth is not None:
        pictures.append(label_picture(truth, task, colors))
    places: dict[str, int] = {}  # the same label twice is one picture
    plans: list[list[tuple[int, int | None, str]]] = []

    def place(uri: str) -> int:
        return places.setdefault(uri, len(places))

    for thread in threads:
        plan = []
        for _, pseudo in thread.steps:
            region = np.asarray(pseudo.region[row])
            label = place(label_picture(np.asarray(pseudo.labels[row]), task, colors))
            mask = place(mask_picture(region)) if region.any() else None
            plan.append((label, mask, _words(thread, pseudo, row, truth, task)))
        plans.append(plan)
    numbers = album.add(*pictures, *places)
    if numbers is None:
        return None
    layers = numbers[len(pictures) :]
    frames = [
        [
            Frame(label=layers[label], mask=None if mask is None else layers[mask], text=text)
            for label, mask, text in plan
        ]
        for plan in plans
    ]
    shown = Shown(
        name=row_name(unlabeled, row),
        picture=numbers[0],
        truth=None if truth is None else numbers[1],
    )
    return shown, frames


def _words(
    thread: Thread, pseudo: PseudoLabels, row: int, truth: np.ndarray | None, task: Task
) -> str:
    """Say of one pseudo-label how much is in doubt, whether it is used, and how good it is."""
    parts = []
    if _cuts(thread):
        parts.append(f"{pseudo.region[row].mean():.1%} of the pixels in doubt")
    if not pseudo.keep[row]:
        parts.append("left out of the training")
    if truth is not None:
        score = label_score(pseudo, row, truth, task)
        if score is not None:
            outside = " outside the mask" if _cuts(thread) else ""
            parts.append(f"{score_name(task.primary)} {score:.2f} against the truth{outside}")
    return "; ".join(parts) if parts else "all pixels are learned"


def label_score(pseudo: PseudoLabels, row: int, truth: np.ndarray, task: Task) -> float | None:
    """Score one pseudo-label outside its mask, None where nothing can be compared."""
    seen = np.where(pseudo.im[row], np.uint8(IGNORE), truth)
    if (seen == IGNORE).all():
        return None
    labels = torch.from_numpy(np.array(pseudo.labels[row])[None])
    tally = task.tally(labels, torch.from_numpy(seen[None]))
    score = float(task.scores(tally)[task.primary][0])
    return None if np.isnan(score) else score
