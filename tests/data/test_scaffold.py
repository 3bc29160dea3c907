import unicodedata

import numpy as np
import pytest
from PIL import Image

from imasks.data.card import read_card
from imasks.data.check import check_folder
from imasks.data.files import write_png
from imasks.data.folder import open_dataset
from imasks.data.scaffold import guess_task, init_folder
from imasks.errors import UserError

RNG = np.random.default_rng(0)


def _mask(*values):
    return np.resize(np.array(values, np.uint8), (6, 6))


def _save(folder, **arrays):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        write_png(folder / f"{name}.png", array)
    return folder


def _images(folder, *names):
    return _save(folder, **{name: RNG.integers(0, 256, (6, 6), np.uint8) for name in names})


@pytest.mark.parametrize(
    ("values", "task", "classes", "ignore"),
    [
        ((0, 255), "binary", 1, None),
        ((0, 1), "binary", 1, None),
        ((0, 77), "binary", 1, None),
        ((1,), "binary", 1, None),
        ((0, 1, 255), "binary", 1, 255),
        ((0, 1, 2), "multiclass", 3, None),
        ((0, 1, 3, 255), "multiclass", 4, 255),
    ],
)
def test_guesses(tmp_path, values, task, classes, ignore):
    guess = guess_task(_save(tmp_path, a=_mask(values[0]), b=_mask(*values)))
    assert (guess.task, len(guess.classes), guess.ignore) == (task, classes, ignore)
    assert task in " ".join(guess.reasons)


def test_guess_of_folders_and_of_lossy_masks(tmp_path):
    _save(tmp_path / "m/nucleus", a=_mask(0, 1))
    _save(tmp_path / "m/cell", a=_mask(0, 1))
    guess = guess_task(tmp_path / "m")
    assert (guess.task, guess.classes) == ("multilabel", ("cell", "nucleus"))
    (tmp_path / "j").mkdir()
    Image.fromarray(RNG.integers(0, 256, (6, 6), np.uint8)).save(tmp_path / "j/a.jpg")
    assert guess_task(tmp_path / "j").task == "binary"


@pytest.mark.parametrize("values", [(0, 128, 255), (0,), (0, 40, 90), (0, 249, 254)])
def test_values_that_fit_no_task(tmp_path, values):
    with pytest.raises(UserError, match="Say the task"):
        guess_task(_save(tmp_path, a=_mask(*values)))


def test_init_round_trip(tmp_path):
    images = _images(tmp_path / "in images", "a", "b_2", "ü", "d", "e", "f")
    masks = _save(
        tmp_path / "masks",
        a=_mask(0, 255),
        b_2_segmentation=_mask(0, 255),
        ü_mask=_mask(0, 255),
        d=_mask(0, 255),
        lost=_mask(0, 255),
    )
    more = _images(tmp_path / "more", "x", "y")
    (images / "notes.txt").touch()
    (images / "._a.png").touch()
    out = tmp_path / "new" / "data"
    card, lines = init_folder(
        out, images=images, masks=masks, unlabeled=more, classes=["lesion"], test_share=0.25
    )
    assert read_card(out) == card
    assert (card.name, card.task, card.classes) == ("data", "binary", ("lesion",))
    data = open_dataset(out)
    names = {split: {one.name for one in samples} for split, samples in data.splits.items()}
    assert names["unlabeled"] == {"e", "f", "x", "y"}
    assert len(names["test"]) == 1
    assert names["test"] | names["labeled"] | names["val"] == {"a", "b_2", "ü", "d"}
    for sample in (*data.splits["labeled"], *data.splits["test"]):
        assert sample.image.read_bytes() == (images / sample.image.name).read_bytes()
        assert sample.masks[0].stem == sample.name
    assert check_folder(out).ok
    assert lines[0] == "The 5 masks hold the values 0, 255."
    assert lines[1:] == (
        "One value beside 0: binary.",
        "Task: binary; classes: lesion.",
        "Pairs of image and mask: 4; images without a mask: 4.",
        "labeled/: 3 images.",
        "unlabeled/: 4 images.",
        "test/: 1 images.",
        "Left out, as no image fits: lost.png.",
        "Left out, as they are no images: notes.txt.",
    )
    assert [path.name for path in out.parent.iterdir()] == ["data"]


