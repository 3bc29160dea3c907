import shutil

import numpy as np
import pytest

from imasks.approaches.ladders import LADDERS
from imasks.data.check import check_folder
from imasks.data.files import read_image, read_mask
from imasks.data.folder import open_dataset
from imasks.data.prepare import resize_mask
from imasks.errors import UserError
from imasks.prepare.cityscapes import LABELS, SCORED, scaled
from imasks.runs.configure import configure
from imasks.runs.options import Options
from tests.prepare.layouts import noise, save

PAPER = Options(preset="paper", device="cpu", precision="float32")


def test_sides_are_rounded_up_to_multiples_of_16_as_published(golden):
    recorded = golden("cityscapes_resize")
    for name in ("city", "camvid"):
        mask, wanted = recorded[f"{name}_mask"], recorded[f"{name}_mask_out_3ch"][..., 0]
        assert scaled(mask.shape, 0.2) == wanted.shape
    wanted = recorded["city_mask_out_3ch"][..., 0]
    np.testing.assert_array_equal(resize_mask(recorded["city_mask"], (208, 416)), wanted)


@pytest.mark.parametrize(
    ("factor", "size"), [(1, (1024, 2048)), (0.5, (512, 1024)), (0.01, (16, 32)), (0.3, (320, 624))]
)
def test_any_factor(factor, size):
    assert scaled((1024, 2048), factor) == size


def test_the_34_label_ids_with_the_usual_evaluation_beside(cityscapes, prepare, tmp_path):
    assert prepare("cityscapes", cityscapes, labeled_share=0.25) == ()
    data = open_dataset(tmp_path / "out")
    counts = {split: len(samples) for split, samples in data.splits.items()}
    assert counts == {"labeled": 3, "unlabeled": 9, "val": 3, "test": 3}
    sample = data.splits["labeled"][0]
    assert read_image(sample.image).shape == (32, 64, 3)
    assert read_mask(sample.masks[0]).max() <= 33
    assert (len(data.card.classes), len(data.card.scored)) == (34, 19)
    config = configure(data, PAPER, approaches=["IM++"], seeds=[0])
    assert config.preparation.size == (32, 64)
    assert config.ladder == LADDERS["cityscapes"]
    task = config.make_task()
    assert task.outputs == 35
    assert task.beside == ("mean_class_iou_scored",)
    assert check_folder(tmp_path / "out").ok


def test_the_19_classes_alone(cityscapes, prepare, tmp_path):
    prepare("cityscapes", cityscapes, classes=19, factor=1)
    data = open_dataset(tmp_path / "out")
    assert data.card.classes == SCORED
    assert (data.card.ignore, data.card.scored) == (255, ())
    mask = read_mask(data.splits["val"][0].masks[0])
    assert np.unique(mask).tolist() == [*range(19), 255]
    # the third car of the first row: id 26 is class 13
    assert mask[0, 26] == 13
    assert (mask[0, :7] == 255).all()
    assert SCORED[13] == "car"


def test_the_usual_names_and_colors():
    assert [LABELS[k].name for k in (0, 7, 11, 33)] == ["unlabeled", "road", "building", "bicycle"]
    assert LABELS[24].color == "#dc143c"
    assert SCORED[0] == "road"
    assert len(SCORED) == 19


def test_full_size_in_tiles(cityscapes, prepare, tmp_path):
    prepare("cityscapes", cityscapes, factor=1, tiles=True)
    data = open_dataset(tmp_path / "out")
    sample = data.splits["test"][0]
    city = sample.name.split("_")[0]
    original = cityscapes / "leftImg8bit/val" / city / f"{sample.name}_leftImg8bit.png"
    assert sample.image.read_bytes() == original.read_bytes()
    preparation = configure(data, PAPER, approaches=["LDT"], seeds=[0]).preparation
    assert (preparation.fit, preparation.size) == ("tile", (128, 256))


def test_lists_of_labeled_images(cityscapes, prepare, tmp_path):
    listed = tmp_path / "labeled.txt"
    listed.write_text(
        "leftImg8bit/train/aachen/aachen_000002_000019_leftImg8bit.png "
        "gtFine/train/aachen/aachen_000002_000019_gtFine_labelTrainIds.png\n"
        "\n"
        "train/bochum/bochum_000000_000019_leftImg8bit.png\n"
        "bochum_000001_000019\n",
        encoding="utf-8-sig",
    )
    told = prepare("cityscapes", cityscapes, labeled_list=listed)
    assert told == ("3 of 12 training images are labeled: the usual 1/4 partition by its size.",)
    names = [sample.name for sample in open_dataset(tmp_path / "out").splits["labeled"]]
    assert names == ["aachen_000002_000019", "bochum_000000_000019", "bochum_000001_000019"]
    # the same list at another place is the same
    again = prepare("cityscapes", cityscapes, labeled_list=shutil.copy(listed, tmp_path / "l2"))
    assert "already" in again[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "nothing in it"),
        ("aachen_000002_000019\naachen_000002_000019\n", "twice: aachen_000002_000019"),
        ("munster_000000_000019\n", "found: munster_000000_000019"),
    ],
)
def test_a_list_that_does_not_fit(cityscapes, prepare, tmp_path, text, says):
    (tmp_path / "labeled.txt").write_text(text)
    with pytest.raises(UserError, match=says):
        prepare("cityscapes", cityscapes, labeled_list=tmp_path / "labeled.txt")
    with pytest.raises(UserError, match="cannot be read"):
        prepare("cityscapes", cityscapes, labeled_list=tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"factor": 0}, "factor is out of range"),
        ({"factor": 1.1}, "factor is out of range"),
        ({"classes": 20}, "Use 34 or 19"),
        ({"subset": False}, r"images in train \(12 of 2975 found"),
    ],
)
def test_options_are_checked(cityscapes, prepare, wrong, says):
    with pytest.raises(UserError, match=says):
        prepare("cityscapes", cityscapes, **wrong)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda at: shutil.rmtree(at / "gtFine/val"), "missing: gtFine/val"),
        (
            lambda at: (
                at / "gtFine/train/aachen/aachen_000001_000019_gtFine_labelIds.png"
            ).unlink(),
            "the mask of train/aachen_000001_000019",
        ),
        (
            lambda at: save(
                at / "gtFine/train/aachen/aachen_000001_000019_gtFine_labelIds.png",
                np.full((128, 256), 34),
            ),
            r"are no label ids \(found: 34\)",
        ),
        (
            lambda at: save(
                at / "leftImg8bit/train/aachen/aachen_000001_000019_leftImg8bit.png",
                noise(0, 64, 128),
            ),
            "differs in size",
        ),
    ],
)
def test_a_wrong_source_is_named(cityscapes, prepare, tmp_path, spoil, says):
    spoil(cityscapes)
    with pytest.raises(UserError, match=says):
        prepare("cityscapes", cityscapes)
    assert not (tmp_path / "out").exists()
