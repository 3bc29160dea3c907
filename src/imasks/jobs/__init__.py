"""Jobs that know what they build on, folders that remember them, and processes that do them.

Nothing here knows about images: a job is a kind, parameters and inputs, and a handler is a
function that turns a job into a result.
"""

from imasks.jobs.execute import run_all
from imasks.jobs.job import JSON, Job, in_order
from imasks.jobs.store import Store, write_atomic
from imasks.jobs.walk import (
    DeadEnd,
    Handler,
    JobFailed,
    attainable,
    next_ready,
    unfinished,
    walk,
)

__all__ = [
    "JSON",
    "DeadEnd",
    "Handler",
    "Job",
    "JobFailed",
    "Store",
    "attainable",
    "in_order",
    "next_ready",
    "run_all",
    "unfinished",
    "walk",
    "write_atomic",
]
