"""A job: a piece of work named by what it computes from."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

_KEY_BYTES = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """A piece of work whose result depends on nothing but its kind, parameters and inputs.

    Two jobs with the same key are the same job: they compare equal and share one folder.

    Attributes:
        kind: names the handler that does the work.
        params: everything else the result depends on, as JSON. The job keeps a copy of its own,
            in which tuples are lists, as they are when read back from disk.
        inputs: the jobs whose results this one reads, in the order the handler expects them.
        label: what a person reads; not part of the key.
        weight: estimated cost in any unit that all jobs of a run share; not part of the key.

    Raises:
        TypeError: a parameter is not JSON; the message names it.
        ValueError: a parameter is infinite or not a number; the message names it.
    """

    kind: str
    params: Mapping[str, JSON]
    inputs: tuple["Job", ...] = ()
    label: str = ""
    weight: float = 1.0

    def __post_init__(self) -> None:
        # Checked here rather than when the key is first asked for, so that the traceback
        # points at whoever made the job; copied, so that the key cannot go stale.
        object.__setattr__(self, "params", _copy(self.params, "params"))

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits that stand for kind, params and the inputs' keys."""
        content = {
            "kind": self.kind,
            "params": self.params,
            "inputs": [job.key for job in self.inputs],
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.blake2b(text.encode(), digest_size=_KEY_BYTES).hexdigest()

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, Job) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return self.label or f"{self.kind} {self.key}"


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """Return the jobs and all they build on, each once, inputs before their users.

    The order is stable: jobs come as given, each preceded by those of its inputs that have
    not come yet.
    """
    found: dict[str, Job] = {}

    def visit(job: Job) -> None:
        if job.key in found:
            return
        for needed in job.inputs:
            visit(needed)
        found[job.key] = job

    for job in jobs:
        visit(job)
    return list(found.values())


def jobs_to_json(jobs: Sequence[Job]) -> list[JSON]:
    """Return jobs as JSON; inputs stand before their users, as `in_order` gives them."""
    return [
        {
            "kind": job.kind,
            "params": job.params,
            "inputs": [needed.key for needed in job.inputs],
            "label": job.label,
            "weight": job.weight,
        }
        for job in jobs
    ]


def jobs_from_json(content: Sequence[Mapping[str, Any]]) -> list[Job]:
    """Return the jobs that `jobs_to_json` was given."""
    found: dict[str, Job] = {}
    for each in content:
        job = Job(**{**each, "inputs": tuple(found[key] for key in each["inputs"])})
        found[job.key] = job
    return list(found.values())


def _copy(value: object, name: str) -> JSON:
    """Copy a JSON value to its plainest form; `name` says where it stands, for the errors."""
    if value is None or isinstance(value, str | int):  # a bool is an int
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}, and a parameter must be a finite number")
        return value
    if isinstance(value, list | tuple):
        return [_copy(item, f"{name}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{name} has the key {key!r}, and keys must be strings")
        return {key: _copy(item, f"{name}[{key!r}]") for key, item in value.items()}
    raise TypeError(
        f"{name} is of type {type(value).__name__}, and a parameter must be JSON: "
        "None, bool, int, float, str, or lists and string-keyed mappings of these"
    )
