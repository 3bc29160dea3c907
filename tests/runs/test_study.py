"""Every approach on every task from end to end, with the smallest networks there are."""

import csv
import dataclasses
import io
import json
import os
import shutil

import numpy as np
import pytest
from rich.console import Console

from imasks.approaches.recipes import APPROACHES
from imasks.data.card import Card, write_card
from imasks.data.files import read_image, write_png
from imasks.data.folder import open_dataset
from imasks.jobs import Store, in_order
from imasks.models.weights import load_network
from imasks.runs.choice import choose
from imasks.runs.figures.sources import contest, predicted_scores
from imasks.runs.handlers import HANDLERS
from imasks.runs.options import Options
from imasks.runs.predictions import predict_files
from imasks.runs.predictor import predictor_of
from imasks.runs.records import results_csv, results_markdown
from imasks.runs.run import open_run, plan_run, work
from imasks.runs.tables import status_table

pytestmark = pytest.mark.slow

L, U = 6, 8
COUNTS = {"labeled": L, "unlabeled": U, "val": 3, "test": 4}
CLASSES = {"binary": ("x",), "multiclass": ("a", "b", "c"), "multilabel": ("a", "b")}
OPTIONS = Options(
    preset="paper",  # where the size of a training set is that of the record
    width=1 / 16,
    steps=2,
    batch=4,
    candidates=2,
    generations=2,
    graders=2,
    thresholds="auto",
    filter=False,
    precision="float32",
    device="cpu",
    workers=os.cpu_count(),  # one thread each; the tests work in their own process
)
PAIRS = {  # of the training set of a last generation; kept and shown are read from the jobs
    "LDT": lambda kept, shown: L,
    "ALDT": lambda kept, shown: 10 * L,
    "FDT": lambda kept, shown: L + U,
    "AFDT": lambda kept, shown: 10 * (L + U),
    "Consistency Loss low": lambda kept, shown: L + U,
    "Consistency Loss mid": lambda kept, shown: L + U,
    "Consistency Loss high": lambda kept, shown: L + U,
    "Model Ensemble": lambda kept, shown: U + L,
    "Input Ensemble": lambda kept, shown: U + L,
    "Noisy Student": lambda kept, shown: U + L,
    "EvalNet": lambda kept, shown: kept + L,
    "IM": lambda kept, shown: U + L,
    "IM+": lambda kept, shown: U + L,
    "IM++": lambda kept, shown: shown + L,
    "AIM+": lambda kept, shown: 2 * U + 10 * L,
    "AIM++": lambda kept, shown: shown + U + 10 * L,
    "GT-IM++": lambda kept, shown: shown + L,
}


def draw(folder, task):
    """Images of three brightnesses, and masks that name them; some pixels of val are void."""
    card = Card(name=task, task=task, classes=CLASSES[task], ignore=255)
    rng = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for number in range(count):
            kinds = rng.integers(0, 3, (4, 4)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
            noise = rng.integers(0, 40, (32, 32, 3))
            save(folder / split / "images" / f"{number}.png", kinds[..., None] * 100 + noise)
            masks = folder / split / "masks"
            planes = {"": kinds if task == "multiclass" else (kinds == 2) * 1}
            if task == "multilabel":
                planes = {"a": (kinds == 1) * 1, "b": (kinds > 0) * 1}
            for name, plane in planes.items():
                void = np.where(np.arange(32) < 4, 255, plane) if split == "val" else plane
                save(masks / name / f"{number}.png", void)
    write_card(card, folder / "dataset.toml")
    return open_dataset(folder)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, np.asarray(array).astype(np.uint8))


@pytest.fixture(scope="module", params=CLASSES)
def study(request, tmp_path_factory):
    """All approaches on one task; starts and EvalNets are shared."""
    folder = tmp_path_factory.mktemp(request.param)
    run = plan_run(
        draw(folder / "data", request.param),
        folder / "run",
        approaches=list(APPROACHES),
        seeds=[0],
        options=OPTIONS,
    )
    work(run, workers=1, console=Console(quiet=True))
    return run


@pytest.mark.parametrize("name", APPROACHES)
def test_every_approach_ends_with_a_score_and_learned_what_its_record_says(study, name):
    line = next(line for line in study.plan.lines if line.approach.name == name)
    row = next(row for row in study.rows() if row.approach == name)
    assert row.complete
    expected = {None: 1}.get(APPROACHES[name].start, 2 if "Consistency" in name else 3)
    assert len(line.generations) == expected
    last = line.generations[-1]
    result = study.store.result(last.rank)
    assert 0 <= result["best"]["test"][study.config.make_task().primary] <= 1
    kept = shown = 0
    if last.label:
        labelled = study.store.result(last.label)
        kept = labelled["kept"]
        assert 0 < kept <= labelled["images"] == U
    if last.grade:
        graded = study.store.result(last.grade)
        shown = round(graded["copies"] * kept)
        assert sum(graded["by_copies"]) == kept
    assert {study.store.result(fit)["pairs"] for fit in last.fits} == {PAIRS[name](kept, shown)}
    assert (last.quality is not None) == (APPROACHES[name].teachers != ())


