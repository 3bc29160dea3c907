import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from rich.console import Console

from imasks.data.files import write_png
from imasks.data.folder import open_dataset
from imasks.data.synthetic import write_demo_dataset
from imasks.errors import UserError
from imasks.jobs import in_order
from imasks.models.weights import load_network
from imasks.runs import run as module
from imasks.runs.run import estimate, open_run, plan_run, work

SILENT = Console(quiet=True)


def finished(dataset, folder, options, *, approaches=("IM+",), seeds=(0,), may_grow=False):
    run = plan_run(
        dataset,
        folder,
        approaches=list(approaches),
        seeds=list(seeds),
        options=options,
        may_grow=may_grow,
    )
    work(run, workers=1, console=SILENT)
    return run


def numbers(run):
    """Everything that a run computed, by job."""
    return {
        job.key: {k: v for k, v in run.store.result(job).items() if k != "seconds"}
        for job in in_order(run.plan.targets)
    }


def test_starts_are_shared(tiny_dataset, tmp_path, tiny):
    run = plan_run(tiny_dataset, tmp_path, approaches=["LDT", "IM", "IM+"], seeds=[0], options=tiny)
    ldt, im, im_plus = run.plan.lines
    assert ldt.generations[0].fits == im.generations[0].fits == im_plus.generations[0].fits
    assert im.generations[1].fits != im_plus.generations[1].fits
    # growing networks and noise begin in generation 1: both learn from the same pseudo-labels
    assert im.generations[1].label == im_plus.generations[1].label


def test_trust_is_a_choice_of_what_is_learned(tiny_dataset, tmp_path, tiny):
    """Only labelling that must keep more than before is done anew, and the default key stays."""

    def labels(policy):
        options = dataclasses.replace(tiny, im_label=policy)
        run = plan_run(
            tiny_dataset, tmp_path / str(policy), approaches=["IM"], seeds=[0], options=options
        )
        return run.plan.lines[0].generations[1].label

    assert labels(None) == labels("ignore") == labels("blank")
    assert "extra" not in labels(None).params
    assert labels("mean") == labels("weigh") == labels("soft") != labels("ignore")


def test_graded_trust_is_trained_with(tiny_dataset, tmp_path, tiny):
    def trained(policy, preset="default"):
        options = dataclasses.replace(tiny, preset=preset, im_label=policy, filter=False)
        run = finished(tiny_dataset, tmp_path / f"{preset} {policy}", options)
        assert run.rows()[0].complete
        return run, run.plan.lines[0].generations[1]

    def weights(run, generation):
        found = load_network(run.store.folder(generation.fits[0])).state_dict()
        return b"".join(tensor.numpy().tobytes() for tensor in found.values())

    run, generation = trained("mean")
    folder = run.store.folder(generation.label)
    mean, im = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("mean", "im"))
    assert mean.shape == im.shape  # one output, one plane
    assert mean.max() <= 254
    assert im.any()
    assert weights(run, generation) != weights(*trained("weigh"))
    trained("soft", preset="paper")  # copies made before training


def test_same_seed_same_numbers_another_seed_others(tiny_dataset, tmp_path, tiny):
    first = finished(tiny_dataset, tmp_path / "a", tiny, approaches=["IM"])
    second = finished(tiny_dataset, tmp_path / "b", tiny, approaches=["IM"])
    other = finished(tiny_dataset, tmp_path / "c", tiny, approaches=["IM"], seeds=[1])
    assert numbers(first) == numbers(second)
    assert list(numbers(first).values()) != list(numbers(other).values())


def test_nothing_is_done_twice(tiny_dataset, tmp_path, tiny):
    run = finished(tiny_dataset, tmp_path, tiny, approaches=["LDT"])
    marks = {path: path.stat().st_mtime_ns for path in tmp_path.glob("jobs/*/done.json")}
    finished(tiny_dataset, tmp_path, tiny, approaches=["LDT"])
    assert {path: path.stat().st_mtime_ns for path in marks} == marks
    assert run.rows()[0].complete


def test_a_changed_configuration_is_refused(tiny_dataset, tmp_path, tiny):
    finished(tiny_dataset, tmp_path, tiny, approaches=["LDT"])
    longer = dataclasses.replace(tiny, steps=9)
    with pytest.raises(UserError, match=r"how\.recipe\.steps: 4 -> 9"):
        finished(tiny_dataset, tmp_path, longer, approaches=["LDT"])
    with pytest.raises(UserError, match=r"approaches: LDT -> ALDT"):
        finished(tiny_dataset, tmp_path, tiny, approaches=["ALDT"])


