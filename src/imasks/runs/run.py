"""A run: its folder, its plan, and the work on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from rich.console import Console

from imasks.approaches.recipes import find_approach
from imasks.data.card import shorten
from imasks.data.checksum import changed_files
from imasks.data.folder import Dataset, open_dataset
from imasks.data.resources import cores
from imasks.data.reviewed import REVIEWED, apply_review, keep_review
from imasks.errors import UserError
from imasks.jobs import Job, Store, in_order, run_all, unfinished
from imasks.jobs.memory import keep_freed_memory
from imasks.models.evalnet import EvalNetConfig
from imasks.models.networks import NetworkConfig, from_record
from imasks.runs.config import (
    FILE,
    RunConfig,
    agree,
    read_asked,
    read_config,
    read_versions,
    write_config,
)
from imasks.runs.configure import complete, configure, workers_for
from imasks.runs.cost import steps_of
from imasks.runs.networks import FOLDER, keep_weights
from imasks.runs.options import Options
from imasks.runs.plan import Plan, make_plan
from imasks.runs.progress import makespan, shown
from imasks.runs.results import Outcome, jobs_of, outcomes
from imasks.runs.summary import Row, rows
from imasks.training.pace import seconds_per_step
from imasks.training.recipe import Recipe

HANDLERS = "imasks.runs.handlers:HANDLERS"
SETUP = "imasks.runs.run:set_up_worker"
CHECKSUMS, LOCK = "checksums.json", ".lock"
OURS = (CHECKSUMS, LOCK, REVIEWED, FOLDER)  # there before run.toml is
PATIENCE = 2.0  # seconds for each kind of network, if it is that fast
NETWORKS: Mapping[str, Callable[[Any], NetworkConfig | EvalNetConfig]] = {  # of jobs that train
    "fit": from_record,
    "grader": lambda record: EvalNetConfig(**record),
}


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
        UserError: an option is wrong, or the folder holds another run or something else. Nothing
            has been written then.
    """
    check_out(folder, dataset)
    if options.review is not None:
        dataset = apply_review(dataset, Path(options.review))
    wanted = configure(dataset, options, approaches=approaches, seeds=seeds)
    if dry:
        config, _ = _settle(folder, wanted, dataset, options, may_grow=may_grow, cache=None)
    else:
        new = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        config = _begin(folder, wanted, dataset, options, may_grow=may_grow, new=new)
    return Run(folder=folder, config=config, plan=make_plan(config))


def _begin(
    folder: Path,
    wanted: RunConfig,
    dataset: Dataset,
    options: Options,
    *,
    may_grow: bool,
    new: Sequence[Path],
) -> RunConfig:
    """Settle the configuration of a run and write what it needs to begin, or to grow.

    Folders that are new, the innermost first, are removed again if there is nothing to keep.
    """
    cache = folder / CHECKSUMS
    with FileLock(folder / LOCK):  # or each of two first starts would write what it measured
        try:
            config, there = _settle(
                folder, wanted, dataset, options, may_grow=may_grow, cache=cache
            )
        except UserError:
            with suppress(OSError):
                if new and [path.name for path in folder.iterdir()] == [LOCK]:
                    (folder / LOCK).unlink()
                    for path in new:
                        path.rmdir()
            raise
        if there is None:
            if dataset.review is not None:
                keep_review(dataset, folder / REVIEWED)
            keep_weights(folder, config.networks, options)
            write_config(folder, config, asked=options.asked())
        elif config != there:
            asked = read_asked(folder)  # either wording leads to the same configuration
            asked = options.asked() if asked is None else asked
            write_config(folder, config, versions=read_versions(folder), asked=asked)
    return config


