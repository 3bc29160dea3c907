"""Files as they come from cameras, microscopes and other people's disks, through every stage."""

import json
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from imasks.data.arrays import load_arrays, prepare
from imasks.data.check import check_folder
from imasks.data.checksum import checksum
from imasks.data.files import write_png
from imasks.data.folder import open_dataset
from imasks.data.prepare import plan_preparation
from imasks.errors import UserError

RNG = np.random.default_rng(0)
SIDE = 32


def _image(path: Path, kind: str = "uint8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (SIDE, SIDE, 4), np.uint8)
    if kind == "float32":
        tifffile.imwrite(path, pixels[..., 0].astype(np.float32) / 7 - 3)
    elif kind == "uint16":
        write_png(path, pixels[..., 0].astype(np.uint16) * 17 + 5)
    elif kind == "RGBA":
        Image.fromarray(pixels).save(path)
    else:
        Image.fromarray(pixels[..., 0]).save(path)


def _mask(path: Path, *, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:8] = 1
    write_png(path, mask, palette=[(0, 0, 0), (200, 10, 10)] if palette else None)


def _folder(root: Path, suffix: str = ".png", kind: str = "uint8", **options: bool) -> Path:
    """Make a binary data folder: labeled a and b, unlabeled c, validation v."""
    root.mkdir(exist_ok=True)
    (root / "dataset.toml").write_text('task = "binary"\nclasses = ["x"]')
    for place in ("labeled/images/a", "labeled/images/b", "unlabeled/images/c", "val/images/v"):
        _image(root / f"{place}{suffix}", kind)
    for place in ("labeled/masks/a", "labeled/masks/b", "val/masks/v"):
        _mask(root / f"{place}.png", **options)
    return root


def _prepared(folder: Path) -> tuple[dict[str, object], Path]:
    data = open_dataset(folder)
    out = folder / "arrays"
    return prepare(data, plan_preparation(data), out), out


@pytest.mark.parametrize(
    ("suffix", "kind", "channels"),
    [
        (".PNG", "uint8", 1),
        (".JPG", "uint8", 1),
        (".TIF", "uint8", 1),
        (".tif", "float32", 1),
        (".png", "uint16", 1),
        (".png", "RGBA", 3),
    ],
)
@pytest.mark.parametrize("palette", [False, True])
def test_kinds_of_files(tmp_path, suffix, kind, channels, palette):
    folder = _folder(tmp_path / "d", suffix, kind, palette=palette)
    assert check_folder(folder).findings == ()
    result, out = _prepared(folder)
    assert result["skipped"] == []
    arrays = load_arrays(out, "labeled")
    assert arrays.images.shape == (2, SIDE, SIDE, channels)
    assert arrays.images.max() > 240  # 16 bits and floats are spread over all levels
    assert arrays.images.min() < 15
    assert arrays.labels is not None
    assert (arrays.labels[:, 0, :8] == 1).all()
    assert (arrays.labels[:, 0, 8:] == 0).all()


def test_hidden_files_are_no_files(tmp_path):
    folder = _folder(tmp_path)
    before = open_dataset(folder)
    digest = checksum(before, None)
    for path in list(folder.rglob("*.png")):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
        (path.parent / ".DS_Store").touch()
    assert check_folder(folder).findings == ()
    assert open_dataset(folder) == before
    assert checksum(open_dataset(folder), None) == digest


def test_folders_among_the_masks_of_a_binary_task(tmp_path):
    folder = _folder(tmp_path)
    _mask(folder / "labeled/masks/previews/a.png")
    (finding,) = check_folder(folder).findings
    assert (finding.level, finding.files) == ("warning", ("labeled/masks/previews",))
    assert "multilabel" in finding.remedy
    for name in "ab":
        (folder / f"labeled/masks/{name}.png").unlink()
    assert [each.level for each in check_folder(folder).findings][:1] == ["error"]
    with pytest.raises(UserError, match="2 images of labeled/ have no mask"):
        open_dataset(folder)


def test_accents_composed_here_and_apart_there(tmp_path):
    composed = unicodedata.normalize("NFC", "Präparat")
    apart = unicodedata.normalize("NFD", composed)
    folder = _folder(tmp_path)
    _image(folder / f"labeled/images/{composed}.png")
    _mask(folder / f"labeled/masks/{apart}.png")
    assert check_folder(folder).ok
    assert composed in {
        sample.name for split in ("labeled", "val") for sample in open_dataset(folder).splits[split]
    }
    _image(folder / f"labeled/images/{apart}.png")
    if len(list((folder / "labeled/images").iterdir())) < 4:
        pytest.skip("this file system holds both spellings to be one name")
    with pytest.raises(UserError, match="share one name"):
        open_dataset(folder)


@pytest.mark.parametrize(
    ("place", "level"),
    [
        ("labeled/images/l.png", "error"),
        ("val/masks/v.png", "error"),
        ("unlabeled/images/l.png", "warning"),
    ],
)
def test_links_that_lead_nowhere(tmp_path, place, level):
    folder = _folder(tmp_path / "d")
    (folder / place).unlink(missing_ok=True)
    (folder / place).symlink_to(tmp_path / "gone.png")
    findings = [each for each in check_folder(folder).findings if "leads nowhere" in each.what]
    assert [(each.level, each.files) for each in findings] == [(level, (place,))]
    if level == "error":
        with pytest.raises(UserError):
            open_dataset(folder)
    else:
        data = open_dataset(folder)
        assert any(place in text for text in data.skipped)
        assert len(checksum(data, None)) == 32


def test_links_that_lead_somewhere_are_files(tmp_path):
    folder = _folder(tmp_path / "d")
    path = folder / "labeled/images/a.png"
    shutil.move(path, tmp_path / "elsewhere.png")
    path.symlink_to(tmp_path / "elsewhere.png")
    assert check_folder(folder).findings == ()


def test_unlabeled_images_of_another_depth_are_skipped_and_counted(tmp_path):
    folder = _folder(tmp_path)
    _image(folder / "unlabeled/images/deep.png", "uint16")
    _image(folder / "unlabeled/images/float.tif", "float32")
    report = check_folder(folder)
    assert report.ok
    (finding,) = report.findings
    assert finding.what == "2 images are of another depth than most of labeled/: uint8"
    assert finding.files == ("unlabeled/deep (uint16)", "unlabeled/float (float32)")
    result, out = _prepared(folder)
    assert result["counts"] == {"labeled": 2, "unlabeled": 1, "val": 1, "test": 0}
    skipped = json.loads(json.dumps(result["skipped"]))
    assert "float.tif is float32 where" in skipped[1]
    assert "deep.png is uint16 where the labeled images are uint8" in skipped[0]
    assert load_arrays(out, "unlabeled").names == ("c",)


def test_other_splits_must_be_of_the_depth_of_the_labeled_images(tmp_path):
    folder = _folder(tmp_path)
    _image(folder / "val/images/v.png", "uint16")
    assert not check_folder(folder).ok
    with pytest.raises(UserError, match=r"v\.png is uint16 where the labeled images are uint8"):
        _prepared(folder)


def test_unlabeled_images_that_are_all_of_another_depth(tmp_path):
    folder = _folder(tmp_path)
    _image(folder / "unlabeled/images/c.png", "uint16")
    with pytest.raises(UserError, match=r"none of the 1 images in unlabeled/.*uint16"):
        _prepared(folder)


def test_unlabeled_images_with_other_channels_are_converted(tmp_path):
    folder = _folder(tmp_path)
    _image(folder / "unlabeled/images/colour.png", "RGBA")
    result, out = _prepared(folder)
    assert result["skipped"] == []
    assert load_arrays(out, "unlabeled").images.shape == (2, SIDE, SIDE, 1)


def test_depth_is_compared_with_the_labeled_images_not_with_the_many(tmp_path):
    folder = _folder(tmp_path)
    for index in range(9):
        _image(folder / f"unlabeled/images/deep{index}.png", "uint16")
    assert [finding.level for finding in check_folder(folder).findings] == ["warning"]
    assert len(_prepared(folder)[0]["skipped"]) == 9
