import time
from types import SimpleNamespace

import pytest
from filelock import FileLock
from rich.console import Console

from imasks import cli
from imasks.deploy.observe import MLflow, observed, observers
from imasks.errors import UserError
from imasks.runs.options import Options


class Collecting:
    """An observer that keeps what it gets, like a server that outlives the process."""

    name = "Collecting"

    def __init__(self):
        self.points = []
        self.closed = []

    def last_step(self, job):
        return max((step for key, step, _ in self.points if key == job.key), default=0)

    def write(self, job, records):
        self.points += [(job.key, record["step"], record["loss"]) for record in records]

    def close(self, job):
        self.closed.append(job.key)


class Log:
    """A run whose log is written by hand."""

    def __init__(self, run, tmp_path):
        from imasks.jobs import Store

        self.job = run.plan.lines[0].generations[0].fits[0]
        self.store = Store(tmp_path)
        self.store.folder(self.job).mkdir(parents=True)
        self.run = SimpleNamespace(
            folder=tmp_path, store=self.store, plan=SimpleNamespace(targets=[self.job])
        )

    def add(self, *epochs):
        for epoch in epochs:
            record = {"epoch": epoch, "step": 10 * epoch, "steps": 40, "loss": 1 / epoch}
            self.store.append_log(self.job, record)


@pytest.fixture
def log(tiny_run, tmp_path):
    return Log(tiny_run, tmp_path / "log")


def follow(run, observer, console=None):
    return observed(run, [lambda run, stack: observer], console or Console(quiet=True), every=0.01)


def test_every_point_comes_once_also_after_a_stop(log):
    seen = Collecting()
    with follow(log.run, seen):
        log.add(1)
        deadline = time.monotonic() + 30
        while not seen.points and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [step for _, step, _ in seen.points] == [10]  # while the training goes on
        log.add(2, 3)
    # killed after epoch 2 was saved: epoch 3 is cut off and comes again
    log.store.truncate_log(log.job, lambda record: record["epoch"] <= 2)
    with follow(log.run, seen):
        log.add(3, 4)
        log.store.finish(log.job, {})
    assert [step for _, step, _ in seen.points] == [10, 20, 30, 40]
    assert seen.closed == [log.job.key]


def test_an_observer_in_trouble_stops_nothing(log, capsys):
    class Broken(Collecting):
        def write(self, job, records):
            raise OSError("disk full")

    log.add(1)
    with follow(log.run, Broken(), Console(width=200)):
        log.add(2)
    assert "Collecting got no more: disk full" in capsys.readouterr().out


def points(folder):
    """Of all event files: {(folder, name): [(step, value), ...]}."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        events = EventAccumulator(str(place))
        events.Reload()
        for name in events.Tags()["scalars"]:
            scalars = events.Scalars(name)
            found[place.name, name] = [(one.step, one.value, one.wall_time) for one in scalars]
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_has_every_point_once(log):
    pytest.importorskip("tensorboard")
    openers = observers(Options(tensorboard=True))
    quiet = Console(quiet=True)
    with observed(log.run, openers, quiet):
        log.add(1, 2)
    with observed(log.run, openers, quiet):
        log.add(3)
        log.store.finish(log.job, {})
    with observed(log.run, openers, quiet):  # all is done already
        pass
    found = points(log.run.folder / "tensorboard")
    ((place, name),) = found
    assert name == "loss"
    assert "candidate_1_of_2" in place
    logged = log.store.log(log.job)
    assert [step for step, _, _ in found[place, name]] == [10, 20, 30]
    for (_, value, when), record in zip(found[place, name], logged, strict=True):
        assert value == pytest.approx(record["loss"])
        assert when == pytest.approx(record["t"], abs=1e-3)


def test_one_process_writes_for_all(log, capsys):
    pytest.importorskip("tensorboard")
    (log.run.folder / "tensorboard").mkdir()
    with (
        FileLock(log.run.folder / "tensorboard" / ".lock"),
        observed(log.run, observers(Options(tensorboard=True)), Console(width=200)),
    ):
        log.add(1)
    assert "another process writes" in capsys.readouterr().out
    assert not points(log.run.folder / "tensorboard")


class Client:
    """As much of MLflow's client as is used, in memory."""

    def __init__(self):
        self.runs, self.points, self.params, self.over = {}, [], [], []

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id="1") if self.runs else None

    def create_experiment(self, name):
        return "1"

    def search_runs(self, experiments, filter_string):
        return [run for tag, run in self.runs.items() if f"'{tag}'" in filter_string]

    def create_run(self, experiment, tags, run_name):
        run = SimpleNamespace(info=SimpleNamespace(run_id=f"run {len(self.runs)}"))
        self.runs[tags["imasks.job"]] = run
        return run

    def log_param(self, run_id, key, value):
        self.params.append(key)

    def log_metric(self, run_id, key, value, timestamp, step):
        self.points.append(SimpleNamespace(key=key, value=value, timestamp=timestamp, step=step))

    def get_metric_history(self, run_id, key):
        return [point for point in self.points if point.key == key]

    def set_terminated(self, run_id):
        self.over.append(run_id)


def test_mlflow_has_every_point_once(log, monkeypatch):
    client = Client()
    monkeypatch.setitem(
        __import__("sys").modules, "mlflow", SimpleNamespace(MlflowClient=lambda: client)
    )
    openers = observers(Options(mlflow=True))
    assert openers == [MLflow]
    quiet = Console(quiet=True)
    with observed(log.run, openers, quiet):
        log.add(1, 2)
    with observed(log.run, openers, quiet):
        log.add(3)
        log.store.finish(log.job, {})
    assert [(one.key, one.step) for one in client.points] == [
        ("loss", 10),
        ("loss", 20),
        ("loss", 30),
    ]
    assert client.points[0].timestamp == round(log.store.log(log.job)[0]["t"] * 1000)
    assert client.over == ["run 0"]
    assert "recipe.learning_rate" in client.params


def test_what_is_not_installed_is_named_before_anything_begins(
    tiny_cells, tmp_path, monkeypatch, capsys
):
    import sys

    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match=r"--mlflow needs .*mlflow.*pip install mlflow"):
        observers(Options(mlflow=True))
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    out = tmp_path / "run"
    monkeypatch.setattr(
        sys, "argv", ["imasks", "train", str(tiny_cells), "--out", str(out), "--tensorboard"]
    )
    with pytest.raises(SystemExit):
        cli.main()
    assert "pip install 'imasks[tensorboard]'" in capsys.readouterr().err
    assert not out.exists()
