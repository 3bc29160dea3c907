import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imasks.data import resources
from imasks.data.arrays import _starts, _tiles, load_arrays, prepare
from imasks.data.card import Card, write_card
from imasks.data.check import check_folder
from imasks.data.files import UnreadableFile, write_png
from imasks.data.folder import open_dataset
from imasks.data.prepare import Preparation, plan_preparation, resize_image, resize_mask, to_uint8
from imasks.errors import UserError

RNG = np.random.default_rng(0)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack")
    else:
        write_png(path, pixels)


def _dataset(root: Path, images: dict[str, np.ndarray], suffix=".png", **card):
    """Write images given as SPLIT/NAME, with masks that are 1 where the image is bright."""
    root.mkdir(exist_ok=True)
    values = {"name": "d", "task": "binary", "classes": ("x",), **card}
    write_card(Card(**values), root / "dataset.toml")
    for place, pixels in images.items():
        split, name = place.split("/")
        _save(root / split / "images" / (name + suffix), pixels)
        if split != "unlabeled":
            grey = pixels if pixels.ndim == 2 else pixels[..., 0]
            _save(root / split / "masks" / f"{name}.png", (grey > 127).astype(np.uint8))
    return open_dataset(root)


def _grey(h, w, dtype=np.uint8):
    return RNG.integers(0, np.iinfo(dtype).max, (h, w), dtype)


def _rgb(h, w):
    return RNG.integers(0, 256, (h, w, 3), np.uint8)


@pytest.mark.parametrize(
    ("shape", "options", "size"),
    [
        ((100, 80), {}, (96, 80)),
        ((400, 300), {}, (256, 192)),
        ((20, 20), {}, (32, 32)),
        ((400, 300), {"longer_side": 128}, (128, 96)),
        ((400, 300), {"size": (64, 48)}, (64, 48)),
        ((512, 600), {"longer_side": 256}, (224, 256)),
        ((64, 64), {"longer_side": 128}, (128, 128)),
        ((64, 64), {"at_most": 128}, (64, 64)),
        ((400, 300), {"at_most": 128}, (128, 96)),
        ((600, 512), {"at_most": 128}, (128, 112)),
        ((400, 300), {"at_most": 128, "size": (256, 192)}, (256, 192)),
        ((400, 300), {"at_most": 128, "longer_side": 256}, (256, 192)),
    ],
)
def test_sizes(tmp_path, shape, options, size):
    data = _dataset(tmp_path, {"labeled/a": _grey(*shape), "labeled/b": _grey(*shape)})
    prep = plan_preparation(data, **options)
    assert prep.size == size
    assert prep.fit == "resize"
    assert prep.native == prep.largest == shape
    assert prep.levels is None
    assert prep.channels == 1


def test_what_is_asked_for_goes_before_the_card(tmp_path):
    images = {"labeled/a": _grey(400, 300), "val/b": _grey(400, 300)}
    data = _dataset(tmp_path, images, size=(64, 64))
    assert plan_preparation(data).size == (64, 64)
    assert plan_preparation(data, at_most=32).size == (64, 64)
    assert plan_preparation(data, longer_side=128).size == (128, 96)
    assert plan_preparation(data, size=(96, 96)).size == (96, 96)
    with pytest.raises(UserError, match=r"both a size and a longer side.*\[96, 96\] and 128"):
        plan_preparation(data, size=(96, 96), longer_side=128)


def test_the_largest_of_mixed_images(tmp_path):
    shapes = [(40, 90), (50, 60), (70, 50), (40, 50), (40, 50)]
    images = {f"labeled/{n}": _grey(*shape) for n, shape in enumerate(shapes)}
    prep = plan_preparation(_dataset(tmp_path, images | {"val/v": _grey(200, 200)}))
    assert prep.native == (40, 50)
    assert prep.largest == (70, 90)
    assert Preparation.from_json(json.loads(json.dumps(prep.to_json()))) == prep


def test_large_images_are_tiled_unless_a_size_is_given(tmp_path):
    images = {"labeled/a": _grey(520, 700), "labeled/b": _grey(520, 700)}
    data = _dataset(tmp_path, images)
    assert plan_preparation(data).size == (256, 256)
    assert plan_preparation(data).fit == "tile"
    assert plan_preparation(data, size=(64, 64)).fit == "resize"
    assert plan_preparation(_dataset(tmp_path, images, size=(64, 64))).fit == "resize"
    assert plan_preparation(_dataset(tmp_path, images, fit="resize")).size == (192, 256)
    tiny = _dataset(tmp_path / "t", {"labeled/a": _grey(40, 70), "val/b": _grey(9, 9)}, fit="tile")
    assert plan_preparation(tiny).size == (48, 80)


