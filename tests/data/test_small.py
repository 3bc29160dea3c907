import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from imasks.cli import app
from imasks.data.card import Card
from imasks.data.check import check_folder
from imasks.data.files import write_png
from imasks.data.folder import open_dataset
from imasks.data.prepare import plan_preparation
from imasks.data.small import Objects, objects_in, small_objects, too_small

BINARY = Card(name="d", task="binary", classes=("cell",))
MULTI = Card(name="d", task="multiclass", classes=("sea", "ship"))


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=6))
def test_objects_are_measured_by_their_boxes(sizes):
    labels = np.zeros((1, 12, 80), np.uint8)
    for place, (height, width) in enumerate(sizes):
        labels[0, :height, 12 * place : 12 * place + width] = 1
    found = objects_in(labels, BINARY)
    assert found.shape == (12, 80)
    assert sorted(map(tuple, found.sizes[0].tolist())) == sorted(sizes)


def test_holes_and_void_pixels_are_no_objects():
    labels = np.full((1, 20, 20), 1, np.uint8)
    labels[0, 2:18, 2:18] = 2
    labels[0, 5:9, 5:15] = 255
    sea, ship = objects_in(labels, MULTI).sizes
    assert sea.tolist() == [[20, 20]]
    assert ship.tolist() == [[16, 16]]


def test_a_class_is_named_from_a_tenth_of_its_objects_on():
    sizes = np.array([[40, 40]] * 18 + [[4, 9]] * 2)
    found = [Objects((100, 200), (sizes,))]
    (finding,) = too_small(found, ["cell"], (64, 96))
    assert finding.level == "warning"
    assert "less than 3 pixels wide: 2 of 20 of 'cell'" in finding.what
    assert 'fit = "tile"' in finding.remedy
    assert too_small(found, ["cell"], (96, 192)) == []
    assert too_small([Objects((100, 200), (sizes[:-1],))], ["cell"], (64, 96)) == []


def test_several_classes_share_a_warning_and_the_largest_remedy():
    found = [
        Objects((100, 200), (np.array([[9, 9]] * 4), np.array([[30, 30]] * 4), np.array([[6, 6]])))
    ]
    (finding,) = too_small(found, ["cell", "large", "spot"], (16, 32))
    assert finding.what.endswith("4 of 4 of 'cell', 1 of 1 of 'spot'")
    (alone,) = too_small([Objects((100, 200), found[0].sizes[2:])], ["spot"], (16, 32))
    assert finding.remedy.replace(" for all", "") == alone.remedy


def test_specks_that_are_small_already_do_not_count():
    assert too_small([Objects((100, 100), (np.array([[2, 2]] * 9),))], ["cell"], (32, 32)) == []


def test_the_longer_side_of_the_remedy_is_enough():
    found = [Objects((1000, 800), (np.array([[n, n] for n in range(5, 60)]),))]
    (finding,) = too_small(found, ["cell"], (128, 96))
    side = int(finding.remedy.split("--longer-side ")[1].split(" ")[0])
    assert too_small(found, ["cell"], (side, side * 8 // 10)) == []


@pytest.fixture
def folder(tmp_path):
    """Images of 400 x 400 pixels with objects of 4 x 4."""
    root = tmp_path / "d"
    (root / "labeled/images").mkdir(parents=True)
    (root / "labeled/masks").mkdir()
    (root / "dataset.toml").write_text('task = "binary"\nclasses = ["cell"]')
    mask = np.zeros((400, 400), np.uint8)
    mask.reshape(20, 20, 20, 20)[:, :4, :, :4] = 1
    for name in "ab":
        image = np.random.default_rng(0).integers(0, 256, (400, 400), np.uint8)
        write_png(root / f"labeled/images/{name}.png", image)
        write_png(root / f"labeled/masks/{name}.png", mask)
    return root


def test_check_and_dry_run_say_so_with_the_remedy(folder, tmp_path):
    (finding,) = [each for each in check_folder(folder).findings if "pixels wide" in each.what]
    assert "256 x 256 pixels objects are less than 3 pixels wide: 800 of 800" in finding.what
    data = open_dataset(folder)
    (told,) = small_objects(data, plan_preparation(data, longer_side=128))
    assert "128 x 128 pixels objects are less than 3 pixels wide: 400 of 400" in told.what
    command = ["train", str(folder), "--out", str(tmp_path / "run"), "--approach", "LDT"]
    options = ["--dry-run", "--steps", "2", "--candidates", "2", "--precision", "float32"]
    shown = CliRunner().invoke(app, [*command, *options, "--width", "0.25"])
    assert shown.exit_code == 0
    assert "400 of 400 of 'cell'" in " ".join(shown.output.split())
    (folder / "dataset.toml").write_text('task = "binary"\nclasses = ["cell"]\nfit = "tile"')
    assert not [each for each in check_folder(folder).findings if "pixels wide" in each.what]
    data = open_dataset(folder)
    assert small_objects(data, plan_preparation(data)) == []