def test_a_study_may_grow(tiny_dataset, tmp_path, tiny):
    finished(tiny_dataset, tmp_path, tiny, approaches=["LDT"], may_grow=True)
    grown = finished(tiny_dataset, tmp_path, tiny, approaches=["ALDT"], seeds=[0, 1], may_grow=True)
    assert [(row.approach, row.test.count) for row in grown.rows()] == [("LDT", 2), ("ALDT", 2)]
    assert open_run(tmp_path).config == grown.config


def test_changed_data_are_refused(tiny_data, tmp_path, tiny):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tiny_data, copy)
    finished(open_dataset(copy), tmp_path / "run", tiny, approaches=["LDT"])
    next((copy / "labeled" / "images").iterdir()).write_bytes(
        next((copy / "test" / "images").iterdir()).read_bytes()
    )
    with pytest.raises(UserError, match="checksum"):
        finished(open_dataset(copy), tmp_path / "run", tiny, approaches=["LDT"])


def test_full_supervision_needs_all_masks(tiny_data, tmp_path, tiny):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tiny_data, copy)
    shutil.rmtree(copy / "unlabeled" / "masks")
    dataset = open_dataset(copy)
    with pytest.raises(UserError, match="FDT needs the true masks"):
        finished(dataset, tmp_path / "run", tiny, approaches=["FDT"])
    assert finished(dataset, tmp_path / "run", tiny, approaches=["IM"]).rows()[0].complete


def test_semi_supervision_needs_unlabeled_images(tiny_data, tmp_path, tiny):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tiny_data, copy)
    shutil.rmtree(copy / "unlabeled")
    with pytest.raises(UserError, match="needs unlabeled images"):
        finished(open_dataset(copy), tmp_path / "run", tiny)


def test_true_masks_of_unlabeled_images_change_nothing(tiny_data, tmp_path, tiny):
    """Only full supervision may read them."""
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tiny_data, copy)
    shutil.rmtree(copy / "unlabeled" / "masks")
    with_masks = finished(open_dataset(tiny_data), tmp_path / "a", tiny)
    without = finished(open_dataset(copy), tmp_path / "b", tiny)
    assert with_masks.rows()[0].test == without.rows()[0].test


def test_the_paper_preset_freezes_augmentation_and_blanks_the_mask(tiny_dataset, tmp_path, tiny):
    paper = dataclasses.replace(tiny, preset="paper", start_candidates=2, filter=False)
    run = finished(tiny_dataset, tmp_path, paper, approaches=["IM+", "ALDT", "AIM+"])
    assert all(row.complete for row in run.rows())
    im_plus = run.plan.lines[0].generations[1].fits[0]
    pseudo, labeled = im_plus.params["sources"]
    assert (pseudo["pairs"], pseudo["frozen"]) == ("pseudo", 1)
    assert (labeled["pairs"], labeled["frozen"]) == ("labeled", 0)
    assert im_plus.params["policy"]["label"] == "blank"
    aldt = run.plan.lines[1].generations[0].fits[0]
    assert [s["frozen"] for s in aldt.params["sources"]] == [0, 9]
    aim = run.plan.lines[2].generations[1].fits[0]
    assert [(s["pairs"], s["frozen"]) for s in aim.params["sources"]] == [
        ("pseudo", 1),
        ("pseudo", 0),
        ("labeled", 0),
        ("labeled", 9),
    ]


def test_weights_are_safetensors_beside_a_readable_config(tiny_dataset, tmp_path, tiny):
    run = finished(tiny_dataset, tmp_path, tiny, approaches=["LDT"])
    folder = run.store.folder(run.plan.lines[0].generations[0].fits[0])
    assert (folder / "weights.safetensors").exists()
    config = json.loads((folder / "network.json").read_text())
    assert config["width"] == 0.25
    assert not load_network(folder).training
    assert not list(folder.glob("*.pt"))
    assert not (folder / "checkpoint.safetensors").exists()


@pytest.mark.parametrize("approach", ["IM+", "IM++"])
def test_estimating_writes_nothing(tiny_dataset, tmp_path, tiny, approach):
    folder = tmp_path / "run"
    run = plan_run(tiny_dataset, folder, approaches=[approach], seeds=[0], options=tiny, dry=True)
    steps = []
    times = estimate(run, workers=2, on_progress=lambda *at: steps.append(at))
    assert times["waiting"] > 0
    assert steps[0][0] == 0
    assert steps[-1][0] == steps[-1][1] > 0
    assert not folder.exists()


