import shutil

import pytest

import imasks
from imasks import api
from imasks.approaches.recipes import APPROACHES
from imasks.data.synthetic import write_demo_dataset
from imasks.errors import UserError

FAST = {
    "width": 0.25,
    "steps": 4,
    "batch": 4,
    "candidates": 2,
    "generations": 1,
    "precision": "float32",
    "device": "cpu",
    "workers": 1,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells") / "data"
    write_demo_dataset(folder, labeled=4, unlabeled=4, val=2, test=2, size=(32, 32))
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("imasks.runs.configure.cores", lambda: 1)  # networks this small gain nothing
        return imasks.train(data, out=tmp_path_factory.mktemp("run"), progress=False, **FAST)


def test_predictions_say_where_they_come_from(trained):
    chosen = trained.chosen
    assert (chosen.approach, chosen.seed, len(chosen.fits)) == ("IM+", 0, 2)
    assert chosen.done == chosen.jobs
    assert len(trained.predictor.networks) == 2


def test_silence_is_silence(trained, data, capsys):
    imasks.train(data, out=trained.run.folder, progress=False, **FAST)
    assert capsys.readouterr() == ("", "")


def test_progress_in_a_script_is_lines(trained, data, capsys):
    imasks.train(data, out=trained.run.folder, **FAST)
    assert "jobs, 100%" in capsys.readouterr().out


def test_other_versions_are_told(trained, data, capsys):
    path = trained.run.folder / "run.toml"
    text = path.read_text()
    import torch

    path.write_text(text.replace(f'torch = "{torch.__version__}"', 'torch = "1.0"'))
    imasks.train(data, out=trained.run.folder, **FAST)
    path.write_text(text)
    assert f"torch: 1.0 -> {torch.__version__}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"stepz": 3}, "no such option.*stepz.*Known: preset"),
        ({"steps": "9"}, "steps must be a whole number"),
        ({"quick": "False"}, "quick must be true or false"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"seed": "1"}, "seed must be a whole number"),
    ],
)
def test_wrong_arguments_of_train(data, tmp_path, given, says):
    with pytest.raises(UserError, match=says):
        imasks.train(data, out=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"seeds": 0}, "seeds must be a whole number of at least 1"),
        ({"seeds": "3"}, "seeds must be a whole number"),
        ({"approaches": "LDT"}, 'several names.*LDT.*or "all"'),
    ],
)
def test_wrong_arguments_of_study(data, tmp_path, given, says):
    with pytest.raises(UserError, match=says):
        imasks.study(data, out=tmp_path / "run", **{"approaches": ["LDT"], **given})


@pytest.mark.parametrize("given", [{}, {"approaches": "All"}, {"approaches": ["all"]}])
def test_all_are_the_approaches_that_the_data_have_the_images_for(
    data, tmp_path, monkeypatch, capsys, given
):
    bare = tmp_path / "bare"
    shutil.copytree(data, bare)
    shutil.rmtree(bare / "unlabeled" / "masks", ignore_errors=True)
    monkeypatch.setattr(api, "finish", lambda run, **more: None)
    trained = imasks.study(bare, out=tmp_path / "run", precision="float32", **given)
    expected = [name for name in APPROACHES if name not in ("FDT", "AFDT", "GT-IM++")]
    assert list(trained.run.config.approaches) == expected
    assert "left out FDT: FDT needs the true masks" in capsys.readouterr().out


def test_a_run_is_shown_in_a_line(tmp_path):
    from types import SimpleNamespace

    run = SimpleNamespace(folder=tmp_path / "r", config=SimpleNamespace(approaches=("LDT", "IM+")))
    shown = repr(imasks.Trained(run=run))
    assert "LDT, IM+" in shown
    assert len(shown) < 300
