"""What a run found, read from its job folders alone; finished or not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import stdev
from typing import Any

from imasks.jobs import Job, Store, attainable, in_order
from imasks.runs.config import RunConfig
from imasks.runs.line import Generation, Line
from imasks.runs.plan import Plan
from imasks.tasks import Task

_TRAINED = ("fit", "grader")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One finished generation of one approach and seed.

    Args:
        generation: 0 is the supervised start.
        network: key of the best candidate's job; approaches that share a start share it.
        labels: key of the job whose pseudo-labels were learned from; None in generation 0, and
            where there are none.
        val: the best candidate's validation score.
        test: its score on the test images; None without test images.
        ensemble_val: validation score of the mean probability of the best n candidates.
        ensemble_test: likewise, on the test images.
        im_share: mean share of pixels in the inconsistency masks learned with; None in
            generation 0.
        kept: share of the unlabeled images learned with.
        copies: how often each of these is shown, on average; None where nothing grades them.
        pseudo_label_score: of the pseudo-labels of all unlabeled images, those not kept included,
            outside their inconsistency masks; None without true masks, which training never sees.
        parameters: of the best candidate.
        val_deviation: of the validation scores of all candidates; None for a single one.
        steps: optimiser steps of the best candidate.
        images_seen: image-mask pairs shown in training (optimiser steps times batch) to the best
            candidate and to every network that had a part in its pseudo-labels, back to the start.
            Candidates that were trained and not used are not counted. None where a result is
            missing.
        evalnet_share: share of these images that EvalNets saw, who learn beside any budget; None
            where the number is not known.
        seconds: of computing up to here, all candidates and the shared start counted in.
        quality: how well EvalNets tell the scores of the ensemble's predictions of test images, see
            :func:`imasks.labelling.calibration.prediction_quality`; empty where they do not.
        conventions: the best candidate's score by other conventions about images without
            foreground, as "val_..." and "test_..."; empty where the task has none. They choose
            nothing.
        never_predicted: labeled classes of the validation masks that the ensemble never predicts
            there.
        vanished: labeled classes of which the pseudo-labels learned with have no pixel.
        beside: further test scores of the best candidate, those of
            :attr:`imasks.tasks.Task.beside`.
    """

    generation: int
    network: str
    labels: str | None
    val: float
    test: float | None
    ensemble_val: float
    ensemble_test: float | None
    im_share: float | None
    kept: float | None
    pseudo_label_score: float | None
    parameters: int
    val_deviation: float | None
    steps: int
    images_seen: int | None
    seconds: float
    quality: Mapping[str, float | None] = field(default_factory=dict)
    evalnet_share: float | None = None
    copies: float | None = None
    conventions: Mapping[str, float] = field(default_factory=dict)
    never_predicted: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()
    beside: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """Why an approach with a seed ended before its last generation.

    Args:
        generation: the first that could not be trained.
        reason: what was found, with its value.
        remedy: what to do about it.
    """

    generation: int
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"ended in generation {self.generation}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One approach with one seed.

    Args:
        approach: its name.
        seed: of the run.
        steps: the finished generations, in order.
        complete: whether nothing is left to do.
        seconds: of computing that went into it, shared starts counted in.
        done: jobs done, the preparation of the data not counted.
        jobs: all of its jobs, likewise; without those after its ending, if it has one.
        ended: why it ended before its last generation; None where it did not.
        waits: whether it has no generation of its own yet and is to have some: what is known of it
            then is the start's, which other approaches share.
    """

    approach: str
    seed: int
    steps: tuple[Step, ...]
    complete: bool
    seconds: float
    done: int
    jobs: int
    ended: Ending | None = None
    waits: bool = False

    @property
    def chosen(self) -> Step | None:
        """The generation whose best networks together have the best validation score.

        They are what a user is given, and a single one's score says less of them.
        """
        return max(self.steps, key=lambda step: sortable(step.ensemble_val), default=None)


def outcomes(plan: Plan, config: RunConfig, store: Store) -> list[Outcome]:
    """Read what every approach and seed has reached."""
    task = config.make_task()
    return [_outcome(line, store, task) for line in plan.lines]


def best_fit(generation: Generation, store: Store) -> Job:
    """Find the job of a finished generation's best candidate."""
    key = store.result(generation.rank)["ranked"][0]
    return next(job for job in generation.fits if job.key == key)


def images_seen(fit: Job, store: Store) -> int | None:
    """Count the image-mask pairs shown in training to a network and to all its labellers.

    Args:
        fit: a job that trained a network.
        store: its job folders.

    Returns:
        Optimiser steps times batch, summed over the network and, again and again, those that voted
        on what it learned from and the one that it went on from; each network once. None where a
        job's result is missing.
    """
    seen = _seen(fit, store)
    return None if seen is None else sum(seen.values())


