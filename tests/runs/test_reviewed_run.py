import dataclasses
import shutil

import numpy as np
import pytest
from rich.console import Console

from imasks.data.arrays import load_arrays
from imasks.data.checksum import digest_of
from imasks.data.decisions import Decisions
from imasks.errors import UserError
from imasks.runs.config import read_config
from imasks.runs.run import open_run, plan_run, work


@pytest.fixture
def review(tiny_dataset, tmp_path):
    """Two accepted images, one with a mask that is all foreground, and a rejected one."""
    decisions = Decisions.begin(tmp_path / "review", tiny_dataset.card)
    full, empty = np.ones((1, 32, 32), np.uint8), np.zeros((1, 32, 32), np.uint8)
    states = [("accepted", full), ("accepted", empty), ("rejected", None)]
    for sample, (state, labels) in zip(tiny_dataset.splits["unlabeled"], states, strict=False):
        decisions.save(
            sample.name, image=digest_of(sample.image), base=0, state=state, labels=labels
        )
    return decisions


def planned(dataset, folder, options, review, **more):
    options = dataclasses.replace(options, review=None if review is None else str(review))
    return plan_run(dataset, folder, approaches=["LDT"], seeds=[0], options=options, **more)


def keys(run):
    return [job.key for job in run.plan.targets]


def test_a_run_learns_from_what_was_decided(tiny_dataset, tmp_path, tiny, review):
    run = planned(tiny_dataset, tmp_path / "run", tiny, review.folder)
    shutil.rmtree(review.folder)  # the run has its own copy, and may itself be moved
    (tmp_path / "run").rename(tmp_path / "moved")
    run = open_run(tmp_path / "moved")
    work(run, workers=1, console=Console(quiet=True))
    arrays = run.store.folder(run.plan.prepare)
    labeled, unlabeled = load_arrays(arrays, "labeled"), load_arrays(arrays, "unlabeled")
    accepted, rejected = run.config.review.accepted, run.config.review.rejected
    assert set(accepted) <= set(labeled.names)
    assert not {*accepted, *rejected} & set(unlabeled.names)
    assert len(labeled.names) == 6 + 2
    assert len(unlabeled.names) == 8 - 3
    assert run.config.images == {"labeled": 8, "unlabeled": 5, "val": 3, "test": 4}
    # no drawn image is all cell or no cell: these masks are the person's
    assert {0.0, 1.0} < {labels.mean() for labels in labeled.labels}


def test_keys_follow_what_was_decided(tiny_dataset, tmp_path, tiny, review):
    plain = planned(tiny_dataset, tmp_path / "plain", tiny, None)
    first = planned(tiny_dataset, tmp_path / "first", tiny, review.folder)
    again = planned(tiny_dataset, tmp_path / "again", tiny, review.folder)
    assert keys(first) == keys(again) != keys(plain)
    assert read_config(tmp_path / "plain").review is None
    assert read_config(tmp_path / "first").review == first.config.review
    name = first.config.review.accepted[0]
    there = review.read(name)
    corner = np.ones((1, 32, 32), np.uint8)
    corner[..., 0, 0] = 0
    review.save(name, image=there.image, base=there.version, state="accepted", labels=corner)
    assert keys(planned(tiny_dataset, tmp_path / "other", tiny, review.folder)) != keys(first)


def begun(run):
    """Finish the first job, as if its data were prepared."""
    run.store.folder(run.plan.prepare).mkdir(parents=True)
    run.store.finish(run.plan.prepare, {})


def test_a_run_stays_with_its_decisions(tiny_dataset, tmp_path, tiny, review):
    run = planned(tiny_dataset, tmp_path / "run", tiny, review.folder)
    assert keys(planned(tiny_dataset, tmp_path / "run", tiny, review.folder)) == keys(run)
    begun(run)
    name = run.config.review.rejected[0]
    there = review.read(name)
    review.save(name, image=there.image, base=there.version, state=None)
    with pytest.raises(UserError, match=r"2 accepted, 1 rejected -> 2 accepted, 0 rejected"):
        planned(tiny_dataset, tmp_path / "run", tiny, review.folder)
    with pytest.raises(UserError, match=r"-> none.*give --review .*/run/reviewed"):
        planned(tiny_dataset, tmp_path / "run", tiny, None)
    copy = tmp_path / "run" / "reviewed"
    assert keys(planned(tiny_dataset, tmp_path / "run", tiny, copy)) == keys(run)
    begun(planned(tiny_dataset, tmp_path / "plain", tiny, None))
    with pytest.raises(UserError, match="leave --review out"):
        planned(tiny_dataset, tmp_path / "plain", tiny, review.folder)


def test_a_dry_run_writes_nothing(tiny_dataset, tmp_path, tiny, review):
    run = planned(tiny_dataset, tmp_path / "run", tiny, review.folder, dry=True)
    assert run.config.review.rejected
    assert not (tmp_path / "run").exists()