def test_the_default_looks_after_rare_classes_of_multiclass_tasks(tmp_path):
    run = plan_run(
        draw(tmp_path / "data", "multiclass"),
        tmp_path / "run",
        approaches=["IM+", "IM++"],
        seeds=[0],
        options=dataclasses.replace(OPTIONS, preset="default", generations=1),
    )
    work(run, workers=1, console=Console(quiet=True))
    assert all(row.complete for row in run.rows())
    for line in run.plan.lines:
        votes = np.load(run.store.folder(line.generations[1].label) / "votes.npy", mmap_mode="r")
        assert votes.shape[:2] == (U, 2)  # images and networks


def test_what_was_seen_is_counted_with_its_judges(study):
    found = {
        (one.approach, step.generation): step for one in study.outcomes() for step in one.steps
    }
    step = OPTIONS.steps
    start = step * OPTIONS.batch
    assert found["IM+", 0].images_seen == start
    assert found["IM+", 1].images_seen == 3 * start  # itself and two voters
    assert found["Consistency Loss low", 1].images_seen == 2 * start  # itself and the best
    # also two EvalNets, taught by the two candidates that vote
    assert found["IM++", 1].images_seen == 3 * start + 2 * step * 32
    assert found["IM++", 1].evalnet_share == 2 * step * 32 / found["IM++", 1].images_seen
    assert found["IM+", 1].evalnet_share == found["IM++", 0].evalnet_share == 0


def test_predicted_quality_is_what_the_quality_job_said(study, tmp_path):
    for name in ("IM++", "EvalNet"):  # cut pairs and plain ones
        chosen = choose(study, approach=name)
        predictor = predictor_of(study, chosen=chosen, device="cpu")
        inputs = sorted((study.folder.parent / "data/test/images").iterdir())
        scores = json.loads((study.store.folder(chosen.quality) / "scores.json").read_text())
        said = [predictor(read_image(path)) for path in inputs]
        found = [one.quality for one in said]
        np.testing.assert_allclose(found, scores["predicted"], atol=1e-3)
        for one in said:
            assert set(one.class_quality) <= set(predictor.task.classes)
            assert predictor.task.detects or not one.class_quality
        predict_files(predictor, inputs, tmp_path / name)
        rows = list(csv.DictReader(io.StringIO((tmp_path / name / "predictions.csv").read_text())))
        assert [float(row["quality"]) for row in rows] == pytest.approx(found, abs=1e-6)
        assert ("quality/a" in rows[0]) == predictor.task.detects
        tiles = dataclasses.replace(predictor, scale="native")
        assert tiles(read_image(inputs[0])).quality is None
    plain = predictor_of(study, chosen=choose(study, approach="IM"), device="cpu")
    assert plain.judge is None
    assert plain(read_image(inputs[0])).quality is None


def test_the_csv_has_the_copies_that_were_shown(study):
    rows = list(csv.DictReader(io.StringIO(results_csv([study]))))
    found = {(row["approach"], int(row["generation"])): row["copies"] for row in rows}
    for line in study.plan.lines:
        for generation in line.generations:
            said = found[line.approach.name, generation.number]
            if generation.grade is None:
                assert said == ""
            else:
                assert float(said) == study.store.result(generation.grade)["copies"] >= 1


def test_the_report_says_how_good_predicted_quality_is(study):
    text = results_markdown([study])
    table = text[text.index("Predicted quality") :]
    assert "| EvalNet | " in table
    assert "| IM++ | " in table
    assert "| IM+ | " not in table
    rows = list(csv.DictReader(io.StringIO(results_csv([study]))))
    judged = {row["approach"] for row in rows if row["quality_mae"]}
    assert judged == {"EvalNet", "IM++", "AIM++"}
    one = next(row for row in rows if row["approach"] == "IM++" and row["generation"] == "1")
    line = next(line for line in study.plan.lines if line.approach.name == "IM++")
    result = study.store.result(line.generations[1].quality)
    assert float(one["quality_mae"]) == result["test"]["mae"]
    console = Console(width=200)
    with console.capture() as captured:
        console.print(status_table(study))
    assert "bad in lowest tenth" in captured.get()


def test_figures_know_judges_and_oracles(study):
    assert [title for title, *_ in predicted_scores(study)] == [
        "EvalNet, seed 0",
        "IM++, seed 0",
        "AIM++, seed 0",
    ]
    found = contest(study)
    assert found is None or not APPROACHES[found.names[1]].needs_truth


def test_a_killed_evalnet_goes_on_to_the_same_weights(study, tmp_path, monkeypatch):
    shutil.copytree(study.folder, tmp_path / "run")
    run = open_run(tmp_path / "run")
    job = next(job for job in in_order(run.plan.targets) if job.kind == "grader")
    folder, append = run.store.folder(job), Store.append_log
    before = load_network(folder).state_dict()
    for name in ("done.json", "weights.safetensors", "log.jsonl"):
        (folder / name).unlink()

    def stop(store, job, record):
        if "epoch" in record:
            raise KeyboardInterrupt
        append(store, job, record)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "append_log", stop)
        with pytest.raises(KeyboardInterrupt):
            HANDLERS["grader"](job, run.store)
    HANDLERS["grader"](job, run.store)
    after = load_network(folder).state_dict()
    assert all(before[name].equal(after[name]) for name in before)
    logged = [record["epoch"] for record in run.store.log(job) if "epoch" in record]
    assert logged == [2]  # the first was trained before the kill
