import json
import os
import pickle
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imasks.errors import UserError
from imasks.jobs import Job, Store, write_atomic
from imasks.jobs import store as store_module

START = Job(kind="fit", params={"seed": 1})
JOB = Job(kind="rank", params={"by": "score"}, inputs=(START,), label="Ranking")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "run")


@pytest.fixture
def begun(store):
    """A store in which JOB is claimed and begun."""
    with store.claim(JOB) as claimed:
        assert claimed
        store.begin(JOB)
        yield store


@pytest.fixture
def clock(monkeypatch):
    """A clock to set by hand."""
    now = [1000.0]
    monkeypatch.setattr(store_module.time, "time", lambda: now[0])
    return now


def log_file(store):
    return store.folder(JOB) / "log.jsonl"


def epochs(store):
    return [record["epoch"] for record in store.log(JOB)]


def test_folder_says_what_the_job_is(begun):
    assert begun.folder(JOB) == begun.root / "jobs" / JOB.key
    assert json.loads((begun.folder(JOB) / "params.json").read_text()) == {
        "kind": "rank",
        "params": {"by": "score"},
        "inputs": [START.key],
        "label": "Ranking",
    }


def test_finish(begun):
    assert not begun.done(JOB)
    begun.finish(JOB, {"best": 3})
    assert begun.done(JOB)
    assert Store(begun.root).result(JOB) == {"best": 3}


def test_checkpoints_go_only_once_the_job_is_done(begun, monkeypatch):
    checkpoint = begun.folder(JOB) / "checkpoint.safetensors"
    checkpoint.write_bytes(b"state")
    with pytest.raises(TypeError):
        begun.finish(JOB, {"best": object()})
    assert checkpoint.exists()
    begun.finish(JOB, {})
    assert not checkpoint.exists()


def test_finish_leaves_nothing_when_the_result_is_not_json(begun):
    with pytest.raises(TypeError):
        begun.finish(JOB, {"best": object()})
    assert not begun.done(JOB)


def test_finish_leaves_no_mark_when_the_disk_fails(begun, monkeypatch):
    def fail(file):
        raise OSError("disk full")

    monkeypatch.setattr(store_module.os, "fsync", fail)
    before = sorted(begun.folder(JOB).iterdir())
    with pytest.raises(OSError, match="disk full"):
        begun.finish(JOB, {})
    assert sorted(begun.folder(JOB).iterdir()) == before


def test_result_of_a_job_not_done(store):
    with pytest.raises(UserError, match=r"done\.json is missing.*same command again"):
        store.result(JOB)


@pytest.mark.parametrize("content", [b"", b'{"resu', b"[]", b"{}", b'{"result": 3}', b"\xff"])
def test_damaged_result(begun, content):
    (begun.folder(JOB) / "done.json").write_bytes(content)
    with pytest.raises(UserError, match=r"result of Ranking is damaged: .*done\.json") as caught:
        begun.result(JOB)
    assert str(begun.folder(JOB)) in caught.value.remedy


@settings(deadline=None, max_examples=20)
@given(st.binary(max_size=100), st.binary(max_size=100))
def test_write_atomic_replaces_the_whole(tmp_path_factory, old, new):
    path = tmp_path_factory.mktemp("atomic") / "file"
    write_atomic(path, old)
    write_atomic(path, new)
    assert path.read_bytes() == new
    assert list(path.parent.iterdir()) == [path]


