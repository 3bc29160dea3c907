import shutil

import numpy as np
import pytest

from imasks.approaches.ladders import LADDERS
from imasks.data.check import check_folder
from imasks.data.files import read_image, read_mask, write_png
from imasks.data.folder import open_dataset
from imasks.errors import UserError
from imasks.runs.configure import configure
from imasks.runs.options import Options
from tests.prepare.layouts import noise, save


def test_the_official_split_with_a_labeled_share(isic, prepare, tmp_path):
    prepare("isic2018", isic, labeled_share=1 / 3)
    data = open_dataset(tmp_path / "out")
    counts = {split: len(samples) for split, samples in data.splits.items()}
    assert counts == {"labeled": 2, "unlabeled": 4, "val": 2, "test": 3}
    assert all(sample.masks for sample in data.splits["unlabeled"])  # for full supervision
    assert data.card.name == "ISIC 2018"
    sample = data.splits["test"][0]
    assert read_image(sample.image).shape == (256, 256, 3)
    mask = read_mask(sample.masks[0])
    assert np.unique(mask).tolist() == [0, 255]
    # 127 is no lesion, and nearest pixels keep the border where it was
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    assert (rows[0], rows[-1]) == (85, 170)
    assert (columns[0], columns[-1]) == (85, 170)
    assert check_folder(tmp_path / "out").ok


def test_the_folder_alone_brings_the_published_protocol(isic, prepare, tmp_path):
    prepare("isic2018", isic)
    config = configure(
        open_dataset(tmp_path / "out"),
        Options(preset="paper", device="cpu", precision="float32"),
        approaches=["IM++"],
        seeds=[0],
    )
    assert config.preparation.size == (256, 256)
    assert config.ladder == LADDERS["isic2018"]
    assert (config.title, config.classes, config.colors) == ("ISIC 2018", ("lesion",), ("#e69f00",))


def test_masks_of_16_bits_are_refused(isic, prepare):
    path = isic / "ISIC2018_Task1_Test_GroundTruth" / "ISIC_0000030_segmentation.png"
    write_png(path, np.full((60, 90), 1000, np.uint16))
    with pytest.raises(UserError, match="is not of 8 bits a channel"):
        prepare("isic2018", isic)


def test_images_may_stay_as_they_are(isic, prepare, tmp_path):
    prepare("isic2018", isic, full=True)
    data = open_dataset(tmp_path / "out")
    image = data.splits["val"][0].image
    original = isic / "ISIC2018_Task1-2_Validation_Input" / image.name
    assert image.read_bytes() == original.read_bytes()
    assert data.card.size == (256, 256)
    assert check_folder(tmp_path / "out").ok


def test_the_share_is_drawn_by_the_seed_alone(isic, prepare, tmp_path):
    def labeled(seed, out):
        prepare("isic2018", isic, out=tmp_path / out, seed=seed)
        return [sample.name for sample in open_dataset(tmp_path / out).splits["labeled"]]

    found = [labeled(seed, f"{seed}") for seed in range(4)]
    assert labeled(0, "again") == found[0]
    assert len({tuple(names) for names in found}) > 1


def test_fewer_images_than_there_should_be_are_an_error_that_counts_them(isic, prepare):
    with pytest.raises(UserError, match=r"Training_Input \(6 of 2594 found; --subset takes"):
        prepare("isic2018", isic, subset=False)


def test_a_missing_folder_is_named_beside_both_trees(isic, prepare, tmp_path):
    shutil.rmtree(isic / "ISIC2018_Task1_Test_GroundTruth")
    with pytest.raises(UserError, match="missing: ISIC2018_Task1_Test_GroundTruth") as caught:
        prepare("isic2018", isic)
    head, *lines = str(caught.value).splitlines()
    assert "Complete it, or get the data set again: challenge.isic-archive.com" in head
    assert lines[0].split() == ["expected", "found"]
    assert "ISIC_0000000.jpg ... (6 .jpg)" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_right_folder_one_level_off_is_named(isic, prepare):
    with pytest.raises(UserError, match=f"Give {isic}: it has them"):
        prepare("isic2018", isic.parent)
    with pytest.raises(UserError, match=f"Give {isic}: it has them"):
        prepare("isic2018", isic / "ISIC2018_Task1-2_Test_Input")


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_a_missing_partner_is_named(isic, prepare, kind):
    folder, name = {
        "image": ("ISIC2018_Task1-2_Training_Input", "ISIC_0000003.jpg"),
        "mask": ("ISIC2018_Task1_Training_GroundTruth", "ISIC_0000003_segmentation.png"),
    }[kind]
    (isic / folder / name).unlink()
    with pytest.raises(UserError, match=f"the {kind} of .*ISIC_0000003"):
        prepare("isic2018", isic)


def test_a_mask_of_another_size_is_an_error(isic, prepare, tmp_path):
    mask = isic / "ISIC2018_Task1_Training_GroundTruth" / "ISIC_0000002_segmentation.png"
    save(mask, noise(0, 30, 90, 1))
    with pytest.raises(UserError, match=r"ISIC_0000002_segmentation\.png differs in size"):
        prepare("isic2018", isic)
    assert not (tmp_path / "out").exists()


def test_a_share_out_of_range_is_an_error(isic, prepare):
    for share in (0, 1.5, float("nan")):
        with pytest.raises(UserError, match="the labeled share is out of range"):
            prepare("isic2018", isic, labeled_share=share)
    with pytest.raises(UserError, match="the seed is negative"):
        prepare("isic2018", isic, seed=-1)