def _seen(fit: Job, store: Store) -> dict[Job, int] | None:
    """What :func:`images_seen` sums, by job."""
    counted: dict[Job, int] = {}

    def visit(job: Job) -> bool:
        if job in counted:
            return True
        if not store.done(job):
            return False
        result, recipe = store.result(job), job.params.get("recipe")
        batch = recipe["batch"] if isinstance(recipe, Mapping) else 0
        counted[job] = result.get("steps", 0) * batch
        voted = result.get("networks")
        taught = [
            needed
            for needed in job.inputs
            # which read all candidates and teach none
            if needed.kind not in ("rank", "rank_graders")
            and not (needed.kind in _TRAINED and voted is not None and needed.key not in voted)
        ]
        return all(visit(needed) for needed in taught)

    return counted if visit(fit) else None


def sortable(score: float) -> float:
    """Put a score that is not a number last."""
    return -math.inf if math.isnan(score) else score


def jobs_of(line: Line) -> list[Job]:
    """All jobs of an approach and seed, shared ones included."""
    return in_order(line.targets)


def own_jobs(jobs: Iterable[Job]) -> list[Job]:
    """Leave out the preparation of the data, which is every line's."""
    return [job for job in jobs if job.kind != "prepare"]


def _outcome(line: Line, store: Store, task: Task) -> Outcome:
    jobs = jobs_of(line)
    seconds = {job: store.elapsed(job) for job in jobs}
    steps = [
        _step(generation, store, task, seconds)
        for generation in line.generations
        if store.done(generation.rank)
    ]
    wanted = attainable(jobs, store)
    done = [job for job in wanted if store.done(job)]
    return Outcome(
        approach=line.approach.name,
        seed=line.seed,
        steps=tuple(steps),
        complete=len(done) == len(wanted),
        seconds=sum(seconds.values()),
        done=len(own_jobs(done)),
        jobs=len(own_jobs(wanted)),
        ended=_ending(line, store),
        waits=waits(line, store),
    )


def waits(line: Line, store: Store) -> bool:
    """Tell whether a line is to have generations of its own and has none yet."""
    own = line.generations[1:]
    return bool(own) and not store.done(own[0].rank) and _ending(line, store) is None


def _ending(line: Line, store: Store) -> Ending | None:
    for generation in line.generations:
        if store.done(generation.rank):
            continue
        for job in in_order([generation.rank]):
            found = None if store.done(job) else store.dead_end(job)
            if found is not None:
                value = "" if found["value"] is None else f" ({found['value']})"
                return Ending(
                    generation=generation.number,
                    reason=f"{found['what']}{value}",
                    remedy=found["remedy"],
                )
    return None


def _step(generation: Generation, store: Store, task: Task, seconds: Mapping[Job, float]) -> Step:
    primary = task.primary
    ranked: dict[str, Any] = store.result(generation.rank)
    best, ensemble = ranked["best"], ranked["ensemble"]
    label = generation.label
    labelled = store.result(label) if label and store.done(label) else None
    grade = generation.grade
    vals = ranked["val_ranked"]
    fit = best_fit(generation, store)
    seen = _seen(fit, store)
    return Step(
        generation=generation.number,
        network=fit.key,
        labels=label.key if labelled and label else None,
        val=best["val"][primary],
        test=best.get("test", {}).get(primary),
        ensemble_val=ensemble["val"][primary],
        ensemble_test=ensemble.get("test", {}).get(primary),
        im_share=labelled["im_share"] if labelled else None,
        kept=labelled["kept"] / labelled["images"] if labelled else None,
        copies=store.result(grade)["copies"] if grade and store.done(grade) else None,
        pseudo_label_score=labelled.get("agreement", {}).get(primary) if labelled else None,
        parameters=best["parameters"],
        val_deviation=stdev(vals) if len(vals) > 1 else None,
        steps=best["steps"],
        images_seen=None if seen is None else sum(seen.values()),
        evalnet_share=None if seen is None else _share(seen, "grader"),
        seconds=sum(seconds[job] for job in in_order([generation.rank])),
        quality=_quality(generation, store),
        conventions=_conventions(best, task),
        never_predicted=tuple(ranked.get("never_predicted", ())),
        vanished=tuple(labelled.get("vanished", ())) if labelled else (),
        beside={name: best["test"][name] for name in task.beside if name in best.get("test", {})},
    )


def _share(seen: Mapping[Job, int], kind: str) -> float:
    return sum(n for job, n in seen.items() if job.kind == kind) / max(1, sum(seen.values()))


def _conventions(best: Mapping[str, Any], task: Task) -> dict[str, float]:
    return {
        f"{split}_{name}": best[split][name]
        for split in ("val", "test")
        for name in task.conventions
        if name in best.get(split, {})
    }


def _quality(generation: Generation, store: Store) -> dict[str, float | None]:
    job = generation.quality
    return store.result(job).get("test", {}) if job and store.done(job) else {}
