"""`imasks prepare` as it is typed."""

import subprocess
import sys

import pytest

from imasks.cli.exchange import READ
from imasks.prepare.registry import PREPARERS


def test_from_a_download_to_a_checked_data_folder(imasks, isic, tmp_path):
    out = tmp_path / "my data"
    code, text = imasks("prepare", "isic2018", isic, out, "--subset", "--labeled-share", "0.5")
    assert code == 0, text
    assert "labeled/: 3 images.\n" in text
    assert f"Next: imasks check '{out}'" in text
    assert f"imasks study '{out}' --preset paper --out runs/isic2018" in text
    assert len(list((out / "labeled" / "masks").iterdir())) == 3
    code, text = imasks("check", out)
    assert code == 0, text
    code, text = imasks(
        *("study", out, "--preset", "paper", "--out", tmp_path / "run", "--approaches", "LDT,IM"),
        *("--precision", "float32", "--width", "0.0625", "--size", "32", "32", "--dry-run"),
    )
    assert code == 0, text
    assert "preset paper, 50 epochs, at least 1500 steps, batch 32" in text
    assert "2 networks; thresholds of EvalNets: 0.72 and 0.75" in text
    assert "(where they grow: 0.0625, 0.09375, 0.125, 0.15625, 0.1875)" in text


def test_a_wrong_source_is_told_without_a_traceback(imasks, tmp_path):
    (tmp_path / "images").mkdir()
    code, text = imasks("prepare", "suim", tmp_path, tmp_path / "out")
    assert code == 2
    assert f"Error: {tmp_path} is not the whole of SUIM as it is downloaded" in text
    assert "expected" in text
    assert "images/" in text
    assert "Traceback" not in text


def test_a_folder_beside_the_right_one_is_told_without_its_whole_tree(imasks, isic, tmp_path):
    code, text = imasks("prepare", "isic2018", isic.parent, tmp_path / "out", "--subset")
    assert code == 2
    assert f"Give {isic}: it has them." in text
    assert len(text.splitlines()) < 4


def test_the_list_tells_all_one_must_know(imasks):
    code, text = imasks("prepare", "--list")
    assert code == 0
    for name, preparer in PREPARERS.items():
        assert name in text
        assert preparer.about is not None
        about = preparer.about()
        for known in (about.task, about.where, about.licence, about.citation, *about.classes):
            assert known in text, known
        assert all(color in text for color in about.colors)
        assert about.tree.splitlines()[0] in text
        assert len(about.classes) == len(about.colors)
    for name, (summary, source) in READ.items():
        assert f"{name} your own: {summary}" in text
        assert source in text


@pytest.mark.parametrize("name", PREPARERS)
def test_help_shows_the_options_of_each(imasks, name):
    code, text = imasks("prepare", name, "--help")
    assert code == 0
    for option in PREPARERS[name].options:
        assert f"--{option.name.replace('_', '-')}" in text


def test_nothing_heavy_is_loaded_for_help():
    look = "import imasks.cli, sys; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0
