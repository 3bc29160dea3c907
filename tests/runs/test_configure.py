import contextlib
import dataclasses
import shutil
import threading
import tomllib

import pytest
import tomli_w

from imasks.approaches.recipes import APPROACHES
from imasks.data.folder import open_dataset
from imasks.data.synthetic import write_demo_dataset
from imasks.errors import UserError
from imasks.jobs import in_order
from imasks.runs import configure as module
from imasks.runs.config import changed_versions, read_config
from imasks.runs.configure import asked_for
from imasks.runs.options import Options
from imasks.runs.run import default_workers, estimate, open_run, plan_run


def planned(dataset, folder, options, *, approaches=("LDT",), seeds=(0,), **more):
    return plan_run(dataset, folder, approaches=approaches, seeds=seeds, options=options, **more)


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- options ---


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"width": 0}, r"width must be a number of at least 0\.0625 \(found: 0\.0\)"),
        ({"width": float("nan")}, "width must be a number"),
        ({"start_candidates": 0}, "start_candidates must be a whole number of at least 1"),
        ({"generations": -3}, r"generations must be .* at least 0 \(found: -3\)"),
        ({"workers": 0}, "workers must be"),
        ({"steps": "9"}, r"steps must be a whole number of at least 1 \(found: '9'\)"),
        ({"steps": 9.0}, "steps must be a whole number"),
        ({"batch": True}, "batch must be a whole number"),
        ({"quick": "False"}, r"quick must be true or false \(found: 'False'\)"),
        ({"filter": 1}, "filter must be true or false"),
        ({"quick": None}, "quick must be true or false"),
        ({"device": 0}, "device must be text"),
        ({"size": 32}, "size must be two whole numbers"),
        ({"size": (32, 32, 3)}, "size must be two whole numbers"),
    ],
)
def test_options_are_checked_where_they_are_made(given, says):
    with pytest.raises(UserError, match=says):
        Options(**given)


def test_what_is_rare_is_asked_of_multiclass_tasks_only(tiny_dataset, tmp_path, tiny):
    options = dataclasses.replace(tiny, im_label="rare")
    with pytest.raises(UserError, match=r"exclude one another \(found: task binary\)"):
        planned(tiny_dataset, tmp_path / "run", options, approaches=["IM"])


@pytest.mark.parametrize(
    ("task", "given", "expected"),
    [
        ("multiclass", {}, "rare"),
        ("multiclass", {"im_label": "ignore"}, "ignore"),
        ("multiclass", {"preset": "paper"}, "blank"),
        ("binary", {}, "ignore"),
        ("binary", {"im_label": "mean"}, "mean"),
    ],
)
def test_the_presets_policy_is_one_for_the_task(tmp_path, tiny, task, given, expected):
    data = tmp_path / "data"
    write_demo_dataset(data, labeled=4, unlabeled=4, val=2, test=0, size=(32, 32))
    dataset = open_dataset(data)
    card = dataclasses.replace(
        dataset.card, task=task, classes=("x", "y")[: 1 + (task != "binary")]
    )
    dataset = dataclasses.replace(dataset, card=card)
    options = dataclasses.replace(tiny, **given)
    config = module.configure(dataset, options, approaches=["IM"], seeds=[0])
    assert config.how.policy.label == expected


def test_settings_of_one_approach_are_checked_too(tiny_dataset, tmp_path, tiny):
    with pytest.raises(UserError, match=r"exclude one another \(found: task binary\)"):
        planned(tiny_dataset, tmp_path / "run", tiny, approaches=["IM", "IM im-label=rare"])
    with pytest.raises(UserError, match="more networks are to vote"):
        planned(tiny_dataset, tmp_path / "run", tiny, approaches=["IM models=50"])
    epochs = dataclasses.replace(tiny, steps=None, epochs=1)
    with pytest.raises(UserError, match="equal steps need a number of steps"):
        planned(tiny_dataset, tmp_path / "run", epochs, approaches=["LDT budget=equal-steps"])
    assert not (tmp_path / "run").exists()


def test_all_may_stand_among_names(tiny_dataset):
    names, lacking = asked_for(tiny_dataset, ["IM im-label=mean", " All", "LDT"])
    assert set(APPROACHES) <= {*names, *lacking}
    assert names[0] == "IM im-label=mean"
    assert names[-1] == "LDT"
    assert not set(names) & set(lacking)


