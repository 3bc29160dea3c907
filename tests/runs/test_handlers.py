from dataclasses import replace

import pytest
import torch
from rich.console import Console

from imasks.jobs import Store
from imasks.models.weights import load_network
from imasks.runs.run import plan_run, work
from imasks.training import fit


def test_a_kill_before_the_done_mark_costs_no_training(tiny_dataset, tmp_path, tiny, monkeypatch):
    options = {"approaches": ["LDT"], "seeds": [0], "options": tiny}
    run = plan_run(tiny_dataset, tmp_path / "run", **options)
    finish, train = Store.finish, fit._train
    finished, trained = [], []

    def kill_once(store, job, result):
        if job.kind == "fit" and not finished:
            finished.append(result)
            raise KeyboardInterrupt
        finish(store, job, result)

    def count(*args, **more):
        trained.append(1)
        return train(*args, **more)

    monkeypatch.setattr(Store, "finish", kill_once)
    with pytest.raises(KeyboardInterrupt):
        work(run, workers=1, console=Console(quiet=True))
    monkeypatch.setattr(fit, "_train", count)
    work(run, workers=1, console=Console(quiet=True))
    fits = run.plan.lines[0].generations[0].fits
    assert len(trained) == tiny.steps * (len(fits) - 1)  # every step of tiny is an epoch
    assert run.store.result(fits[0]) == finished[0]
    assert not list(run.folder.glob("jobs/*/checkpoint*"))


def test_a_warm_start_begins_where_the_generation_before_ended(tiny_dataset, tmp_path, tiny):
    options = replace(tiny, warm_start=True, learning_rate=1e-12)  # nothing to speak of
    run = plan_run(tiny_dataset, tmp_path, approaches=["IM"], seeds=[0], options=options)
    work(run, workers=1, console=Console(quiet=True))
    start, students = run.plan.lines[0].generations
    ranked = run.store.result(start.rank)["ranked"]
    for candidate, student in enumerate(students.fits):
        assert run.store.result(student)["networks"] == [ranked[candidate]]
        (begun,) = [one for one in start.fits if one.key == ranked[candidate]]
        own, other = (
            load_network(run.store.folder(job)).state_dict()["encoder.0.convs.0.weight"]
            for job in (student, begun)
        )
        torch.testing.assert_close(own, other, rtol=0, atol=1e-7)


def test_a_warm_start_goes_on_after_a_kill(tiny_dataset, tmp_path, tiny, monkeypatch):
    options = replace(tiny, warm_start=True)
    whole, killed = (
        plan_run(
            tiny_dataset, tmp_path / name, approaches=["IM"], seeds=[0], options=options
        )
        for name in ("whole", "killed")
    )  # fmt: skip
    quiet = Console(quiet=True)
    work(whole, workers=1, console=quiet)
    save, saved = fit._State.save, []

    def kill_once(state, path):
        save(state, path)
        saved.append(path)
        if len(saved) == 2 * tiny.steps + 2:  # in the second epoch of the first student
            raise KeyboardInterrupt

    monkeypatch.setattr(fit._State, "save", kill_once)
    with pytest.raises(KeyboardInterrupt):
        work(killed, workers=1, console=quiet)
    students = killed.plan.lines[0].generations[1]
    assert not killed.store.done(students.fits[0])
    work(killed, workers=1, console=quiet)
    for job in (*students.fits, students.rank):
        assert killed.store.result(job) == whole.store.result(job)
