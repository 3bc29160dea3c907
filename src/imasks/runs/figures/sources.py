"""What the figures show, read from the job folders of a run, as far as it has come.

Every function answers None, or nothing, where the run does not have what its figure needs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
import torch

from imasks.data.arrays import Arrays, load_arrays
from imasks.jobs import Job, in_order
from imasks.labelling.agree import Morphology
from imasks.labelling.labellers import PseudoLabels, load_pseudo_labels
from imasks.models.weights import load_network
from imasks.runs.figures.effort import Effort, Race
from imasks.runs.figures.lines import Curve, Panel
from imasks.runs.figures.masks import Course, Labelled, Rivals, Voted
from imasks.runs.figures.painting import spread_of
from imasks.runs.figures.ranking import Ranking, Reached
from imasks.runs.figures.style import score_name
from imasks.runs.line import Generation, Line
from imasks.runs.results import Step, best_fit, sortable
from imasks.runs.run import Run
from imasks.runs.summary import LOWER, UPPER, Row, Spread
from imasks.training.predict import votes

CPU = torch.device("cpu")
COURSES, RIVALS = 3, 3  # images in a figure, and of each kind
TYPICAL, DISPUTED = 0.5, 0.9  # quantiles of the mask's size


def score_panel(run: Run, title: str) -> Panel | None:
    """Read test scores over generations; None without any."""
    curves = curves_of(run, lambda step: step.test)
    score = score_name(run.config.make_task().primary)
    return _panel(run, title, f"test {score}", curves)


def ranking(run: Run, title: str) -> Ranking | None:
    """Read test scores of the last generation of every seed that is finished.

    One that ended early counts with the last generation it has: to leave it out would flatter its
    approach. None of less than two approaches.
    """
    found: dict[str, list[float]] = {}
    for one in run.outcomes():
        if one.complete and one.steps and (test := _known(one.steps[-1].test)) is not None:
            found.setdefault(one.approach, []).append(test)
    if len(found) < 2:
        return None
    return Ranking(
        title=title,
        xlabel=f"test {score_name(run.config.make_task().primary)}",
        reached=tuple(Reached(name=name, scores=scores) for name, scores in found.items()),
        seeds=len(run.config.seeds),
        bounds=(LOWER, UPPER),
    )


def races(runs: Sequence[Run], titles: Sequence[str]) -> list[Race]:
    """Read test scores over computing time from finished seeds, a race for each data set.

    Runs on one data set (other presets, sizes or budgets) compete in one race.
    """
    grouped: dict[tuple[str, str], list[tuple[Run, str]]] = {}
    for run, title in zip(runs, titles, strict=True):
        key = run.config.title, run.config.make_task().primary
        grouped.setdefault(key, []).append((run, title))
    found = []
    for (data, primary), group in grouped.items():
        presets = [run.config.preset for run, _ in group]
        apart = presets if len(set(presets)) == len(group) else [title for _, title in group]
        efforts = [
            replace(one, name=f"{one.name}, {what}" if len(group) > 1 else one.name)
            for (run, _), what in zip(group, apart, strict=True)
            for one in _efforts(run)
        ]
        if len(efforts) > 1:
            label = f"test {score_name(primary)}"
            found.append(Race(title=data, ylabel=label, efforts=tuple(efforts)))
    return found


def _efforts(run: Run) -> Iterator[Effort]:
    """Read what every approach reached after which time, from the seeds that are finished."""
    complete = [one for one in run.outcomes() if one.complete]
    for name in dict.fromkeys(one.approach for one in complete):
        steps: dict[int, list[Step]] = {}
        for one in complete:
            for step in one.steps if one.approach == name else ():
                if _known(step.test) is not None:
                    steps.setdefault(step.generation, []).append(step)
        points = [
            (fmean(step.seconds for step in found), spread)
            for _, found in sorted(steps.items())
            if (spread := Spread.of(step.test for step in found)) is not None
        ]
        if points:
            yield Effort(name=name, points=tuple(points))


def size_panel(run: Run, title: str) -> Panel | None:
    """Read the mean share of pixels in the inconsistency masks; None if none was made."""
    curves = curves_of(run, lambda step: step.im_share)
    made = [curve for curve in curves if any(one.mean > 0 for one in curve.points.values())]
    return _panel(run, title, "share of pixels in the inconsistency mask", made)


@dataclass(frozen=True, kw_only=True)
class Creation:
    """How masks were made in the first generation of a line."""

    line: Line
    shown: tuple[Voted, ...]
    morphology: Morphology


def creation(run: Run) -> Creation | None:
    """Predict a typical and a much disputed image again, as the first labelling did."""
    for line in run.plan.lines:
        for _, job in _labelled(run, line)[:1]:
            known = {one.key: one for one in in_order([job])}
            keys = run.store.result(job).get("networks", [])
            if len(keys) < 2:
                continue
            networks = [load_network(run.store.folder(known[key])) for key in keys]
            region = load_pseudo_labels(run.store.folder(job)).region
            order = np.argsort(region.mean((1, 2)), kind="stable")
            places = {round(at * (len(order) - 1)) for at in (TYPICAL, DISPUTED)}
            rows = order[sorted(places)]
            images = load_arrays(run.store.folder(run.plan.prepare), "unlabeled").images[rows]
            voted = _predict(run, networks, images, reserved=True)
            morphology: Any = job.params["morphology"]
            return Creation(
                line=line,
                shown=tuple(
                    Voted(image=image, votes=voted[:, at]) for at, image in enumerate(images)
                ),
                morphology=Morphology(**morphology),
            )
    return None


def courses(run: Run) -> Iterator[tuple[Line, tuple[Course, ...]]]:
    """Read some images' pseudo-labels over the generations, of every approach that votes.

    Of each approach the first seed that has any; images from little to much disputed.
    """
    unlabeled: Arrays | None = None
    seen = set()
    for line in run.plan.lines:
        jobs = _labelled(run, line)
        if line.approach.name in seen or not jobs:
            continue
        seen.add(line.approach.name)
        if unlabeled is None:
            unlabeled = load_arrays(run.store.folder(run.plan.prepare), "unlabeled")
        steps = [(number, load_pseudo_labels(run.store.folder(job))) for number, job in jobs]
        rows = spread_of(steps[0][1].region.mean((1, 2)), COURSES)
        yield line, tuple(_course(unlabeled, steps, row) for row in rows)


@dataclass(frozen=True, kw_only=True)
class Contest:
    """The test images on which full supervision and another approach differ most."""

    names: tuple[str, str]
    seed: int
    better: tuple[Rivals, ...]
    worse: tuple[Rivals, ...]
    wins: int
    images: int


def contest(run: Run) -> Contest | None:
    """Compare full supervision with the approach with generations that validation likes best.

    None where either is missing, and where images are shown in tiles: a tile is not what is scored.
    """
    rows = {row.approach: row for row in run.rows() if row.val is not None and not row.waits}
    lines = [line for line in run.plan.lines if line.approach.name in rows]
    full = _best([line for line in lines if line.approach.truth == "all"], rows)
    other = _best(
        [line for line in lines if line.approach.start and not line.approach.needs_truth], rows
    )
    if full is None or other is None:
        return None
    chosen = {
        (one.approach, one.seed): one.chosen
        for one in run.outcomes()
        if one.chosen and not one.waits
    }
    for seed in run.config.seeds:
        fits = [
            _fit_of(run, lines, name, seed, chosen[name, seed])
            for name in (full, other)
            if (name, seed) in chosen
        ]
        if len(fits) == 2:
            kept = chosen[other, seed].generation == 0  # these are other networks than its own
            return _contest(run, fits, (full, f"the start of {other}" if kept else other), seed)
    return None


def predicted_scores(run: Run) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Read predicted and true scores of every approach whose predictions are judged by EvalNets.

    Of each approach the first seed that has any, and of that the generation with the best
    validation score. The job leaves ``scores.json``: {"predicted": [...], "true": [...]}.

    Yields:
        The approach's name, and both as float64 [N], N >= 1, pairs that are no numbers left out.
    """
    chosen = {(one.approach, one.seed): None if one.waits else one.chosen for one in run.outcomes()}
    seen = set()
    for line in run.plan.lines:
        name, best = line.approach.name, chosen[line.approach.name, line.seed]
        job = line.generations[best.generation].quality if best else None
        if name in seen or job is None or not run.store.done(job):
            continue
        found = json.loads((run.store.folder(job) / "scores.json").read_bytes())
        pairs = np.array([found["predicted"], found["true"]], np.float64)
        pairs = pairs[:, np.isfinite(pairs).all(0)]
        if pairs.shape[1]:
            seen.add(name)
            yield f"{name}, seed {line.seed}", pairs[0], pairs[1]


