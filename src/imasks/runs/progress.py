"""How far a run is, read from the logs in its job folders."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from imasks.errors import UserError
from imasks.jobs import Job, Store, in_order

_REFRESH = 0.5  # seconds
_ACTIVE = 600.0  # seconds since the last log record after which a job counts as left alone


@dataclass(frozen=True, kw_only=True)
class Working:
    """A job that has begun and is not done."""

    label: str
    share: float
    note: str
    active: bool


@dataclass(frozen=True, kw_only=True)
class State:
    """Where a run stands.

    Args:
        done: jobs done.
        jobs: all jobs.
        share: of the estimated work.
        seconds: of computing so far, over all processes.
        remaining: estimated seconds of computing left; None before anything is finished.
        working: jobs that have begun.
    """

    done: int
    jobs: int
    share: float
    seconds: float
    remaining: float | None
    working: tuple[Working, ...]


class Progression:
    """Follows the jobs of a run; asking again reads only the logs of unfinished jobs."""

    def __init__(self, targets: Sequence[Job], store: Store) -> None:
        self.jobs = in_order(targets)
        self.store = store
        self._seconds: dict[str, float] = {}

    def state(self) -> State:
        """Read the state now."""
        total = sum(job.weight for job in self.jobs)
        finished = worked = seconds = 0.0
        done = 0
        working = []
        for job in self.jobs:
            if self.store.done(job):
                done += 1
                finished += job.weight
                if job.key not in self._seconds:
                    self._seconds[job.key] = self.store.elapsed(job)
                seconds += self._seconds[job.key]
                continue
            try:
                log = self.store.log(job)
            except UserError:  # shown by whoever works on the job
                log = []
            if log:
                one = _working(job, log)
                working.append(one)
                worked += one.share * job.weight
                seconds += self.store.elapsed(job)
        share = (finished + worked) / total if total else 1.0
        known = finished + worked
        return State(
            done=done,
            jobs=len(self.jobs),
            share=share,
            seconds=seconds,
            remaining=seconds * (total - known) / known if known and seconds else None,
            working=tuple(working),
        )


@contextmanager
def shown(targets: Sequence[Job], store: Store, console: Console, workers: int) -> Iterator[None]:
    """Show the progress of a run while the block works on it; a plain console gets no animation."""
    follower = Progression(targets, store)
    if not console.is_terminal:
        with _beside(lambda: _say(follower, console, workers), every=30.0):
            yield
        return
    bars = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=console,
    )
    overall = bars.add_task("jobs", total=len(follower.jobs), left="")
    with Live(bars, console=console, refresh_per_second=4, transient=False) as live:

        def draw() -> None:
            state = follower.state()
            bars.update(overall, completed=state.done, left=_left(state, workers))
            lines = [
                Text(f"  {one.share:>4.0%}  {one.label}  {one.note}", style="dim")
                for one in state.working
                if one.active
            ]
            live.update(Group(bars, *lines))

        with _beside(draw, every=_REFRESH):
            yield
        draw()


@contextmanager
def _beside(draw: object, *, every: float) -> Iterator[None]:
    """Call a function again and again in a thread of its own until the block ends."""
    over = threading.Event()

    def loop() -> None:
        while not over.wait(every):
            draw()  # type: ignore[operator]

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _say(follower: Progression, console: Console, workers: int) -> None:
    state = follower.state()
    console.print(f"{state.done}/{state.jobs} jobs, {state.share:.0%}{_left(state, workers)}")


def _left(state: State, workers: int) -> str:
    if state.remaining is None:
        return ""
    return f"  about {duration(state.remaining / max(1, workers))} left"


def duration(seconds: float) -> str:
    """Write seconds as people say them: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def _working(job: Job, log: list[dict[str, object]]) -> Working:
    steps = [record for record in log if "steps" in record]
    last = steps[-1] if steps else {}
    done, total = float(str(last.get("step", 0))), float(str(last.get("steps", 1)))
    numbers = {k: v for k, v in last.items() if isinstance(v, float) and k != "t"}
    note = "  ".join(f"{k} {v:.3f}" for k, v in numbers.items())
    age = time.time() - float(str(log[-1]["t"]))
    return Working(label=job.label, share=done / max(1.0, total), note=note, active=age < _ACTIVE)
