"""Approaches that have nothing to learn from end, and all others go on."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from imasks import cli
from imasks.data.folder import open_dataset
from imasks.errors import UserError
from imasks.jobs import Store, in_order
from imasks.runs import handlers
from imasks.runs.choice import choose
from imasks.runs.config import read_config
from imasks.runs.progress import Progression
from imasks.runs.records import results_csv, results_markdown
from imasks.runs.report import write_report
from imasks.runs.run import estimate, plan_run, work
from imasks.runs.tables import plan_table, status_table

REASON = "ended in generation 1: no pseudo-label passed the filter (0 of 8 images kept)"


def text(renderable):
    console = Console(width=400)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


@pytest.fixture(scope="module")
def ended(tiny_data, tiny, tmp_path_factory):
    """Networks of four steps agree on no foreground, EvalNets of four steps find nothing good."""
    run = plan_run(
        open_dataset(tiny_data),
        tmp_path_factory.mktemp("ended"),
        approaches=["IM", "IM+", "EvalNet", "Noisy Student"],
        seeds=[0],
        options=replace(tiny, filter=True, thresholds="ladder", graders=1, generations=2),
    )
    work(run, workers=1, console=Console(quiet=True))
    return run


@pytest.fixture
def found(ended):
    return {one.approach: one for one in ended.outcomes()}


def test_lines_without_labels_end_and_the_others_go_on(ended, found):
    assert str(found["IM"].ended) == str(found["IM+"].ended) == REASON  # they share labels
    assert "EvalNets found no mask good enough (0 of 8" in found["EvalNet"].ended.reason
    assert found["Noisy Student"].ended is None
    assert [len(found[name].steps) for name in ("IM", "EvalNet", "Noisy Student")] == [1, 1, 3]
    assert all(one.complete and one.done == one.jobs for one in found.values())
    assert found["IM"].chosen.generation == 0


def test_a_rerun_tries_nothing_again(ended, monkeypatch):
    def again(job, store):
        raise AssertionError(job)

    monkeypatch.setattr(handlers, "HANDLERS", dict.fromkeys(handlers.HANDLERS, again))
    work(ended, workers=1, console=Console(quiet=True))
    assert estimate(ended, workers=1) == {"computing": 0, "waiting": 0}
    state = Progression(ended.plan.targets, ended.store).state()
    assert (state.done, state.share, state.remaining) == (state.jobs, 1, 0)
    shown = text(plan_table(ended, {"computing": 0, "waiting": 0}, workers=1))
    assert all(line.split()[-1] == "0" for line in shown.splitlines() if line.startswith("IM"))


def test_tables_csv_and_figures_name_what_ended(ended, found):
    shown = text(status_table(ended))
    assert "IM (ended)" in shown
    assert f"IM, seed 0 {REASON}" in shown
    assert "Noisy Student (ended)" not in shown
    assert "Not finished" not in shown
    markdown = results_markdown([ended])
    assert "| IM (ended) |" in markdown
    assert f"* IM, seed 0 {REASON}" in markdown
    rows = list(csv.DictReader(io.StringIO(results_csv([ended]))))
    assert {row["approach"]: row["ended"] for row in rows} == {
        name: str(one.ended or "") for name, one in found.items()
    }
    assert REASON in rows[0]["ended"]
    *_, index = write_report([ended], out=ended.folder / "report")
    assert f"Not all seeds came to the end: IM, seed 0 {REASON}" in index.read_text()


def test_predictions_take_the_best_network_so_far(ended):
    chosen = choose(ended, approach="IM")
    assert (chosen.generation, chosen.done) == (0, chosen.jobs)
    assert chosen.to_json()["finished"]


def test_one_seed_that_ends_does_not_hide_the_other(tiny_dataset, tiny, tmp_path, monkeypatch):
    options = replace(tiny, steps=2, filter=True)
    run = plan_run(tiny_dataset, tmp_path, approaches=["IM"], seeds=[0, 1], options=options)
    kept = iter([0, 5])

    def label(folder, labeller, images, **more):
        counted = write(folder, labeller, images, **more)
        keep = next(kept)
        np.save(folder / "keep.npy", np.arange(len(images)) < keep)
        return {**counted, "kept": keep}

    write = handlers.write_pseudo_labels
    monkeypatch.setattr(handlers, "write_pseudo_labels", label)
    work(run, workers=1, console=Console(quiet=True))
    (row,) = run.rows()
    assert row.complete
    assert row.ended == (f"seed 0 {REASON}",)
    assert row.val.count == 2
    assert [len(one.steps) for one in run.outcomes()] == [1, 2]


def test_errors_of_another_kind_still_stop(tiny_dataset, tiny, tmp_path, monkeypatch):
    run = plan_run(tiny_dataset, tmp_path, approaches=["IM", "LDT"], seeds=[0], options=tiny)

    def full(folder, labeller, images, **more):
        raise UserError("the disk is full", remedy="Delete something.")

    monkeypatch.setattr(handlers, "write_pseudo_labels", full)
    with pytest.raises(UserError, match="the disk is full"):
        work(run, workers=1, console=Console(quiet=True))
    jobs = in_order(run.plan.targets)
    assert not any(Store(run.folder).dead_end(job) for job in jobs)
    assert not run.rows()[0].complete


def test_train_ends_with_the_best_network_so_far_and_says_so(tiny_data, tmp_path):
    arguments = "--width 0.25 --steps 4 --batch 4 --candidates 2 --generations 1 --filter "
    arguments += "--device cpu --precision float32 --workers 1 --approach IM --size 32 32"
    out = tmp_path / "run"
    for _ in range(2):
        done = CliRunner().invoke(
            cli.app, ["train", str(tiny_data), "--out", str(out), *arguments.split()]
        )
        assert done.exit_code == 0, done.output
        words = " ".join(done.output.split())
        assert f"IM, seed 0 {REASON}" in words
        assert "their generations before count. Start a new run in another --out" in words
        assert "with --no-filter" in words
    assert read_config(out).how.policy.filter
