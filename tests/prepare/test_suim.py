import json
import shutil

import numpy as np
import pytest

from imasks.approaches.ladders import LADDERS
from imasks.data.check import check_folder
from imasks.data.files import read_image, read_mask
from imasks.data.folder import open_dataset
from imasks.errors import UserError
from imasks.prepare.staged import MARK
from imasks.prepare.suim import crop_boxes, decode_colors
from imasks.runs.configure import configure
from imasks.runs.options import Options
from tests.prepare.layouts import SUIM_COLORS, noise, save, suim_mask

FOLDERS = ("BW", "HD", "PF", "WR", "RO", "RI", "FV", "SR")


def test_crops_of_the_official_layout(suim, prepare, tmp_path):
    assert prepare("suim", suim) == ()
    data = open_dataset(tmp_path / "out")
    counts = {split: len(samples) for split, samples in data.splits.items()}
    assert counts == {"labeled": 2, "unlabeled": 16, "val": 2, "test": 6}
    for sample in (*data.splits["labeled"], *data.splits["test"]):
        assert read_image(sample.image).shape == (256, 256, 3)
        mask = read_mask(sample.masks[0])
        assert mask.shape == (256, 256)
        assert set(np.unique(mask)) <= set(range(8))
    assert check_folder(tmp_path / "out").ok
    config = configure(
        data,
        Options(preset="paper", device="cpu", precision="float32"),
        approaches=["GT-IM++"],
        seeds=[0],
    )
    assert config.preparation.size == (256, 256)
    assert config.ladder == LADDERS["suim"]
    assert config.colors[5] == "#ff00ff"
    assert config.make_task().outputs == 9


def test_both_crops_of_an_image_go_into_one_split(suim, prepare, tmp_path):
    prepare("suim", suim)
    data = open_dataset(tmp_path / "out")
    owners = [{s.name[:-1] for s in samples} for samples in data.splits.values()]
    assert sum(map(len, owners)) == len(set.union(*owners)) + 3  # three names stand in TEST too


