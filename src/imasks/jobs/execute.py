"""Do all jobs, in this process or in worker processes that each do the walk."""

import json
import os
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from imasks.errors import UserError
from imasks.jobs.job import JSON, Job, in_order
from imasks.jobs.store import Store
from imasks.jobs.walk import Handler, JobFailed, unfinished, walk
from imasks.jobs.worker import Errand, StopFile, command, imported

_TICK = 0.2  # seconds between looks at the workers
_PATIENCE = 5.0  # seconds that a terminated worker has to go before it is killed


def run_all(
    targets: Sequence[Job],
    store: Store,
    handlers: Mapping[str, Handler] | str,
    *,
    workers: int = 1,
    setup: str | None = None,
    setup_args: Sequence[JSON] = (),
    on_tick: Callable[[], None] | None = None,
) -> None:
    """Do the targets and all they build on, leaving out what is done already.

    Returns when every job is done, be it by this call or by another process on the same store;
    dead ends and what builds on them are left out, see :class:`imasks.jobs.DeadEnd`.

    Args:
        targets: the jobs wanted.
        store: where their folders are.
        handlers: from a job's kind to what does it, or the place of such a mapping as
            "package.module:NAME". More than one worker needs the latter.
        workers: processes to work with. One means this process itself.
        setup: the place, as "package.module:NAME", of a function that each worker process calls
            once before its first job. Not called if this process does the work.
        setup_args: its arguments, as JSON.
        on_tick: called here about every 0.2 s while worker processes work.

    Raises:
        UserError: a handler raised it, and it is no DeadEnd. Jobs that were being worked on
            beside it are finished first, here and below.
        JobFailed: a handler raised anything else, or a worker process was lost; in the latter
            case the other workers are terminated.
        ValueError: there is no handler for a job's kind (from a worker process: JobFailed).
    """
    jobs = in_order(targets)
    left = len(unfinished(jobs, store))
    if not left:
        return
    if workers <= 1:
        found: Mapping[str, Handler] = imported(handlers) if isinstance(handlers, str) else handlers
        walk(jobs, store, found)
    elif isinstance(handlers, str):
        errand = Errand(
            jobs=jobs,
            root=store.root,
            handlers=handlers,
            setup=setup,
            setup_args=setup_args,
            stop=StopFile(path=store.root / f".stop-{os.getpid()}-{secrets.token_hex(4)}"),
        )
        _run_in_workers(errand, min(workers, left), on_tick)
    else:
        raise TypeError(
            "with more than one worker, give handlers as an import string 'package.module:NAME'"
        )


@dataclass
class _Worker:
    """What the parent knows of a worker."""

    process: subprocess.Popen[bytes]
    reader: threading.Thread
    reports: SimpleQueue[bytes]
    job: str | None = None  # key of the job it began last
    over: bool = False


def _run_in_workers(errand: Errand, count: int, on_tick: Callable[[], None] | None) -> None:
    line = errand.to_line()
    news = threading.Event()
    workers: list[_Worker] = []
    try:
        for _ in range(count):
            workers.append(_start(news))  # noqa: PERF401  (whoever has started must be ended)
        for worker in workers:
            _send(worker, line)
        failure = _watch(workers, errand, news, on_tick)
    finally:
        _end(workers)
        errand.stop.path.unlink(missing_ok=True)
    if failure is not None:
        raise failure


def _start(news: threading.Event) -> _Worker:
    process = subprocess.Popen(command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    reports: SimpleQueue[bytes] = SimpleQueue()

    def read() -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                reports.put(line)
                news.set()
        news.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    return _Worker(process, reader, reports)


def _send(worker: _Worker, line: bytes) -> None:
    """Give a worker its errand; its stdin stays open, and tells it by closing that we ended."""
    assert worker.process.stdin is not None
    with suppress(BrokenPipeError):  # it has ended already, as is about to be seen
        worker.process.stdin.write(line)
        worker.process.stdin.flush()


def _watch(
    workers: list[_Worker],
    errand: Errand,
    news: threading.Event,
    on_tick: Callable[[], None] | None,
) -> Exception | None:
    """Wait until all workers have ended, or one is lost; return the first failure, if any."""
    failures: list[Exception] = []
    running = workers
    while running:
        news.wait(_TICK)
        news.clear()
        ended = [worker for worker in running if worker.process.poll() is not None]
        for worker in ended:
            worker.reader.join(_PATIENCE)  # its last words may still be in the pipe
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
    while not worker.reports.empty():
        line = worker.reports.get()
        if not line.endswith(b"\n"):
            return  # cut short by a kill, as its exit code is about to say
        word, content = json.loads(line)
        if word == "working":
            worker.job = content
        elif word == "user error":
            yield UserError(**content)
        elif word == "failed":
            failure = JobFailed(**{**content, "folder": Path(content["folder"])})
            failure.add_note(failure.traceback_text)
            yield failure
        else:
            worker.over = True


def _lost(worker: _Worker, errand: Errand) -> JobFailed:
    store = Store(errand.root)
    ending = f"ended without a word (exit code {worker.process.returncode})"
    again = "Run the same command again, and it goes on; if memory ran out, with fewer workers."
    if worker.job is None:
        return JobFailed(
            label="A worker process",
            folder=store.root,
            message=f"it {ending} before its first job. {again}",
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
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        try:
            worker.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
    for worker in workers:
        worker.reader.join(_PATIENCE)
        assert worker.process.stdin is not None
        with suppress(BrokenPipeError):  # part of the errand may never have been read
            worker.process.stdin.close()