def test_failed_write_atomic_leaves_the_old(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def fail(file):
        raise OSError("disk full")

    monkeypatch.setattr(store_module.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


# --- Claims ---


HOLD_CLAIM = """
import pickle, sys
store, job = pickle.load(sys.stdin.buffer)
with store.claim(job) as claimed:
    print(claimed, flush=True)
    sys.stdin.read()
"""


def test_claim_excludes_others_in_this_process(store):
    with store.claim(JOB) as first, Store(store.root).claim(JOB) as second:
        assert (first, second) == (True, False)
    with store.claim(JOB) as third, store.claim(START) as other:
        assert third
        assert other


def test_claim_ends_with_an_error(store):
    with pytest.raises(KeyboardInterrupt), store.claim(JOB):
        raise KeyboardInterrupt
    with store.claim(JOB) as claimed:
        assert claimed


def test_claim_excludes_another_process_until_it_is_killed(store):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_CLAIM], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdin.write(pickle.dumps((store, JOB)))
        process.stdin.flush()
        assert process.stdout.readline() == b"True\n"
        with store.claim(JOB) as claimed:
            assert not claimed
        process.kill()
    with store.claim(JOB) as claimed:
        assert claimed


def test_claimed_tells_whether_anyone_works_on_a_job(store):
    assert not store.claimed(JOB)
    assert not store.root.exists()
    with store.claim(JOB):
        assert store.claimed(JOB)
        assert Store(store.root).claimed(JOB)
    assert not store.claimed(JOB)
    with store.claim(JOB) as claimed:  # asking leaves the claim free
        assert claimed


def test_asking_does_not_end_the_claim_of_another(store):
    with store.claim(JOB):
        assert store.claimed(JOB)
        with store.claim(JOB) as second:
            assert not second


def test_claimed_where_one_may_only_read(store, monkeypatch):
    monkeypatch.setattr(store_module.os, "access", lambda path, mode: False)
    assert not store.claimed(JOB)
    with store.claim(JOB):
        assert store.claimed(JOB)


# --- Failures ---


def test_failure_is_noted_until_the_job_is_begun_again(begun):
    assert begun.error(JOB) is None
    begun.fail(JOB, ValueError("odd"))
    noted = begun.error(JOB)
    assert (noted["type"], noted["message"]) == ("ValueError", "odd")
    assert "ValueError: odd" in noted["traceback"]
    begun.begin(JOB)
    assert begun.error(JOB) is None


def test_failure_by_the_user_is_noted_in_full(begun):
    begun.fail(JOB, UserError("Too large", value=(3, 4), remedy="Shrink it."))
    noted = begun.error(JOB)
    assert (noted["what"], noted["value"], noted["remedy"]) == ("Too large", "(3, 4)", "Shrink it.")


def test_begin_clears_what_a_killed_write_left(begun):
    (begun.folder(JOB) / ".weights.safetensors.1-ab.tmp").write_bytes(b"part")
    (begun.folder(JOB) / "weights.safetensors").write_bytes(b"whole")
    begun.begin(JOB)
    assert {path.name for path in begun.folder(JOB).iterdir()} == {
        ".lock",
        "params.json",
        "weights.safetensors",
    }


# --- The log ---


def test_log(begun, clock):
    assert begun.log(JOB) == []
    begun.append_log(JOB, {"epoch": 0, "loss": 0.5})
    clock[0] = 1001.0
    begun.append_log(JOB, {"epoch": 1, "note": "line\nbreak"})
    first, second = Store(begun.root).log(JOB)
    assert first == {"epoch": 0, "loss": 0.5, "t": 1000.0, "session": second["session"]}
    assert (second["note"], second["t"]) == ("line\nbreak", 1001.0)


def test_torn_last_line_is_left_out_and_does_not_spoil_the_next(begun):
    begun.append_log(JOB, {"epoch": 0})
    begun.append_log(JOB, {"epoch": 1})
    whole = log_file(begun).read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        log_file(begun).write_bytes(whole[:end])
        assert epochs(begun) == [0]
    begun.begin(JOB)
    begun.append_log(JOB, {"epoch": 2})
    assert epochs(begun) == [0, 2]


@pytest.mark.parametrize("line", [b"", b'{"epoch"', b"3", b'{"epoch": 1}', b"\x00\xff"])
def test_any_other_broken_line_is_an_error(begun, line):
    begun.append_log(JOB, {"epoch": 0})
    with log_file(begun).open("ab") as file:
        file.write(line + b"\n")
    begun.append_log(JOB, {"epoch": 1})
    with pytest.raises(UserError, match=r"Line 2 of the log .*log\.jsonl is damaged") as caught:
        begun.log(JOB)
    assert "Delete the folder" in caught.value.remedy


def test_truncate_log(begun):
    begun.truncate_log(JOB, lambda record: True)
    assert not log_file(begun).exists()
    for epoch in range(5):
        begun.append_log(JOB, {"epoch": epoch})
    before = begun.log(JOB)
    begun.truncate_log(JOB, lambda record: record["epoch"] < 3)
    assert begun.log(JOB) == before[:3]
    begun.append_log(JOB, {"epoch": 3})
    assert epochs(begun) == [0, 1, 2, 3]
    begun.truncate_log(JOB, lambda record: False)
    assert begun.log(JOB) == []


def test_disk_full_in_the_middle_of_a_line(begun, monkeypatch):
    write = os.write
    monkeypatch.setattr(store_module.os, "write", lambda file, line: write(file, line[:5]))
    with pytest.raises(OSError, match=r"only 5 of \d+ bytes"):
        begun.append_log(JOB, {"epoch": 0})
    assert begun.log(JOB) == []


def test_elapsed_leaves_out_pauses(store, clock):
    assert store.elapsed(JOB) == 0.0
    for start in (1000.0, 5000.0):  # two attempts, 10 s and 20 s long, with a pause between
        with store.claim(JOB):
            store.begin(JOB)
            for epoch in range(3):
                clock[0] = start + epoch * start / 200
                store.append_log(JOB, {"epoch": epoch})
    assert store.elapsed(JOB) == pytest.approx(10 + 50)


def test_elapsed_never_runs_backwards(begun, clock):
    for now in (1000.0, 1004.0, 900.0, 901.0):
        clock[0] = now
        begun.append_log(JOB, {})
    assert begun.elapsed(JOB) == 5.0
