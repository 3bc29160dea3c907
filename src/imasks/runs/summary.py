"""What approaches reached over all seeds: means, spreads, and differences paired by seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import TypedDict

from imasks.runs.results import Outcome, Step

LOWER, UPPER = "LDT", "FDT"  # the bounds that every other approach is measured against
QUALITY = {  # columns of a table, and the numbers they show
    "correlation": "pearson",
    "rank correlation": "spearman",
    "mean error": "mae",
    "bad": "bad",
    "bad in lowest tenth": "bad_in_lowest_tenth",
}


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A mean over seeds with the deviation of a single one (None for a single seed)."""

    mean: float
    deviation: float | None
    count: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """Summarise the numbers that are there, NaN left out; None if there is none."""
        known = [value for value in values if value is not None and not math.isnan(value)]
        if not known:
            return None
        spread = stdev(known) if len(known) > 1 else None
        return cls(mean=fmean(known), deviation=spread, count=len(known))

    @property
    def error(self) -> float | None:
        """The standard error of the mean; None for a single seed."""
        return None if self.deviation is None else self.deviation / math.sqrt(self.count)

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.deviation is None else f"±{self.deviation:.3f}")

    def as_difference(self) -> str:
        """Write the mean with its sign and its standard error."""
        return f"{self.mean:+.3f}" + ("" if self.error is None else f"±{self.error:.3f}")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One approach over all seeds. What holds one number a seed holds the chosen generation's.

    Args:
        approach: its name.
        generation: the chosen generations, one a seed.
        val: validation scores of the chosen candidates.
        test: their test scores.
        ensemble_val: validation scores of the chosen generations' ensembles, which chose them.
        ensemble_test: their test scores.
        to_lower: test score less that of LDT with the same seed; None for LDT itself.
        gap: share of the way from LDT to FDT, see :func:`gap_closed`.
        parameters: of the chosen networks, one number a seed.
        steps: optimiser steps of the chosen networks, likewise.
        images_seen: see :class:`imasks.runs.results.Step`, likewise.
        evalnet_share: of all images that were seen, all seeds together; None where no EvalNet had
            a part.
        quality: likewise, each number over seeds; empty without EvalNets.
        conventions: the score by other conventions about images without foreground, likewise; see
            :class:`imasks.runs.results.Step`.
        beside: further test scores of the chosen candidates, see the same place.
        seconds: computing time of all seeds.
        complete: whether every seed is finished.
        seeds: of the run; numbers may be of fewer, until it is finished.
        progress: "jobs done / jobs".
        waits: whether no seed has a generation of the approach's own yet and is to have some: all
            numbers are its start's. Otherwise seeds that wait are left out.
        ended: how seeds ended before their last generation, one sentence each, with the seed.
    """

    approach: str
    generation: tuple[int, ...]
    val: Spread | None
    test: Spread | None
    ensemble_val: Spread | None
    ensemble_test: Spread | None
    to_lower: Spread | None
    gap: float | None
    parameters: tuple[int, ...]
    steps: tuple[int, ...]
    images_seen: tuple[int, ...]
    seconds: float
    complete: bool
    seeds: int
    progress: str
    waits: bool = False
    ended: tuple[str, ...] = ()
    evalnet_share: float | None = None
    quality: Mapping[str, Spread] = field(default_factory=dict)
    conventions: Mapping[str, Spread] = field(default_factory=dict)
    beside: Mapping[str, Spread] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """What must be known of the numbers: "", "ended", "not finished", "start only"."""
        if self.waits:
            return "start only"
        if not self.complete:
            count = self.val.count if self.val else 0
            few = f", {count} of {self.seeds} seeds" if 0 < count < self.seeds else ""
            return f"not finished{few}"
        return "ended" if self.ended else ""

    @property
    def named(self) -> str:
        """The approach's name, with the state if there is anything to know."""
        return f"{self.approach} ({self.state})" if self.state else self.approach


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One generation of one approach over all seeds, whether or not validation chose it.

    Args:
        approach: its name.
        generation: 0 is the supervised start.
        networks: keys of the best candidates, one a seed; approaches that share a start share them.
        val: validation scores of the best candidates.
        test: their test scores.
        ensemble_test: test scores of the ensembles.
        to_lower: test score less that of LDT with the same seed; None for LDT itself.
        gap: share of the way from LDT to FDT, see :func:`gap_closed`.
        pseudo_label_score: see :class:`imasks.runs.results.Step`.
        im_share: of the pixels that the inconsistency masks take, likewise.
        kept: of the unlabeled images learned with, likewise.
        seconds: of computing up to here, all candidates and the start counted in, the mean of the
            seeds.
    """

    approach: str
    generation: int
    networks: frozenset[str]
    val: Spread | None
    test: Spread | None
    ensemble_test: Spread | None
    to_lower: Spread | None
    gap: float | None
    pseudo_label_score: Spread | None
    im_share: Spread | None
    kept: Spread | None
    seconds: float


def stages(found: Iterable[Outcome]) -> list[Stage]:
    """Summarise every generation over seeds, in the order of first appearance.

    A start is listed once: for the approach that is nothing else, or the first that has it.
    """
    found = list(found)
    lower, upper = (_scores(_chosen(name, found)) for name in (LOWER, UPPER))
    made: list[Stage] = []
    listed = [
        frozenset(o.steps[0].network for o in found if o.approach == name and o.steps)
        for name in dict.fromkeys(one.approach for one in found)
        if all(len(o.steps) <= 1 and not o.waits for o in found if o.approach == name)
    ]
    for name in dict.fromkeys(one.approach for one in found):
        mine = [one for one in found if one.approach == name]
        numbers = sorted({step.generation for one in mine for step in one.steps})
        for number in numbers:
            by_seed = {o.seed: s for o in mine for s in o.steps if s.generation == number}
            steps = list(by_seed.values())
            networks = frozenset(step.network for step in steps)
            has_more = len(numbers) > 1 or any(one.waits for one in mine)
            if has_more and any(networks <= one for one in listed):
                continue
            listed.append(networks)
            made.append(
                Stage(
                    approach=name,
                    generation=number,
                    networks=networks,
                    **_measured(name, by_seed, lower, upper),
                    pseudo_label_score=Spread.of(step.pseudo_label_score for step in steps),
                    im_share=Spread.of(step.im_share for step in steps),
                    kept=Spread.of(step.kept for step in steps),
                    seconds=fmean(step.seconds for step in steps),
                )
            )
    return made


def rows(found: Iterable[Outcome]) -> list[Row]:
    """Summarise over seeds, in the order of first appearance."""
    found = list(found)
    return [_row(name, found) for name in dict.fromkeys(one.approach for one in found)]


def paired(values: Mapping[int, float], reference: Mapping[int, float]) -> Spread | None:
    """Summarise the differences of the seeds that both have; None if they share none.

    A seed's approaches share starts and orders, so that much of the noise cancels.
    """
    return Spread.of(value - reference[seed] for seed, value in values.items() if seed in reference)


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


def _row(name: str, found: list[Outcome]) -> Row:
    mine = [one for one in found if one.approach == name]
    by_seed = _chosen(name, found)
    lower, upper = (_scores(_chosen(one, found)) for one in (LOWER, UPPER))
    chosen = list(by_seed.values())
    seen = [(s.images_seen, s.evalnet_share) for s in chosen if s.images_seen and s.evalnet_share]
    shown = sum(step.images_seen or 0 for step in chosen)
    waiting = bool(chosen) and all(one.waits for one in mine)
    measured = _measured(name, by_seed, lower, upper)
    if waiting:  # of the start there is nothing to say
        measured |= {"to_lower": None, "gap": None}
    return Row(
        approach=name,
        generation=tuple(step.generation for step in chosen),
        **measured,
        ensemble_val=Spread.of(step.ensemble_val for step in chosen),
        parameters=tuple(step.parameters for step in chosen),
        steps=tuple(step.steps for step in chosen),
        images_seen=tuple(step.images_seen for step in chosen if step.images_seen is not None),
        evalnet_share=sum(n * share for n, share in seen) / shown if seen else None,
        seconds=sum(one.seconds for one in mine),
        complete=all(one.complete for one in mine),
        seeds=len(mine),
        progress=f"{sum(one.done for one in mine)}/{sum(one.jobs for one in mine)}",
        waits=waiting,
        ended=tuple(f"seed {one.seed} {one.ended}" for one in mine if one.ended),
        quality=_by_name([step.quality for step in chosen]),
        conventions=_by_name([step.conventions for step in chosen]),
        beside=_by_name([step.beside for step in chosen]),
    )


class _Measured(TypedDict):
    """What rows and stages say alike."""

    val: Spread | None
    test: Spread | None
    ensemble_test: Spread | None
    to_lower: Spread | None
    gap: float | None


def _measured(
    name: str, steps: Mapping[int, Step], lower: Mapping[int, float], upper: Mapping[int, float]
) -> _Measured:
    """Summarise an approach's steps, one a seed, beside the bounds' test scores by seed."""
    tests = _scores(steps)
    return {
        "val": Spread.of(step.val for step in steps.values()),
        "test": Spread.of(tests.values()),
        "ensemble_test": Spread.of(step.ensemble_test for step in steps.values()),
        "to_lower": None if name == LOWER else paired(tests, lower),
        "gap": gap_closed(tests, lower, upper),
    }


def _by_name(
    found: Sequence[Mapping[str, float | None] | Mapping[str, float]],
) -> dict[str, Spread]:
    names = dict.fromkeys(name for one in found for name in one)
    spreads = {name: Spread.of(one.get(name) for one in found) for name in names}
    return {name: spread for name, spread in spreads.items() if spread is not None}


def _chosen(name: str, found: Iterable[Outcome]) -> dict[int, Step]:
    """The chosen generations of an approach by seed, without those that wait unless all do."""
    mine = [one for one in found if one.approach == name]
    begun = [one for one in mine if not one.waits]
    if not any(one.chosen for one in begun):
        begun = mine
    return {one.seed: one.chosen for one in begun if one.chosen is not None}


def _scores(steps: Mapping[int, Step]) -> dict[int, float]:
    """Test scores by seed, where there are any."""
    known = {seed: step.test for seed, step in steps.items()}
    return {seed: test for seed, test in known.items() if test is not None and not math.isnan(test)}