def test_whole_test_images_lie_beside_the_crops(suim, prepare, tmp_path):
    prepare("suim", suim)
    name = "f_r_0_"
    image = tmp_path / "out/whole/images" / f"{name}.jpg"
    assert image.read_bytes() == (suim / "TEST/images" / f"{name}.jpg").read_bytes()
    mask = read_mask(tmp_path / "out/whole/masks" / f"{name}.png")
    np.testing.assert_array_equal(mask[0], np.arange(400) * 8 // 400)
    assert len(list((tmp_path / "out/whole/masks").iterdir())) == 3


def test_crops_are_the_same_whenever_they_are_drawn(suim, prepare, tmp_path):
    prepare("suim", suim, out=tmp_path / "a")
    shutil.copytree(suim, tmp_path / "copy")
    prepare("suim", tmp_path / "copy", out=tmp_path / "b")
    prepare("suim", suim, out=tmp_path / "c", seed=7)
    first = sorted((tmp_path / "a" / "test" / "images").iterdir())
    pixels = [path.read_bytes() for path in first]
    assert pixels == [(tmp_path / "b/test/images" / path.name).read_bytes() for path in first]
    assert pixels != [(tmp_path / "c/test/images" / path.name).read_bytes() for path in first]


def test_boxes_follow_the_published_rule():
    rng = np.random.default_rng(0)
    large = [box for _ in range(200) for box in crop_boxes(1080, 1920, rng)]
    sides = [side for _, _, side in large]
    assert 256 <= min(sides) < 275
    assert 490 < max(sides) < 512
    assert all(x + side <= 1920 and y + side <= 1080 for x, y, side in large)
    flat = [box for _ in range(100) for box in crop_boxes(300, 400, rng)]
    assert (0, 0, 0) in flat  # a side above 300 does not fit: the whole image
    assert max(side for _, _, side in flat) <= 300
    assert crop_boxes(200, 250, rng) == [(0, 0, 0)]  # the same twice is one


@pytest.mark.parametrize("ids", range(8))
def test_colors_are_cut_at_128(ids):
    color = np.array(SUIM_COLORS[ids])
    for shift in (0, 63):
        near = np.where(color > 0, 255 - shift, shift).astype(np.uint8)
        assert decode_colors(near[None, None]) == (np.full((1, 1), ids), 0)


def test_unclear_colors_are_ignored_and_counted(suim, prepare, tmp_path):
    mask = np.array([[[127, 0, 0], [128, 0, 0], [255, 64, 0], [255, 63, 0]]], np.uint8)
    ids, unclear = decode_colors(mask)
    assert (ids.tolist(), unclear) == ([[255, 255, 255, 4]], 3)
    assert decode_colors(mask, keep_unclear=True)[0].tolist() == [[0, 4, 4, 4]]
    spoilt = suim_mask(400, 400)
    spoilt[:10] = 128
    save(suim / "TEST/masks/f_r_0_.bmp", spoilt)
    told = prepare("suim", suim)
    assert told == ("4000 pixels in 1 masks have colours of no class.",)
    assert (read_mask(tmp_path / "out/whole/masks/f_r_0_.png") == 255).sum() == 4000
    assert check_folder(tmp_path / "out").ok


def test_a_taller_mask_is_cut_off_below_its_image(suim, prepare, tmp_path):
    taller = np.concatenate([suim_mask(400, 400), np.full((30, 400, 3), 255)])
    save(suim / "TEST/masks/f_r_0_.bmp", taller)
    told = prepare("suim", suim)
    assert told == ("1 masks are taller than their images: what is below was cut off.",)
    mask = read_mask(tmp_path / "out/whole/masks/f_r_0_.png")
    np.testing.assert_array_equal(mask, np.broadcast_to(np.arange(400) * 8 // 400, (400, 400)))


@pytest.mark.parametrize("shape", [(390, 400), (400, 401), (430, 410)])
def test_a_mask_that_fits_its_image_in_no_way_is_an_error(suim, prepare, tmp_path, shape):
    save(suim / "train_val/masks/w_r_2_.bmp", suim_mask(*shape))
    with pytest.raises(UserError, match=r"w_r_2_\.bmp does not fit its image"):
        prepare("suim", suim)
    assert not (tmp_path / "out").exists()


def by_class(folder, names):
    """Replace colour masks by one folder a class."""
    for path in folder.glob("*.bmp"):
        ids, _ = decode_colors(read_image(path))
        for name in names:
            save(folder / name / path.name, (ids == FOLDERS.index(name)) * 255)
        path.unlink()


def test_masks_in_folders_of_one_class(suim, prepare, tmp_path):
    prepare("suim", suim, out=tmp_path / "colors")
    for part in ("train_val", "TEST"):
        by_class(suim / part / "masks", FOLDERS)
    assert prepare("suim", suim) == ()
    for path in (tmp_path / "colors/whole/masks").iterdir():
        assert path.read_bytes() == (tmp_path / "out/whole/masks" / path.name).read_bytes()


def test_classes_without_a_folder_are_void_and_so_is_what_two_claim(suim, prepare, tmp_path):
    by_class(suim / "TEST/masks", FOLDERS[1:6])
    both = read_mask(suim / "TEST/masks/HD/f_r_0_.bmp")
    both[:, 399] = both[:, 100] = 255  # the last column belongs to no other class, the other does
    save(suim / "TEST/masks/HD/f_r_0_.bmp", both)
    told = prepare("suim", suim)
    assert told == (
        f"{3 * 3 * 50 * 400 - 400} pixels belong to no class that has a folder: ignored.",
        "400 pixels belong to several classes: ignored.",
    )
    mask = read_mask(tmp_path / "out/whole/masks/f_r_0_.png")
    assert mask[0, [0, 60, 100, 101, 399]].tolist() == [255, 1, 255, 2, 1]


def test_images_in_training_and_test_are_reported(suim, prepare, tmp_path):
    shutil.copy(suim / "TEST/images/f_r_0_.jpg", suim / "train_val/images/w_r_5_.jpg")
    (told,) = prepare("suim", suim)
    assert "w_r_5_" in told
    assert "test/f_r_0_" in told
    assert "better than they are" in told
    assert json.loads((tmp_path / "out" / MARK).read_text())["told"] == [told]
    (told,) = prepare("suim", suim, out=tmp_path / "without", drop_doubles=True)
    assert "left out of test" in told
    names = {sample.name for sample in open_dataset(tmp_path / "without").splits["test"]}
    assert names == {"d_r_1_0", "d_r_1_1", "w_r_2_0", "w_r_2_1"}
    assert len(list((tmp_path / "without/whole/images").iterdir())) == 2


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda at: shutil.rmtree(at / "TEST" / "masks"), "missing: TEST/masks"),
        (lambda at: (at / "TEST/masks/f_r_0_.bmp").unlink(), "the mask of TEST/f_r_0_"),
        (lambda at: (at / "TEST/images/f_r_0_.jpg").unlink(), "the image of TEST/f_r_0_"),
        (lambda at: save(at / "TEST/images/f_r_0_.JPG", noise(0, 9, 9)), "stand for f_r_0_"),
    ],
)
def test_a_wrong_source_is_named(suim, prepare, tmp_path, spoil, says):
    spoil(suim)
    with pytest.raises(UserError, match=says):
        prepare("suim", suim)
    assert not (tmp_path / "out").exists()


def test_fewer_images_than_there_should_be(suim, prepare):
    with pytest.raises(UserError, match=r"train_val/images \(10 of 1525 found"):
        prepare("suim", suim, subset=False)


def test_real_pairs(real_data, prepare, tmp_path):
    """Three pairs as they are published; train_val is the same three here."""
    real = real_data("raw/suim") / "TEST"
    source = tmp_path / "real"
    for part in ("train_val", "TEST"):
        shutil.copytree(real, source / part)
    (told,) = prepare("suim", source)
    assert "stand in training and test" in told
    masks = tmp_path / "out" / "whole" / "masks"
    shares = np.bincount(read_mask(masks / "w_r_147_.png").ravel(), minlength=8)
    assert shares.tolist() == [107364, 5676, 0, 149863, 0, 44297, 0, 0]
    for path in masks.iterdir():
        image = read_image(tmp_path / "out/whole/images" / f"{path.stem}.jpg")
        assert read_mask(path).shape == image.shape[:2]
