import re
import shutil

import numpy as np
import pytest
import tifffile

from imasks.approaches.ladders import LADDERS
from imasks.data.check import check_folder
from imasks.data.files import read_image, read_mask
from imasks.data.folder import open_dataset
from imasks.errors import UserError
from imasks.prepare.hela import crop_corners, distinct_crops
from imasks.runs.configure import configure
from imasks.runs.options import Options
from imasks.tasks.points import draw_places, find_places
from tests.prepare.layouts import HELA_PLACES, noise, save

pytest.importorskip("cv2", reason="the extra `points` is not installed")


def test_crops_lie_where_the_published_ones_do(golden):
    crops = golden("hela_crops")
    shapes = [re.fullmatch(r"h(\d+)_w(\d+)_ov([\d.]+)", key) for key in crops]
    assert sum(map(bool, shapes)) > 30
    for shape in filter(None, shapes):
        found = crop_corners(int(shape[1]), int(shape[2]), overlap=float(shape[3]))
        assert found.tolist() == crops[shape[0]].tolist(), shape[0]


def test_each_crop_is_there_once():
    assert len(crop_corners(1024, 1024)) == 100
    assert len(distinct_crops(1024, 1024)) == 81
    assert distinct_crops(256, 256) == {0: (0, 0)}


def test_a_data_folder_with_points(hela, prepare, tmp_path):
    told = prepare("hela", hela)
    data = open_dataset(tmp_path / "out")
    each = len(distinct_crops(300, 400))
    counts = {split: len(samples) for split, samples in data.splits.items()}
    assert counts == {"labeled": each, "unlabeled": 4 * each, "val": each, "test": each}
    assert told == (
        f"{7 * each} crops of 7 images; {7 * (12 - each)} more would have been doubles.",
    )
    assert (data.card.points, data.card.weights) == (("position",), (1.0, 1.0, 3.0))
    assert check_folder(tmp_path / "out").ok
    config = configure(
        data,
        Options(preset="paper", device="cpu", precision="float32"),
        approaches=["AIM++"],
        seeds=[0],
    )
    assert (config.preparation.size, config.preparation.channels) == ((256, 256), 1)
    assert config.ladder == LADDERS["hela"]
    assert config.make_task().beside == ("miou_ad", "count_error")


def test_masks_without_anything_are_told(hela, prepare):
    for kind in ("alive", "dead", "position"):
        path = hela / "val" / kind / "well 0.png"
        save(path, np.ones((300, 400)))
    assert prepare("hela", hela)[1].startswith("1 images have masks without anything brighter")


def test_crops_show_their_part_of_the_image_and_of_redrawn_positions(hela, prepare, tmp_path):
    prepare("hela", hela)
    out = tmp_path / "out" / "val"
    image = read_image(hela / "val" / "brightfield" / "well 0.jpg")[..., 0]
    marks = draw_places(np.array(HELA_PLACES), (300, 400), lone=3)
    discs = draw_places(find_places(marks), (300, 400), lone=3, soften=True)
    for number, (x, y) in distinct_crops(300, 400).items():
        window = (slice(y, y + 256), slice(x, x + 256))
        crop = read_image(out / "images" / f"well 0_{number}.png")[..., 0]
        np.testing.assert_array_equal(crop, image[window])
        plane = read_mask(out / "masks" / "position" / f"well 0_{number}.png")
        np.testing.assert_array_equal(plane, discs[window] * 255)
    first = read_mask(out / "masks" / "alive" / "well 0_0.png")
    assert first[0, 0] == 0  # 10 is not enough
    assert first[40, 40] == 255


def test_no_labeled_image_has_unlabeled_crops(hela, prepare, tmp_path):
    def sources(split):
        return {sample.name.rsplit("_", 1)[0] for sample in data.splits[split]}

    prepare("hela", hela, labeled_share=0.4)
    data = open_dataset(tmp_path / "out")
    assert len(sources("labeled")) == 2
    assert not sources("labeled") & sources("unlabeled")


