"""From a configuration to jobs: what is computed, in which order, and what is shared.

Four kinds of jobs, each keyed by everything its result depends on:

    prepare -> fit (one candidate) -> rank (order them, score the best n) -> label -> fit -> ...

Two approaches with the same start ask for the same jobs, which are done once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from imasks.approaches.approach import Approach
from imasks.approaches.generation import Source, sources, to_json, width
from imasks.approaches.recipes import find_approach
from imasks.jobs import Job
from imasks.models.unet import UNetConfig
from imasks.runs.config import RunConfig


@dataclass(frozen=True, kw_only=True)
class Generation:
    """The jobs of one generation of one approach and seed.

    Args:
        number: 0 is the supervised start.
        label: makes the pseudo-labels this generation learns from; None in generation 0.
        fits: one job a candidate.
        rank: orders them.
    """

    number: int
    label: Job | None
    fits: tuple[Job, ...]
    rank: Job


@dataclass(frozen=True, kw_only=True)
class Line:
    """One approach with one seed, generation by generation."""

    approach: Approach
    seed: int
    generations: tuple[Generation, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All lines of a run, and the job that prepares the data."""

    prepare: Job
    lines: tuple[Line, ...]

    @property
    def targets(self) -> list[Job]:
        """The last job of every line; all others are their inputs."""
        return [line.generations[-1].rank for line in self.lines]


def make_plan(config: RunConfig) -> Plan:
    """List the jobs of a run."""
    prepare = Job(
        kind="prepare",
        params={"checksum": config.checksum, "preparation": config.preparation.to_json()},
        label="prepare the data",
    )
    lines = [
        Line(
            approach=approach,
            seed=seed,
            generations=tuple(_generations(approach, seed, config, prepare)),
        )
        for seed in config.seeds
        for approach in map(find_approach, config.approaches)
    ]
    return Plan(prepare=prepare, lines=tuple(lines))


def steps_of(job: Job, config: RunConfig) -> float:
    """Optimiser steps of a fit job, from its estimated cost."""
    network: Any = job.params["network"]
    return job.weight / (_cost(network["width"], config) * config.how.recipe.batch)


def _generations(
    approach: Approach, seed: int, config: RunConfig, prepare: Job
) -> Iterator[Generation]:
    how = config.how
    start = approach if approach.start is None else find_approach(approach.start)
    current = _generation(start, 0, None, seed, config, prepare)
    yield current
    if approach.start is None:
        return
    for number in range(1, how.generations + 1):
        models = how.models if approach.labels == "inconsistency" else 1
        label = Job(
            kind="label",
            params={
                "task": _task(config),
                "models": models,
                "morphology": asdict(how.policy.morphology),
                # one network agrees with itself everywhere: nothing to filter by
                "choose": "filtered" if _filters(config) and models > 1 else "all",
                "device": config.device,
            },
            inputs=(prepare, current.rank, *current.fits),
            label=f"seed {seed}  {approach.name}  generation {number}: pseudo-labels",
            weight=_cost(width(approach, config.ladder, number - 1), config)
            * config.images["unlabeled"]
            * models
            / 3,
        )
        current = _generation(approach, number, label, seed, config, prepare)
        yield current


def _generation(
    approach: Approach,
    number: int,
    label: Job | None,
    seed: int,
    config: RunConfig,
    prepare: Job,
) -> Generation:
    how = config.how
    count = how.start_candidates if number == 0 else how.candidates
    wanted = sources(approach, how, config.ladder, number)
    network = UNetConfig(
        in_channels=config.preparation.channels,
        outputs=config.make_task().outputs,
        width=width(approach, config.ladder, number),
        dropout=how.recipe.dropout,
        norm_momentum=how.recipe.norm_momentum,
    )
    where = f"seed {seed}  {approach.name}" + (f"  generation {number}" if label else "")
    cost = _cost(network.width, config)
    params: dict[str, Any] = {
        "task": _task(config),
        "network": asdict(network),
        "recipe": asdict(how.recipe),
        "sources": to_json(wanted),
        "policy": asdict(how.policy) if label else None,
        "threads": config.threads,
        "device": config.device,
    }
    fits = tuple(
        Job(
            kind="fit",
            params={**params, "seed": [seed, number, candidate]},
            inputs=(prepare,) if label is None else (prepare, label),
            label=f"{where}: candidate {candidate + 1} of {count}",
            weight=cost * how.recipe.batch * how.recipe.total_steps(_pairs(wanted, config.images)),
        )
        for candidate in range(count)
    )
    rank = Job(
        kind="rank",
        params={"task": _task(config), "models": how.models, "device": config.device},
        inputs=(prepare, *fits),
        label=f"{where}: rank",
        weight=cost * (config.images["val"] + config.images["test"]) * how.models / 3,
    )
    return Generation(number=number, label=label, fits=fits, rank=rank)


def _filters(config: RunConfig) -> bool:
    asked = config.how.policy.filter
    return config.task == "binary" if asked is None else asked


def _task(config: RunConfig) -> dict[str, Any]:
    return {"name": config.task, "classes": list(config.classes)}


def _pairs(wanted: tuple[Source, ...], images: Mapping[str, int]) -> int:
    """Pairs of a training set, if no image is filtered out."""
    split = {"labeled": "labeled", "full": "unlabeled", "pseudo": "unlabeled"}
    return sum(images[split[source.pairs]] * max(1, source.frozen) for source in wanted)


def _cost(width: float, config: RunConfig) -> float:
    """Cost of training on one image, in units of a 256 x 256 image at width 1.

    Small networks are bound by memory traffic, which grows with the width, not with its square.
    """
    H, W = config.preparation.size
    return width * H * W / 256**2