def _panel(run: Run, title: str, ylabel: str, curves: Sequence[Curve]) -> Panel | None:
    return (
        Panel(title=title, data=run.config.title, ylabel=ylabel, curves=tuple(curves))
        if curves
        else None
    )


def curves_of(run: Run, value: Callable[[Step], float | None]) -> list[Curve]:
    """Read a number of every approach over generations, with its spread over seeds.

    Approaches of which only the start is finished are left out, unless there are no others.
    """
    levels = {line.approach.name for line in run.plan.lines if line.approach.start is None}
    found: dict[str, dict[int, list[float]]] = {}
    outcomes = run.outcomes()
    begun = {one.approach for one in outcomes if one.steps and not one.waits}
    for one in outcomes:
        if begun and one.approach not in begun:
            continue  # nothing but a start, which others show
        for step in one.steps:
            if (known := _known(value(step))) is not None:
                generations = found.setdefault(one.approach, {})
                generations.setdefault(step.generation, []).append(known)
    return [
        Curve(
            name=name,
            points={
                number: spread
                for number, values in sorted(generations.items())
                if (spread := Spread.of(values)) is not None
            },
            level=name in levels,
        )
        for name, generations in found.items()
    ]


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _labelled(run: Run, line: Line) -> list[tuple[int, Job]]:
    """List the finished labellings of a line whose networks vote, with their generations."""
    if line.approach.labels != "inconsistency":
        return []
    return [
        (generation.number, generation.label)
        for generation in line.generations
        if generation.label is not None and run.store.done(generation.label)
    ]


