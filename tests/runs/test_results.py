import csv

import pytest
from rich.console import Console

from imasks.errors import UserError
from imasks.runs.config import RunConfig, differences, read_config
from imasks.runs.pictures import paint, write_pictures
from imasks.runs.progress import Progression, duration
from imasks.runs.results import Outcome, Spread, Step, gap_closed, rows
from imasks.runs.run import plan_run, work
from imasks.runs.tables import results_table, status_table, write_results_csv


def outcome(approach, seed, *scores, complete=True):
    steps = tuple(
        Step(
            generation=number,
            val=val,
            test=test,
            ensemble_val=val,
            ensemble_test=test,
            im_share=None,
            kept=None,
            parameters=1,
        )
        for number, (val, test) in enumerate(scores)
    )
    return Outcome(
        approach=approach,
        seed=seed,
        steps=steps,
        complete=complete,
        seconds=60.0,
        done=len(steps),
        jobs=4,
    )


def text(renderable):
    console = Console(width=400)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_the_generation_is_chosen_by_validation_never_by_test():
    one = outcome("IM", 0, (0.5, 0.9), (0.7, 0.6), (0.6, 0.95))
    assert one.chosen.generation == 1
    assert rows([one])[0].test.mean == 0.6


def test_the_gap_is_paired_by_seed():
    found = [
        outcome("LDT", 0, (0.5, 0.5)),
        outcome("LDT", 1, (0.5, 0.6)),
        outcome("FDT", 0, (0.5, 0.7)),
        outcome("FDT", 1, (0.5, 1.0)),
        outcome("IM", 0, (0.5, 0.6)),
        outcome("IM", 1, (0.5, 0.7)),
    ]
    gap = rows(found)[2].gap
    assert gap.mean == pytest.approx((0.5 + 0.25) / 2)
    assert gap.count == 2
    assert rows(found)[0].gap.mean == 0
    assert rows(found)[1].gap.mean == 1


def test_no_gap_without_bounds():
    assert gap_closed(0.5, None, 0.7) is None
    assert gap_closed(0.5, 0.7, 0.6) is None
    assert gap_closed(None, 0.5, 0.7) is None


def test_spread():
    assert str(Spread.of([0.5])) == "0.500"
    assert str(Spread.of([0.4, 0.6, None])) == "0.500 ± 0.141"
    assert Spread.of([None]) is None


def test_an_unfinished_approach_says_so():
    shown = text(results_table(rows([outcome("IM", 0, (0.5, 0.6), complete=False)]), score="iou"))
    assert "IM (1/4 jobs)" in shown
    assert "Not finished" in shown
    assert "no spread" in shown


@pytest.mark.parametrize(
    ("seconds", "expected"), [(45, "45 s"), (600, "10 min"), (12_000, "3 h 20 min")]
)
def test_durations(seconds, expected):
    assert duration(seconds) == expected


def test_differences_are_named_by_their_path():
    old = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    new = {"a": {"b": 2, "c": [1, 2]}, "e": "x"}
    assert differences(old, new) == ["a.b: 1 -> 2", "d: 1 -> not set", "e: not set -> x"]


@pytest.fixture(scope="module")
def half_run(tiny_data, tmp_path_factory, tiny):
    """A run of which LDT is finished and IM is not."""
    from imasks.data.folder import open_dataset

    folder = tmp_path_factory.mktemp("run")
    dataset = open_dataset(tiny_data)
    options = {"seeds": [0], "options": tiny, "may_grow": True}
    run = plan_run(dataset, folder, approaches=["LDT"], **options)
    work(run, workers=1, console=Console(quiet=True))
    return plan_run(dataset, folder, approaches=["LDT", "IM"], **options)


def test_the_configuration_comes_back_as_it_was(half_run):
    assert read_config(half_run.folder) == half_run.config
    assert RunConfig.from_json(half_run.config.to_json()) == half_run.config


def test_a_damaged_configuration_is_an_error(tmp_path):
    (tmp_path / "run.toml").write_text("data = [")
    with pytest.raises(UserError, match=r"run\.toml cannot be read"):
        read_config(tmp_path)


def test_status_shows_what_is_done_and_what_remains(half_run):
    state = Progression(half_run.plan.targets, half_run.store).state()
    assert 0 < state.done < state.jobs
    assert 0 < state.share < 1
    assert state.remaining > 0
    shown = text(status_table(half_run))
    assert "LDT" in shown
    assert "IM (4/8 jobs)" in shown


def test_a_job_in_the_middle_is_shown_with_its_share(half_run):
    store = half_run.store
    job = half_run.plan.lines[1].generations[1].label
    with store.claim(job):
        store.begin(job)
        store.append_log(job, {"step": 3, "steps": 4})
        (working,) = Progression(half_run.plan.targets, store).state().working
    assert working.share == 0.75
    assert working.active
    (store.folder(job) / "log.jsonl").unlink()


def test_results_as_csv(half_run):
    with write_results_csv(half_run).open() as file:
        row, start = csv.DictReader(file)
    assert row["approach"] == "LDT"
    assert (start["approach"], start["generation"]) == ("IM", "0")  # the shared start
    assert row["chosen"] == "yes"
    assert 0 <= float(row["test"]) <= 1


def test_nothing_to_picture_yet(half_run):
    assert write_pictures(half_run) == []


def test_painting_labels():
    import numpy as np

    from imasks.tasks import Multiclass, Multilabel

    colors = np.array([[255, 0, 0], [0, 0, 254]], np.uint8)
    region = np.array([[False, False], [False, True]])
    classes = np.array([[[1, 2], [255, 1]]], np.uint8)
    painted = paint(classes, region, Multiclass(["a", "b"]), colors)
    assert painted.tolist() == [[[255, 0, 0], [0, 0, 254]], [[128] * 3, [128] * 3]]
    planes = np.array([[[1, 0], [1, 0]], [[1, 0], [0, 1]]], np.uint8)
    painted = paint(planes, None, Multilabel(["a", "b"]), colors)
    assert painted.tolist() == [[[127, 0, 127], [0, 0, 0]], [[255, 0, 0], [0, 0, 254]]]