def test_the_papers_split_draws_crops(hela, prepare, tmp_path):
    prepare("hela", hela, paper_split=True)
    data = open_dataset(tmp_path / "out")
    each = len(distinct_crops(300, 400))
    names = [sample.name for sample in data.splits["labeled"]]
    assert len(names) == round(0.1 * 5 * each)
    assert len(data.splits["unlabeled"]) == 5 * each - len(names)
    assert len({name.rsplit("_", 1)[0] for name in names}) > 1


def test_the_papers_split_names_an_image_that_is_damaged(hela, prepare, tmp_path):
    path = hela / "train" / "brightfield" / "well 2.jpg"
    path.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"well 2\.jpg is not an image"):
        prepare("hela", hela, paper_split=True)
    assert not (tmp_path / "out").exists()


def test_the_papers_split_takes_all_kinds_of_images(hela, prepare, tmp_path):
    for path in sorted((hela / "train" / "brightfield").iterdir()):
        color = np.repeat(read_image(path).astype(np.uint16), 3, axis=2)
        tifffile.imwrite(path.with_suffix(".tif"), color)  # Pillow does not open these
        path.unlink()
    prepare("hela", hela, paper_split=True)
    each = len(distinct_crops(300, 400))
    assert len(open_dataset(tmp_path / "out").splits["labeled"]) == round(0.1 * 5 * each)


def test_positions_that_are_drawn_already_are_taken_as_they_are(hela, prepare, tmp_path):
    for split in ("train", "val", "test"):
        (hela / split / "position").rename(hela / split / "mod_position")
    (hela / "train").rename(hela / "train_full")
    prepare("hela", hela)
    plane = read_mask(tmp_path / "out" / "test" / "masks" / "position" / "well 0_0.png")
    marks = draw_places(np.array(HELA_PLACES), (300, 400), lone=3)
    np.testing.assert_array_equal(plane, marks[:256, :256] * 255)


def test_files_of_16_bits_and_of_three_channels(hela, prepare, tmp_path):
    for path in sorted((hela / "train" / "brightfield").iterdir()):
        grey = read_image(path)[..., 0].astype(np.uint16) * 200
        tifffile.imwrite(path.with_suffix(".tif"), grey)
        path.unlink()
    for path in (hela / "train" / "alive").iterdir():
        save(path, np.repeat(read_image(path), 3, axis=2))
    prepare("hela", hela)
    assert read_image(next((tmp_path / "out/labeled/images").iterdir())).dtype == np.uint16
    assert read_mask(next((tmp_path / "out/labeled/masks/alive").iterdir())).max() == 255


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda at: shutil.rmtree(at / "val" / "dead"), "missing: val/dead"),
        (lambda at: shutil.rmtree(at / "val" / "position"), "missing: val/position"),
        (lambda at: (at / "train/alive/well 4.png").unlink(), "the mask of train/alive/well 4"),
        (
            lambda at: (at / "train/brightfield/well 4.jpg").unlink(),
            "the image of train/alive/well 4",
        ),
        (
            lambda at: save(at / "test/brightfield/well 0.jpg", noise(0, 255, 400, 1)),
            "smaller than a crop",
        ),
        (
            lambda at: (
                (at / "test/brightfield/well 0.jpg").unlink(),
                tifffile.imwrite(
                    at / "test/brightfield/well 0.tif", np.zeros((300, 400), np.float32)
                ),
            ),
            "is not of 8 or 16 bits",
        ),
        (
            lambda at: save(at / "train/dead/well 4.png", noise(0, 30, 40, 1)),
            "well 4.png differs in size",
        ),
        (
            lambda at: save(at / "train/dead/well 4.bmp", noise(0, 300, 400, 1)),
            "share one name",
        ),
        (lambda at: [one.unlink() for one in (at / "val").rglob("*.*")], "images in val/bright"),
    ],
)
def test_a_wrong_source_is_named(hela, prepare, tmp_path, spoil, says):
    spoil(hela)
    with pytest.raises(UserError, match=says):
        prepare("hela", hela)
    assert not (tmp_path / "out").exists()
