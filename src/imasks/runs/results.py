"""What a run found, read from its job folders alone; finished or not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from imasks.jobs import Job, Store, in_order
from imasks.runs.config import RunConfig
from imasks.runs.plan import Generation, Line, Plan


@dataclass(frozen=True, kw_only=True)
class Step:
    """One finished generation of one approach and seed.

    Args:
        generation: 0 is the supervised start.
        val: the best candidate's validation score.
        test: its score on the test images; None without test images.
        ensemble_val: of the mean probability of the best n candidates.
        ensemble_test: likewise.
        im_share: mean share of pixels in the inconsistency masks learned with; None in
            generation 0.
        kept: share of the unlabeled images learned with.
        pseudo_label_score: of the pseudo-labels learned with, outside their inconsistency masks;
            None without true masks of the unlabeled images, which training never sees.
        parameters: of the network.
    """

    generation: int
    val: float
    test: float | None
    ensemble_val: float
    ensemble_test: float | None
    im_share: float | None
    kept: float | None
    pseudo_label_score: float | None
    parameters: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One approach with one seed.

    Args:
        approach: its name.
        seed: of the run.
        steps: the finished generations, in order.
        complete: whether all are.
        seconds: of computing that went into it, shared starts counted in.
        done: jobs done.
        jobs: all of its jobs.
    """

    approach: str
    seed: int
    steps: tuple[Step, ...]
    complete: bool
    seconds: float
    done: int
    jobs: int

    @property
    def chosen(self) -> Step | None:
        """The generation with the best validation score: what a user is given."""
        return max(self.steps, key=lambda step: sortable(step.val), default=None)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A mean over seeds with its deviation (None for a single seed)."""

    mean: float
    deviation: float | None
    count: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """Summarise the values that are there; None if there is none."""
        known = [value for value in values if value is not None]
        if not known:
            return None
        spread = stdev(known) if len(known) > 1 else None
        return cls(mean=fmean(known), deviation=spread, count=len(known))

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.deviation is None else f"±{self.deviation:.3f}")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One approach over all seeds.

    Args:
        approach: its name.
        generation: the chosen generations, one a seed.
        val: validation scores of the chosen candidates.
        test: their test scores.
        ensemble_test: test scores of the chosen generation's ensemble.
        gap: share of the way from LDT to FDT, see :func:`gap_closed`.
        seconds: computing time.
        complete: whether every seed is finished.
        progress: "jobs done / jobs".
    """

    approach: str
    generation: tuple[int, ...]
    val: Spread | None
    test: Spread | None
    ensemble_test: Spread | None
    gap: float | None
    seconds: float
    complete: bool
    progress: str


def outcomes(plan: Plan, config: RunConfig, store: Store) -> list[Outcome]:
    """Read what every approach and seed has reached."""
    primary = config.make_task().primary
    return [_outcome(line, store, primary) for line in plan.lines]


def rows(found: Iterable[Outcome]) -> list[Row]:
    """Summarise over seeds, in the order of first appearance."""
    found = list(found)
    return [_row(name, found) for name in dict.fromkeys(one.approach for one in found)]


def gap_closed(
    values: Mapping[int, float], ldt: Mapping[int, float], fdt: Mapping[int, float]
) -> float | None:
    """Return (x - LDT) / (FDT - LDT) of the means over the seeds that all three have.

    Not the mean of the seeds' own gaps, which a small denominator would rule; nor with a
    deviation, as a ratio of noisy differences has no useful one.

    Args:
        values: scores by seed.
        ldt: those of the lower bound.
        fdt: those of the upper bound.

    Returns:
        None if they share no seed, or FDT is not above LDT.
    """
    shared = values.keys() & ldt.keys() & fdt.keys()
    if not shared:
        return None
    x, low, high = (fmean(one[seed] for seed in shared) for one in (values, ldt, fdt))
    return (x - low) / (high - low) if high > low else None


def sortable(score: float) -> float:
    """Put a score that is not a number last."""
    return -math.inf if math.isnan(score) else score


def jobs_of(line: Line) -> list[Job]:
    """All jobs of an approach and seed, shared ones included."""
    return in_order([line.generations[-1].rank])


def _outcome(line: Line, store: Store, primary: str) -> Outcome:
    steps = [
        _step(generation, store, primary)
        for generation in line.generations
        if store.done(generation.rank)
    ]
    jobs = jobs_of(line)
    done = [job for job in jobs if store.done(job)]
    return Outcome(
        approach=line.approach.name,
        seed=line.seed,
        steps=tuple(steps),
        complete=len(done) == len(jobs),
        seconds=sum(store.elapsed(job) for job in jobs),
        done=len(done),
        jobs=len(jobs),
    )


def _step(generation: Generation, store: Store, primary: str) -> Step:
    ranked: dict[str, Any] = store.result(generation.rank)
    best, ensemble = ranked["best"], ranked["ensemble"]
    labelled = store.result(generation.label) if generation.label else None
    return Step(
        generation=generation.number,
        val=best["val"][primary],
        test=best.get("test", {}).get(primary),
        ensemble_val=ensemble["val"][primary],
        ensemble_test=ensemble.get("test", {}).get(primary),
        im_share=labelled["im_share"] if labelled else None,
        kept=labelled["kept"] / labelled["images"] if labelled else None,
        pseudo_label_score=labelled.get("agreement", {}).get(primary) if labelled else None,
        parameters=best["parameters"],
    )


def _row(name: str, found: list[Outcome]) -> Row:
    mine = [one for one in found if one.approach == name]
    chosen = [one.chosen for one in mine]
    return Row(
        approach=name,
        generation=tuple(step.generation for step in chosen if step),
        val=Spread.of(step.val if step else None for step in chosen),
        test=Spread.of(step.test if step else None for step in chosen),
        ensemble_test=Spread.of(step.ensemble_test if step else None for step in chosen),
        gap=gap_closed(*(_tested(one, found) for one in (name, "LDT", "FDT"))),
        seconds=sum(one.seconds for one in mine),
        complete=all(one.complete for one in mine),
        progress=f"{sum(one.done for one in mine)}/{sum(one.jobs for one in mine)}",
    )


def _tested(name: str, found: list[Outcome]) -> dict[int, float]:
    """Test scores of an approach by seed."""
    return {
        one.seed: one.chosen.test
        for one in found
        if one.approach == name and one.chosen and one.chosen.test is not None
    }
