"""A worker process: it takes its errand from stdin, walks, and reports through stdout.

It is a program of its own rather than a child of `multiprocessing`, which would import the
parent's main script again in every worker and so demand a guard in it.
"""

import importlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from imasks.errors import UserError
from imasks.jobs.job import JSON, Job, jobs_from_json, jobs_to_json
from imasks.jobs.store import Store
from imasks.jobs.walk import JobFailed, walk

# Modules are looked for where the parent looks for them, which it gives as arguments.
# Ctrl-C is the parent's to act on.
_PROGRAM = """
import sys
sys.path[:] = sys.argv[1:]
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from imasks.jobs.worker import main
main()
"""


def command() -> list[str]:
    """Return the command line that starts a worker which imports what this process can."""
    return [sys.executable, "-c", _PROGRAM, *map(str, sys.path)]


def imported(place: str) -> Any:
    """Import what stands at "package.module:NAME"."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


@dataclass(frozen=True, kw_only=True)
class StopFile:
    """A `Stop` for processes: set before a claim ends, it is seen by whoever claims next."""

    path: Path

    def is_set(self) -> bool:
        """Tell whether anyone has set it."""
        return self.path.exists()

    def set(self) -> None:
        """Set it for all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()


@dataclass(frozen=True, kw_only=True)
class Errand:
    """What every worker is sent to do.

    Attributes:
        jobs: every job, inputs before their users.
        root: of the store.
        handlers: the place of the handlers, "package.module:NAME".
        setup: likewise, of a function to call before the first job; None calls nothing.
        setup_args: its arguments.
        stop: shared by the workers of one run.
    """

    jobs: Sequence[Job]
    root: Path
    handlers: str
    setup: str | None
    setup_args: Sequence[JSON]
    stop: StopFile

    def to_line(self) -> bytes:
        """Write it as one line of JSON, with its end."""
        content = {
            "jobs": jobs_to_json(self.jobs),
            "root": str(self.root),
            "handlers": self.handlers,
            "setup": self.setup,
            "setup_args": list(self.setup_args),
            "stop": str(self.stop.path),
        }
        return json.dumps(content).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Errand":
        """Read what `to_line` wrote."""
        content = json.loads(line)
        return cls(
            jobs=jobs_from_json(content["jobs"]),
            root=Path(content["root"]),
            handlers=content["handlers"],
            setup=content["setup"],
            setup_args=content["setup_args"],
            stop=StopFile(path=Path(content["stop"])),
        )


# A worker reports in lines of JSON, [word, content]:
#   ["working", key of the job it begins]
#   ["user error", arguments of UserError] or ["failed", arguments of JobFailed]
#   ["over", null], the last word of every worker that was not lost.


def main() -> None:
    """Be a worker: walk, and report to the parent."""
    orders, reports = _take_pipes()
    with os.fdopen(orders, "rb", closefd=False) as lines:
        errand = Errand.from_line(lines.readline())
    threading.Thread(target=_die_with_parent, args=(orders,), daemon=True).start()
    try:
        if errand.setup is not None:
            imported(errand.setup)(*errand.setup_args)
        walk(
            errand.jobs,
            Store(errand.root),
            imported(errand.handlers),
            stop=errand.stop,
            on_start=lambda job: _say(reports, "working", job.key),
        )
    except Exception as error:
        errand.stop.set()
        _say(reports, *_in_words(error, errand))
    _say(reports, "over", None)


def _take_pipes() -> tuple[int, FileIO]:
    """Keep stdin and stdout for the parent alone, whatever jobs read, print or start."""
    orders, reports = os.dup(0), os.dup(1)  # not inherited by what jobs start
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return orders, FileIO(reports, "w")


def _die_with_parent(orders: int) -> None:
    """End this process when the parent ends, which may be killed without a chance to tell."""
    while os.read(orders, 1):  # nothing comes but the end
        pass
    os._exit(1)


def _say(reports: FileIO, word: str, content: JSON) -> None:
    try:
        reports.write(json.dumps([word, content]).encode() + b"\n")
    except BrokenPipeError:
        os._exit(1)  # nobody listens any more


def _in_words(error: Exception, errand: Errand) -> tuple[str, dict[str, JSON]]:
    """Put an error in words that any process can read."""
    if isinstance(error, UserError):
        value = None if error.value is None else str(error.value)
        return "user error", {"what": error.what, "value": value, "remedy": error.remedy}
    if isinstance(error, JobFailed):
        return "failed", {
            "label": error.label,
            "folder": str(error.folder),
            "message": error.message,
            "traceback_text": error.traceback_text,
        }
    return "failed", {
        "label": "A worker process",
        "folder": str(errand.root),
        "message": f"{type(error).__name__}: {error}",
        "traceback_text": "".join(traceback.format_exception(error)),
    }
