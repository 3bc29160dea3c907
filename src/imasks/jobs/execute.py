"""Do all jobs, in this process or in worker processes that each do the walk."""

import ctypes
import importlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from imasks.errors import UserError
from imasks.jobs.job import Job, in_order
from imasks.jobs.store import Store
from imasks.jobs.walk import Handler, JobFailed, walk

_TICK = 0.2  # seconds between looks at the workers
_PARENT_POLL = 0.5  # seconds between a worker's looks at whether its parent lives
_PATIENCE = 5.0  # seconds that a terminated worker has to go before it is killed


def run_all(
    targets: Sequence[Job],
    store: Store,
    handlers: Mapping[str, Handler] | str,
    *,
    workers: int = 1,
    setup: Callable[[], None] | str | None = None,
    on_tick: Callable[[], None] | None = None,
) -> None:
    """Do the targets and all they build on, leaving out what is done already.

    Returns when every job is done, be it by this call or by another process on the same store.

    Args:
        targets: the jobs wanted.
        store: where their folders are.
        handlers: from a job's kind to what does it, or the place of such a mapping as
            "package.module:NAME". More than one worker needs the latter.
        workers: processes to work with. One means this process itself.
        setup: called once in each worker process before its first job, or the place of such a
            function as "package.module:NAME". Not called if this process does the work.
        on_tick: called here about every 0.2 s while worker processes work.

    Raises:
        UserError: a handler raised it. Jobs that were being worked on beside it are finished
            first, here and below.
        JobFailed: a handler raised anything else, or a worker process was lost; in the latter
            case the other workers are terminated.
        ValueError: there is no handler for a job's kind (from a worker process: JobFailed).
    """
    jobs = in_order(targets)
    left = sum(not store.done(job) for job in jobs)
    if not left:
        return
    if workers <= 1:
        found: Mapping[str, Handler] = _at(handlers) if isinstance(handlers, str) else handlers
        walk(jobs, store, found)
    elif isinstance(handlers, str):
        errand = _Errand(
            jobs=jobs, root=store.root, handlers=handlers, setup=setup, parent=os.getpid()
        )
        _run_in_workers(errand, min(workers, left), on_tick)
    else:
        raise TypeError(
            "with more than one worker, give handlers as an import string 'package.module:NAME'"
        )


# A worker reports through a pipe of its own, as (word, content):
#   ("working", key of the job it begins)
#   ("user error", arguments of UserError) or ("failed", arguments of JobFailed)
#   ("over", None), the last word of every worker that was not lost.


@dataclass(frozen=True, kw_only=True)
class _Errand:
    """What every worker is sent to do."""

    jobs: list[Job]
    root: Path
    handlers: str
    setup: Callable[[], None] | str | None
    parent: int


@dataclass
class _Worker:
    """What the parent knows of a worker."""

    process: BaseProcess
    reports: Connection
    job: str | None = None  # key of the job it began last
    over: bool = False


def _run_in_workers(errand: _Errand, count: int, on_tick: Callable[[], None] | None) -> None:
    context = multiprocessing.get_context("spawn")  # a fork would break CUDA and threads
    stop = context.RawValue(ctypes.c_bool, False)  # has no lock that a killed worker could keep
    workers: list[_Worker] = []
    try:
        for _ in range(count):
            reports, reporter = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(errand, stop, reporter))
            workers.append(_Worker(process, reports))
            process.start()
            reporter.close()
        failure = _watch(workers, errand, on_tick)
    finally:
        _end(workers)
    if failure is not None:
        raise failure


def _work(errand: _Errand, stop: ctypes.c_bool, reporter: Connection) -> None:
    """Be a worker: walk, and report to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to act on
    threading.Thread(target=_die_with, args=(errand.parent,), daemon=True).start()
    try:
        if errand.setup is not None:
            (_at(errand.setup) if isinstance(errand.setup, str) else errand.setup)()
        walk(
            errand.jobs,
            Store(errand.root),
            _at(errand.handlers),
            stop=stop,
            on_start=lambda job: reporter.send(("working", job.key)),
        )
    except Exception as error:
        stop.value = True
        reporter.send(_report(error, errand))
    reporter.send(("over", None))


def _report(error: Exception, errand: _Errand) -> tuple[str, dict[str, Any]]:
    """Put an error in words that any process can read: not every exception can be pickled."""
    if isinstance(error, UserError):
        value = None if error.value is None else str(error.value)
        return "user error", {"what": error.what, "value": value, "remedy": error.remedy}
    if isinstance(error, JobFailed):
        return "failed", vars(error)
    return "failed", {
        "label": "A worker process",
        "folder": errand.root,
        "message": f"{type(error).__name__}: {error}",
        "traceback_text": "".join(traceback.format_exception(error)),
    }


def _die_with(parent: int) -> None:
    """End this process soon after the parent, which may be killed without a chance to tell."""
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL)
    os._exit(1)


def _watch(
    workers: list[_Worker], errand: _Errand, on_tick: Callable[[], None] | None
) -> Exception | None:
    """Wait until all workers have ended, or one is lost; return the first failure, if any."""
    failures: list[Exception] = []
    running = workers
    while running:
        wait([worker.process.sentinel for worker in running], timeout=_TICK)
        ended = [worker for worker in running if worker.process.exitcode is not None]
        for worker in running:
            failures += _reported(worker)
        for worker in ended:
            if not worker.over:
                return failures[0] if failures else _lost(worker, errand)
        running = [worker for worker in running if worker not in ended]
        if on_tick is not None:
            on_tick()
    return failures[0] if failures else None


def _reported(worker: _Worker) -> Iterator[Exception]:
    """Take in what a worker has reported; yield the errors among it."""
    try:
        while not worker.over and worker.reports.poll():
            word, content = worker.reports.recv()
            if word == "working":
                worker.job = content
            elif word == "user error":
                yield UserError(**content)
            elif word == "failed":
                failure = JobFailed(**content)
                failure.add_note(failure.traceback_text)
                yield failure
            else:
                worker.over = True
    except EOFError:
        pass  # lost, as its exit code is about to say


def _lost(worker: _Worker, errand: _Errand) -> JobFailed:
    store = Store(errand.root)
    ending = f"ended without a word (exit code {worker.process.exitcode})"
    again = "Run the same command again, and it goes on; if memory ran out, with fewer workers."
    if worker.job is None:
        return JobFailed(
            label="A worker process",
            folder=store.root,
            message=f"it {ending} before its first job. {again} If a script of yours started "
            'this, put what it does under `if __name__ == "__main__":`, since every worker '
            "imports the script.",
        )
    job = next(job for job in errand.jobs if job.key == worker.job)
    when = "after it" if store.done(job) else "at work on it"
    return JobFailed(
        label=str(job),
        folder=store.folder(job),
        message=f"the worker process {when} {ending}, as when something kills it. {again}",
    )


def _end(workers: list[_Worker]) -> None:
    """Make sure that no worker lives on."""
    started = [worker for worker in workers if worker.process.pid is not None]
    for worker in started:
        worker.process.terminate()
    for worker in started:
        worker.process.join(_PATIENCE)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
    for worker in workers:
        worker.reports.close()
        worker.process.close()


def _at(place: str) -> Any:
    """Import what stands at "package.module:NAME"."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
