import importlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from imasks.errors import UserError
from imasks.jobs import (
    Job,
    JobFailed,
    Store,
    attainable,
    in_order,
    next_ready,
    run_all,
    unfinished,
    walk,
)

HERE = Path(__file__).parent
HANDLERS = "handlers_for_tests:HANDLERS"
NOTE_SETUP = "handlers_for_tests:note_setup"


@pytest.fixture(autouse=True)
def helpers(monkeypatch):
    """The module that worker processes import, on the path that they inherit."""
    monkeypatch.syspath_prepend(HERE)
    return importlib.import_module("handlers_for_tests")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "run")


@pytest.fixture
def counts(tmp_path):
    """A file to which jobs add a line when done, and jobs that do."""
    file = tmp_path / "counts.txt"

    def job(number, inputs=(), seconds=0.0):
        params = {"file": str(file), "number": number, "seconds": seconds}
        return Job(kind="count", params=params, inputs=inputs)

    def lines():
        return [int(line.split()[0]) for line in file.read_text().splitlines()]

    job.lines = lines
    return job


def start(store, jobs, workers=1):
    """Do jobs in a process of its own."""
    command = (
        "import pickle, sys; root, jobs, workers = pickle.load(sys.stdin.buffer);"
        "import handlers_for_tests; handlers_for_tests.main(root, jobs, workers)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", command],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
    )
    pickle.dump((store.root, jobs, workers), process.stdin)
    process.stdin.close()
    return process


