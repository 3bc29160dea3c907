from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from imasks.data.files import read_mask, safe_name, write_png
from imasks.errors import UserError
from imasks.runs.predictions import list_inputs, predict_files
from imasks.tasks import Binary, Multilabel
from tests.runs.test_predictions import files, predictor_for, table


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@given(st.text(min_size=1, max_size=20))
def test_safe_names_are_safe_and_stay_so(name):
    safe = safe_name(name)
    assert safe_name(safe) == safe
    assert not set(safe) & set('<>:"/\\|?*\0\n')
    assert not safe.endswith((".", " "))
    assert PureWindowsPath("C:/x", safe).parts == ("C:\\", "x", safe)


def test_ordinary_names_stay():
    for name in ("Präparat 12", "cell_0001", "a.b", "日本", "console", "com", "x(1)"):
        assert safe_name(name) == name
    names = ("con", "LPT1", "nul.tif", "a:b", "what?", "end.", "..")
    assert list(map(safe_name, names)) == [
        "_con",
        "_LPT1",
        "_nul.tif",
        "a_b",
        "what_",
        "end_",
        "__",
    ]


def test_spaces_umlauts_and_what_other_systems_forbid(tmp_path):
    folder, out = tmp_path / "Bilder für alle", tmp_path / "Ergebnis ö"
    (folder / "Tag: 1").mkdir(parents=True)
    write_png(folder / "Tag: 1/Zelle ß?.png", noise(40, 50, 3))
    task = Multilabel(["lebend/tot?", "CON"])
    predict_files(predictor_for(task), list_inputs([folder]), out, root=folder)
    stem = "Tag_ 1/Zelle ß_"
    assert files(out) == sorted(
        [
            f"masks/lebend_tot_/{stem}.png",
            f"masks/_CON/{stem}.png",
            f"inconsistency/{stem}.png",
            f"overlays/{stem}.jpg",
            "predictions.csv",
        ]
    )
    assert table(out)[0]["file"] == "Tag: 1/Zelle ß?.png"


@pytest.mark.parametrize(
    "pair", [("Cell.png", "cell.png"), ("a:.png", "a?.png"), ("ä.png", "a\u0308.png")]
)
def test_names_that_are_one_elsewhere_are_refused(tmp_path, pair):
    for name in pair:
        write_png(tmp_path / name, noise(9, 9))
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system holds both names to be one")
    with pytest.raises(UserError, match="would both write"):
        predict_files(predictor_for(Binary(["x"])), list_inputs([tmp_path]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_page_of_a_stack_has_its_masks_and_its_row(tmp_path):
    path, out = tmp_path / "stack.tif", tmp_path / "out"
    tifffile.imwrite(path, noise(3, 40, 50, 3), photometric="rgb")
    write_png(tmp_path / "one.png", noise(40, 50, 3))
    steps = []
    predictor = predictor_for(Binary(["cell"]))
    report = predict_files(
        predictor,
        list_inputs([tmp_path]),
        out,
        on_progress=lambda done, total: steps.append((done, total)),
    )
    assert report.done == 4
    assert steps[-1] == (4, 4)
    rows = [(row["file"], row["page"]) for row in table(out)]
    assert rows == [("one.png", ""), *(("stack.tif", page) for page in "123")]
    pages = tifffile.imread(path)
    for number in (1, 2, 3):
        mask = read_mask(out / f"masks/stack_page{number}.png")
        assert (mask == predictor(pages[number - 1]).mask * 255).all()


def test_pages_are_channels_where_the_run_says_so(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise(5, 40, 50), photometric="minisblack")
    predictor = predictor_for(Binary(["cell"]), channels=5, pages="channels")
    report = predict_files(predictor, [tmp_path / "a.tif"], tmp_path / "out")
    assert (report.done, report.skipped) == (1, ())
    assert files(tmp_path / "out/masks") == ["a.png"]
    assert (tmp_path / "out/overlays/a.jpg").exists()
    other = predict_files(predictor_for(Binary(["cell"])), [tmp_path / "a.tif"], tmp_path / "o2")
    assert other.done == 5  # pages of their own, grey where colour is wanted


def test_sources_are_only_read(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write_png(folder / "a.png", noise(40, 50, 3))
    (folder / "a.png").chmod(0o444)
    folder.chmod(0o555)
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.iterdir()]}
    try:
        predict_files(predictor_for(Binary(["x"])), list_inputs([folder]), tmp_path / "out")
        assert before == {path: path.stat().st_mtime_ns for path in [folder, *folder.iterdir()]}
    finally:
        folder.chmod(0o755)
    assert Path(tmp_path / "out/masks/a.png").exists()
