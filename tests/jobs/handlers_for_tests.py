"""Handlers that worker processes import; the tests put this folder on their path."""

import os
import signal
import sys
import time
from pathlib import Path

from imasks.errors import UserError
from imasks.jobs import DeadEnd, Store, run_all


def write(path, text):
    with Path(path).open("a") as file:
        file.write(f"{text}\n")


def count(job, store):
    """Note that the job was done, and by whom."""
    time.sleep(job.params.get("seconds", 0))
    write(job.params["file"], f"{job.params['number']} {os.getpid()}")
    return {"number": job.params["number"], "inputs": [store.result(i) for i in job.inputs]}


def epochs(job, store):
    """Train, as it were: keep the state of each third epoch, and be killed once on the way."""
    state = store.folder(job) / "state.txt"
    first = int(state.read_text()) if state.exists() else 0
    store.truncate_log(job, lambda record: record["epoch"] < first)
    for epoch in range(first, 8):
        if epoch == 5 and first == 0:
            with (store.folder(job) / "log.jsonl").open("a") as file:
                file.write('{"epoch": 5, "t": 1')
            os.kill(os.getpid(), signal.SIGKILL)
        store.append_log(job, {"epoch": epoch})
        if epoch % 3 == 0:
            state.write_text(str(epoch + 1))
    return {"resumed_at": first}


def hang(job, store):
    write(job.params["file"], os.getpid())
    time.sleep(60)
    return {}


class AwkwardError(Exception):
    """Cannot be pickled."""

    def __init__(self, *, file):
        super().__init__("awkward")
        self.file = file


def raise_user_error(job, store):
    raise UserError("The image is odd", value=lambda: 0, remedy="Get another.")


def find_nothing(job, store):
    if "file" in job.params:
        write(job.params["file"], "0 nothing")
    raise DeadEnd("nothing is left", value="0 of 8", remedy="Ask for less.")


def raise_error(job, store):
    raise AwkwardError(file=sys.stdout)


def be_killed(job, store):
    os.kill(os.getpid(), signal.SIGKILL)


def kill_when(job, store):
    """Be killed once another job has begun."""
    while not Path(job.params["file"]).exists():
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGKILL)


def raise_later(job, store):
    """Fail once the job of another folder has begun."""
    while not Path(job.params["folder"], "params.json").exists():
        time.sleep(0.02)
    raise RuntimeError("later")


def leave(job, store):
    sys.exit(0)


def chatter(job, store):
    print("not a report")
    os.write(1, b"[]\n")
    return {"read": sys.stdin.read()}


def return_nonsense(job, store):
    return {"folder": Path()}


HANDLERS = {
    function.__name__: function
    for function in (
        count,
        epochs,
        hang,
        raise_user_error,
        find_nothing,
        raise_error,
        be_killed,
        kill_when,
        raise_later,
        leave,
        chatter,
        return_nonsense,
    )
}


def note_setup(file, word):
    write(file, f"{word} {os.getpid()}")


def bad_setup():
    raise UserError("There is no such device", remedy="Name another.")


def vanish():
    os._exit(3)


def main(root, jobs, workers):
    """Do jobs in a process of its own, which a test may kill."""
    run_all(jobs, Store(root), "handlers_for_tests:HANDLERS", workers=workers)
