import pytest

from imasks.jobs import Job, Store
from imasks.runs.progress import Progression

JOBS = [Job(kind="fit", params={"seed": seed}, label=f"fit {seed}") for seed in range(2)]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "run")


def begin(store, job):
    store.begin(job)
    store.append_log(job, {"step": 1, "steps": 4})


def test_a_job_is_worked_on_while_someone_holds_it(store):
    progression = Progression(JOBS, store)
    with store.claim(JOBS[0]):
        begin(store, JOBS[0])
        (working,) = progression.state().working
        assert working.active
    (working,) = progression.state().working  # its log is as young as before
    assert not working.active
    assert not store.folder(JOBS[1]).exists()  # looking creates nothing


def test_a_damaged_log_does_not_hide_the_progress(store):
    for job in JOBS:
        with store.claim(job):
            begin(store, job)
            with (store.folder(job) / "log.jsonl").open("a") as file:
                file.write("damaged\n")
            if job is JOBS[0]:
                store.finish(job, {})
    state = Progression(JOBS, store).state()
    assert (state.done, state.jobs, state.seconds) == (1, 2, 0.0)