def test_init_multilabel_in_the_users_order_by_links(tmp_path):
    images = _images(tmp_path / "i", "a", "b", "c")
    for name in ("cell", "nucleus"):
        _save(tmp_path / "m" / name, a_mask=_mask(0, 1), b_mask=_mask(0, 1))
    card, _ = init_folder(
        tmp_path / "out",
        images=images,
        masks=tmp_path / "m",
        classes=["nucleus", "cell"],
        copy=False,
    )
    assert card.classes == ("nucleus", "cell")
    sample = open_dataset(tmp_path / "out").splits["labeled"][0]
    assert [path.parent.name for path in sample.masks] == ["nucleus", "cell"]
    assert sample.image.samefile(images / sample.image.name)


def test_several_classes_say_multiclass(tmp_path):
    images, masks = _images(tmp_path / "i", "a", "b"), tmp_path / "m"
    _save(masks, a=_mask(0, 1), b=_mask(1, 0))
    card, _ = init_folder(tmp_path / "o", images=images, masks=masks, classes=["sky", "ground"])
    assert (card.task, card.classes) == ("multiclass", ("sky", "ground"))


def _used(tmp, kwargs):
    _images(kwargs["out"], "x")
    return "not empty"


def _no_folder(tmp, kwargs):
    kwargs["images"] = tmp / "none"
    return "not a folder"


def _one_folder(tmp, kwargs):
    kwargs["masks"] = kwargs["images"]
    return "same folder"


def _no_match(tmp, kwargs):
    kwargs["images"] = _images(tmp / "other", "p", "q")
    return r"no mask in .*/m belongs .*image p\.png, mask a\.png.*name of its image"


def _two_masks(tmp, kwargs):
    _save(kwargs["masks"], a_mask=_mask(0, 1))
    return "two masks in .* fit a"


def _few_classes(tmp, kwargs):
    _save(kwargs["masks"], a=_mask(0, 1, 2))
    kwargs["classes"] = ["x", "y"]
    return "more ids than classes"


def _no_class_folders(tmp, kwargs):
    kwargs["task"] = "multilabel"
    return "holds no folders"


def _bad_share(tmp, kwargs):
    kwargs["test_share"] = 1.0
    return "share"


def _same_names(tmp, kwargs):
    _images(kwargs["images"], "c")
    kwargs["unlabeled"] = _images(tmp / "u", "c")
    return "share names.*c"


def _partly(tmp, kwargs):
    kwargs["masks"] = tmp / "planes"
    _save(tmp / "planes/p", a=_mask(0, 1), b=_mask(0, 1))
    _save(tmp / "planes/q", a=_mask(0, 1))
    return "some classes have no mask.*b"


def _only_folders(tmp, kwargs):
    kwargs["masks"], kwargs["task"] = tmp / "planes", "binary"
    _save(tmp / "planes/p", a=_mask(0, 1))
    return "holds no masks, only folders.*multilabel, not binary"


def _files_and_folders(tmp, kwargs):
    _save(kwargs["masks"] / "p", a=_mask(0, 1))
    return r"masks and folders \(found: a.png, p/\). Say the task"


def _empty_folders(tmp, kwargs):
    kwargs["masks"] = tmp / "planes"
    (tmp / "planes/p").mkdir(parents=True)
    return "planes holds no masks"


def _no_images(tmp, kwargs):
    kwargs["images"] = tmp / "empty"
    (tmp / "empty").mkdir()
    return "empty holds no images"


