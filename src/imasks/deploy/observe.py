"""What trainings log of every epoch, shown to TensorBoard and MLflow while they go on.

Observers only read the records in the job folders, so no number of a run depends on them. Each
asks for what it lacks: a run that was stopped and goes on has every point once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout
from rich.console import Console
from rich.text import Text

from imasks.errors import UserError
from imasks.extras import needed
from imasks.jobs import Job, Store, in_order
from imasks.runs.options import Options
from imasks.runs.progress import beside
from imasks.runs.run import NETWORKS, Run

EVERY = 5.0
"""Seconds between looks at the logs."""
TENSORBOARD = "tensorboard"
NO_SCALARS = ("epoch", "step", "steps", "t", "session")

Record = Mapping[str, Any]


class Observer(Protocol):
    """Shows the trainings of a run somewhere."""

    name: str

    def last_step(self, job: Job) -> int:
        """The last optimiser step of a job that is there already; 0: none."""

    def write(self, job: Job, records: Sequence[Record]) -> None:
        """Show records of a job, the oldest first."""

    def close(self, job: Job) -> None:
        """Hear that nothing more comes of a job."""


Opener = Callable[[Run, ExitStack], Observer]


def observers(options: Options) -> list[Opener]:
    """Find what shall observe a run; called before anything is written.

    Raises:
        UserError: a library is not installed.
    """
    found: list[Opener] = []
    if options.tensorboard:
        needed("tensorboard", extra="tensorboard", what="--tensorboard")
        found.append(_open_tensorboard)
    if options.mlflow:
        needed("mlflow", extra=None, what="--mlflow")
        found.append(MLflow)
    return found


@contextmanager
def observed(
    run: Run, openers: Sequence[Opener], console: Console, *, every: float = EVERY
) -> Iterator[None]:
    """Let observers follow the trainings of a run while the block works on it.

    What keeps one from its work (a full disk, a server that does not answer) ends that observer and
    is said, and does not end the training.
    """
    with ExitStack() as stack:
        followers = []
        for opener in openers:
            try:
                followers.append(_Follower(run, opener(run, stack)))
            except Exception as error:  # a UserError, or whatever a library has to say
                _warn(console, f"This process shows no trainings there: {error}")
        with ExitStack() as threads:
            for follower in followers:
                threads.enter_context(beside(follower.look, every=every))
            yield
        for follower in followers:
            follower.look()
            if follower.trouble:
                _warn(console, f"{follower.observer.name} got no more: {follower.trouble}")


class _Follower:
    """Gives one observer what it lacks."""

    def __init__(self, run: Run, observer: Observer) -> None:
        self.observer = observer
        self.store: Store = run.store
        self.trouble = ""
        self._left = [job for job in in_order(run.plan.targets) if job.kind in NETWORKS]
        self._last: dict[str, int] = {}

    def look(self) -> None:
        """Read the logs of the jobs that were not finished at the last look."""
        if self.trouble:
            return
        try:
            self._left = [job for job in self._left if not self._finished(job)]
        except Exception as error:  # whatever a library or a disk has to say
            self.trouble = str(error) or type(error).__name__

    def _finished(self, job: Job) -> bool:
        done = self.store.done(job)  # asked first, or its last record might be missed
        log: list[dict[str, Any]] = []
        with suppress(UserError):  # a damaged log is shown by whoever works on the job
            log = [record for record in self.store.log(job) if "epoch" in record]
        if log:
            if job.key not in self._last:
                self._last[job.key] = self.observer.last_step(job)
            new = [record for record in log if record["step"] > self._last[job.key]]
            if new:
                self.observer.write(job, new)
                self._last[job.key] = int(new[-1]["step"])
            if done:
                self.observer.close(job)
        return done


def scalars(record: Record) -> dict[str, float]:
    """The numbers of a record that are worth a curve."""
    return {
        name: float(value)
        for name, value in record.items()
        if name not in NO_SCALARS and isinstance(value, int | float)
    }


class TensorBoard:
    """Event files in RUN/tensorboard, one folder a training.

    The files are made anew by every process, from the logs: what an earlier one has left may be cut
    off anywhere.
    """

    name = "TensorBoard"

    def __init__(self, run: Run) -> None:
        self.folder = run.folder / TENSORBOARD
        self._writers: dict[str, Any] = {}

    def last_step(self, job: Job) -> int:
        """Clear what is there of a job."""
        for old in self._place(job).glob("events.out.tfevents.*"):
            old.unlink()
        return 0

    def write(self, job: Job, records: Sequence[Record]) -> None:
        """Add points."""
        from torch.utils.tensorboard import SummaryWriter

        if job.key not in self._writers:
            self._writers[job.key] = SummaryWriter(self._place(job))
        writer = self._writers[job.key]
        for record in records:
            for name, value in scalars(record).items():
                writer.add_scalar(name, value, record["step"], walltime=record["t"])
        writer.flush()

    def close(self, job: Job) -> None:
        """Close a job's file."""
        if writer := self._writers.pop(job.key, None):
            writer.close()

    def close_all(self) -> None:
        """Close the files of unfinished jobs."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _place(self, job: Job) -> Path:
        name = re.sub(r"[^\w+.-]+", "_", job.label)
        return self.folder / f"{name}_{job.key[:6]}"


def _open_tensorboard(run: Run, stack: ExitStack) -> Observer:
    (run.folder / TENSORBOARD).mkdir(exist_ok=True)
    try:
        stack.enter_context(FileLock(run.folder / TENSORBOARD / ".lock", timeout=0))
    except Timeout:
        raise UserError(
            f"another process writes {run.folder / TENSORBOARD}",
            remedy="It shows what all processes of this run train.",
        ) from None
    board = TensorBoard(run)
    stack.callback(board.close_all)
    return board


class MLflow:
    """One MLflow run a training, in an experiment that has the name of the run folder.

    Where MLflow keeps them is said in its own way (MLFLOW_TRACKING_URI).
    """

    name = "MLflow"

    def __init__(self, run: Run, stack: ExitStack) -> None:
        import mlflow  # type: ignore[import-not-found,unused-ignore]

        self.client = mlflow.MlflowClient()
        name = f"imasks {run.folder.resolve().name}"
        there = self.client.get_experiment_by_name(name)
        self.experiment = (
            there.experiment_id if there is not None else self.client.create_experiment(name)
        )
        self._runs: dict[str, str] = {}

    def last_step(self, job: Job) -> int:
        """Find or begin the MLflow run of a job."""
        found = self.client.search_runs(
            [self.experiment], filter_string=f"tags.`imasks.job` = '{job.key}'"
        )
        if found:
            self._runs[job.key] = found[0].info.run_id
            history = self.client.get_metric_history(self._runs[job.key], "loss")
            return max((point.step for point in history), default=0)
        begun = self.client.create_run(
            self.experiment, tags={"imasks.job": job.key}, run_name=job.label
        )
        self._runs[job.key] = begun.info.run_id
        for part in ("network", "recipe"):
            settings: Any = job.params.get(part, {})
            for key, value in settings.items():
                self.client.log_param(begun.info.run_id, f"{part}.{key}", value)
        return 0

    def write(self, job: Job, records: Sequence[Record]) -> None:
        """Add points; "loss" last, as it tells what is there."""
        for record in records:
            found = scalars(record)
            for name in sorted(found, key=lambda one: one == "loss"):
                self.client.log_metric(
                    self._runs[job.key],
                    name,
                    found[name],
                    timestamp=round(record["t"] * 1000),
                    step=record["step"],
                )

    def close(self, job: Job) -> None:
        """Mark a job's run as finished."""
        self.client.set_terminated(self._runs[job.key])


def _warn(console: Console, text: str) -> None:
    console.print(Text(text, style="yellow"), soft_wrap=True)