def _course(unlabeled: Arrays, steps: Sequence[tuple[int, PseudoLabels]], row: int) -> Course:
    return Course(
        image=unlabeled.images[row],
        truth=None if unlabeled.labels is None else unlabeled.labels[row],
        labelled=tuple(
            Labelled(
                generation=number,
                labels=pseudo.labels[row],
                region=pseudo.region[row],
                keep=bool(pseudo.keep[row]),
            )
            for number, pseudo in steps
        ),
    )


def _best(lines: Sequence[Line], rows: Mapping[str, Row]) -> str | None:
    def val(name: str) -> float:
        spread = rows[name].val
        return -math.inf if spread is None else sortable(spread.mean)

    return max((line.approach.name for line in lines), key=val, default=None)


def _fit_of(run: Run, lines: Sequence[Line], name: str, seed: int, step: Step) -> Job:
    line = next(one for one in lines if (one.approach.name, one.seed) == (name, seed))
    generation: Generation = line.generations[step.generation]
    return best_fit(generation, run.store)


def _contest(run: Run, fits: Sequence[Job], names: tuple[str, str], seed: int) -> Contest | None:
    records = [run.store.folder(fit) / "test.json" for fit in fits]
    test = load_arrays(run.store.folder(run.plan.prepare), "test")
    if test.labels is None or len(test.images) != len(test.names):
        return None
    if not all(path.is_file() for path in records):
        return None
    primary = run.config.make_task().primary
    first, second = (
        np.array([record[primary] for record in json.loads(path.read_bytes())]) for path in records
    )
    lead = np.nan_to_num(second - first)
    order = np.argsort(lead, kind="stable")
    worse = [row for row in order[:RIVALS] if lead[row] < 0]
    better = [row for row in order[::-1][:RIVALS] if lead[row] > 0]
    rows = np.array([*better, *worse], np.int64)
    if not len(rows):
        return None
    networks = [load_network(run.store.folder(fit)) for fit in fits]
    voted = _predict(run, networks, test.images[rows], reserved=False)
    rivals = tuple(
        Rivals(
            image=test.images[row],
            truth=test.labels[row],
            first=voted[0, at],
            second=voted[1, at],
            scores=(float(first[row]), float(second[row])),
        )
        for at, row in enumerate(rows)
    )
    return Contest(
        names=names,
        seed=seed,
        better=rivals[: len(better)],
        worse=rivals[len(better) :],
        wins=int((lead > 0).sum()),
        images=len(lead),
    )


def _predict(
    run: Run, networks: Sequence[torch.nn.Module], images: np.ndarray, *, reserved: bool
) -> np.ndarray:
    """Predict a few images; uint8 [E, N, P, H, W]."""
    task = run.config.make_task()
    found = [v for _, v in votes(networks, images, task, device=CPU, reserved=reserved)]
    return torch.cat(found, 1).numpy()
