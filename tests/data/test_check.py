import io
import shutil

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from imasks.data.check import check_folder
from imasks.data.check_report import render
from imasks.data.files import write_png
from imasks.errors import UserError

RNG = np.random.default_rng(0)


def _fill(root, splits, *, ignore=True):
    root.mkdir(exist_ok=True)
    text = 'task = "multiclass"\nclasses = ["a", "b", "[c]"]'
    (root / "dataset.toml").write_text(text + ("\nignore = 255" if ignore else ""))
    for split, names in splits.items():
        (root / split / "images").mkdir(parents=True)
        (root / split / "masks").mkdir()
        for name in names:
            write_png(root / split / f"images/{name}.png", RNG.integers(0, 256, (8, 6), np.uint8))
            mask = np.zeros((8, 6), np.uint8)
            mask[0], mask[1], mask[2:4] = 1, 2, 255
            write_png(root / split / f"masks/{name}.png", mask)
    return root


def _printed(report):
    console = Console(file=io.StringIO(), width=140)
    render(report, console)
    return console.file.getvalue()


def test_a_sound_folder(tmp_path):
    progress = []
    folder = _fill(tmp_path, {"labeled": "abc", "val": "de"})
    report = check_folder(folder, on_progress=lambda *step: progress.append(step))
    assert report.ok
    assert report.findings == ()
    assert progress[-1] == (5, 5)
    labeled = report.splits["labeled"]
    assert (labeled.images, labeled.masked, labeled.empty) == (3, 3, 0)
    assert labeled.heights == (8, 8, 8)
    assert labeled.widths == (6, 6, 6)
    assert labeled.kinds == {"uint8 grey": 3}
    assert labeled.pixel_shares == pytest.approx({"a": 4 / 6, "b": 1 / 6, "[c]": 1 / 6})
    assert labeled.image_counts == {"a": 3, "b": 3, "[c]": 3}
    assert report.splits["test"].heights is None
    text = _printed(report)
    assert "Ready for training." in text
    assert "[c]" in text
    assert "16.67% in 3" in text


def _spoil(root):
    """Put every defect into a folder; give (level, part of the message, part of a file name)."""
    labeled, val, unlabeled = root / "labeled", root / "val", root / "unlabeled"
    (labeled / "masks/nomask.png").unlink()
    write_png(labeled / "masks/alone.png", np.zeros((8, 6), np.uint8))
    (labeled / "images/notes.txt").write_text("x")
    (labeled / "images/zero.png").write_bytes(b"")
    write_png(labeled / "masks/size.png", np.zeros((8, 7), np.uint8))
    write_png(labeled / "masks/ids.png", np.full((8, 6), 77, np.uint8))
    Image.fromarray(RNG.integers(0, 256, (8, 6, 3), np.uint8)).save(labeled / "masks/colour.png")
    (labeled / "masks/lossy.png").unlink()
    Image.fromarray(np.zeros((8, 6), np.uint8)).save(labeled / "masks/lossy.jpg")
    write_png(labeled / "images/deep.png", RNG.integers(0, 9999, (8, 6), np.uint16))
    write_png(labeled / "masks/void.png", np.full((8, 6), 255, np.uint8))
    shutil.copy(labeled / "images/void.png", val / "images/twin.png")
    (unlabeled / "images/broken.png").write_bytes(b"broken")
    shutil.copy(unlabeled / "images/plain.png", unlabeled / "images/plain.bmp")
    for path in labeled.glob("masks/*.png"):
        if path.stem.startswith("good"):
            write_png(path, np.zeros((8, 6), np.uint8))
    return [
        ("error", "no mask", "nomask"),
        ("error", "share one name", "unlabeled/images/plain.bmp"),
        ("error", "is empty", "labeled/images/zero.png"),
        ("error", "differs in size", "labeled/masks/size.png (mask (8, 7), image (8, 6)"),
        ("error", "ids that no class has", "labeled/masks/ids.png (77)"),
        ("error", "colour-coded", "labeled/masks/colour.png"),
        ("error", "with loss", "labeled/masks/lossy.jpg"),
        ("error", "another depth", "labeled/deep"),
        ("warning", "without an image", "labeled/masks/alone.png"),
        ("warning", "not an image file", "labeled/images/notes.txt"),
        ("warning", "is not an image", "unlabeled/images/broken.png"),
        ("warning", "same image", "labeled/void = val/twin"),
        ("warning", "share a name", "labeled/good1 = val/good1"),
        ("warning", "never occur", "[c]"),
        ("warning", "hold no class", "labeled: 1"),
    ]


