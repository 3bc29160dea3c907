import csv
import io
from dataclasses import replace

import numpy as np
import torch
from rich.console import Console

from imasks.data.folder import open_dataset
from imasks.runs.lost import labeled_classes, lost_notes, never_predicted, vanished
from imasks.runs.records import results_csv, results_markdown
from imasks.runs.run import plan_run, work
from imasks.tasks import Multiclass

TASK = Multiclass(["sea", "land", "ice"])


def test_a_class_that_is_there_and_never_predicted():
    overlaps = torch.tensor([[[5, 9, 7], [0, 0, 3], [0, 0, 0]], [[1, 1, 1], [0, 0, 2], [0, 0, 0]]])
    labeled = {"sea": True, "land": True, "ice": True}
    assert never_predicted(overlaps, labeled) == ["land"]
    assert never_predicted(overlaps, labeled | {"land": False}) == []


def test_a_class_that_no_kept_pseudo_label_shows(tmp_path):
    shape = (2, 1, 4, 4)
    labels = np.ones(shape, np.uint8)
    labels[1] = 2
    nowhere = np.zeros(shape, np.bool_)
    for name, array in (("labels", labels), ("im", nowhere), ("region", nowhere[:, 0])):
        np.save(tmp_path / f"{name}.npy", array)
    labeled = {"sea": True, "land": True, "ice": True}
    np.save(tmp_path / "keep.npy", np.array([True, True]))
    assert vanished(tmp_path, labeled, TASK) == ["ice"]
    np.save(tmp_path / "keep.npy", np.array([True, False]))
    assert vanished(tmp_path, labeled | {"ice": False}, TASK) == ["land"]


def test_balanced_runs_record_their_weights_and_plain_ones_keep_their_keys(
    tiny_data, tiny, tiny_study, tmp_path
):
    options = replace(tiny, sampling="balanced", class_weights="balanced")
    run = plan_run(open_dataset(tiny_data), tmp_path, approaches=["IM"], seeds=[0], options=options)
    work(run, workers=1, console=Console(quiet=True))
    last = run.plan.lines[0].generations[-1]
    (weights,) = run.store.result(last.fits[0])["class_weights"]
    assert weights[1] > weights[0] > 0
    plain = tiny_study.plan.lines[-1].generations[-1].fits[0]
    assert not {"sampling", "class_weights"} & set(plain.params)
    assert "class_weights" not in tiny_study.store.result(plain)
    assert labeled_classes(run.store.folder(run.plan.prepare), run.config.make_task()) == {
        "cell": True
    }


def test_what_got_lost_is_told(tiny_study, monkeypatch):
    (ldt, *_) = found = tiny_study.outcomes()
    assert not lost_notes([replace(one, steps=()) for one in found])
    step = replace(ldt.steps[0], never_predicted=("cell",), vanished=("cell", "dust"), labels="key")
    told = [replace(ldt, steps=(step,))]
    monkeypatch.setattr(type(tiny_study), "outcomes", lambda run: told)
    assert lost_notes(told) == [
        "cell: not in the pseudo-labels any more: LDT, seed 0, generation 0",
        "dust: not in the pseudo-labels any more: LDT, seed 0, generation 0",
        "cell: never predicted on the validation images: LDT, seed 0, generation 0",
    ]
    assert "* cell: never predicted on the validation images" in results_markdown([tiny_study])
    (row,) = csv.DictReader(io.StringIO(results_csv([tiny_study])))
    assert (row["never_predicted"], row["vanished"]) == ("cell", "cell; dust")
    assert 0 <= float(row["test_iou_empty_is_one"]) <= 1


def test_many_places_are_counted_what_is_shared_once(tiny_study):
    (ldt, *_) = tiny_study.outcomes()
    (step,) = ldt.steps
    starts = [replace(step, network=f"start {k}", never_predicted=("cell",)) for k in range(5)]
    fine = replace(step, network="later", generation=1)
    seeds = [
        replace(ldt, approach=name, seed=seed, steps=(start, fine))
        for name in ("IM", "IM+")
        for seed, start in enumerate(starts)
    ]
    assert lost_notes(seeds) == [
        "cell: never predicted on the validation images: in 5 of 6 generations of all approaches "
        "and seeds"
    ]
