import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imasks.data import _micrographs, synthetic
from imasks.data.synthetic import draw_cells, write_demo_dataset
from imasks.errors import UserError

SMALL = {"labeled": 2, "unlabeled": 3, "val": 1, "test": 1, "size": (32, 40)}
SPLITS = ("labeled", "unlabeled", "val", "test")


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    return draw_cells(30, seed=7)


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


class TestDrawCells:
    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 2**64), height=st.integers(32, 80), width=st.integers(32, 80))
    def test_every_image_has_cells_and_background(self, seed, height, width):
        images, masks = draw_cells(2, size=(height, width), seed=seed)
        assert images.shape == (2, height, width, 3)
        assert masks.shape == (2, height, width)
        assert images.dtype == masks.dtype == np.uint8
        assert masks.max() == 1
        assert masks.any((1, 2)).all()
        assert (images.std((1, 2, 3)) > 2).all()

    def test_seed_decides_the_bytes(self):
        first, again, other = (draw_cells(3, size=(48, 48), seed=seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first[0], again[0])
        np.testing.assert_array_equal(first[1], again[1])
        assert (first[0] != other[0]).any()
        assert (first[1] != other[1]).any()

    def test_image_does_not_depend_on_count(self):
        few, many = draw_cells(3, size=(40, 40), seed=5), draw_cells(11, size=(40, 40), seed=5)
        np.testing.assert_array_equal(few[0], many[0][:3])
        np.testing.assert_array_equal(few[1], many[1][:3])

    def test_none(self):
        images, masks = draw_cells(0, seed=0)
        assert images.shape == (0, 96, 96, 3)
        assert masks.shape == (0, 96, 96)

    def test_mask_lies_on_the_drawn_outlines(self, drawn):
        """Neither a shift, nor growing or shrinking by two pixels may fit the edges better."""
        images, masks = drawn
        grey = images.astype(np.float32).mean(3)
        rise, slope = np.gradient(grey, axis=(1, 2))
        edges = np.hypot(rise, slope)
        edges /= edges.mean((1, 2), keepdims=True)

        def fit(masks: np.ndarray) -> float:
            return float(np.mean(edges[boundary(masks)]))

        true = fit(masks)
        for shift in [(2, 0), (-2, 0), (0, 2), (0, -2)]:
            assert fit(np.roll(masks, shift, axis=(1, 2))) < 0.9 * true
        assert fit(grown(masks, 2)) < 0.9 * true
        assert fit(1 - grown(1 - masks, 2)) < 0.9 * true

    def test_laboratories_differ(self, drawn):
        brightness = drawn[0].mean((1, 2, 3))
        colour = drawn[0].mean((1, 2))
        assert brightness.min() < 60
        assert brightness.max() > 190
        assert (np.ptp(colour, axis=1) < 12).any()  # grey
        assert (np.ptp(colour, axis=1) > 40).any()
        cells_are_brighter = [
            image[mask > 0].mean() > image[mask == 0].mean()
            for image, mask in zip(*drawn, strict=True)
        ]
        assert 5 < sum(cells_are_brighter) < 25

    def test_brightness_alone_does_not_find_the_cells(self, drawn):
        """Even the best threshold of each image takes discs and ghosts for cells."""
        best = []
        for image, mask in zip(*drawn, strict=True):
            grey = image.astype(np.float32).mean(2)
            cuts = np.percentile(grey, range(5, 100, 5))
            guesses = [side for cut in cuts for side in (grey > cut, grey <= cut)]
            best.append(max(iou(guess, mask > 0) for guess in guesses))
        assert np.mean(best) < 0.75

    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"count": -1, "seed": 0}, "count"),
            ({"count": 1, "seed": -3}, "seed"),
            ({"count": 1, "seed": 0, "size": (31, 96)}, "size"),
        ],
    )
    def test_refuses(self, options, named):
        with pytest.raises(UserError, match=named):
            draw_cells(**options)


def boundary(masks: np.ndarray) -> np.ndarray:
    """Pixels of either side of the outline."""
    return (grown(masks, 1) == 1) & (grown(1 - masks, 1) == 1)


def grown(masks: np.ndarray, pixels: int) -> np.ndarray:
    for _ in range(pixels):
        padded = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
        masks = np.maximum.reduce(
            [
                masks,
                padded[:, 2:, 1:-1],
                padded[:, :-2, 1:-1],
                padded[:, 1:-1, 2:],
                padded[:, 1:-1, :-2],
            ]
        )
    return masks