def test_sizes_that_do_not_fit_the_network(tmp_path):
    data = _dataset(tmp_path, {"labeled/a": _grey(50, 50), "val/b": _grey(50, 50)})
    with pytest.raises(UserError, match=r"\[250, 16\].*\[256, 32\]"):
        plan_preparation(data, size=(250, 16))
    with pytest.raises(UserError, match="32 or more"):
        plan_preparation(data, longer_side=10)


def test_channels_need_true_colour(tmp_path):
    grey = np.repeat(_grey(40, 40)[..., None], 3, 2)
    data = _dataset(tmp_path / "g", {"labeled/a": grey, "val/b": _rgb(40, 40)})
    assert plan_preparation(data).channels == 1
    coloured = {"labeled/a": grey, "labeled/b": _rgb(40, 40), "val/c": grey}
    assert plan_preparation(_dataset(tmp_path / "c", coloured)).channels == 3
    assert plan_preparation(_dataset(tmp_path / "c", coloured, channels=1)).channels == 1


def test_levels_of_16_bits(tmp_path):
    images = {f"labeled/{n}": _grey(60, 60, np.uint16) // 16 for n in "abc"}
    data = _dataset(tmp_path, images, suffix=".tif")
    prep = plan_preparation(data)
    (low, high), *others = prep.levels
    assert not others
    assert low == pytest.approx(4, abs=10)
    assert high == pytest.approx(4091, abs=10)
    assert prep.depth == "uint16"
    assert Preparation.from_json(json.loads(json.dumps(prep.to_json()))) == prep


def test_levels_are_found_from_a_part_of_many_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr("imasks.data.prepare.MAX_PIXELS", 20_000)
    images = {f"labeled/{n}": _grey(256, 256, np.uint16) for n in "abc"}
    low, high = plan_preparation(_dataset(tmp_path, images, suffix=".tif")).levels[0]
    assert low == pytest.approx(65, abs=60)
    assert high == pytest.approx(65470, abs=60)


def test_mixed_depths(tmp_path):
    data = _dataset(tmp_path, {"labeled/a": _grey(40, 40), "labeled/c": _grey(40, 40)})
    _save(tmp_path / "labeled/images/b.tif", _grey(40, 40, np.uint16))
    _save(tmp_path / "labeled/masks/b.png", _grey(40, 40))
    _save(tmp_path / "val/images/v.png", _grey(40, 40))
    _save(tmp_path / "val/masks/v.png", _grey(40, 40))
    with pytest.raises(UserError, match=r"differ in depth.*b\.tif.*one depth"):
        plan_preparation(open_dataset(tmp_path))
    options = {"levels": None, "native": (40, 40), "largest": (40, 40)}
    prep = Preparation(size=(32, 32), channels=1, fit="resize", **options)
    with pytest.raises(UserError, match=r"uint16 where the labeled images are uint8"):
        to_uint8(_grey(4, 4, np.uint16)[..., None], prep)
    assert data.splits["labeled"]


@given(
    hnp.arrays(np.uint16, (3, 4, 1)),
    st.integers(0, 60000),
    st.integers(1, 5000),
    st.sampled_from([1, 3]),
)
def test_levels_are_monotone_and_saturate(image, low, width, channels):
    levels = ((float(low), float(low + width)),) * channels
    prep = Preparation(
        size=(32, 32),
        channels=channels,
        fit="resize",
        levels=levels,
        native=(3, 4),
        largest=(3, 4),
        depth="uint16",
    )
    out = to_uint8(image, prep)
    assert out.shape == (3, 4, channels)
    assert out.dtype == np.uint8
    expected = np.clip((image.astype(float) - low) / width, 0, 1) * 255
    assert np.abs(out - expected).max() <= 0.51


@given(hnp.arrays(np.uint8, (2, 3, 1)))
def test_channels_repeat_and_come_back(grey):
    sides = {"native": (2, 3), "largest": (2, 3)}
    options = {"size": (32, 32), "fit": "resize", "levels": None, **sides}
    colour = to_uint8(grey, Preparation(channels=3, **options))
    assert colour.shape == (2, 3, 3)
    np.testing.assert_array_equal(to_uint8(colour, Preparation(channels=1, **options)), grey)


def test_luminance():
    sides = {"native": (1, 3), "largest": (1, 3)}
    options = {"size": (32, 32), "fit": "resize", "levels": None, **sides}
    colours = np.eye(3, dtype=np.uint8)[None] * 255
    assert to_uint8(colours, Preparation(channels=1, **options)).ravel().tolist() == [76, 150, 29]


def test_resizing_counts_every_pixel_and_makes_no_new_class():
    fine = np.zeros((64, 64, 1), np.uint8)
    fine[::2] = 200
    assert np.abs(resize_image(fine, (16, 16)).astype(int) - 100).max() <= 12
    assert resize_image(_rgb(50, 30), (32, 48)).shape == (32, 48, 3)
    labels = np.array([[[0, 0, 5, 5], [0, 0, 5, 5]]], np.uint8)
    assert resize_mask(labels, (1, 2)).tolist() == [[[0, 5]]]
    assert resize_mask(labels[0], (4, 8)).shape == (4, 8)
    np.testing.assert_array_equal(resize_mask(resize_mask(labels, (6, 12)), (2, 4)), labels)


@given(st.integers(1, 400), st.integers(1, 9))
def test_tiles_are_fewest_distinct_and_cover_everything(length, sixteenths):
    tile = 16 * sixteenths
    starts = _starts(max(length, tile), tile)
    covered = {pixel for start in starts for pixel in range(start, start + tile)}
    assert covered == set(range(max(length, tile)))
    assert len(starts) == len(set(starts)) == max(1, -(-length // tile))


def _tiling():
    options = {"channels": 1, "levels": None, "native": (70, 100), "largest": (70, 100)}
    return Preparation(size=(32, 48), fit="tile", **options)


@given(st.integers(20, 150), st.integers(20, 150))
@settings(max_examples=20, deadline=None)
def test_every_pixel_of_val_and_test_is_scored_once(height, width):
    image, labels = np.zeros((height, width, 1), np.uint8), np.ones((1, height, width), np.uint8)
    cut = partial(_tiles, lambda start, stop: image[start:stop], (height, width), labels, (32, 48))
    once = [part.labels for part in cut(once=True)]
    assert sum(int((part == 1).sum()) for part in once) == height * width
    every = [part.labels for part in cut(once=False)]
    assert all((a[b != 255] == 1).all() for a, b in zip(every, once, strict=True))


def test_tiles_of_each_split_keep_or_share_their_labels(tmp_path):
    images = {f"{split}/{n}": _grey(70, 100) for split in ("labeled", "val", "test") for n in "ab"}
    data = _dataset(tmp_path / "d", images)
    prepare(data, _tiling(), tmp_path / "out")
    for split, scored in (("labeled", 2 * 9 * 32 * 48), ("val", 14000), ("test", 14000)):
        labels = load_arrays(tmp_path / "out", split).labels
        assert (labels != 255).sum() == scored


def test_tiled_arrays_put_together_are_the_image(tmp_path):
    big, small = _grey(70, 100), _grey(20, 40)
    data = _dataset(tmp_path / "d", {"labeled/a": big, "labeled/b": small, "val/c": small})
    counts = prepare(data, _tiling(), tmp_path / "out")["counts"]
    arrays = load_arrays(tmp_path / "out", "labeled")
    assert counts["labeled"] == len(arrays.images) == 3 * 3 + 1
    assert arrays.names == ("a", "b")
    assert arrays.source.tolist() == [0] * 9 + [1]
    corners = [(y, x) for y in _starts(70, 32) for x in _starts(100, 48)] + [(0, 0)]
    seen = np.zeros(big.shape, bool)
    for (y, x), source, image, label in zip(
        corners, arrays.source, arrays.images, arrays.labels, strict=True
    ):
        if source == 0:
            part = np.s_[y : y + 32, x : x + 48]
            seen[part] = True
            np.testing.assert_array_equal(image[..., 0], big[part])
            np.testing.assert_array_equal(label[0], big[part] > 127)
        else:
            np.testing.assert_array_equal(image[:20, :40, 0], small)
            np.testing.assert_array_equal(image[20:, :40, 0], small[18:6:-1])
            np.testing.assert_array_equal(label[0, :20, :40], small > 127)
            assert (label[0, 20:] == 255).all()
            assert (label[0, :, 40:] == 255).all()
    assert seen.all()


def test_arrays_in_memory_and_mapped_are_the_same(tmp_path):
    images = {f"{split}/{n}": _rgb(40, 56) for split in ("labeled", "unlabeled") for n in "abc"}
    data = _dataset(tmp_path / "d", images | {"val/v": _rgb(90, 40)})
    out, progress = tmp_path / "a/out", []
    prep = plan_preparation(data)
    result = prepare(data, prep, out, on_progress=lambda *step: progress.append(step))
    assert result == {
        "skipped": [],
        "counts": {"labeled": 3, "unlabeled": 3, "val": 1, "test": 0},
    }
    assert progress == [(done, 7) for done in range(1, 8)]
    for split in ("labeled", "val", "test"):
        here, mapped = load_arrays(out, split), load_arrays(out, split, ram_share=0)
        assert here.names == mapped.names
        assert here.images.shape == (len(here.names), *prep.size, 3)
        assert here.labels.shape == (len(here.names), 1, *prep.size)
        np.testing.assert_array_equal(here.images, mapped.images)
        np.testing.assert_array_equal(here.labels, mapped.labels)
        assert here.source.tolist() == list(range(len(here.names)))
    assert load_arrays(out, "labeled", truth=False).labels is None
    assert load_arrays(out, "unlabeled").labels is None
    assert load_arrays(out, "labeled").names == ("a", "b", "c")
    with pytest.raises(UserError, match="missing"):
        load_arrays(tmp_path, "val")


def test_writes_to_mapped_arrays_do_not_reach_the_disk(tmp_path):
    data = _dataset(tmp_path / "d", {"labeled/a": _grey(32, 32), "val/b": _grey(32, 32)})
    prepare(data, plan_preparation(data), tmp_path / "out")
    before = load_arrays(tmp_path / "out", "labeled")
    mapped = load_arrays(tmp_path / "out", "labeled", ram_share=0)
    for array in (mapped.images, mapped.labels):
        assert isinstance(array, np.memmap)
        torch.from_numpy(array).fill_(7)  # warns where an array is not writable
        assert (array == 7).all()
        array.flush()
    after = load_arrays(tmp_path / "out", "labeled")
    np.testing.assert_array_equal(after.images, before.images)
    np.testing.assert_array_equal(after.labels, before.labels)


def test_unlabeled_truth_needs_every_mask(tmp_path):
    images = {f"{split}/{n}": _grey(32, 32) for split in ("labeled", "unlabeled") for n in "ab"}
    data = _dataset(tmp_path / "d", images)
    prep, out = plan_preparation(data), tmp_path / "out"
    (tmp_path / "d/unlabeled/masks").mkdir()
    for name in "ab":
        write_png(tmp_path / f"d/unlabeled/masks/{name}.png", np.ones((32, 32), np.uint8))
    prepare(open_dataset(tmp_path / "d"), prep, out)
    assert load_arrays(out, "unlabeled").labels.min() == 1
    (tmp_path / "d/unlabeled/masks/a.png").unlink()
    prepare(open_dataset(tmp_path / "d"), prep, out)
    assert load_arrays(out, "unlabeled").labels is None


def test_memory_counts_every_split_and_every_core(tmp_path, monkeypatch):
    images = {f"{split}/{n}": _grey(32, 32) for split in ("labeled", "unlabeled") for n in "ab"}
    data = _dataset(tmp_path / "d", images | {"val/v": _grey(32, 32)})
    out = tmp_path / "out"
    prepare(data, plan_preparation(data), out)
    size = sum(path.stat().st_size for path in out.glob("*.npy"))
    monkeypatch.setattr(resources, "cores", lambda: 10)
    for fits, there in ((True, 4 * 10 * size + 4), (False, 4 * 10 * size)):
        monkeypatch.setattr(resources, "memory", lambda there=there: there)
        assert isinstance(load_arrays(out, "val").images, np.memmap) != fits


def test_memory_is_what_the_group_may_use(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "_LIMITS", ())
    physical = resources.memory()
    assert physical > 2**28
    limit, none = tmp_path / "limit", tmp_path / "none"
    limit.write_text("1048576\n")
    none.write_text("max\n")
    monkeypatch.setattr(resources, "_LIMITS", (tmp_path / "absent", none))
    assert resources.memory() == physical
    monkeypatch.setattr(resources, "_LIMITS", (none, limit))
    assert resources.memory() == 2**20


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("200000 100000\n",), 2),  # version 2
        (("max 100000\n",), 8),
        (("20000 100000\n",), 1),
        (("1600000 100000\n",), 8),
        (("150000\n", "50000\n"), 3),  # version 1
        (("-1\n", "100000\n"), 8),
        (("nonsense",), 8),
    ],
)
def test_cores_are_what_the_group_may_use(tmp_path, monkeypatch, texts, expected):
    monkeypatch.setattr(resources.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(resources.os, "cpu_count", lambda: 8)
    files = tuple(tmp_path / str(number) for number in range(len(texts)))
    for path, text in zip(files, texts, strict=True):
        path.write_text(text)
    monkeypatch.setattr(resources, "_QUOTAS", ((tmp_path / "absent",), files))
    assert resources.cores() == expected


@pytest.mark.parametrize("fit", ["resize", "tile"])
def test_a_bad_mask_of_an_unlabeled_image_stops_nothing(tmp_path, fit):
    images = {f"{split}/{n}": _grey(40, 40) for split in ("labeled", "unlabeled") for n in "abc"}
    _dataset(tmp_path / "d", images, fit=fit)
    masks, out = tmp_path / "d/unlabeled/masks", tmp_path / "out"
    for name in "abc":
        _save(masks / f"{name}.png", np.ones((40, 40), np.uint8))
    data = open_dataset(tmp_path / "d")
    prep = plan_preparation(data, size=(32, 32))
    prepare(data, prep, out)
    assert load_arrays(out, "unlabeled").labels is not None
    write_png(masks / "b.png", np.ones((40, 41), np.uint8))
    (masks / "c.png").write_bytes(b"broken")
    result = prepare(data, prep, out)
    (note,) = result["skipped"]
    assert re.search(r"all masks in unlabeled/masks.*2 cannot.*b\.png differs in size", note)
    arrays = load_arrays(out, "unlabeled")
    assert arrays.names == ("a", "b", "c")
    assert arrays.labels is None
    assert check_folder(tmp_path / "d").ok

    write_png(tmp_path / "d/labeled/masks/a.png", np.ones((40, 41), np.uint8))
    with pytest.raises(UnreadableFile, match=r"labeled/masks/a\.png"):
        prepare(data, prep, out)


def test_unreadable_images_are_skipped_only_where_unlabeled(tmp_path):
    images = {f"{split}/{n}": _grey(32, 32) for split in ("labeled", "unlabeled") for n in "abc"}
    data = _dataset(tmp_path / "d", images)
    prep, out = plan_preparation(data), tmp_path / "out"
    (tmp_path / "d/unlabeled/images/b.png").write_bytes(b"broken")
    result = prepare(data, prep, out)
    assert len(result["skipped"]) == 1
    assert "b.png is not an image" in result["skipped"][0]
    assert result["counts"]["unlabeled"] == 2
    arrays = load_arrays(out, "unlabeled")
    assert arrays.names == ("a", "c")
    np.testing.assert_array_equal(arrays.images[1, ..., 0], images["unlabeled/c"])

    before = {path.name: path.read_bytes() for path in out.iterdir()}
    path = data.splits["labeled"][1].image
    path.write_bytes(b"broken")
    with pytest.raises(UnreadableFile, match=path.name):
        prepare(data, prep, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_multilabel_planes_and_their_ignored_pixels(tmp_path):
    data = _dataset(tmp_path, {"labeled/a": _grey(32, 32), "labeled/b": _grey(32, 32)})
    card = Card(name="d", task="multilabel", classes=("p", "q"), ignore=9)
    write_card(card, tmp_path / "dataset.toml")
    plane = np.zeros((32, 32), np.uint8)
    plane[0], plane[1] = 9, 200
    for index, name in enumerate(card.classes):
        for stem in "ab":
            _save(tmp_path / f"labeled/masks/{name}/{stem}.png", np.roll(plane, index, 0))
    data = open_dataset(tmp_path)
    prepare(data, plan_preparation(data), tmp_path / "out")
    labels = load_arrays(tmp_path / "out", "labeled").labels
    assert labels.shape == (1, 2, 32, 32)
    assert labels[0, 0, :3, 0].tolist() == [255, 1, 0]
    assert labels[0, 1, :3, 0].tolist() == [0, 255, 1]


@pytest.mark.parametrize("name", ["wbc", "dsb2018"])
def test_real_data(real_data, tmp_path, name):
    data = open_dataset(real_data(name))
    prep = plan_preparation(data, longer_side=64)
    only = {split: samples[:8] for split, samples in data.splits.items()}
    short = type(data)(folder=data.folder, card=data.card, splits=only, val_cut=(), skipped=())
    assert prepare(short, prep, tmp_path)["counts"] == dict.fromkeys(only, 8)
    for split in only:
        arrays = load_arrays(tmp_path, split)
        assert arrays.images.std() > 10
        assert set(np.unique(arrays.labels)) == {0, 1}
        assert 0.02 < arrays.labels.mean() < 0.6
