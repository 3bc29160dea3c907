import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from imasks.data.arrays import load_arrays
from imasks.jobs import Job, in_order
from imasks.runs.figures import sources
from imasks.runs.figures.write import figures_of, rendered, slug, write_figures
from imasks.runs.results import best_fit
from imasks.runs.run import open_run

ALL = (
    "scores",
    "ranking",
    "score_over_time",
    "im_size",
    "mask_creation",
    "generations_im",
    "against_full_supervision",
)


@pytest.fixture
def study(tiny_study, tmp_path):
    """A copy of the finished run that a test may damage."""
    shutil.copytree(tiny_study.folder, tmp_path / "run")
    return open_run(tmp_path / "run")


def names(run):
    return [one.name for one in figures_of([run], ["cells"])]


def undo(run, *jobs):
    for job in jobs:
        (run.store.folder(job) / "done.json").unlink(missing_ok=True)  # starts are shared


def test_a_finished_study_has_all_its_figures(study, tmp_path):
    index = write_figures(figures_of([study], ["cells"]), tmp_path / "figures")
    found = re.findall(r"!\[(.+)\]\((.+)\.png\)\n\n(.+)\n", index.read_text())
    assert tuple(name for _, name, _ in found) == ALL
    for alt, name, caption in found:
        assert min(len(alt), len(caption)) > 60
        with Image.open(tmp_path / "figures" / f"{name}.png") as image:
            assert min(image.size) > 300
            assert image.text["Description"] == alt
    assert (tmp_path / "figures" / "scores.svg").read_text().count("<svg") == 1


def test_the_same_run_gives_the_same_bytes(study):
    for ending in ("svg", "png"):
        once, again = (rendered(next(figures_of([study], ["cells"])), ending) for _ in range(2))
        assert once == again


def test_figures_come_as_far_as_the_run_has(study):
    *_, im = study.plan.lines
    undo(study, im.generations[1].rank)
    # a labelling is counted once it is learned, and a start is not yet compared
    assert set(names(study)) == set(ALL) - {"im_size", "against_full_supervision"}
    panel = sources.score_panel(study, "cells")
    assert {curve.name for curve in panel.curves} == {"LDT", "FDT"}
    undo(study, im.generations[1].label)
    assert names(study) == ["scores", "ranking", "score_over_time"]
    (fdt,) = (line for line in study.plan.lines if line.approach.name == "FDT")
    undo(study, fdt.generations[0].rank)
    ldt_last = [*study.plan.lines][::-1]
    assert names(replace(study, plan=replace(study.plan, lines=tuple(ldt_last)))) == ["scores"]
    undo(study, *(line.generations[0].rank for line in study.plan.lines))
    assert names(study) == []
    assert write_figures(iter([]), study.folder) is None


def test_no_test_images_no_scores(study):
    for job in in_order(study.plan.targets):
        path = study.store.folder(job) / "done.json"
        content = json.loads(path.read_text())
        for part in (content["result"], *content["result"].values()):
            if isinstance(part, dict):
                part.pop("test", None)
        path.write_text(json.dumps(content))
        (study.store.folder(job) / "test.json").unlink(missing_ok=True)
    assert names(study) == ["im_size", "mask_creation", "generations_im"]


def test_no_truth_of_the_unlabeled_images(study):
    (study.store.folder(study.plan.prepare) / "unlabeled_labels.npy").unlink()
    assert names(study) == list(ALL)
    (_, shown), *_ = sources.courses(study)
    assert all(one.truth is None for one in shown)


def test_images_in_tiles_are_not_compared(study):
    data = study.store.folder(study.plan.prepare)
    names_ = data / "test_names.json"
    names_.write_text(json.dumps(json.loads(names_.read_text())[:2]))
    np.save(data / "test_source.npy", np.array([0, 0, 1, 1]))
    assert sources.contest(study) is None


def test_votes_are_those_that_made_the_mask(study):
    found = sources.creation(study)
    label = study.plan.lines[2].generations[1].label
    region = np.load(study.store.folder(label) / "region.npy")
    unlabeled = load_arrays(study.store.folder(study.plan.prepare), "unlabeled")
    for one in found.shown:
        (row,) = np.flatnonzero((unlabeled.images == one.image).all((1, 2, 3)))
        differ = (one.votes[0] != one.votes[1])[0]
        assert np.array_equal(differ, region[row])