def test_what_cannot_begin_leaves_no_folder(tiny_dataset, tmp_path, tiny, monkeypatch):
    folder, begun = tmp_path / "run", tmp_path / "begun"
    how = {"approaches": ["LDT"], "seeds": [0], "options": tiny}
    plan_run(tiny_dataset, begun, **how)
    there = sorted(path.name for path in begun.iterdir())

    def fail(*args, **kwargs):
        raise UserError("weights are gone", remedy="Find them.")

    monkeypatch.setattr(module, "complete", fail)
    own = tmp_path / "own"
    own.mkdir()
    for out in (folder / "below", begun, own):
        with pytest.raises(UserError, match="weights are gone"):
            plan_run(tiny_dataset, out, **how)
    assert not folder.exists()
    assert own.exists()
    assert sorted(path.name for path in begun.iterdir()) == there


def test_a_run_that_could_not_prepare_its_data_goes_on_once_they_are_mended(tmp_path, tiny):
    data = tmp_path / "data"
    write_demo_dataset(data, labeled=3, unlabeled=1, val=2, test=1, size=(32, 32))
    (mask, *_) = sorted((data / "labeled/masks").iterdir())
    whole = mask.read_bytes()
    write_png(mask, np.zeros((30, 32), np.uint8))
    how = {"approaches": ["LDT"], "seeds": [0], "options": dataclasses.replace(tiny, steps=2)}
    out, quiet = tmp_path / "run", Console(quiet=True)
    with pytest.raises(UserError, match=f"{mask.name} differs in size"):
        work(plan_run(open_dataset(data), out, **how), workers=1, console=quiet)
    mask.write_bytes(whole)
    run = plan_run(open_dataset(data), out, **how)
    work(run, workers=1, console=quiet)
    assert open_run(out).rows()[0].complete
    # from now on its data are fixed
    write_png(mask, np.zeros((32, 32), np.uint8))
    with pytest.raises(UserError, match="has changed since the run"):
        plan_run(open_dataset(data), out, **how)


# --- kill and resume ---------------------------------------------------------------------------

COMMAND = """
import sys
from imasks.cli import main
sys.argv = ["imasks", *sys.argv[1:]]
main()
"""


def start(data, out, *more):
    arguments = ["train", str(data), "--out", str(out), "--approach", "IM+", "--width", "0.25"]
    arguments += ["--steps", "40", "--batch", "4", "--candidates", "2", "--generations", "1"]
    arguments += ["--precision", "float32", "--device", "cpu", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()


def epochs(run):
    return sum(path.read_bytes().count(b'"epoch"') for path in run.glob("jobs/*/log.jsonl"))


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed_again_and_again_it_reaches_the_same_numbers(tiny_data, tmp_path, workers):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    process = start(tiny_data, whole, "--workers", workers)
    assert process.wait() == 0, process.stderr.read()
    process.stderr.close()
    for _ in range(4):
        process = start(tiny_data, broken, "--workers", workers)
        before, limit = epochs(broken), time.time() + 60
        while process.poll() is None and epochs(broken) < before + 7 and time.time() < limit:
            time.sleep(0.01)
        kill(process)
    process = start(tiny_data, broken, "--workers", workers)
    assert process.wait() == 0, process.stderr.read()
    process.stderr.close()
    one, two = open_run(whole), open_run(broken)
    assert numbers(one) == numbers(two)
    for job in in_order(one.plan.targets):
        if job.kind == "fit":
            a, b = (load_network(run.store.folder(job)).state_dict() for run in (one, two))
            assert all(np.array_equal(a[k], b[k]) for k in a)
            logged = [r["epoch"] for r in two.store.log(job) if "epoch" in r]
            assert logged == sorted(set(logged))


@pytest.mark.slow
def test_two_processes_on_one_run_share_the_work(tiny_data, tmp_path):
    out = tmp_path / "run"
    first = start(tiny_data, out, "--workers", "1")
    second = start(tiny_data, out, "--workers", "1")
    for process in (first, second):
        assert process.wait() == 0, process.stderr.read()
        process.stderr.close()
    run = open_run(out)
    assert run.rows()[0].complete
    for job in in_order(run.plan.targets):
        if job.kind == "fit":
            assert sum("begin" in record for record in run.store.log(job)) == 1


def test_threads_are_given_back_after_an_error(tiny_dataset, tmp_path, tiny, monkeypatch):
    run = plan_run(tiny_dataset, tmp_path / "r", approaches=["LDT"], seeds=[0], options=tiny)
    before = torch.get_num_threads()
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, threads=before + 1))

    def fail(*args, **more):
        assert torch.get_num_threads() == before + 1
        raise UserError("out of memory", remedy="")

    monkeypatch.setattr(module, "seconds_per_step", fail)
    with pytest.raises(UserError, match="out of memory"):
        estimate(run, workers=1)
    assert torch.get_num_threads() == before
