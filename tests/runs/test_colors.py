import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imasks.runs.colors import class_colors, default_colors, overlay
from imasks.tasks import Binary, Multiclass, Multilabel

GREY = np.full((40, 60, 1), 100, np.uint8)
NOWHERE = np.zeros((40, 60), np.bool_)


def disc(y, x, radius=10):
    rows, columns = np.ogrid[:40, :60]
    return ((rows - y) ** 2 + (columns - x) ** 2 < radius**2).astype(np.uint8)


def test_colours_of_the_card_are_honoured():
    task = Multiclass(["sea", "land"])
    colors = class_colors(task, ("#0a0B0c", "#ff8000"))
    assert colors.dtype == np.uint8
    assert colors.tolist() == [[10, 11, 12], [255, 128, 0]]


def test_default_colours_are_distinct_and_never_grey():
    colors = default_colors(250).astype(int)
    assert len(np.unique(colors, axis=0)) == 250
    assert np.ptp(colors, axis=1).min() >= 60
    near = ((colors[:20, None] - colors[None, :20]) ** 2).sum(-1) + 10**6 * np.eye(20)
    assert near.min() > 60**2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_fewer_colours_are_the_first_of_more(few, more):
    few, more = sorted((few, more))
    assert (default_colors(more)[:few] == default_colors(few)).all()


def test_binary_tints_the_foreground_alone():
    task, mask = Binary(["cell"]), disc(20, 20)
    colors = class_colors(task)
    drawn = overlay(GREY, mask, NOWHERE, task, colors)
    assert drawn.shape == (40, 60, 3)
    assert drawn.dtype == np.uint8
    assert (drawn[mask == 0] == 100).all()
    inside = np.rint(100 + 0.45 * (colors[0].astype(float) - 100))
    assert (drawn[20, 20] == inside).all()
    assert (drawn[20, 11] == colors[0]).all()  # the outline, in full colour


def test_multiclass_tints_every_class():
    task, mask = Multiclass(["sea", "land"]), disc(20, 30)
    drawn = overlay(GREY, mask, NOWHERE, task, class_colors(task))
    assert (drawn != 100).any(-1).all()
    assert (drawn[0, 0] != drawn[20, 30]).any()


def test_overlapping_classes_mix():
    task = Multilabel(["a", "b"])
    mask = np.stack([disc(20, 20, 14), disc(20, 34, 14)])
    colors = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
    drawn = overlay(GREY, mask, NOWHERE, task, colors).astype(int)
    left, both, right = drawn[20, 12], drawn[20, 27], drawn[20, 42]
    assert left[0] > both[0] > right[0]
    assert left[2] < both[2] < right[2]
    assert (drawn[0, 0] == 100).all()


@pytest.mark.parametrize("level", [0, 255])
def test_disagreement_shows_as_two_greys_under_the_tint_and_beside_it(level):
    task, mask = Binary(["cell"]), disc(20, 20)
    im = np.zeros((40, 60), np.bool_)
    im[:, 20:50] = True
    image = np.full((40, 60), level, np.uint8)
    drawn = overlay(image, mask, im, task, class_colors(task)).astype(int)
    beside = drawn[:, 40:50].reshape(-1, 3)
    assert (np.ptp(beside, axis=1) == 0).all()
    assert len(np.unique(beside[:, 0])) == 2
    assert np.abs(beside[:, 0] - level).max() > 90
    without = overlay(image, mask, NOWHERE, task, class_colors(task))
    assert (drawn[20, 25] != without[20, 25]).any()
    assert (drawn[20, 29] == without[20, 29]).all()  # the outline lies on top


def test_colour_images_keep_their_colours_where_nothing_is_found():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    task = Binary(["cell"])
    nothing = np.zeros((40, 60), np.uint8)
    assert (overlay(image, nothing, NOWHERE, task, class_colors(task)) == image).all()
    assert image.flags.writeable  # and is not drawn upon


def test_outlines_of_large_images_are_thicker_and_one_pixel_is_enough():
    task = Binary(["cell"])
    colors = class_colors(task)
    mask = np.zeros((8, 1200), np.uint8)
    mask[:, 600:] = 1
    row = overlay(np.zeros((8, 1200), np.uint8), mask, mask < 0, task, colors)[4]
    assert (row == colors[0]).all(-1).sum() == 3
    one = np.ones((1, 1), np.uint8)
    assert overlay(one, one, one < 0, task, colors).shape == (1, 1, 3)
