"""Nuclei with their centres, from the card to the tables: points are no matter of one data set."""

import csv
import dataclasses
import io
import json
import sys
import tomllib

import numpy as np
import pytest
import torch
from rich.console import Console

from imasks.data.arrays import load_arrays
from imasks.data.card import Card, write_card
from imasks.data.files import write_png
from imasks.data.folder import open_dataset
from imasks.errors import UserError
from imasks.labelling.agree import inconsistency
from imasks.labelling.labellers import load_pseudo_labels
from imasks.runs.colors import legend
from imasks.runs.predictions import predict_files
from imasks.runs.predictor import predictor_of
from imasks.runs.records import results_csv, results_markdown
from imasks.runs.report import write_report
from imasks.runs.run import open_run, plan_run, work
from imasks.runs.tables import results_table
from imasks.runs.work import best_networks, data_of
from imasks.tasks.points import draw_places, find_places
from imasks.training.predict import probabilities

pytest.importorskip("cv2", reason="the extra `points` is not installed")

COUNTS = {"labeled": 6, "unlabeled": 8, "val": 3, "test": 4}
CARD = Card(
    name="Nuclei",
    task="multilabel",
    classes=("nucleus", "centre"),
    points=("centre",),
    weights=(1.0, 3.0),
    colors=("#009e73", "#56b4e9"),
    ladder="suim",
)


@pytest.fixture(scope="module")
def nuclei(tmp_path_factory):
    """Bright nuclei on grey; the classes are the nucleus and a disc at its centre."""
    folder = tmp_path_factory.mktemp("data") / "folder"
    rng = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for number in range(count):
            places = np.array([[8, 8], [24, 9], [9, 24]])[: 1 + number % 3]
            image = rng.integers(60, 90, (32, 32)).astype(np.uint8)
            inside = np.zeros((32, 32), np.uint8)
            for x, y in places.tolist():
                inside[y - 4 : y + 5, x - 4 : x + 5] = 255
            image[inside > 0] = 200
            planes = {"nucleus": inside, "centre": draw_places(places, (32, 32)) * np.uint8(255)}
            targets = {f"images/{number}.png": image}
            targets |= {f"masks/{name}/{number}.png": plane for name, plane in planes.items()}
            for target, pixels in targets.items():
                path = folder / split / target
                path.parent.mkdir(parents=True, exist_ok=True)
                write_png(path, pixels)
    write_card(CARD, folder / "dataset.toml")
    return folder


@pytest.fixture(scope="module")
def run(nuclei, tiny, tmp_path_factory):
    options = dataclasses.replace(tiny, steps=60)
    made = plan_run(
        open_dataset(nuclei),
        tmp_path_factory.mktemp("run"),
        approaches=["LDT", "IM"],
        seeds=[0],
        options=options,
    )
    work(made, workers=1, console=Console(quiet=True))
    return open_run(made.folder)


def test_the_run_keeps_what_the_card_says(run):
    task = run.config.make_task()
    assert (task.points, task.weights) == (("centre",), (1.0, 3.0))
    assert run.config.title == "Nuclei"
    assert not run.config.ladder.augmented.free_rotation  # suim's, not that of the task
    values = tomllib.loads((run.folder / "run.toml").read_text())
    assert values["points"] == ["centre"]
    assert legend(run.config) == {
        "data": "Nuclei",
        "task": "multilabel",
        "classes": ["nucleus", "centre"],
        "colors": ["#009e73", "#56b4e9"],
        "reserved_index": None,
    }


def test_pseudo_labels_hold_discs(run):
    (label,) = {
        generation.label
        for line in run.plan.lines
        for generation in line.generations
        if generation.label is not None
    }
    stored = load_pseudo_labels(run.store.folder(label)).labels
    images = load_arrays(data_of(label, run.store), "unlabeled", truth=False).images
    task = run.config.make_task()
    ((_, each),) = probabilities(
        best_networks(label, run.store), images, task, device=torch.device("cpu")
    )
    agreed, _ = inconsistency(torch.stack([task.discrete(one) for one in each]))
    discs = [draw_places(find_places(p), p.shape) for p in agreed[:, 1].numpy()]
    assert stored[:, 1].any()
    np.testing.assert_array_equal(stored[:, 1], discs)
    np.testing.assert_array_equal(stored[:, 0], agreed[:, 0])


def test_tables_have_the_count_error_beside_the_miou(run):
    rows = {row.approach: row for row in run.rows()}
    assert rows["IM"].beside.keys() == {"miou_ad", "count_error"}
    console = Console(width=100)
    with console.capture() as capture:
        console.print(results_table(run.rows(), score="miou"))
    assert "count_error" in capture.get()
    markdown = results_markdown([run])
    assert "## Nuclei" in markdown
    assert "| approach | miou_ad | count_error |" in markdown
    found = list(csv.DictReader(io.StringIO(results_csv([run]))))
    for row in found:
        assert 0 <= float(row["test_miou_ad"]) <= 1
        assert float(row["test_count_error"]) >= 0
        assert row["data"] == "Nuclei"
    best = next(line for line in run.plan.lines if line.approach.name == "LDT").generations[0]
    key = run.store.result(best.rank)["ranked"][0]
    fit = next(job for job in best.fits if job.key == key)
    images = json.loads((run.store.folder(fit) / "test.json").read_bytes())
    mean = np.mean([image["count_error"] for image in images])
    assert float(found[0]["test_count_error"]) == pytest.approx(mean)


def test_predictions_are_counted(run, nuclei, tmp_path):
    inputs = sorted((nuclei / "test" / "images").iterdir())
    predict_files(predictor_of(run, device="cpu"), inputs, tmp_path)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        total = int(row["count/centre"])
        assert total == int(row["count/centre/nucleus"]) + int(row["count/centre/unclear"])


def test_without_opencv_nothing_begins(nuclei, tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"marks points needs .*cv2.*imasks\[points\]"):
        plan_run(
            open_dataset(nuclei), tmp_path / "run", approaches=["LDT"], seeds=[0], options=tiny
        )
    assert not (tmp_path / "run").exists()


def test_an_unknown_ladder_of_a_card_is_named(nuclei, tiny, tmp_path):
    data = open_dataset(nuclei)
    strange = dataclasses.replace(data, card=dataclasses.replace(data.card, ladder="mars"))
    with pytest.raises(UserError, match=r"no such ladder \(found: mars\)"):
        plan_run(strange, tmp_path / "run", approaches=["LDT"], seeds=[0], options=tiny)


def test_the_report_shows_pseudo_labels_with_points(run):
    page = next(path for path in write_report([run]) if path.suffix == ".html")
    assert "against the truth" in page.read_text(encoding="utf-8")