def test_rivals_are_scored_as_their_records_say(study):
    found = sources.contest(study)
    full, other = (
        json.loads((study.store.folder(fit) / "test.json").read_text())
        for fit in (
            best_fit(study.plan.lines[1].generations[0], study.store),
            best_fit(
                study.plan.lines[2].generations[study.outcomes()[2].chosen.generation],
                study.store,
            ),
        )
    )
    leads = sorted(b["iou"] - a["iou"] for a, b in zip(full, other, strict=True))
    worse, better = (
        [one.scores[1] - one.scores[0] for one in side] for side in (found.worse, found.better)
    )
    assert found.wins == sum(lead > 0 for lead in leads)
    assert worse == [lead for lead in leads[: sources.RIVALS] if lead < 0]
    assert better == [lead for lead in leads[::-1][: sources.RIVALS] if lead > 0]
    for one in (*found.better, *found.worse):
        for predicted, score in zip((one.first, one.second), one.scores, strict=True):
            either = ((predicted > 0) | (one.truth == 1)).sum()
            both = ((predicted > 0) & (one.truth == 1)).sum()
            assert score == pytest.approx(both / (either + 1e-7))


def test_predicted_scores_are_drawn_where_a_job_left_them(study):
    *others, line = study.plan.lines
    judged = []
    for one in line.generations:
        job = Job(kind="quality", params={}, inputs=(one.rank,))
        folder = study.store.folder(job)
        folder.mkdir()
        text = json.dumps({"predicted": [0.1, 0.5, float("nan")], "true": [0.2, 0.6, 0.7]})
        (folder / "scores.json").write_text(text)
        study.store.finish(job, {"test": {"mae": 0.1}})
        judged.append(replace(one, quality=job))
    plan = replace(study.plan, lines=(*others, replace(line, generations=tuple(judged))))
    drawn = {one.name: one for one in figures_of([replace(study, plan=plan)], ["cells"])}
    assert "2 points; correlation 1.00, mean absolute error 0.100" in (
        drawn["predicted_score_im_seed_0"].alt
    )


def test_several_runs_share_the_main_diagram(study):
    drawn = [one.name for one in figures_of([study, study], ["a", "b"])]
    together = ["scores", "ranking", "score_over_time", "im_size"]
    own = [name for name in ALL if name not in together]
    assert drawn == [*together, *(f"{run}/{name}" for run in "ab" for name in own)]


def test_names_of_files():
    assert slug("GT-IM++") == "gt_im_plus_plus"
    assert slug("cells (/tmp/a b)") == "cells_tmp_a_b"


def test_seeds_that_ended_early_count_and_those_not_finished_do_not(study, monkeypatch):
    ldt, fdt, im = study.outcomes()
    ended = replace(im, seed=1, steps=im.steps[:1], ended=None)
    late = replace(im, seed=2, complete=False)
    found = [ldt, fdt, im, ended, late]
    monkeypatch.setattr(type(study), "outcomes", lambda run: found)
    shown = sources.ranking(study, "cells")
    by = {one.name: one.scores for one in shown.reached}
    assert by["IM"] == [im.steps[-1].test, im.steps[0].test]
    monkeypatch.setattr(type(study), "outcomes", lambda run: [ldt, late])
    assert sources.ranking(study, "cells") is None  # a single approach


def test_the_caption_of_a_ranking_names_what_is_there(study):
    (ranked,) = (one for one in figures_of([study], ["cells"]) if one.name == "ranking")
    assert "one seed, so no spread; diamonds and dashed lines: LDT and FDT." in ranked.caption


def test_a_start_that_was_kept_is_not_called_by_the_approach(study):
    *_, im = study.plan.lines
    path = study.store.folder(im.generations[1].rank) / "done.json"
    content = json.loads(path.read_text())
    content["result"]["ensemble"]["val"]["iou"] = -1.0
    path.write_text(json.dumps(content))
    assert sources.contest(study).names == ("FDT", "the start of IM")