def until(true, seconds=20.0):
    """Wait for something to come true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def is_free(store, job):
    with store.claim(job) as claimed:
        return claimed


def failing(kind):
    return Job(kind=kind, params={}, label="The odd one")


# --- In this process ---


def test_jobs_are_done_in_order_and_once(store, counts):
    first = counts(1)
    last = counts(3, (first, counts(2, (first,))))
    run_all([last], store, HANDLERS)
    assert counts.lines() == [1, 2, 3]
    one = {"number": 1, "inputs": []}
    assert store.result(last)["inputs"] == [one, {"number": 2, "inputs": [one]}]
    run_all([last, counts(4)], store, HANDLERS)
    assert counts.lines() == [1, 2, 3, 4]


@pytest.mark.parametrize("workers", [1, 2])
def test_after_a_dead_end_all_else_is_done_and_nothing_is_tried_again(
    store, counts, tmp_path, workers
):
    params = {"file": str(tmp_path / "counts.txt")}
    nothing = Job(kind="find_nothing", params=params, label="The empty one")
    cut_off = counts(1, (counts(2, (nothing,)),))
    jobs = [cut_off, counts(3), counts(4, (counts(5),))]
    for _ in range(2):
        run_all(jobs, store, HANDLERS, workers=workers)
    assert sorted(counts.lines()) == [0, 3, 4, 5]
    assert not store.done(nothing)
    assert store.error(nothing) is None
    found = store.dead_end(nothing)
    del found["t"]
    assert found == {"what": "nothing is left", "value": "0 of 8", "remedy": "Ask for less."}
    assert unfinished(in_order(jobs), store) == []
    assert set(attainable(in_order(jobs), store)) == {*in_order(jobs[1:])}


def test_what_was_done_before_its_input_ended_stays(store, counts):
    nothing = Job(kind="find_nothing", params={})
    done, cut_off = counts(1, (nothing,)), counts(2, (nothing,))
    store.folder(done).mkdir(parents=True)
    store.finish(done, {})
    run_all([done, cut_off], store, HANDLERS)
    assert attainable(in_order([done, cut_off]), store) == [done]


def test_next_ready_leaves_what_ended_while_it_looked(store, monkeypatch):
    job = Job(kind="a", params={})
    claim = store.claim

    def late(job):
        store.folder(job).mkdir(parents=True)
        store.end(job, UserError("nothing", remedy=""))
        return claim(job)

    monkeypatch.setattr(store, "claim", late)
    with next_ready([job], store) as found:
        assert found is None


def test_a_damaged_dead_end_is_an_error_that_names_the_file(store):
    job = Job(kind="count", params={})
    store.folder(job).mkdir(parents=True)
    path = store.folder(job) / "dead_end.json"
    path.write_text("{")
    with pytest.raises(UserError, match=f"{path}.*Delete the folder"):
        store.dead_end(job)


def test_next_ready_takes_the_first_that_is_free(store):
    a, b = Job(kind="a", params={}), Job(kind="b", params={})
    c = Job(kind="c", params={}, inputs=(a,))
    with next_ready([a, c, b], store) as first, next_ready([a, c, b], store) as second:
        assert (first, second) == (a, b)
        with next_ready([a, c, b], store) as third:
            assert third is None
        store.finish(a, {})
        with next_ready([a, c, b], store) as third:
            assert third == c


def test_next_ready_leaves_what_was_done_while_it_looked(store, monkeypatch):
    job = Job(kind="a", params={})
    claim = store.claim

    def late(job):
        store.folder(job).mkdir(parents=True)
        store.finish(job, {})
        return claim(job)

    monkeypatch.setattr(store, "claim", late)
    with next_ready([job], store) as found:
        assert found is None


def test_walk_waits_for_jobs_of_others(store):
    job = Job(kind="a", params={})
    user = Job(kind="b", params={}, inputs=(job,))
    done = []

    class Others(Store):
        looks = 0

        def done(self, asked):
            self.looks += 1
            if self.looks == 6:
                store.finish(job, {"by": "another"})
            return super().done(asked)

    with store.claim(job):
        walk([job, user], Others(store.root), {"a": None, "b": lambda *_: done.append(1) or {}})
    assert done == [1]
    assert store.result(job) == {"by": "another"}


def test_unknown_kind_is_said_before_any_work(store, counts):
    with pytest.raises(ValueError, match="no handler for jobs of kind odd"):
        run_all([counts(1), Job(kind="odd", params={})], store, HANDLERS)
    assert not store.done(counts(1))


def test_error_in_this_process_is_noted_and_can_be_mended(store):
    job = failing("odd")

    def raise_key_error(job, store):
        return {}["nothing"]

    with pytest.raises(JobFailed, match="The odd one: KeyError: 'nothing'") as caught:
        run_all([job], store, {"odd": raise_key_error})
    assert caught.value.folder == store.folder(job)
    assert "raise_key_error" in caught.value.traceback_text
    assert isinstance(caught.value.__cause__, KeyError)
    assert store.error(job)["type"] == "KeyError"
    run_all([job], store, {"odd": lambda job, store: {"fine": True}})
    assert store.result(job) == {"fine": True}
    assert store.error(job) is None


def test_user_error_in_this_process_stays_as_it_is(store):
    error = UserError("Odd", remedy="Mend it.")

    def fail(job, store):
        raise error

    with pytest.raises(UserError) as caught:
        run_all([failing("odd")], store, {"odd": fail})
    assert caught.value is error
    assert store.error(failing("odd"))["remedy"] == "Mend it."


def test_interrupted_job_can_be_done_again(store):
    def interrupt(job, store):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all([failing("odd")], store, {"odd": interrupt})
    assert store.error(failing("odd")) is None
    run_all([failing("odd")], store, {"odd": lambda job, store: {}})


def test_a_kill_before_the_done_mark_leaves_what_was_trained(store, monkeypatch):
    job = Job(kind="train", params={})
    trained = []

    def train(job, store):
        checkpoint = store.folder(job) / "checkpoint.txt"
        if not checkpoint.exists():
            trained.append(1)
            checkpoint.write_text("trained")
        return {"from": checkpoint.read_text()}

    def kill(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "finish", kill)
        with pytest.raises(KeyboardInterrupt):
            run_all([job], store, {"train": train})
    run_all([job], store, {"train": train})
    assert trained == [1]
    assert store.result(job) == {"from": "trained"}
    assert not list(store.folder(job).glob("checkpoint*"))


# --- Worker processes ---


def test_workers_share_the_jobs(store, counts, tmp_path):
    first = counts(0)
    jobs = [counts(number, (first,), seconds=0.05) for number in range(1, 13)]
    setup = {"setup": NOTE_SETUP, "setup_args": [str(tmp_path / "setup.txt"), "by"]}
    ticks = []
    run_all(jobs, store, HANDLERS, workers=2, on_tick=lambda: ticks.append(1), **setup)
    assert counts.lines()[0] == 0
    assert sorted(counts.lines()) == list(range(13))
    pids = (tmp_path / "setup.txt").read_text().replace("by ", "").split()
    assert len(set(pids)) == 2
    assert str(os.getpid()) not in pids
    assert ticks
    run_all(jobs, store, "no.such:THING", workers=2)  # all done: no worker is started


def test_a_script_without_a_main_guard_is_not_run_again_by_its_workers(store, counts, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from imasks.jobs import Job, Store, run_all
jobs = [Job(kind="count", params={{"file": {str(counts(1).params["file"])!r}, "number": n}})
        for n in range(3)]
run_all(jobs, Store({str(store.root)!r}), {HANDLERS!r}, workers=2)
print("once")
"""
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "once\n", "")
    assert sorted(counts.lines()) == [0, 1, 2]


def test_what_jobs_print_and_read_does_not_reach_the_parents_pipes(store, capfd):
    chatty = Job(kind="chatter", params={})
    run_all([chatty], store, HANDLERS, workers=2)
    assert store.result(chatty) == {"read": ""}
    assert "not a report" in capfd.readouterr().err


def test_an_errand_longer_than_a_pipe_holds(store, counts):
    jobs = [counts(number) for number in range(3)]
    long = {"setup": "handlers_for_tests:note_setup", "setup_args": [os.devnull, "x" * 2_000_000]}
    run_all(jobs, store, HANDLERS, workers=2, **long)
    assert sorted(counts.lines()) == [0, 1, 2]


