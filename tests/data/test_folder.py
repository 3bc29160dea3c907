import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from imasks.data.checksum import changed_files, checksum
from imasks.data.files import write_png
from imasks.data.folder import open_dataset
from imasks.errors import UserError

PIXELS = np.zeros((4, 4), np.uint8)


def _put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, PIXELS)


def _folder(root: Path, *, task="binary", classes=("x",), **splits: int) -> Path:
    root.mkdir(exist_ok=True)
    (root / "dataset.toml").write_text(f'task = "{task}"\nclasses = {json.dumps(list(classes))}\n')
    for split, count in splits.items():
        for index in range(count):
            _put(root / split / "images" / f"i{index}.png")
            planes = classes if task == "multilabel" else ["."]
            for plane in planes if split != "unlabeled" else ():
                _put(root / split / "masks" / plane / f"i{index}.png")
    return root


def test_complete_folder(tmp_path):
    data = open_dataset(str(_folder(tmp_path / "d", labeled=3, unlabeled=2, val=1, test=1)))
    assert {split: len(samples) for split, samples in data.splits.items()} == {
        "labeled": 3,
        "unlabeled": 2,
        "val": 1,
        "test": 1,
    }
    assert data.val_cut == data.skipped == ()
    sample = data.splits["labeled"][1]
    assert sample.name == "i1"
    assert sample.masks == (tmp_path / "d/labeled/masks/i1.png",)
    assert data.splits["unlabeled"][0].masks == ()


def test_validation_is_cut_once_and_for_all(tmp_path):
    _folder(tmp_path, labeled=11)
    data = open_dataset(tmp_path)
    assert len(data.val_cut) == 2
    assert tuple(sample.name for sample in data.splits["val"]) == data.val_cut
    names = [sample.name for sample in (*data.splits["labeled"], *data.splits["val"])]
    assert len(names) == len(set(names)) == 11
    assert open_dataset(tmp_path) == data
    (tmp_path / "small").mkdir()
    assert len(open_dataset(_folder(tmp_path / "small", labeled=2)).val_cut) == 1


def test_multilabel_order_is_the_cards(tmp_path):
    _folder(tmp_path, task="multilabel", classes=("z", "a"), labeled=2)
    masks = open_dataset(tmp_path).splits["labeled"][0].masks
    assert [path.parent.name for path in masks] == ["z", "a"]


def test_unlabeled_truth_is_taken_where_complete(tmp_path):
    _folder(tmp_path, task="multilabel", classes=("a", "b"), labeled=2, unlabeled=2)
    masks = tmp_path / "unlabeled/masks"
    _put(masks / "a/i0.png", masks / "b/i0.png", masks / "a/i1.png")
    first, second = open_dataset(tmp_path).splits["unlabeled"]
    assert len(first.masks) == 2
    assert second.masks == ()


def test_names_with_accents_spaces_and_other_endings(tmp_path):
    _folder(tmp_path, labeled=1)
    composed = unicodedata.normalize("NFC", "Präparat 1.a")
    apart = unicodedata.normalize("NFD", composed)
    assert composed != apart
    _put(tmp_path / f"labeled/images/{apart}.PNG", tmp_path / f"labeled/masks/{composed}.png")
    data = open_dataset(tmp_path)
    names = {sample.name for split in ("labeled", "val") for sample in data.splits[split]}
    assert names == {"i0", composed}


def test_what_is_left_aside(tmp_path):
    _folder(tmp_path, labeled=2)
    _put(tmp_path / "labeled/masks/alone.png")
    (tmp_path / "labeled/images/notes.txt").write_text("x")
    (tmp_path / "labeled/images/.hidden.png").write_text("x")
    skipped = open_dataset(tmp_path).skipped
    assert [text.split(" (")[0] for text in skipped] == [
        "labeled/masks/alone.png",
        "labeled/images/notes.txt",
    ]


def _no_mask(root: Path) -> str:
    _put(*(root / f"val/images/n{index}.png" for index in range(7)))
    return r"7 images of val/ have no mask.*n0, n1, n2, n3, n4 and 2 more.*move.*unlabeled/images"


def _two_images(root: Path) -> str:
    _put(root / "unlabeled/images/i0.png", root / "unlabeled/images/i0.bmp")
    return r"share one name.*i0\.bmp, .*i0\.png"


def _other_case(root: Path) -> str:
    _put(root / "labeled/images/A.png", root / "labeled/masks/a.png")
    return r"no mask.*A"


def _no_images(root: Path) -> str:
    (root / "labeled/images").rename(root / "elsewhere")
    return "labeled/images holds no images"


def _one_only(root: Path) -> str:
    for kind in ("images", "masks"):
        (root / "labeled" / kind / "i0.png").unlink()
    return "cannot be shared"


