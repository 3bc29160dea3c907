import json
from dataclasses import replace

import numpy as np
import pytest

from imasks.errors import UserError
from imasks.jobs import DeadEnd, in_order
from imasks.runs.config import write_config
from imasks.runs.figures.published import read_published
from imasks.runs.html.gather import best_of, page_of
from imasks.runs.html.render import render
from imasks.runs.html.scores import summary_of, unfinished_text
from imasks.runs.html.viewer import IMAGES
from imasks.runs.run import open_run
from imasks.runs.summary import Spread


def page(run, **more):
    return page_of([run], ["cells"], **more)


def only(run, **more):
    return page(run, **more).runs[0]


def line_of(run, name):
    return next(line for line in run.plan.lines if line.approach.name == name)


def texts(found):
    return [one.text for one in found.advice]


def undo(run, *jobs):
    for job in jobs:
        (run.store.folder(job) / "done.json").unlink(missing_ok=True)


def test_a_finished_study_has_all_parts(study):
    found = only(study)
    assert [row[0] for row in found.scores.rows] == ["LDT", "FDT", "IM"]
    assert [chart.title for chart in found.charts] == [
        "Test score over generations",
        "Size of the inconsistency masks",
    ]
    assert len(found.learning) == 2 * 3
    assert [swatch.name for swatch in found.legend] == ["cell"]
    assert [gallery.title for gallery in found.galleries][:2] == ["Worst", "Best"]
    assert "is best on the validation images" in found.summary
    assert not found.quality  # no EvalNets here
    assert dict(found.configuration)["how.recipe.steps"] == "4"
    assert found.commands
    assert found.commands[0].startswith("imasks study ")


def test_the_viewer_shows_each_image_once_with_its_truth(study):
    viewer = only(study).viewer
    assert viewer is not None
    assert len({image.name for image in viewer.images}) == len(viewer.images) == 8
    assert all(image.truth is not None for image in viewer.images)
    (strand,) = viewer.strands
    assert strand.generations == (1,)
    assert [len(frames) for frames in strand.frames] == [8]
    assert all("in doubt" in frame.text for frame in strand.frames[0])
    assert not strand.blacked  # the default preset shows the whole image


def test_galleries_hold_different_images_from_low_to_high(study):
    worst, best, *_ = only(study).galleries
    scores = [float(e.note.split(",")[0].split()[-1]) for e in worst.exhibits]
    assert scores == sorted(scores)
    assert not {e.name for e in worst.exhibits} & {e.name for e in best.exhibits}
    assert [still.caption for still in best.exhibits[0].stills] == [
        "image",
        "prediction",
        "truth",
    ]


def test_shares_of_classes_are_those_of_the_masks(study):
    (found,) = only(study).classes
    predicts = best_of(study, study.rows()).approach
    labels = np.load(study.store.folder(study.plan.prepare) / "labeled_labels.npy")
    assert found.shares["labeled"] == pytest.approx((labels == 1).mean())
    assert set(found.shares) == {
        *("labeled", "validation", "pseudo-labels of IM"),
        f"predicted on validation by {predicts}",
    }


def test_few_images_make_scores_uncertain(study):
    found = only(study)
    assert any("The validation set has 3 images" in text for text in texts(found))
    assert any("one seed only" in text for text in texts(found))
    assert all(one.remedy for one in found.advice)


def test_columns_that_nobody_knows_are_left_out(study):
    assert "to LDT" in only(study).scores.columns
    for name in ("LDT", "FDT", "IM"):
        for generation in line_of(study, name).generations:
            path = study.store.folder(generation.rank) / "done.json"
            content = json.loads(path.read_text())
            for found in (content["result"]["best"], content["result"]["ensemble"]):
                found.pop("test", None)
            path.write_text(json.dumps(content))
    scores = only(study).scores
    assert not {"test", "ensemble", "to LDT", "gap"} & set(scores.columns)
    assert {len(row) for row in scores.rows} == {len(scores.columns)}


def test_a_first_look_says_that_it_is_one(study):
    assert not any("first look" in text for text in texts(only(study)))
    write_config(study.folder, study.config, asked={"quick": True})
    assert any("first look" in text for text in texts(only(study)))


def test_levels_of_deep_images_are_told(study):
    deep = replace(study.config.preparation, levels=((300.0, 2480.0),))
    run = replace(study, config=replace(study.config, preparation=deep))
    assert ("Brought to 8 bits from", "300 to 2480") in only(run).facts


def test_what_is_not_finished_says_so(study):
    undo(study, line_of(study, "IM").generations[1].rank)
    found = only(study)
    assert "IM (start only)" in [row[0] for row in found.scores.rows]
    assert "LDT is best on the validation images" in found.summary
    assert any(text.startswith("Not finished: IM (") for text in texts(found))


def test_the_best_approach_is_one_with_all_seeds_and_results_of_its_own(study):
    ldt, fdt, im = study.rows()
    best = Spread(mean=0.9, deviation=0.1, count=2)
    full = replace(im, ensemble_val=best)
    for row in (full, replace(full, waits=True)):
        worse = replace(ldt, ensemble_val=replace(best, mean=0.1))
        assert best_of(study, [row, worse]).approach == ("LDT" if row.waits else "IM")
    one_seed = replace(im, ensemble_val=Spread(mean=0.9, deviation=None, count=1))
    assert best_of(study, [one_seed, worse]).approach == "LDT"
    assert best_of(study, [fdt]).approach == "FDT"
    assert best_of(study, []) is None


