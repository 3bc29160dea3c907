import csv
import json
import math
import shutil
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from imasks.errors import UserError
from imasks.jobs import Job, in_order
from imasks.runs.config import RunConfig, differences, read_config
from imasks.runs.progress import Progression, duration, makespan, shown
from imasks.runs.records import markdown_table, write_results
from imasks.runs.results import Outcome, Step, best_fit, images_seen
from imasks.runs.run import open_run, plan_run, work
from imasks.runs.summary import Row, Spread, gap_closed, rows
from imasks.runs.tables import convention_lines, results_table, start_note, status_table


def outcome(approach, seed, *scores, complete=True, waits=False):
    steps = tuple(
        Step(
            generation=number,
            network=f"{number}",
            labels=None,
            val=val,
            test=test,
            ensemble_val=val,
            ensemble_test=test,
            im_share=None,
            kept=None,
            pseudo_label_score=None,
            parameters=1,
            val_deviation=None,
            steps=10,
            images_seen=80,
            seconds=60.0,
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
        waits=waits,
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


def test_the_networks_together_choose_not_the_best_of_them():
    one = outcome("IM", 0, (0.5, 0.5), (0.9, 0.9))
    lucky = replace(one.steps[1], ensemble_val=0.4)
    one = replace(one, steps=(one.steps[0], lucky))
    assert one.chosen.generation == 0
    row = rows([one])[0]
    assert (row.ensemble_val.mean, row.val.mean) == (0.5, 0.5)


def test_a_score_that_is_no_number_is_never_chosen():
    assert outcome("IM", 0, (math.nan, 0.9), (0.1, 0.6)).chosen.generation == 1


def test_the_gap_is_that_of_the_means():
    found = [
        outcome("LDT", 0, (0.5, 0.5)),
        outcome("LDT", 1, (0.5, 0.6)),
        outcome("FDT", 0, (0.5, 0.7)),
        outcome("FDT", 1, (0.5, 1.0)),
        outcome("IM", 0, (0.5, 0.6)),
        outcome("IM", 1, (0.5, 0.8)),
        outcome("IM", 2, (0.5, 0.1)),  # LDT and FDT are not there yet
    ]
    found_rows = rows(found)
    assert found_rows[2].gap == pytest.approx((0.7 - 0.55) / (0.85 - 0.55))
    assert (found_rows[0].gap, found_rows[1].gap) == (0, 1)
    assert "50%" in text(results_table(found_rows, score="iou"))


def test_the_gap_drops_no_seed_in_which_fdt_is_not_above_ldt():
    ldt, fdt, im = {0: 0.5, 1: 0.7}, {0: 0.9, 1: 0.6}, {0: 0.6, 1: 0.6}
    assert gap_closed(im, ldt, fdt) == pytest.approx(0)  # not 25 %, the first seed's own


def test_no_gap_without_bounds():
    assert gap_closed({0: 0.5}, {}, {0: 0.7}) is None
    assert gap_closed({0: 0.5}, {1: 0.4}, {0: 0.7, 1: 0.7}) is None
    assert gap_closed({0: 0.5}, {0: 0.7}, {0: 0.7}) is None


def test_spread():
    assert str(Spread.of([0.5])) == "0.500"
    assert str(Spread.of([0.4, 0.6, None])) == "0.500±0.141"
    assert Spread.of([None]) is None


def test_an_unfinished_approach_says_so():
    shown = text(results_table(rows([outcome("IM", 0, (0.5, 0.6), complete=False)]), score="iou"))
    assert "IM (1/4 jobs)" in shown
    assert "Not finished" in shown
    assert "no spread" in shown


def test_a_start_is_no_result_of_an_approach_that_goes_on():
    waiting = [outcome("IM", seed, (0.5, 0.4), complete=False, waits=True) for seed in (0, 1)]
    alone = rows(waiting)[0]
    assert (alone.waits, alone.test.mean) == (True, 0.4)
    assert "IM (start only, 2/8 jobs)" in text(results_table([alone], score="iou"))
    assert "IM (start only) |" in markdown_table([alone])
    begun = rows([waiting[0], outcome("IM", 1, (0.5, 0.4), (0.6, 0.7))])[0]
    assert (begun.waits, begun.test.mean, begun.test.count) == (False, 0.7, 1)
    assert "IM (not finished, 1 of 2 seeds) |" in markdown_table([begun])


def test_seeds_that_differ_in_number_are_told():
    found = [outcome("LDT", seed, (0.5, 0.5)) for seed in range(3)]
    found.append(outcome("IM", 0, (0.5, 0.5), (0.6, 0.6)))
    assert "over 1 to 3 seeds" in text(results_table(rows(found), score="iou"))


@pytest.mark.parametrize("compared", [False, True])
def test_results_are_readable_in_80_columns(monkeypatch, compared):
    spread = Spread(mean=0.731, deviation=0.012, count=5)
    row = Row(
        approach="Noisy Student",
        generation=(2, 1, 2, 2, 2),
        val=spread,
        test=spread,
        ensemble_val=spread,
        ensemble_test=spread,
        to_lower=spread if compared else None,
        gap=-1.04,
        parameters=(1,),
        steps=(1,),
        images_seen=(1,),
        seconds=120 * 3600 + 3540,
        complete=False,
        seeds=5,
        progress="13/24",
    )
    monkeypatch.setenv("COLUMNS", "80")
    console = Console()
    with console.capture() as capture:
        console.print(results_table([row], score="iou"))
    shown = capture.get()
    assert shown.count(" 0.731±0.012") == (2 if compared else 3)
    assert ("+0.731±0.005" in shown) == compared  # the standard error of five
    for whole in ("Noisy Student", "(13/24 jobs)", "1-2", "-104%", "120h59min"):
        assert whole in shown
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_what_evalnets_saw_is_said(tiny_study):
    row = tiny_study.rows()[0]
    assert row.evalnet_share is None
    assert "EvalNets" not in text(results_table([row], score="iou"))
    judged = replace(row, approach="IM++", evalnet_share=0.25)
    assert "of all images seen: IM++ 25%" in text(results_table([row, judged], score="iou"))
    assert "| 25% |" in markdown_table([judged])


def test_empty_images_are_scored_by_all_conventions_where_there_are_any():
    (row,) = rows([outcome("LDT", 0, (0.5, 0.6))])
    assert convention_lines([row]) == []
    scores = {"val": (0.5, 0.5), "test": (0.8, 0.75)}  # no empty image in val
    spreads = {
        f"{split}_iou_{name}": Spread.of([score])
        for split, pair in scores.items()
        for name, score in zip(("empty_is_one", "without_empty"), pair, strict=True)
    }
    row = replace(row, conventions=spreads)
    assert convention_lines([row]) == [("LDT", "test", "0.600", "0.800", "0.750")]
    shown = text(results_table([row], score="iou"))
    assert "Images without foreground" in shown
    assert "0.750" in shown


def test_a_start_that_no_generation_beat_is_named():
    worse = outcome("IM", 0, (0.5, 0.9), (0.5, 0.6))  # as good is not better
    better = outcome("IM+", 1, (0.5, 0.9), (0.6, 0.6))
    assert start_note([worse]).startswith("No generation beat the supervised start")
    assert "of IM (seed 0) beat" in start_note([worse, better])
    assert start_note([better, outcome("LDT", 0, (0.5, 0.5))]) is None
    assert start_note([outcome("IM", 0, (0.5, 0.9), (0.4, 0.6), complete=False)]) is None


@pytest.mark.parametrize(("workers", "expected"), [(1, 40.0), (2, 30.0), (3, 20.0), (9, 20.0)])
def test_three_candidates_on_two_workers_take_two_rounds(workers, expected):
    prepare = Job(kind="prepare", params={})  # done: not among those left
    fits = [Job(kind="fit", params={"n": n}, inputs=(prepare,)) for n in range(3)]
    jobs = [*fits, Job(kind="rank", params={}, inputs=(prepare, *fits))]
    cost = {job.key: 10.0 for job in jobs}
    assert makespan(jobs, cost, workers=workers) == expected


@given(st.lists(st.tuples(st.floats(0, 9), st.sets(st.integers(0, 19), max_size=3)), max_size=20))
def test_time_on_the_clock_lies_between_its_bounds(drawn):
    jobs, cost = [], {}
    for number, (seconds, needs) in enumerate(drawn):
        inputs = tuple(jobs[at] for at in sorted(needs) if at < number)
        jobs.append(Job(kind="fit", params={"n": number}, inputs=inputs))
        cost[jobs[-1].key] = seconds
    total = sum(cost.values())
    assert makespan(jobs, cost, workers=1) == pytest.approx(total)
    three, all_ = (makespan(jobs, cost, workers=count) for count in (3, len(jobs)))
    assert max(total / 3, all_) - 1e-9 <= three <= total + 1e-9


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
    assert state.waiting == pytest.approx(state.remaining)
    many = Progression(half_run.plan.targets, half_run.store, workers=9).state()
    assert state.remaining / 9 < many.waiting < state.remaining
    shown = text(status_table(half_run))
    assert "LDT" in shown
    assert "IM (start only, 3/7 jobs)" in shown


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
    _, path = write_results([half_run], half_run.folder / "report")
    with path.open() as file:
        row, start = csv.DictReader(file)
    assert row["approach"] == "LDT"
    assert (start["approach"], start["generation"]) == ("IM", "0")  # the shared start
    assert row["chosen"] == "yes"
    assert 0 <= float(row["test"]) <= 1
    assert row["pseudo_label_score"] == ""


def test_the_quality_of_pseudo_labels_is_reported(half_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(half_run.folder, copy)
    run = open_run(copy)
    work(run, workers=1, console=Console(quiet=True))
    label = run.plan.lines[1].generations[1].label
    _, path = write_results([run], tmp_path)
    with path.open() as file:
        found = list(csv.DictReader(file))[2]["pseudo_label_score"]
    score = run.config.make_task().primary
    assert float(found) == run.store.result(label)["agreement"][score]


def test_a_quiet_console_is_left_alone(half_run, capsys):
    console = Console(quiet=True, force_terminal=True)
    with shown(half_run.plan.targets, half_run.store, console, 1):
        print("somebody else's line")
    assert capsys.readouterr().out == "somebody else's line\n"


def test_a_plain_console_gets_lines(half_run, capsys):
    with shown(half_run.plan.targets, half_run.store, Console(), 1):
        pass
    assert "4/8 jobs" in capsys.readouterr().out


def test_images_seen_are_counted_back_to_the_start(tiny_study):
    store = tiny_study.store
    ldt, _, im = tiny_study.plan.lines
    batch, steps = 4, 4
    assert images_seen(best_fit(ldt.generations[0], store), store) == batch * steps
    # its own training and that of both networks that voted; of two that were trained each time
    assert images_seen(best_fit(im.generations[1], store), store) == 3 * batch * steps


def test_a_labeller_that_was_not_asked_is_not_counted(tiny_study, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(tiny_study.folder, copy)
    store, generation = open_run(copy).store, tiny_study.plan.lines[2].generations[1]
    path = store.folder(generation.label) / "done.json"
    content = json.loads(path.read_text())
    content["result"]["networks"] = content["result"]["networks"][:1]
    path.write_text(json.dumps(content))
    assert images_seen(best_fit(generation, store), store) == 2 * 4 * 4


@pytest.mark.parametrize("kind", ["fit", "label", "prepare"])
def test_results_are_shown_where_a_job_before_them_is_to_be_done_again(tiny_study, tmp_path, kind):
    copy = tmp_path / "run"
    shutil.copytree(tiny_study.folder, copy)
    run = open_run(copy)
    for job in in_order(run.plan.targets):
        if job.kind == kind:
            (run.store.folder(job) / "done.json").unlink()
    *_, im = run.outcomes()
    assert not im.complete
    assert [step.images_seen for step in im.steps] == [None if kind != "label" else 16, None]
    text(status_table(run))


def test_a_generation_has_cost_all_that_lead_to_it(tiny_study):
    found = {(one.approach, one.seed): one for one in tiny_study.outcomes()}
    start, first = found["IM", 0].steps
    assert 0 < start.seconds < first.seconds
    assert first.seconds == pytest.approx(found["IM", 0].seconds)
    assert start.val_deviation >= 0