def test_every_defect_is_found_at_once(tmp_path):
    names = ["nomask", "zero", "size", "ids", "colour", "lossy", "deep", "void", "good1", "good2"]
    splits = {"labeled": names, "val": ["twin", "good1"], "unlabeled": ["plain", "broken"]}
    folder = _fill(tmp_path, splits)
    expected = _spoil(folder)
    # The mask of `deep` shows the last class, so take it away.
    write_png(folder / "labeled/masks/deep.png", np.ones((8, 6), np.uint8))
    write_png(folder / "labeled/masks/zero.png", np.ones((8, 6), np.uint8))
    report = check_folder(folder)
    assert not report.ok
    for level, what, file in expected:
        matching = [each for each in report.findings if what in each.what]
        assert [each.level for each in matching] == [level], what
        assert any(file in each for each in matching[0].files), what
        assert matching[0].remedy
    assert len(report.findings) == len(expected)
    levels = [finding.level for finding in report.findings]
    assert levels == sorted(levels)
    text = _printed(report)
    assert "8 errors stand in the way." in text
    assert "labeled/void = val/twin" in text


def test_images_that_will_validate_are_counted(tmp_path):
    text = _printed(check_folder(_fill(tmp_path, {"labeled": "abcdefgh"})))
    assert "About 2 of the 8 images in labeled/ will serve for validation" in text


def test_classes_that_may_get_lost_are_told(tmp_path):
    folder = _fill(tmp_path, {"labeled": "abcdefgh", "val": "ij"})
    for name in "bcdefgh":
        write_png(folder / f"labeled/masks/{name}.png", np.ones((8, 6), np.uint8))
    rare, unseen = check_folder(_without(folder / "val/masks", "ij")).findings
    assert rare.files == ("a (6.45% in 1)", "[c] (1.61% in 1)")
    assert "--class-weights balanced" in rare.remedy
    assert "no image in val/ shows" in unseen.what
    assert unseen.files == ("a", "[c]")


def _without(masks, names):
    for name in names:
        write_png(masks / f"{name}.png", np.ones((8, 6), np.uint8))
    return masks.parent.parent


def test_binary_masks_that_are_all_ignored(tmp_path):
    folder = _fill(tmp_path, {"labeled": "ab"})
    (folder / "dataset.toml").write_text('task = "binary"\nclasses = ["x"]\nignore = 255')
    for name in "ab":
        mask = RNG.integers(0, 2, (8, 6), np.uint8) * np.uint8(255)
        write_png(folder / f"labeled/masks/{name}.png", mask)
    report = check_folder(folder)
    assert not report.ok
    assert "Or is 255 really a value to ignore?" in _printed(report)


def test_lossy_binary_masks_are_a_warning(tmp_path):
    folder = _fill(tmp_path, {"labeled": "ab"})
    (folder / "dataset.toml").write_text('task = "binary"\nclasses = ["x"]')
    (folder / "labeled/masks/a.png").unlink()
    Image.fromarray(np.full((8, 6), 255, np.uint8)).save(folder / "labeled/masks/a.jpg")
    report = check_folder(folder)
    assert report.ok
    assert [finding.files for finding in report.findings] == [("labeled/masks/a.jpg",)]
    assert "images in labeled/ will serve for validation" in _printed(report)


def test_nothing_labeled(tmp_path):
    report = check_folder(_fill(tmp_path, {"unlabeled": "a"}))
    assert not report.ok
    assert "holds no images" in _printed(report)


@pytest.mark.parametrize("place", ["", "absent", "file"])
def test_no_card(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"dataset\.toml is missing.*imasks init"):
        check_folder(tmp_path / place)


def test_a_card_alone(tmp_path):
    report = check_folder(_fill(tmp_path, {}))
    assert [finding.what for finding in report.findings] == ["labeled/images holds no images"]
    assert not report.ok
    assert all(split.images == 0 for split in report.splits.values())
    assert "1 error stands in the way." in _printed(report)


@pytest.mark.parametrize("name", ["wbc"])
def test_real_data(real_data, name):
    report = check_folder(real_data(name))
    assert report.ok
    assert report.splits["unlabeled"].masked == report.splits["unlabeled"].images > 0