def _no_card(root: Path) -> str:
    (root / "dataset.toml").unlink()
    return "imasks init"


@pytest.mark.parametrize(
    "spoil", [_no_mask, _two_images, _other_case, _no_images, _one_only, _no_card]
)
def test_errors_name_files_and_remedy(tmp_path, spoil):
    _folder(tmp_path, labeled=2)
    with pytest.raises(UserError, match=spoil(tmp_path)):
        open_dataset(tmp_path)


def test_a_missing_class_is_named(tmp_path):
    _folder(tmp_path, task="multilabel", classes=("a", "b"), labeled=3)
    (tmp_path / "labeled/masks/b/i1.png").unlink()
    with pytest.raises(UserError, match=r"class 'b' in labeled/masks/b.*i1"):
        open_dataset(tmp_path)


def test_checksum_follows_content_and_split_only(tmp_path):
    data = open_dataset(_folder(tmp_path / "d", labeled=3, unlabeled=1))
    first = checksum(data, None)
    (tmp_path / "d").rename(tmp_path / "moved")
    moved = open_dataset(tmp_path / "moved")
    assert checksum(moved, None) == first

    image = moved.splits["labeled"][0].image
    write_png(image, PIXELS + 1)
    changed = checksum(moved, None)
    assert changed != first
    write_png(image, PIXELS)
    assert checksum(moved, None) == first

    (tmp_path / "moved/unlabeled").rename(tmp_path / "moved/gone")
    assert checksum(open_dataset(tmp_path / "moved"), None) != first


def test_second_checksum_only_looks_at_the_files(tmp_path, monkeypatch):
    data = open_dataset(_folder(tmp_path / "d", labeled=3))
    cache = tmp_path / "digests.json"
    first = checksum(data, None)
    assert checksum(data, cache, expected=first) == first
    with monkeypatch.context() as patch:
        patch.setattr("imasks.data.checksum.digest_of", lambda path: pytest.fail(f"read {path}"))
        assert checksum(data, cache) == first

    image = data.splits["labeled"][0].image
    os.utime(image, ns=(1, 1))
    assert checksum(data, cache) == first
    assert "labeled" in cache.read_text()
    with monkeypatch.context() as patch:  # the new time is remembered, and the folder may move
        patch.setattr("imasks.data.checksum.digest_of", lambda path: pytest.fail(f"read {path}"))
        (tmp_path / "d").rename(tmp_path / "e")
        data = open_dataset(tmp_path / "e")
        assert checksum(data, cache) == first
    image = data.splits["labeled"][0].image
    write_png(image, PIXELS + 1)
    assert checksum(data, cache) != first
    cache.write_text("{ broken")
    assert checksum(data, cache) == checksum(data, None)


def test_changed_files_are_named(tmp_path):
    folder = _folder(tmp_path / "d", labeled=4, unlabeled=2)
    data, cache = open_dataset(folder), tmp_path / "digests.json"
    assert changed_files(data, cache) == []  # nothing is remembered
    first = checksum(data, None)
    checksum(data, cache, expected="another")
    assert not cache.exists()  # what the data should not be is not remembered
    checksum(data, cache, expected=first)
    assert changed_files(data, cache) == []

    image = data.splits["labeled"][0].image
    os.utime(image, ns=(1, 1))
    gone, new = (
        sorted((folder / "unlabeled/images").iterdir())[0],
        folder / "unlabeled/images/z.png",
    )
    assert changed_files(data, cache) == []
    write_png(image, PIXELS + 1)
    gone.unlink()
    write_png(new, PIXELS)
    text = (folder / "dataset.toml").read_text()
    (folder / "dataset.toml").write_text(text + "ignore = 7\n")
    expected = [
        "dataset.toml (changed)",
        f"{image.relative_to(folder).as_posix()} (changed)",
        f"unlabeled/images/{gone.name} (removed)",
        "unlabeled/images/z.png (added)",
    ]
    for _ in range(2):  # looking at changed data does not forget what they were
        changed = open_dataset(folder)
        assert checksum(changed, cache) != first
        assert changed_files(changed, cache) == expected


def test_names_and_colours_do_not_count(tmp_path):
    folder = _folder(tmp_path / "d", labeled=3)
    first = checksum(open_dataset(folder), None)
    text = (folder / "dataset.toml").read_text()
    (folder / "dataset.toml").write_text(text + 'name = "other"\ncolors = ["#ff0000"]\n')
    assert checksum(open_dataset(folder), None) == first
    (folder / "dataset.toml").write_text(text + "channels = 3\n")
    assert checksum(open_dataset(folder), None) != first
