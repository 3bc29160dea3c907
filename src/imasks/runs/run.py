"""A run: its folder, its plan, and the work on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from imasks.data.folder import Dataset, open_dataset
from imasks.jobs import Job, Store, in_order, run_all
from imasks.models.unet import UNetConfig
from imasks.runs.config import RunConfig, agree_with_folder, read_config
from imasks.runs.configure import configure, workers_for
from imasks.runs.options import Options
from imasks.runs.plan import Plan, make_plan, steps_of
from imasks.runs.progress import shown
from imasks.runs.results import Outcome, Row, outcomes, rows
from imasks.training.pace import seconds_per_step

HANDLERS = "imasks.runs.handlers:HANDLERS"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run folder, its configuration and its plan."""

    folder: Path
    config: RunConfig
    plan: Plan

    @property
    def store(self) -> Store:
        """The job folders."""
        return Store(self.folder)

    def outcomes(self) -> list[Outcome]:
        """What every approach and seed has reached."""
        return outcomes(self.plan, self.config, self.store)

    def rows(self) -> list[Row]:
        """The results, summarised over seeds."""
        return rows(self.outcomes())


def plan_run(
    dataset: Dataset,
    folder: Path,
    *,
    approaches: Sequence[str],
    seeds: Sequence[int],
    options: Options,
    may_grow: bool = False,
    dry: bool = False,
) -> Run:
    """Resolve the configuration of a new run, or check it against a run that is there.

    Args:
        dataset: to learn from.
        folder: of the run.
        approaches: names.
        seeds: one independent run each.
        options: the user's wishes.
        may_grow: whether approaches and seeds may be added to a run that is there.
        dry: write nothing.

    Raises:
        UserError: an option is wrong, or the folder holds another run.
    """
    if not dry:
        folder.mkdir(parents=True, exist_ok=True)
    config = configure(dataset, options, approaches=approaches, seeds=seeds, folder=folder)
    if not dry or (folder / "run.toml").exists():
        config = agree_with_folder(folder, config, may_grow=may_grow)
    return Run(folder=folder, config=config, plan=make_plan(config))


def open_run(folder: Path | str) -> Run:
    """Open a run folder for reading; the data set is not needed.

    Raises:
        UserError: it is no run folder.
    """
    folder = Path(folder)
    config = read_config(folder)
    return Run(folder=folder, config=config, plan=make_plan(config))


def work(run: Run, *, workers: int, console: Console) -> None:
    """Do what is left of a run, showing progress.

    Raises:
        UserError: something the user can mend.
        JobFailed: anything else that went wrong in a job.
    """
    limit = partial(limit_threads, run.config.threads)
    before = torch.get_num_threads()
    limit()
    try:
        with shown(run.plan.targets, run.store, console, workers):
            run_all(run.plan.targets, run.store, HANDLERS, workers=workers, setup=limit)
    finally:
        torch.set_num_threads(before)


def limit_threads(count: int) -> None:
    """Give this process so many threads; called first thing in every worker."""
    torch.set_num_threads(count)
    # a checkpoint resumed on the same machine must give the same numbers
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def estimate(run: Run, *, workers: int) -> Mapping[str, float]:
    """Measure a few steps of every width and estimate the seconds of a run.

    Returns:
        "computing": summed over processes; "waiting": on the clock, with so many workers.
    """
    config = run.config
    task, recipe = config.make_task(), config.how.recipe
    before = torch.get_num_threads()
    limit_threads(config.threads)
    pace: dict[float, float] = {}
    computing = 0.0
    for job in _unfinished_fits(run):
        network = UNetConfig(**job.params["network"])  # type: ignore[arg-type]
        if network.width not in pace:
            pace[network.width] = seconds_per_step(
                network,
                task,
                recipe,
                size=config.preparation.size,
                device=torch.device(config.device),
                precision=recipe.precision,
            )
        computing += pace[network.width] * steps_of(job, config)
    torch.set_num_threads(before)
    # validation, augmentation and labelling come on top: about a fifth
    computing *= 1.2
    return {"computing": computing, "waiting": computing / workers}


def default_workers(run: Run, options: Options) -> int:
    """Processes to work with; see :func:`imasks.runs.configure.workers_for`."""
    return workers_for(options, run.config.how, run.config.device)


def data_of(run: Run) -> Dataset:
    """Open the data set that a run was trained on."""
    return open_dataset(run.config.data)


def _unfinished_fits(run: Run) -> list[Job]:
    jobs = in_order(run.plan.targets)
    return [job for job in jobs if job.kind == "fit" and not run.store.done(job)]