class TestWriteDemoDataset:
    def test_layout(self, tmp_path):
        folder = tmp_path / "new" / "demo"
        write_demo_dataset(folder, **SMALL)
        card = tomllib.loads((folder / "dataset.toml").read_text(encoding="utf-8"))
        assert card == {"task": "binary", "classes": ["cell"]}
        assert {path.name for path in folder.iterdir()} == {*SPLITS, "dataset.toml"}
        first = 0
        for split in SPLITS:
            names = [f"cell_{first + number:04d}.png" for number in range(SMALL[split])]
            first += SMALL[split]
            for kind in ("images", "masks"):
                assert sorted(p.name for p in (folder / split / kind).iterdir()) == names
            with Image.open(folder / split / "images" / names[0]) as image:
                assert (image.mode, image.size) == ("RGB", (40, 32))
            with Image.open(folder / split / "masks" / names[0]) as mask:
                assert mask.mode == "L"
                assert np.unique(np.asarray(mask)).tolist() == [0, 255]

    def test_splits_share_no_image(self, tmp_path):
        write_demo_dataset(tmp_path, **SMALL)
        images = [data for name, data in content(tmp_path).items() if "images" in name]
        assert len(set(images)) == len(images) == 7

    def test_seed_decides_the_bytes(self, tmp_path):
        for name, seed in (("a", 4), ("b", 4), ("c", 5)):
            write_demo_dataset(tmp_path / name, seed=seed, **SMALL)
        assert content(tmp_path / "a") == content(tmp_path / "b")
        assert content(tmp_path / "a") != content(tmp_path / "c")

    def test_finished_one_is_left_alone(self, tmp_path, monkeypatch):
        write_demo_dataset(tmp_path, **SMALL)
        before = content(tmp_path)
        monkeypatch.setattr(synthetic, "draw", None)  # drawing again would fail
        write_demo_dataset(tmp_path, **SMALL)
        assert content(tmp_path) == before

    def test_killed_one_has_no_card_and_is_drawn_anew(self, tmp_path, monkeypatch):
        whole, killed = tmp_path / "whole", tmp_path / "killed"
        write_demo_dataset(whole, **SMALL)
        photograph, calls = _micrographs._photograph, []

        def dies(*args):
            calls.append(None)
            if len(calls) > 4:
                raise KeyboardInterrupt
            return photograph(*args)

        monkeypatch.setattr(_micrographs, "_photograph", dies)
        with pytest.raises(KeyboardInterrupt):
            write_demo_dataset(killed, **SMALL)
        monkeypatch.undo()
        assert (killed / "labeled").exists()
        assert not (killed / "dataset.toml").exists()
        write_demo_dataset(killed, **SMALL)
        assert content(killed) == content(whole)

    def test_lost_file_is_drawn_anew(self, tmp_path):
        write_demo_dataset(tmp_path, **SMALL)
        before = content(tmp_path)
        next((tmp_path / "test" / "masks").iterdir()).unlink()
        write_demo_dataset(tmp_path, **SMALL)
        assert content(tmp_path) == before

    def test_other_parameters_replace_it(self, tmp_path):
        write_demo_dataset(tmp_path / "a", **SMALL)
        fewer = {**SMALL, "unlabeled": 1, "seed": 9}
        write_demo_dataset(tmp_path / "a", **fewer)
        write_demo_dataset(tmp_path / "b", **fewer)
        assert content(tmp_path / "a") == content(tmp_path / "b")

    @pytest.mark.parametrize("name", ["dataset.toml", "notes.txt"])
    def test_someone_elses_folder_is_refused(self, tmp_path, name):
        (tmp_path / name).write_text('task = "binary"\n', encoding="utf-8")
        before = content(tmp_path)
        with pytest.raises(UserError, match="something else"):
            write_demo_dataset(tmp_path, **SMALL)
        assert content(tmp_path) == before

    def test_a_file_in_its_place_is_refused(self, tmp_path):
        (tmp_path / "demo").touch()
        with pytest.raises(UserError, match="something else"):
            write_demo_dataset(tmp_path / "demo", **SMALL)

    def test_refuses_negative_numbers(self, tmp_path):
        with pytest.raises(UserError, match="val"):
            write_demo_dataset(tmp_path / "demo", val=-1)
        assert not (tmp_path / "demo").exists()
