from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from imasks.data.prepare import Preparation, resize_image
from imasks.data.source import in_memory
from imasks.runs import bands
from imasks.runs.bands import rescaled, resized, tiled

PREP = Preparation(
    size=(32, 32), channels=3, fit="resize", levels=None, native=(64, 64), largest=(64, 64)
)
SIDES = st.integers(1, 120)


@settings(max_examples=40, deadline=None)
@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), st.integers(1, 4), st.integers(1, 50))
def test_rows_of_a_resized_image_are_those_of_the_whole(shape, size, channels, step):
    image = np.random.default_rng(0).integers(0, 256, (*shape, channels), np.uint8)
    rows = resized(in_memory(image), size, replace(PREP, channels=channels))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands, "SOURCE_ROWS", 8)
        parts = [rows(at, min(at + step, size[0])) for at in range(0, size[0], step)]
    expected = resize_image(image, size).astype(int)
    # Pillow places boxes in single precision: a level may be rounded the other way
    assert np.abs(np.concatenate(parts) - expected).max() <= 1


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(SIDES, SIDES),
    st.tuples(st.integers(0, 200), st.integers(0, 90)),
    st.integers(1, 60),
    st.integers(1, 5000),
)
def test_probabilities_enlarged_in_bands_are_those_enlarged_as_a_whole(size, more, step, at_once):
    wanted = size[0] + more[0], size[1] + more[1]
    whole = np.random.default_rng(0).random((2, 3, *size), np.float32)
    cut = [whole[:, :, at : at + step] for at in range(0, size[0], step)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands, "VALUES_AT_ONCE", at_once)
        found = list(rescaled(cut, size, wanted))
    assert all(one.size <= max(at_once, 6 * wanted[1]) for one in found)
    # enlarging needs no antialias, and PyTorch's is wrong for images that are one pixel wide
    expected = F.interpolate(torch.from_numpy(whole), wanted, mode="bilinear")
    together = np.concatenate(found, axis=2)
    np.testing.assert_allclose(together, expected.numpy(), rtol=0, atol=2e-5)


@settings(max_examples=40, deadline=None)
@given(st.tuples(SIDES, SIDES), st.tuples(st.integers(2, 40), st.integers(2, 40)))
def test_tiles_of_any_size_say_what_the_whole_says(size, tile):
    image = np.random.default_rng(0).integers(0, 256, (*size, 1), np.uint8)

    def show(tiles):  # every pixel by itself, two networks
        assert tiles.shape[1:3] == tile
        return np.stack([tiles, 255 - tiles]).transpose(0, 1, 4, 2, 3).astype(np.float32) / 255

    found = list(tiled(lambda start, stop: image[start:stop], size, tile, show))
    assert len(found) >= size[0] / tile[0]
    together = np.concatenate(found, axis=2)
    expected = np.stack([image[..., 0], 255 - image[..., 0]])[:, None] / 255
    np.testing.assert_allclose(together, expected, rtol=0, atol=1e-5)
