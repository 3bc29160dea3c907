"""What is exported and comes back untouched changes no pixel, whatever the format and task."""

import numpy as np
import pytest

from imasks.data.card import CARD_NAME, read_card
from imasks.data.files import write_png
from imasks.data.folder import open_dataset
from imasks.errors import UserError
from imasks.exchange.back import BackOptions, bring_back
from imasks.exchange.registry import FORMATS, find_format

from .conftest import CARDS, SIZE

# what Label Studio gives back are annotations, not predictions: it has a test of its own
WRITERS = [name for name, one in FORMATS.items() if one.write and name != "labelstudio"]


def returned(folder, source, format_name, options=None, empty=True):
    found = FORMATS[format_name].back(source, read_card(folder / CARD_NAME), empty)
    return bring_back(
        folder,
        found.masks,
        options or BackOptions(),
        notes=found.notes,
        skipped=found.skipped,
    )


def user_masks(folder):
    """The labeled masks in the encoding of `Prediction.mask`; ignored pixels stay as they are."""
    from imasks.data.files import read_mask

    dataset = open_dataset(folder)
    card = dataset.card
    both = (*dataset.splits["labeled"], *dataset.splits["val"])
    for sample in both:
        planes = np.stack([read_mask(path) for path in sample.masks])
        if card.task != "multiclass":
            one = 1 if card.ignore == 255 else 255
            planes = np.where(planes == one, 1, planes)
        yield sample.name, planes if card.task == "multilabel" else planes[0]


@pytest.mark.parametrize("kind", CARDS)
@pytest.mark.parametrize("format_name", WRITERS)
def test_no_pixel_changes(make_data, labelled, tmp_path, format_name, kind):
    folder = make_data(CARDS[kind])
    about, found = labelled(folder)
    out = tmp_path / "out"
    out.mkdir()
    FORMATS[format_name].write(out, about, found)
    report = returned(folder, out, format_name)
    if format_name == "nnunet" and CARDS[kind].ignore is None:
        # its files say ignore where the networks disagree, which this card cannot hold
        assert [name for name, _ in report.skipped] == ["u 1", "u 2"]
        assert all("ignore = 254 in dataset.toml" in reason for _, reason in report.skipped)
        assert report.labeled == ("u 0",)
        return
    assert report.labeled == ("u 0", "u 1", "u 2")
    assert report.skipped == ()
    there = dict(user_masks(folder))
    for one in found:
        expected = one.prediction.mask
        if format_name == "nnunet":
            expected = np.where(one.prediction.im, 255, expected)
        np.testing.assert_array_equal(there[one.name], expected)
    assert open_dataset(folder).splits["unlabeled"] == ()
    assert not list((folder / "unlabeled" / "images").iterdir())
    # a second time, all is there already
    again = returned(folder, out, format_name)
    assert (again.labeled, again.replaced) == ((), ())
    assert again.unchanged == ("u 0", "u 1", "u 2")


@pytest.mark.parametrize("format_name", ["masks", "coco", "cvat", "napari"])
def test_pixels_still_inconsistent_can_be_ignored(make_data, labelled, tmp_path, format_name):
    folder = make_data(CARDS["multiclass"])
    about, found = labelled(folder)
    out = tmp_path / "out"
    out.mkdir()
    FORMATS[format_name].write(out, about, found)
    returned(folder, out, format_name, BackOptions(inconsistency="ignore"))
    there = dict(user_masks(folder))
    for one in found:
        expected = np.where(one.prediction.im, 255, one.prediction.mask)
        np.testing.assert_array_equal(there[one.name], expected)


def test_labeled_images_are_replaced_only_when_told(make_data, labelled, tmp_path):
    folder = make_data(CARDS["binary"])
    about, found = labelled(folder)
    out = tmp_path / "out"
    out.mkdir()
    FORMATS["masks"].write(out, about, found)
    (out / "masks" / "u 1.png").replace(out / "masks" / "l 0.png")
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    with pytest.raises(UserError, match=r"already have other masks.*l 0.*--overwrite"):
        returned(folder, out, "masks")
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before
    dry = returned(folder, out, "masks", BackOptions(overwrite=True, dry=True))
    assert (dry.labeled, dry.replaced) == (("u 0", "u 2"), ("l 0",))
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before
    report = returned(folder, out, "masks", BackOptions(overwrite=True))
    assert (report.labeled, report.replaced) == (("u 0", "u 2"), ("l 0",))
    np.testing.assert_array_equal(dict(user_masks(folder))["l 0"], found[1].prediction.mask)
    assert not list(folder.glob(".*"))


def test_replacing_keeps_one_mask_a_pair(make_data, labelled, tmp_path):
    from PIL import Image

    folder = make_data(CARDS["binary"])
    old = folder / "labeled" / "masks" / "l 0.png"
    Image.open(old).save(old.with_suffix(".bmp"))
    old.unlink()
    about, found = labelled(folder)
    out = tmp_path / "out"
    out.mkdir()
    FORMATS["masks"].write(out, about, found)
    (out / "masks" / "u 1.png").replace(out / "masks" / "l 0.png")
    returned(folder, out, "masks", BackOptions(overwrite=True))
    assert sorted(p.name for p in old.parent.glob("l 0.*")) == ["l 0.png"]