def test_numbers_get_their_own_type():
    options = Options(width=1, size=[32, 48], generations=0)
    assert isinstance(options.width, float)
    assert options.size == (32, 48)


@pytest.mark.parametrize(
    ("seeds", "says"),
    [((), "no seed"), ((-1,), "seed must be .* at least 0"), ((True,), "seed must be")],
)
def test_seeds_are_checked(tiny_dataset, tmp_path, tiny, seeds, says):
    with pytest.raises(UserError, match=says):
        planned(tiny_dataset, tmp_path / "run", tiny, seeds=seeds)
    with pytest.raises(UserError, match="no approach"):
        planned(tiny_dataset, tmp_path / "run", tiny, approaches=[])


# --- the folder ---


@pytest.mark.parametrize(
    "wrong",
    [
        {"ladder": "moon"},
        {"precision": "half"},
        {"size": (30, 32)},
        {"models": 9},
        {"im_erode": 2},
    ],
)
def test_a_wrong_option_leaves_no_folder(tiny_dataset, tmp_path, tiny, wrong):
    with pytest.raises(UserError):
        planned(tiny_dataset, tmp_path / "run", dataclasses.replace(tiny, **wrong))
    assert not (tmp_path / "run").exists()


def test_a_dry_run_writes_nothing_into_a_run_that_is_there(tiny_dataset, tmp_path, tiny):
    planned(tiny_dataset, tmp_path, tiny)
    (tmp_path / "checksums.json").unlink(missing_ok=True)
    before = files(tmp_path)
    grown = planned(tiny_dataset, tmp_path, tiny, approaches=["ALDT"], may_grow=True, dry=True)
    assert grown.config.approaches == ("LDT", "ALDT")
    assert files(tmp_path) == before


def test_what_is_not_a_run_is_left_alone(tiny_data, tmp_path, tiny):
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    dataset = open_dataset(data)
    before = files(data)
    with pytest.raises(UserError, match="is the data folder"):
        planned(dataset, data, tiny)
    assert files(data) == before
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter.txt").write_text("mine")
    for dry in (True, False):
        with pytest.raises(UserError, match=r"no run folder.*found: chapter\.txt"):
            planned(dataset, foreign, tiny, dry=dry)
    with pytest.raises(UserError, match="is a file"):
        planned(dataset, foreign / "chapter.txt", tiny)
    assert list(files(foreign)) == [foreign / "chapter.txt"]


def test_a_folder_in_which_a_start_was_cut_short_may_be_used(tiny_dataset, tmp_path, tiny):
    (tmp_path / ".lock").touch()
    (tmp_path / "checksums.json").write_text("{")
    planned(tiny_dataset, tmp_path, tiny)
    assert (tmp_path / "run.toml").exists()


# --- the same run again ---