def check_out(folder: Path, dataset: Dataset) -> None:
    """Make sure that a folder is a run's, or free to become one.

    Raises:
        UserError: it is a file, the data folder, or holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file", remedy="Give a folder to --out.")
    if folder.resolve() == dataset.folder.resolve():
        raise UserError(
            f"{folder} is the data folder", remedy="Give the run a folder of its own with --out."
        )
    strange = (
        [path.name for path in folder.iterdir() if path.name not in OURS and path.name[0] != "."]
        if folder.exists()
        else []
    )
    # asked last: another process may just have begun the run
    if strange and not (folder / FILE).exists():
        raise UserError(
            f"{folder} is not empty and no run folder: {FILE} is missing",
            value=", ".join(sorted(strange)[:3]),
            remedy="Give --out a new folder, so that nothing of yours gets mixed up.",
        )


def _settle(
    folder: Path,
    wanted: RunConfig,
    dataset: Dataset,
    options: Options,
    *,
    may_grow: bool,
    cache: Path | None,
) -> tuple[RunConfig, RunConfig | None]:
    """Measure what is open and check it against a run that is there; return both, writing none.

    A run of which nothing is finished yet counts as none if it does not agree: its first job may
    just have found what is wrong with the data.
    """
    there = read_config(folder) if (folder / FILE).exists() else None
    if there is None:
        return complete(wanted, dataset, options, there=None, cache=cache), None
    try:
        return _continued(folder, there, wanted, dataset, options, may_grow, cache), there
    except UserError:
        store, first = Store(folder), make_plan(there).prepare
        if store.done(first) or store.claimed(first):
            raise
    return complete(wanted, dataset, options, there=None, cache=cache), None


def _continued(
    folder: Path,
    there: RunConfig,
    wanted: RunConfig,
    dataset: Dataset,
    options: Options,
    may_grow: bool,
    cache: Path | None,
) -> RunConfig:
    """Check a configuration against that of a run that is there, and return what both are."""
    _check_review(there, wanted, folder)
    wanted = replace(wanted, review=there.review)  # its folder may have been moved
    config = complete(wanted, dataset, options, there=there, cache=cache)
    if config.checksum != there.checksum:
        raise UserError(
            f"the checksum of {config.data} has changed since the run in {folder} began",
            value=shorten(changed_files(dataset, folder / CHECKSUMS)),
            remedy="Restore the data, or start a new run with another --out.",
        )
    return agree(there, config, folder=folder, may_grow=may_grow)


def _check_review(there: RunConfig, wanted: RunConfig, folder: Path) -> None:
    old, new = there.review, wanted.review
    if (old and old.digest) == (new and new.digest):
        return
    again = "leave --review out" if old is None else f"give --review {folder / REVIEWED}"
    raise UserError(
        f"{folder} holds a run that learns from other decisions",
        value=f"review: {old or 'none'} -> {new or 'none'}",
        remedy=f"Start a new run with another --out; to go on with this one, {again}.",
    )


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
    targets, store, threads = run.plan.targets, run.store, run.config.threads
    with _threads(threads), shown(targets, store, console, workers):
        run_all(targets, store, HANDLERS, workers=workers, setup=SETUP, setup_args=[threads])


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Give this process so many threads until the block ends."""
    before = torch.get_num_threads()
    limit_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def set_up_worker(threads: int) -> None:
    """Make a process ready to work; called first thing in every worker."""
    keep_freed_memory()
    limit_threads(threads)


def limit_threads(count: int) -> None:
    """Give this process so many threads."""
    torch.set_num_threads(count)
    # a checkpoint resumed on the same machine must give the same numbers
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # float32 is to mean float32


def estimate(
    run: Run, *, workers: int, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> Mapping[str, float]:
    """Measure a few steps of every kind and width of network and estimate the seconds of a run.

    On a processor, steps of large images are timed with a part of the batch.

    Args:
        run: what is planned.
        workers: processes that share it.
        on_progress: is called with (networks measured, networks in all).

    Returns:
        "computing": summed over processes; "waiting": on the clock, with so many workers.
    """
    jobs = unfinished(in_order(run.plan.targets), run.store)
    trained = [job for job in jobs if job.kind in NETWORKS]
    with _threads(run.config.threads):
        measured = _seconds_of_trainings(trained, run.config, on_progress)
    weight = sum(job.weight for job in trained)
    rate = sum(measured.values()) / weight if weight else 0.0
    seconds = {job.key: measured.get(job.key, rate * job.weight) for job in jobs}
    return {
        "computing": sum(seconds.values()),
        "waiting": makespan(jobs, seconds, workers=workers),
    }


def _seconds_of_trainings(
    jobs: Sequence[Job], config: RunConfig, on_progress: Callable[[int, int], None]
) -> dict[str, float]:
    pace: dict[tuple[str, str], float] = {}
    found = {}
    kinds = {_kind(job) for job in jobs}
    on_progress(0, len(kinds))
    for job in jobs:
        p: Any = job.params
        network, recipe = NETWORKS[job.kind](p["network"]), Recipe(**p["recipe"])
        kind = _kind(job)
        if kind not in pace:
            pace[kind] = seconds_per_step(
                network,
                config.make_task(),
                recipe,
                size=config.preparation.size,
                device=torch.device(config.device),
                precision=recipe.precision,
                patience=PATIENCE,
            )
            on_progress(len(pace), len(kinds))
        # augmentation and validation come on top: about a fifth
        found[job.key] = 1.2 * pace[kind] * steps_of(job, config)
    return found


def _kind(job: Job) -> tuple[str, str]:
    """What the time of a step depends on: networks of one kind are measured once."""
    return job.kind, json.dumps(job.params["network"], sort_keys=True)


def default_workers(run: Run, options: Options) -> int:
    """Processes to work with; by default no more than the run's threads leave cores for."""
    config = run.config
    count = workers_for(options, config.how, config.device)
    if options.workers is None and config.device == "cpu":
        return min(count, max(1, cores() // config.threads))
    return count


def not_asked_for(run: Run, approaches: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """List approaches and seeds that a run holds unfinished beside those that are asked for."""
    asked = {(find_approach(name).name, seed) for name in approaches for seed in seeds}
    return [
        f"{line.approach.name} with seed {line.seed}"
        for line in run.plan.lines
        if (line.approach.name, line.seed) not in asked and unfinished(jobs_of(line), run.store)
    ]


def data_of(run: Run) -> Dataset:
    """Open the data set that a run was trained on."""
    return open_dataset(run.config.data)