def test_yardsticks_are_set_aside_where_there_are_any(study):
    ldt, fdt, im = study.rows()
    aside = "of those that need no true masks of unlabeled images"
    assert aside in summary_of(study, [ldt, fdt, im], "IM")
    for rows, name in (([ldt, im], "IM"), ([fdt], "FDT"), ([ldt, replace(fdt, val=None)], "LDT")):
        assert aside not in summary_of(study, rows, name)


def test_many_unfinished_approaches_are_counted(study):
    row = replace(study.rows()[2], complete=False, progress="1/8")
    assert unfinished_text([row, row]) == "IM (1/8 jobs) and IM (1/8 jobs)"
    assert unfinished_text([row] * 9).startswith("9 of 9 approaches, IM (1/8 jobs), ")


def test_an_approach_that_ended_says_why_and_what_to_do(study):
    generation = line_of(study, "IM").generations[1]
    undo(study, generation.label, *generation.fits, generation.rank)
    study.store.end(
        generation.label,
        DeadEnd("no pseudo-label passed", value="0 of 8 images kept", remedy="Use --no-filter."),
    )
    found = only(study)
    assert found.viewer is None
    assert found.scores.rows[-1][0] == "IM (ended)"
    said = next(one for one in found.advice if "IM (seed 0, generation 1) ended early" in one.text)
    assert "no pseudo-label passed" in said.text
    assert said.remedy == "Use --no-filter."


def test_a_job_that_failed_says_why_and_what_to_do(study):
    generation = line_of(study, "IM").generations[1]
    undo(study, generation.label, *generation.fits, generation.rank)
    study.store.fail(generation.label, UserError("the disk is full", value="x", remedy="Tidy up."))
    said = next(one for one in only(study).advice if "the disk is full (x)" in one.text)
    assert said.remedy == "Tidy up."


def test_a_class_that_pseudo_labels_all_but_lose_is_told(study):
    generation = line_of(study, "IM").generations[1]
    path = study.store.folder(generation.label) / "labels.npy"
    labels = np.zeros_like(np.load(path))
    labels[0, 0, 0, 0] = 1
    np.save(path, labels)
    assert any("have all but lost class cell: of cell, 0.01%" in t for t in texts(only(study)))


def test_a_class_that_no_validation_image_shows_is_told(study):
    path = study.store.folder(study.plan.prepare) / "val_labels.npy"
    assert not any("No validation image shows" in text for text in texts(only(study)))
    np.save(path, np.zeros_like(np.load(path)))
    assert any("No validation image shows class cell" in text for text in texts(only(study)))


def test_a_class_that_is_never_predicted_is_told(study):
    rank = study.store.folder(line_of(study, "LDT").generations[0].rank) / "done.json"
    content = json.loads(rank.read_text())
    content["result"]["never_predicted"] = ["cell"]
    rank.write_text(json.dumps(content))
    said = [t for t in texts(only(study)) if t.startswith("Never predicted on the validation")]
    assert len(said) == 1
    assert ": cell (LDT, seed 0, generation 0)" in said[0]


def test_yardsticks_are_not_what_is_recommended(study):
    rows = [row for row in study.rows() if row.approach != "IM"]
    chosen = best_of(study, rows)
    assert chosen is not None
    assert chosen.approach == "LDT"
    assert best_of(study, []) is None


def test_before_anything_is_finished_the_page_says_so(study):
    undo(study, *in_order(study.plan.targets))
    found = page(study)
    run = found.runs[0]
    assert run.summary.startswith("No generation is finished yet")
    assert (run.viewer, run.galleries, run.classes, run.charts) == (None, (), (), ())
    assert "No generation is finished yet" in render(found)


def test_options_that_were_not_noted_are_no_command(study):
    write_config(study.folder, study.config)
    assert only(open_run(study.folder)).commands == ()


def test_several_runs_stand_on_one_page_with_published_scores(study, tmp_path):
    published = tmp_path / "p.csv"
    published.write_text("dataset,metric,approach,generation,test_score\nx,IoU,IM,1,0.5\n")
    found = page_of([study, study], ["a", "b"], read_published(published))
    assert [run.title for run in found.runs] == ["a", "b"]
    assert "x (published)" in [chart.title for chart in found.runs[0].charts]
    assert "x (published)" not in [chart.title for chart in found.runs[1].charts]
    used = {image.picture for run in found.runs for image in run.viewer.images}
    assert len(used) == 16


def test_a_thousand_images_make_a_bounded_page(study):
    """Noise compresses worst of all."""
    rng = np.random.default_rng(0)
    count, side = 1000, 32
    folder = study.store.folder(study.plan.prepare)
    generation = line_of(study, "IM").generations[1]
    labelled = study.store.folder(generation.label)
    noise = rng.integers(0, 256, (count, side, side, 3), np.uint8)
    labels = rng.integers(0, 2, (count, 1, side, side), np.uint8)
    np.save(folder / "unlabeled_images.npy", noise)
    np.save(folder / "unlabeled_labels.npy", labels)
    np.save(folder / "unlabeled_source.npy", np.arange(count))
    (folder / "unlabeled_names.json").write_text(json.dumps([f"{k:04}" for k in range(count)]))
    for name, value in (("labels", labels), ("im", labels > 0), ("region", labels[:, 0] > 0)):
        np.save(labelled / f"{name}.npy", value)
    np.save(labelled / "keep.npy", np.ones(count, np.bool_))

    found = page(study)
    assert found.runs[0].viewer.total == count
    assert len(found.runs[0].viewer.images) == IMAGES
    assert len(render(found)) < 10_000_000

    scarce = page(study, budget=25_000)
    shown = scarce.runs[0].viewer.images
    assert 0 < len(shown) < IMAGES
    assert sum(map(len, scarce.pictures)) <= 25_000