def test_another_number_of_workers_goes_on_with_the_runs_threads(
    tiny_dataset, tmp_path, tiny, monkeypatch
):
    monkeypatch.setattr(module, "cores", lambda: 8)
    monkeypatch.setattr("imasks.runs.run.cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    begun = planned(tiny_dataset, tmp_path, dataclasses.replace(tiny, workers=2))
    assert begun.config.threads == 4
    again = planned(tiny_dataset, tmp_path, dataclasses.replace(tiny, workers=1))
    assert again.config == begun.config
    # nobody said how many: no more than there are cores for
    nothing_said = dataclasses.replace(tiny, workers=None, start_candidates=5)
    assert default_workers(begun, nothing_said) == 2


def test_threads_are_shared_limited_or_given(tiny_dataset, tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(module, "cores", lambda: 8)
    two = dataclasses.replace(tiny, workers=2)
    for limit, given, expected in (
        ("", None, 4),
        ("3", None, 3),
        ("3,2", None, 3),
        ("16", None, 4),
        ("no number", None, 4),
        ("3", 6, 6),
    ):
        monkeypatch.setenv("OMP_NUM_THREADS", limit)
        options = dataclasses.replace(two, threads=given)
        run = planned(tiny_dataset, tmp_path / f"{limit}{given}", options)
        assert run.config.threads == expected


def test_other_threads_would_change_a_run_that_has_begun(tiny_dataset, tiny_study, tiny):
    names = tiny_study.config.approaches
    options = dataclasses.replace(tiny, threads=7)
    with pytest.raises(UserError, match="threads: 1 -> 7"):
        planned(tiny_dataset, tiny_study.folder, options, approaches=names)


def test_equal_numbers_of_another_type_name_the_same_jobs(tiny_dataset, tmp_path, tiny):
    begun = planned(tiny_dataset, tmp_path, dataclasses.replace(tiny, width=1))
    text = (tmp_path / "run.toml").read_text()
    (tmp_path / "run.toml").write_text(text.replace("width = 1.0", "width = 1"))
    there = open_run(tmp_path)  # as it would have been begun with a whole number
    again = planned(tiny_dataset, tmp_path, dataclasses.replace(tiny, width=1.0))
    keys = [job.key for job in in_order(again.plan.targets)]
    assert keys == [job.key for job in in_order(there.plan.targets)]
    assert keys != [job.key for job in in_order(begun.plan.targets)]
    assert isinstance(begun.config.ladder.width, float)


def test_a_changed_file_is_named(tiny_data, tmp_path, tiny):
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    run = planned(open_dataset(data), tmp_path / "run", tiny)
    from imasks.runs.handlers import do_prepare

    with run.store.claim(run.plan.prepare):
        done = do_prepare(run.plan.prepare, run.store)  # remembers what the data were
        run.store.finish(run.plan.prepare, done)
    image = next((data / "labeled" / "images").iterdir())
    shutil.copy(next((data / "test" / "images").iterdir()), image)
    with pytest.raises(UserError, match=f"{image.name}.*changed"):
        planned(open_dataset(data), tmp_path / "run", tiny)


def test_other_versions_are_named_and_the_first_ones_kept(tiny_dataset, tmp_path, tiny):
    planned(tiny_dataset, tmp_path, tiny, may_grow=True)
    assert changed_versions(tmp_path) == []
    path = tmp_path / "run.toml"
    content = tomllib.loads(path.read_text())
    content["versions"] |= {"torch": "1.0", "python": "2.7"}
    path.write_text(tomli_w.dumps(content))
    planned(tiny_dataset, tmp_path, tiny, approaches=["ALDT"], may_grow=True)
    assert tomllib.loads(path.read_text())["versions"]["torch"] == "1.0"
    (change,) = changed_versions(tmp_path)
    assert change.startswith("torch: 1.0 -> ")


# --- several first starts at once ---


def at_once(*calls):
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_two_first_starts_measure_once(tiny_dataset, tmp_path, tiny, monkeypatch):
    answers = iter(["bfloat16", "float32"])
    both = threading.Barrier(2)

    def measure(*_, **__):
        answer = next(answers)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(timeout=0.5)  # were there no lock, the other would come here, too
        return answer

    monkeypatch.setattr(module, "choose_precision", measure)
    options = dataclasses.replace(tiny, precision="auto")
    found = []

    def start():
        found.append(planned(open_dataset(tiny_dataset.folder), tmp_path / "run", options))

    at_once(start, start)
    assert [run.config.how.recipe.precision for run in found] == ["bfloat16", "bfloat16"]
    assert found[0].config == found[1].config == read_config(tmp_path / "run")


def test_two_studies_that_grow_lose_nothing(tiny_dataset, tmp_path, tiny, monkeypatch):
    planned(tiny_dataset, tmp_path, tiny, may_grow=True)
    both = threading.Barrier(2)

    from imasks.runs.config import agree

    def late(there, wanted, **more):
        config = agree(there, wanted, **more)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(timeout=0.5)
        return config

    monkeypatch.setattr("imasks.runs.run.agree", late)
    at_once(
        *(
            lambda name=name: planned(
                tiny_dataset, tmp_path, tiny, approaches=[name], may_grow=True
            )
            for name in ("ALDT", "IM")
        )
    )
    assert set(read_config(tmp_path).approaches) == {"LDT", "ALDT", "IM"}


def test_a_dry_run_expects_rounds(tiny_dataset, tmp_path, tiny, monkeypatch):
    monkeypatch.setattr("imasks.runs.run.seconds_per_step", lambda *_, **__: 1.0)
    three = dataclasses.replace(tiny, candidates=3)
    run = planned(tiny_dataset, tmp_path / "run", three, dry=True)
    two, one = estimate(run, workers=2), estimate(run, workers=1)
    assert one["waiting"] == pytest.approx(one["computing"])
    assert two["waiting"] > 0.6 * one["waiting"]  # three trainings in two rounds, not in 1.5