def test_no_worker_is_started_for_arguments_that_are_no_json(store, counts):
    with pytest.raises(TypeError, match="not JSON serializable"):
        run_all([counts(1)], store, HANDLERS, workers=2, setup=NOTE_SETUP, setup_args=[store])


def test_workers_need_handlers_by_name(store, counts):
    with pytest.raises(TypeError, match="import string"):
        run_all([counts(1)], store, {}, workers=2)


def test_user_error_in_a_worker_comes_back_as_one(store):
    with pytest.raises(UserError, match=r"The image is odd .found: <function .* Get another\."):
        run_all([failing("raise_user_error")], store, HANDLERS, workers=2)
    assert store.error(failing("raise_user_error"))["what"] == "The image is odd"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("raise_error", "AwkwardError: awkward"),
        ("return_nonsense", "TypeError: .*not JSON serializable"),
        ("be_killed", r"at work on it ended without a word \(exit code -9\).* fewer workers"),
        ("leave", r"at work on it ended without a word \(exit code 0\).* same command again"),
    ],
)
def test_failure_in_a_worker_names_the_job(store, kind, message):
    with pytest.raises(JobFailed, match=f"The odd one: .*{message}") as caught:
        run_all([failing(kind)], store, HANDLERS, workers=2)
    assert caught.value.label == "The odd one"
    assert caught.value.folder == store.folder(failing(kind))
    if kind == "raise_error":
        assert "in raise_error" in caught.value.traceback_text
        assert store.error(failing(kind))["traceback"] == caught.value.traceback_text


def test_errors_before_the_first_job(store, counts):
    with pytest.raises(UserError, match="no such device"):
        run_all([counts(1)], store, HANDLERS, workers=2, setup="handlers_for_tests:bad_setup")
    with pytest.raises(JobFailed, match="A worker process: ModuleNotFoundError"):
        run_all([counts(1)], store, "no.such:THING", workers=2)
    with pytest.raises(JobFailed, match="before its first job"):
        run_all([counts(1)], store, HANDLERS, workers=2, setup="handlers_for_tests:vanish")


def test_after_a_failure_work_begun_is_finished_and_no_more_begun(store, counts):
    slow = counts(1, seconds=1.5)
    after = [counts(number, seconds=0.5) for number in range(2, 9)]
    started = Job(kind="raise_later", params={"folder": str(store.folder(slow))}, label="Odd")
    with pytest.raises(JobFailed, match="Odd: RuntimeError: later"):
        run_all([slow, started, *after], store, HANDLERS, workers=2)
    assert store.done(slow)
    assert not any(store.done(job) for job in after)
    assert [path.name for path in store.root.iterdir()] == ["jobs"]  # no flag is left behind


def test_a_lost_worker_ends_the_others(store, tmp_path):
    hanging = Job(kind="hang", params={"file": str(tmp_path / "pid.txt")})
    lost = Job(kind="kill_when", params={"file": str(tmp_path / "pid.txt")})
    with pytest.raises(JobFailed, match="kill_when"):
        run_all([hanging, lost], store, HANDLERS, workers=2)
    assert is_free(store, hanging)


def test_interrupting_the_parent_ends_the_workers(store, tmp_path):
    hanging = Job(kind="hang", params={"file": str(tmp_path / "pid.txt")})

    def interrupt():
        if (tmp_path / "pid.txt").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all([hanging], store, HANDLERS, workers=2, on_tick=interrupt)
    assert is_free(store, hanging)


# --- Whole programs that are killed, or run side by side ---


def test_a_killed_program_takes_its_workers_with_it(store, tmp_path):
    file = tmp_path / "pid.txt"
    hanging = Job(kind="hang", params={"file": str(file)})
    program = start(store, [hanging], workers=2)
    until(file.exists)
    assert not is_free(store, hanging)
    program.kill()
    program.wait()
    until(lambda: is_free(store, hanging), seconds=10)


def test_a_killed_job_goes_on(store):
    job = Job(kind="epochs", params={})
    assert start(store, [job]).wait() == -signal.SIGKILL
    assert [record["epoch"] for record in store.log(job)] == [0, 1, 2, 3, 4]
    assert not store.done(job)
    run_all([job], store, HANDLERS)
    assert store.result(job) == {"resumed_at": 4}
    log = store.log(job)
    assert [record["epoch"] for record in log] == list(range(8))
    assert len({record["session"] for record in log}) == 2
    pause = log[4]["t"] - log[3]["t"]
    assert store.elapsed(job) == pytest.approx(log[-1]["t"] - log[0]["t"] - pause)


def test_two_programs_share_the_jobs(store, counts):
    first = counts(0, seconds=0.3)
    jobs = [counts(number, (first,), seconds=0.03) for number in range(1, 31)]
    programs = [start(store, jobs) for _ in range(2)]
    assert [program.wait() for program in programs] == [0, 0]
    assert Counter(counts.lines()) == Counter(range(31))
    assert all(store.done(job) for job in jobs)
