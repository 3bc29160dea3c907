"""How far a run is, read from the logs in its job folders."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import heappop, heappush

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from imasks.errors import UserError
from imasks.jobs import Job, Store, attainable, in_order

_REFRESH = 0.5  # seconds


@dataclass(frozen=True, kw_only=True)
class Working:
    """A job that has begun and is not done; `active` if somebody works on it now."""

    label: str
    share: float
    note: str
    active: bool


@dataclass(frozen=True, kw_only=True)
class State:
    """Where a run stands.

    Args:
        done: jobs done.
        jobs: all jobs; dead ends and what builds on them are left out, here and below.
        share: of the estimated work.
        seconds: of computing so far, over all processes.
        remaining: estimated seconds of computing left; None before anything is finished.
        waiting: the same on the clock, with the workers of the :class:`Progression`.
        working: jobs that have begun.
    """

    done: int
    jobs: int
    share: float
    seconds: float
    remaining: float | None
    waiting: float | None
    working: tuple[Working, ...]


class Progression:
    """Follows the jobs of a run; asking again reads only the logs of unfinished jobs."""

    def __init__(self, targets: Sequence[Job], store: Store, *, workers: int = 1) -> None:
        self.jobs = in_order(targets)
        self.store = store
        self.workers = workers
        self._seconds: dict[str, float] = {}

    def state(self) -> State:
        """Read the state now."""
        wanted = attainable(self.jobs, self.store)
        total = sum(job.weight for job in wanted)
        finished = worked = seconds = 0.0
        done = 0
        working = []
        left: dict[str, float] = {}  # work, by job
        for job in wanted:
            if self.store.done(job):
                done += 1
                finished += job.weight
                if job.key not in self._seconds:
                    self._seconds[job.key] = self._elapsed(job)
                seconds += self._seconds[job.key]
                continue
            left[job.key] = job.weight
            try:
                log = self.store.log(job)
            except UserError:  # shown by whoever works on the job
                log = []
            if log:
                one = _working(job, log, active=self.store.claimed(job))
                working.append(one)
                worked += one.share * job.weight
                left[job.key] -= one.share * job.weight
                seconds += self._elapsed(job)
        share = (finished + worked) / total if total else 1.0
        known = finished + worked
        rate = seconds / known if known and seconds else None
        jobs = [job for job in wanted if job.key in left]
        return State(
            done=done,
            jobs=len(wanted),
            share=share,
            seconds=seconds,
            remaining=None if rate is None else rate * (total - known),
            waiting=None if rate is None else rate * makespan(jobs, left, workers=self.workers),
            working=tuple(working),
        )

    def _elapsed(self, job: Job) -> float:
        try:
            return self.store.elapsed(job)
        except UserError:  # a damaged log must not hide how far the others are
            return 0.0


@contextmanager
def shown(targets: Sequence[Job], store: Store, console: Console, workers: int) -> Iterator[None]:
    """Show the progress of a run while the block works on it; a plain console gets no animation."""
    if console.quiet:  # a live display would swallow what others print
        yield
        return
    follower = Progression(targets, store, workers=workers)
    if not console.is_terminal:
        with beside(lambda: _say(follower, console), every=30.0):
            yield
        _say(follower, console)
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
            bars.update(overall, total=state.jobs, completed=state.done, left=_left(state))
            lines = [
                Text(f"  {one.share:>4.0%}  {one.label}  {one.note}", style="dim")
                for one in state.working
                if one.active
            ]
            live.update(Group(bars, *lines))

        with beside(draw, every=_REFRESH):
            yield
        draw()


@contextmanager
def beside(draw: object, *, every: float) -> Iterator[None]:
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


def _say(follower: Progression, console: Console) -> None:
    state = follower.state()
    console.print(f"{state.done}/{state.jobs} jobs, {percent(state.share)}{_left(state)}")


def _left(state: State) -> str:
    return "" if state.waiting is None else f"  about {duration(state.waiting)} left"


def makespan(jobs: Sequence[Job], cost: Mapping[str, float], *, workers: int) -> float:
    """How long several workers need who each take the first job whose inputs are done.

    Args:
        jobs: all that are left, in the order they are taken.
        cost: of each, by key, in any unit of time.
        workers: that work at the same time.

    Returns:
        The time on the clock, in that unit; more than the sum by the workers where some must wait.
    """
    place = {job.key: at for at, job in enumerate(jobs)}
    needs = [[place[one.key] for one in job.inputs if one.key in place] for job in jobs]
    users: list[list[int]] = [[] for _ in jobs]
    for at, inputs in enumerate(needs):
        for needed in inputs:
            users[needed].append(at)
    missing = [len(inputs) for inputs in needs]
    ready = [at for at, count in enumerate(missing) if not count]  # sorted, hence a heap
    busy: list[tuple[float, int]] = []
    now = 0.0
    while ready or busy:
        while ready and len(busy) < max(1, workers):
            at = heappop(ready)
            heappush(busy, (now + cost[jobs[at].key], at))
        now, at = heappop(busy)
        for user in users[at]:
            missing[user] -= 1
            if not missing[user]:
                heappush(ready, user)
    return now


def percent(share: float) -> str:
    """Write a share of work, rounded down: all is done only when it is."""
    return f"{math.floor(share * 100)}%"


def duration(seconds: float) -> str:
    """Write seconds as people say them: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def _working(job: Job, log: list[dict[str, object]], *, active: bool) -> Working:
    steps = [record for record in log if "steps" in record]
    last = steps[-1] if steps else {}
    done, total = float(str(last.get("step", 0))), float(str(last.get("steps", 1)))
    numbers = {k: v for k, v in last.items() if isinstance(v, float) and k != "t"}
    note = "  ".join(f"{k} {v:.3f}" for k, v in numbers.items())
    return Working(label=job.label, share=done / max(1.0, total), note=note, active=active)
