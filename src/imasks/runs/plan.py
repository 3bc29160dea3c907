"""From a configuration to jobs: what is computed, in which order, and what is shared.

Kinds of jobs, each keyed by everything its result depends on:

    prepare -> fit (one candidate) -> rank (order them, score the best n) -> label -> fit -> ...

and, where EvalNets judge pseudo-labels or predictions,

    fit (a start's candidates) -> grader (one EvalNet) -> rank_graders
    label, rank_graders -> grade (copies of every pair) -> fit
    fit, rank_graders -> choose (labels: the best of all candidates' masks) -> fit
    rank, rank_graders -> quality (what EvalNets say of predictions, and what is true)

Two approaches with the same start ask for the same jobs, which are done once.
"""

from __future__ import annotations

from dataclasses import dataclass

from imasks.approaches.recipes import find_approach
from imasks.jobs import Job
from imasks.runs.config import RunConfig
from imasks.runs.line import Line, draw_line


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All lines of a run, and the job that prepares the data."""

    prepare: Job
    lines: tuple[Line, ...]

    @property
    def targets(self) -> list[Job]:
        """What ends every generation; all other jobs are inputs of these."""
        return [job for line in self.lines for job in line.targets]


def make_plan(config: RunConfig) -> Plan:
    """List the jobs of a run."""
    prepare = Job(
        kind="prepare",
        params={"checksum": config.checksum, "preparation": config.preparation.to_json()},
        label="prepare the data",
    )
    lines = [
        draw_line(approach, seed, config, prepare)
        for seed in config.seeds
        for approach in map(find_approach, config.approaches)
    ]
    return Plan(prepare=prepare, lines=tuple(lines))
