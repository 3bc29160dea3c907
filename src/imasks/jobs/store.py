"""Where jobs keep what they make: one folder each, complete once `done.json` is there."""

import json
import os
import secrets
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from imasks.errors import UserError
from imasks.jobs.job import Job


class Store:
    """The job folders of one run, `root/jobs/KEY/`, which any number of processes may share.

    A folder holds `params.json` (kind, params, keys of the inputs, label), `log.jsonl` (one
    record a line), the handler's own files, and `done.json`, written last. `dead_end.json` stands
    in its place where nothing can be built on the job, `error.json` while the last attempt
    failed. Files named `checkpoint*` are what a handler goes on from after a kill; they go once
    the job is done. Whoever writes into a folder must hold its claim; anyone may read.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._sessions: dict[str, str] = {}

    def folder(self, job: Job) -> Path:
        """Return the job's folder, which exists once the job has been claimed."""
        return self.root / "jobs" / job.key

    def done(self, job: Job) -> bool:
        """Tell whether the job has finished."""
        return (self.folder(job) / "done.json").exists()

    def result(self, job: Job) -> dict[str, Any]:
        """Return what the job's handler returned.

        Raises:
            UserError: the job has not finished, or its `done.json` is damaged.
        """
        path = self.folder(job) / "done.json"
        try:
            content = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise UserError(
                f"There is no result of {job}: {path} is missing",
                remedy="Run the same command again: it finishes what is missing.",
            ) from None
        except ValueError:
            content = None
        result = content.get("result") if isinstance(content, dict) else None
        if not isinstance(result, dict):
            raise UserError(f"The result of {job} is damaged: {path}", remedy=_recompute(path))
        return result

    @contextmanager
    def claim(self, job: Job) -> Iterator[bool]:
        """Try to become the one who works on the job, without waiting.

        Yields:
            True if the job is the caller's until the block ends, False if another has it.
            The lock is the operating system's, so that a killed process leaves none behind.
            Whether the job is done must be asked after the claim: it may just have become so.
        """
        folder = self.folder(job)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def claimed(self, job: Job) -> bool:
        """Tell whether someone works on the job at this moment.

        Asking takes the claim for an instant, in which others fail to get it, and creates
        nothing. Where the caller may not write, it cannot ask: then any claim there ever was
        counts.
        """
        path = self.folder(job) / ".lock"
        if not os.access(path, os.W_OK):
            return path.exists()
        try:
            with FileLock(path, timeout=0):
                return False
        except Timeout:
            return True

    def begin(self, job: Job) -> None:
        """Make a claimed folder ready for work: note the job, clear what a kill left behind."""
        folder = self.folder(job)
        content = {
            "kind": job.kind,
            "params": job.params,
            "inputs": [needed.key for needed in job.inputs],
            "label": job.label,
        }
        write_atomic(folder / "params.json", _pretty(content))
        (folder / "error.json").unlink(missing_ok=True)
        for partial in folder.glob(".*.tmp"):
            partial.unlink()
        _cut_torn_line(folder / "log.jsonl")
        self._sessions[job.key] = _new_session()

    def finish(self, job: Job, result: Mapping[str, Any]) -> None:
        """Mark the claimed job as done; `result` is JSON, in which NaN is allowed.

        Its `checkpoint*` files are removed only then: a kill at any moment leaves the job done
        or resumable. A kill in between leaves files that nobody reads.
        """
        folder = self.folder(job)
        write_atomic(folder / "done.json", _pretty({"result": dict(result), "t": time.time()}))
        for checkpoint in folder.glob("checkpoint*"):
            checkpoint.unlink()

    def end(self, job: Job, found: UserError) -> None:
        """Mark the claimed job as a dead end: nothing can be built on it, for this reason."""
        write_atomic(
            self.folder(job) / "dead_end.json", _pretty(_words(found) | {"t": time.time()})
        )

    def dead_end(self, job: Job) -> dict[str, Any] | None:
        """Return why nothing can be built on the job: what, value, remedy and time `t`.

        None means that this is not so, or not known yet.

        Raises:
            UserError: its `dead_end.json` is damaged.
        """
        path = self.folder(job) / "dead_end.json"
        try:
            content = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            content = None
        if not isinstance(content, dict) or not {"what", "value", "remedy"} <= content.keys():
            raise UserError(f"The end of {job} is damaged: {path}", remedy=_recompute(path))
        return content

    def fail(self, job: Job, error: Exception) -> None:
        """Write why the claimed job failed to its `error.json`."""
        content = {
            "type": type(error).__name__,
            "message": str(error),
            "traceback": "".join(traceback.format_exception(error)),
            "t": time.time(),
        }
        if isinstance(error, UserError):
            content |= _words(error)
        write_atomic(self.folder(job) / "error.json", _pretty(content))

    def error(self, job: Job) -> dict[str, Any] | None:
        """Return type, message, traceback and time `t` of the last failure.

        None means that there was none, or that the job has been taken up again since.
        """
        path = self.folder(job) / "error.json"
        try:
            content: dict[str, Any] = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        return content

    def append_log(self, job: Job, record: Mapping[str, Any]) -> None:
        """Add one record to the claimed job's log.

        Two fields are added: the time `t` in Unix seconds, and `session`, which changes
        whenever the job is begun anew. The line is with the operating system on return, hence
        survives a kill of this process.
        """
        session = self._sessions.setdefault(job.key, _new_session())
        line = _line({**record, "t": time.time(), "session": session})
        path = self.folder(job) / "log.jsonl"
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            written = os.write(file, line)  # one call, so that readers never see lines mixed
        finally:
            os.close(file)
        if written != len(line):
            raise OSError(f"only {written} of {len(line)} bytes fitted into {path}: disk full?")

    def log(self, job: Job) -> list[dict[str, Any]]:
        """Return the records of the job's log, oldest first; none if there is no log.

        A last line without its end is left out: it is being written, or a kill cut it short.

        Raises:
            UserError: any other line is damaged.
        """
        path = self.folder(job) / "log.jsonl"
        try:
            *lines, _unended = path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        return [_record(line, path, number) for number, line in enumerate(lines, start=1)]

    def truncate_log(self, job: Job, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Keep only some records of the claimed job's log.

        A job that resumes calls this to drop what it logged after the state it resumes from,
        lest those records come twice.
        """
        if records := self.log(job):
            kept = b"".join(_line(record) for record in records if keep(record))
            write_atomic(self.folder(job) / "log.jsonl", kept)

    def elapsed(self, job: Job) -> float:
        """Return the seconds spent on the job, from the first log record of each session on.

        The time between a kill and the resumption does not count. A handler that wants the
        time before its first result counted logs a record when it starts.
        """
        seconds = sum(
            max(0.0, later["t"] - earlier["t"])
            for earlier, later in pairwise(self.log(job))
            if earlier["session"] == later["session"]
        )
        return float(seconds)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file such that `path` holds the old content or the new, never a part of it.

    The data is on the disk before the name points to it. A kill may leave a file beside it
    whose name starts with a dot and ends in `.tmp`.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _words(error: UserError) -> dict[str, Any]:
    value = None if error.value is None else str(error.value)
    return {"what": error.what, "value": value, "remedy": error.remedy}


def _pretty(content: object) -> bytes:
    return json.dumps(content, indent=2).encode() + b"\n"


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _record(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict) or not {"t", "session"} <= record.keys():
        raise UserError(
            f"Line {number} of the log {path} is damaged",
            value=line[:80].decode(errors="replace"),
            remedy=_recompute(path),
        )
    return record


def _recompute(path: Path) -> str:
    return f"Delete the folder {path.parent} and run the same command again: it redoes this job."


def _cut_torn_line(path: Path) -> None:
    """Cut the log back to its last whole line, so that the next record starts a line."""
    if not path.exists():
        return
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end < len(data):
        os.truncate(path, end)


def _new_session() -> str:
    return secrets.token_hex(6)