def test_a_stop_between_mask_and_image_is_mended(make_data, labelled, tmp_path, monkeypatch):
    folder = make_data(CARDS["binary"])
    about, found = labelled(folder)
    out = tmp_path / "out"
    out.mkdir()
    FORMATS["masks"].write(out, about, found)
    from pathlib import Path

    def stop(self, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stop)
        with pytest.raises(KeyboardInterrupt):
            returned(folder, out, "masks")
    assert len(open_dataset(folder).splits["unlabeled"]) == 3
    assert returned(folder, out, "masks").labeled == ("u 0", "u 1", "u 2")
    assert not list(folder.glob(".*"))


def test_what_does_not_fit_is_skipped_or_refused(make_data, labelled, tmp_path):
    folder = make_data(CARDS["binary"])
    about, found = labelled(folder)
    out = tmp_path / "out"
    out.mkdir()
    FORMATS["masks"].write(out, about, found)
    masks = out / "masks"
    (masks / "u 0.png").rename(masks / "stranger.png")
    both = folder / "val" / "images" / "v 0.png"
    both.with_name("l 0.png").write_bytes(both.read_bytes())
    write_png(folder / "val" / "masks" / "l 0.png", np.zeros((17, 23), np.uint8))
    (masks / "l 0.png").write_bytes((masks / "u 2.png").read_bytes())
    write_png(masks / "u 1.png", np.zeros((5, 5), np.uint8))
    report = returned(folder, out, "masks")
    assert report.labeled == ("u 2",)
    reasons = dict(report.skipped)
    assert "no image of this name" in reasons["stranger"]
    assert "images in labeled and val have this name" in reasons["l 0"]
    assert "differs in size" in reasons["u 1"]
    for path in masks.glob("[ul]*"):
        path.unlink()
    with pytest.raises(UserError, match=r"none of the images.*stranger"):
        returned(folder, out, "masks")


def test_pages_of_a_stack_go_out_but_cannot_come_back(make_data, labelled, tmp_path):
    import tifffile

    folder = make_data(CARDS["binary"], unlabeled=1)
    pages = np.random.default_rng(0).integers(0, 256, (2, 17, 23, 3), np.uint8)
    stack = folder / "unlabeled" / "images" / "stack.tif"
    tifffile.imwrite(stack, pages, photometric="rgb")
    about, found = labelled(folder)
    out = tmp_path / "out"
    out.mkdir()
    FORMATS["coco"].write(out, about, found)
    report = returned(folder, out, "coco")
    assert report.labeled == ("u 0",)
    assert dict(report.skipped).keys() == {"stack_page1", "stack_page2"}
    assert "page of a stack" in dict(report.skipped)["stack_page1"]
    assert stack.exists()


@pytest.mark.parametrize("format_name", ["coco", "cvat"])
def test_images_without_shapes_stay_unlabeled_unless_told(
    make_data, labelled, tmp_path, format_name
):
    folder = make_data(CARDS["binary"])
    about, found = labelled(folder)
    out = tmp_path / "out"
    out.mkdir()
    FORMATS[format_name].write(out, about, found)
    report = returned(folder, out, format_name, empty=False)
    assert report.labeled == ("u 1", "u 2")
    assert "--empty" in dict(report.skipped)["u 0"]


def test_predictions_that_nobody_looked_at_are_never_taken_for_empty(make_data, labelled, tmp_path):
    folder = make_data(CARDS["binary"])
    about, found = labelled(folder)
    out = tmp_path / "out"
    out.mkdir()
    FORMATS["labelstudio"].write(out, about, found)
    report = returned(folder, out, "labelstudio", empty=True)
    assert report.labeled == ()
    reasons = dict(report.skipped)
    assert sorted(reasons) == ["u 0", "u 1", "u 2"]
    assert all("nobody has annotated it" in reason for reason in reasons.values())


def test_true_masks_that_stay_behind_are_told(make_data, labelled, tmp_path):
    folder = make_data(CARDS["binary"])
    (folder / "unlabeled" / "masks").mkdir()
    for i in range(3):
        write_png(folder / "unlabeled" / "masks" / f"u {i}.png", np.zeros(SIZE, np.uint8))
    about, found = labelled(folder)
    out = tmp_path / "out"
    out.mkdir()
    FORMATS["masks"].write(out, about, found)
    report = returned(folder, out, "masks")
    assert report.labeled == ("u 0", "u 1", "u 2")
    (note,) = [one for one in report.notes if "unlabeled/masks" in one]
    assert note.startswith("3 true masks stay")


def test_an_unknown_class_comes_back_as_an_error(make_data, labelled, tmp_path):
    folder = make_data(CARDS["binary"])
    about, found = labelled(folder)
    out = tmp_path / "out"
    out.mkdir()
    FORMATS["coco"].write(out, about, found)
    path = out / "annotations.json"
    path.write_text(path.read_text().replace('"cell"', '"Cell"'))
    with pytest.raises(UserError, match=r"class that the data folder lacks.*Cell.*rename"):
        returned(folder, out, "coco")


def test_unknown_formats_and_wishes():
    with pytest.raises(UserError, match=r"no such format.*yolo.*coco"):
        find_format("yolo", "read")
    with pytest.raises(UserError, match=r"no such format.*palette"):
        find_format("palette", "write")
    with pytest.raises(UserError, match="drop or ignore"):
        BackOptions(inconsistency="blur")
