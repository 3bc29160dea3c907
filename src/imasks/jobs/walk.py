"""The walk: what a process does to do jobs, alone or beside others.

It needs nothing but the store: whoever walks takes the next job that is free. So processes
started by `run_all`, by a second command on the same run or by other means share the work.
"""

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from imasks.errors import UserError
from imasks.jobs.job import Job
from imasks.jobs.store import Store

Handler: TypeAlias = Callable[[Job, Store], dict[str, Any]]

_POLL = 0.2  # seconds between looks at jobs that others have


class Stop(Protocol):
    """A flag shared by those who walk together, such as `threading.Event`."""

    def is_set(self) -> bool:
        """Tell whether anyone has set it."""

    def set(self) -> None:
        """Set it for all."""


class JobFailed(RuntimeError):  # noqa: N818  (an event, told of as one)
    """A job's handler raised something other than a UserError, or its process was lost.

    Attributes:
        label: what a person calls the job.
        folder: the job's folder.
        message: what happened.
        traceback_text: the traceback from where it happened; empty if there is none.
    """

    def __init__(self, *, label: str, folder: Path, message: str, traceback_text: str = "") -> None:
        self.label = label
        self.folder = folder
        self.message = message
        self.traceback_text = traceback_text
        super().__init__(f"{label}: {message} (folder: {folder})")


class DeadEnd(UserError):  # noqa: N818  (no error of the run)
    """A job found that nothing can be built on its result.

    No failure: the job has ended and is not taken up again, what builds on it is left out, and
    all others go on. The message says what was found, not by which job.
    """


def walk(
    jobs: Sequence[Job],
    store: Store,
    handlers: Mapping[str, Handler],
    *,
    stop: Stop | None = None,
    on_start: Callable[[Job], None] = lambda job: None,
) -> None:
    """Do jobs, one after the other, until all of them are done that can be.

    A job that ends in a :class:`DeadEnd` is not done, nor is any that builds on it.

    Any number of processes may walk over the same jobs at the same time. Where only jobs are
    left that others work on, the walk waits, in case they give up.

    Args:
        jobs: every job, inputs before their users, as `in_order` gives them.
        store: where their folders are.
        handlers: from a job's kind to what does it.
        stop: shared by those who walk together. Set when a job fails here; no new job is
            begun once it is set.
        on_start: told of each job before its handler is called.

    Raises:
        UserError: a handler raised it, and it is no DeadEnd.
        JobFailed: a handler raised anything else.
        ValueError: there is no handler for a job's kind.
    """
    if missing := sorted({job.kind for job in jobs} - handlers.keys()):
        raise ValueError(f"no handler for jobs of kind {', '.join(missing)}")
    stop = threading.Event() if stop is None else stop
    while not stop.is_set():
        jobs = unfinished(jobs, store)
        if not jobs:
            return
        with next_ready(jobs, store) as job:
            # Asked again under the claim: a job that just failed beside us must not be retried.
            if job is not None and not stop.is_set():
                on_start(job)
                _do(job, store, handlers[job.kind], stop)
        if job is None:
            time.sleep(_POLL)


def attainable(jobs: Sequence[Job], store: Store) -> list[Job]:
    """Leave out dead ends and all that builds on them.

    Args:
        jobs: inputs before their users, as `in_order` gives them.
        store: where their folders are.

    Returns:
        The jobs that are done or may become so, in their order.
    """
    lost: set[Job] = set()
    for job in jobs:
        if not store.done(job) and (not lost.isdisjoint(job.inputs) or store.dead_end(job)):
            lost.add(job)
    return [job for job in jobs if job not in lost]


def unfinished(jobs: Sequence[Job], store: Store) -> list[Job]:
    """List the attainable jobs that are not done yet, see :func:`attainable`."""
    return [job for job in attainable(jobs, store) if not store.done(job)]


@contextmanager
def next_ready(jobs: Sequence[Job], store: Store) -> Iterator[Job | None]:
    """Claim the first job that has not ended, whose inputs are done, and that nobody else has.

    Yields:
        The job, claimed until the block ends, or None if there is none at the moment.
    """
    for job in jobs:
        if store.done(job) or not all(store.done(needed) for needed in job.inputs):
            continue
        with store.claim(job) as claimed:
            if claimed and not store.done(job) and store.dead_end(job) is None:
                yield job
                return
    yield None


def _do(job: Job, store: Store, handler: Handler, stop: Stop) -> None:
    store.begin(job)
    try:
        store.finish(job, handler(job, store))
    except DeadEnd as end:
        store.end(job, end)
    except Exception as error:
        stop.set()  # before the claim ends, so that nobody beside us takes the job up
        store.fail(job, error)
        if isinstance(error, UserError):
            raise
        raise JobFailed(
            label=str(job),
            folder=store.folder(job),
            message=f"{type(error).__name__}: {error}",
            traceback_text="".join(traceback.format_exception(error)),
        ) from error
