"""Which of a run's networks to predict with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from imasks.approaches.recipes import find_approach
from imasks.errors import UserError
from imasks.jobs import Job, attainable, in_order
from imasks.runs.line import Generation, Line
from imasks.runs.results import sortable, waits
from imasks.runs.run import Run


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The generation of a run that is predicted with.

    Args:
        approach: its name.
        seed: of the run.
        generation: 0 is the supervised start.
        val: validation score of its best candidates together.
        rank: the job that put its candidates in order.
        fits: the jobs of the best candidates, the best first: the ensemble.
        quality: the finished job that says how well EvalNets judge its predictions; None where
            they do not, or not yet.
        done: jobs that are done, of the approaches and seeds that were chosen from.
        jobs: all of theirs, without dead ends and what builds on them; while some are left, another
            run of :func:`choose` may find better.
    """

    approach: str
    seed: int
    generation: int
    val: float
    rank: Job
    fits: tuple[Job, ...]
    quality: Job | None = None
    done: int
    jobs: int

    def __str__(self) -> str:
        networks = "1 network" if len(self.fits) == 1 else f"{len(self.fits)} networks"
        text = (
            f"{self.approach}, seed {self.seed}, generation {self.generation}: {networks}, "
            f"validation score {self.val:.3f}"
        )
        if self.done < self.jobs:
            text += f". Not finished ({self.done}/{self.jobs} jobs): what is best may change"
        return text

    def to_json(self) -> dict[str, Any]:
        """Return what a table of predictions should be kept with."""
        return {
            "approach": self.approach,
            "seed": self.seed,
            "generation": self.generation,
            "val": None if math.isnan(self.val) else self.val,
            "networks": [job.key for job in self.fits],
            "quality": None if self.quality is None else self.quality.key,
            "finished": self.done == self.jobs,
        }


def choose(run: Run, *, approach: str | None = None, seed: int | None = None) -> Chosen:
    """Choose the finished generation whose ensemble has the best validation score.

    Of equal ones the first.

    A start is no choice while its approach has no generation of its own yet, unless there is
    nothing else: other seeds and approaches would be judged by what is not theirs.

    Args:
        run: may still be going on.
        approach: only of this approach.
        seed: only of this seed.

    Raises:
        UserError: the run has no such approach or seed, or nothing is finished yet.
    """
    lines = _lines(run, approach, seed)
    begun = [line for line in lines if not waits(line, run.store)]
    finished = _finished(run, begun) or _finished(run, lines)
    if not finished:
        raise UserError(
            f"{run.folder} has no finished generation to predict with",
            value=", ".join(dict.fromkeys(line.approach.name for line in lines)),
            remedy=f"`imasks status {run.folder}` shows how far it is; run the command that "
            "started it again to go on.",
        )
    line, generation = max(finished, key=lambda pair: sortable(_val(run, pair[1])))
    by_key = {job.key: job for job in generation.fits}
    jobs = attainable(in_order([job for each in lines for job in each.targets]), run.store)
    quality = generation.quality
    ranked = run.store.result(generation.rank)["ranked"]
    return Chosen(
        approach=line.approach.name,
        seed=line.seed,
        generation=generation.number,
        val=_val(run, generation),
        rank=generation.rank,
        fits=tuple(by_key[key] for key in ranked[: line.how.models]),
        quality=quality if quality and run.store.done(quality) else None,
        done=sum(run.store.done(job) for job in jobs),
        jobs=len(jobs),
    )


def _finished(run: Run, lines: Sequence[Line]) -> list[tuple[Line, Generation]]:
    return [
        (line, generation)
        for line in lines
        for generation in line.generations
        if run.store.done(generation.rank)
    ]


def _lines(run: Run, approach: str | None, seed: int | None) -> list[Line]:
    """Return the lines of a run that are asked for, at least one."""
    config = run.config
    name = None if approach is None else find_approach(approach).name
    for what, asked, there in (
        ("approach", name, config.approaches),
        ("seed", seed, config.seeds),
    ):
        if asked is not None and asked not in there:
            raise UserError(
                f"{run.folder} has no such {what}",
                value=asked,
                remedy=f"Use {' or '.join(map(str, there))}.",
            )
    return [
        line
        for line in run.plan.lines
        if name in (None, line.approach.name) and seed in (None, line.seed)
    ]


def _val(run: Run, generation: Generation) -> float:
    ensemble = run.store.result(generation.rank)["ensemble"]
    return float(ensemble["val"][run.config.make_task().primary])
