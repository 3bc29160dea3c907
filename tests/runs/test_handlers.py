import pytest

from imasks.jobs import Store
from imasks.runs.run import plan_run, work
from imasks.training import fit


def test_a_kill_before_the_done_mark_costs_no_training(tiny_dataset, tmp_path, tiny, monkeypatch):
    from rich.console import Console

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