def _unknown_class(tmp, kwargs):
    kwargs["masks"] = tmp / "planes"
    _save(tmp / "planes/p", a=_mask(0, 1))
    kwargs["classes"] = ["p", "r"]
    return "folders for p"


@pytest.mark.parametrize(
    "spoil",
    [
        _used,
        _no_folder,
        _one_folder,
        _no_match,
        _two_masks,
        _few_classes,
        _no_class_folders,
        _bad_share,
        _same_names,
        _partly,
        _only_folders,
        _files_and_folders,
        _empty_folders,
        _no_images,
        _unknown_class,
    ],
)
def test_init_errors_leave_nothing_behind(tmp_path, spoil):
    kwargs = {"images": _images(tmp_path / "i", "a", "b"), "out": tmp_path / "out"}
    kwargs["masks"] = _save(tmp_path / "m", a=_mask(0, 1), b=_mask(0, 1))
    message = spoil(tmp_path, kwargs)
    with pytest.raises(UserError, match=message):
        init_folder(**kwargs)
    assert not (tmp_path / "out/dataset.toml").exists()


def test_a_failing_copy_leaves_nothing_behind(tmp_path, monkeypatch):
    images = _images(tmp_path / "i", "a", "b")
    masks = _save(tmp_path / "m", a=_mask(0, 1), b=_mask(0, 1))
    before = sorted(tmp_path.iterdir())

    def fail(card, path):
        raise OSError("no space left")

    monkeypatch.setattr("imasks.data.scaffold.write_card", fail)
    with pytest.raises(OSError, match="no space"):
        init_folder(tmp_path / "out", images=images, masks=masks)
    assert sorted(tmp_path.iterdir()) == before


def test_what_was_guessed_is_said(tmp_path):
    images = _images(tmp_path / "i", "a", "b")
    masks = _save(tmp_path / "m", a=_mask(0, 1, 2, 255), b=_mask(0, 1))
    _, lines = init_folder(tmp_path / "guessed", images=images, masks=masks)
    assert "255 beside smaller ids" in " ".join(lines)
    assert any("class_0, class_1, class_2" in line for line in lines)
    assert "The names of the classes are made up: change them in dataset.toml." in lines
    assert "Pairs of image and mask: 2; images without a mask: 0." in lines
    _, lines = init_folder(tmp_path / "told", images=images, masks=masks, task="binary")
    assert "Task: binary; classes: foreground." in lines
    assert "One value beside 0: binary." not in lines


def test_a_given_task_reads_past_folders(tmp_path):
    images = _images(tmp_path / "i", "a", "b")
    masks = _save(tmp_path / "m", a=_mask(0, 1), b=_mask(0, 1))
    _images(masks / "previews", "a", "b")
    card, _ = init_folder(tmp_path / "o", images=images, masks=masks, task="binary")
    assert card.task == "binary"
    assert check_folder(tmp_path / "o").ok


def test_suffixes_in_capitals_and_names_with_accents_stored_apart(tmp_path):
    composed = unicodedata.normalize("NFC", "Öl ü")
    apart = unicodedata.normalize("NFD", composed)
    pixels = RNG.integers(0, 256, (6, 6), np.uint8)
    for folder in ("i", f"m/{apart}"):
        (tmp_path / folder).mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / f"i/{composed}.TIF")
    Image.fromarray(pixels).save(tmp_path / "i/b.JPG")
    for name in (f"{apart}_mask", "b"):
        Image.fromarray(_mask(0, 1)).save(tmp_path / f"m/{apart}/{name}.PNG")
    out = tmp_path / "out"
    card, _ = init_folder(out, images=tmp_path / "i", masks=tmp_path / "m", classes=[apart])
    assert card.classes == (composed,)
    assert check_folder(out).ok
    files = [path.relative_to(out).as_posix() for path in out.rglob("*.*") if path.is_file()]
    assert f"labeled/images/{composed}.TIF" in files
    assert f"labeled/masks/{composed}/{composed}.PNG" in files
