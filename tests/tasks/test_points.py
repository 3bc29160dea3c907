"""Places of classes that are points, against recorded outputs of the published implementation."""

import sys
import tracemalloc

import numpy as np
import pytest

from imasks.errors import UserError
from imasks.tasks.points import UNCLEAR, draw_places, find_places, kinds_of

pytest.importorskip("cv2", reason="the extra `points` is not installed")


@pytest.fixture(scope="module")
def positions(golden):
    return golden("positions")


def test_places_are_found_as_published(positions):
    for number in range(20):
        wanted = positions[f"contours_{number:02d}_e3"]
        assert find_places(positions["pos_images_128"][number]).tolist() == wanted.tolist()
    assert find_places(positions["pos_images_128"][0]).dtype == np.int64
    assert find_places(np.zeros((64, 64), np.uint8)).shape == (0, 2)


def test_true_masks_are_redrawn_as_published(positions, golden):
    for number in range(20):
        mask = positions["pos_images_128"][number]
        drawn = draw_places(find_places(mask), mask.shape, lone=3, soften=True)
        np.testing.assert_array_equal(drawn * 255, positions[f"modpos_{number:02d}"])
    single = positions["single"]
    assert find_places(single).tolist() == positions["single_contour"].tolist()
    drawn = draw_places(find_places(single), single.shape, lone=3, soften=True)
    np.testing.assert_array_equal(drawn * 255, positions["single_modpos"])
    crops = golden("hela_crops")
    for mask, wanted in zip(crops["modpos_in"], crops["modpos_out"], strict=True):
        drawn = draw_places(find_places(mask), mask.shape, lone=3, soften=True)
        np.testing.assert_array_equal(drawn * 255, wanted[..., 0])


def test_kinds_are_counted_as_published(positions):
    for number in range(20):
        places = positions[f"contours_{number:02d}_e3"]
        planes = positions["gt"][number % 10][..., :2]
        if number >= 10:
            planes = positions["pred_alive_dead"][number - 10]
        kinds = kinds_of(places, planes.transpose(2, 0, 1))
        counted = [int((kinds == kind).sum()) for kind in (0, 1, UNCLEAR)]
        assert counted == positions[f"count_{number:02d}"].tolist()


def test_windows_at_the_border_are_those_published(positions):
    planes = np.stack([positions["edge_alive"], positions["edge_dead"]])
    kinds = kinds_of(positions["edge_pos"], planes)
    assert np.eye(3, dtype=int)[kinds].tolist() == positions["edge_counts_each"].tolist()


def test_what_is_drawn_is_found_again_one_pixel_further():
    places = np.array([[20, 30], [60, 30], [60, 90]])
    again = find_places(draw_places(places, (120, 100)))
    assert sorted(again.tolist()) == sorted((places + 1).tolist())


def test_discs_get_smaller_where_places_are_near():
    near, far = ([[30, 30], [46, 30]], [[30, 30], [90, 30]])
    areas = [int(draw_places(np.array(places), (64, 128)).sum()) for places in (near, far)]
    assert areas[0] < areas[1]
    assert draw_places(np.empty((0, 2), np.int64), (8, 9)).tolist() == np.zeros((8, 9)).tolist()


def test_a_place_between_two_kinds_or_none_is_unclear():
    planes = np.zeros((2, 20, 20), np.uint8)
    planes[0, :, :10] = planes[1, :, 10:] = 1
    assert kinds_of(np.array([[5, 10], [10, 10], [15, 10]]), planes).tolist() == [0, UNCLEAR, 1]
    assert kinds_of(np.array([[5, 5]]), planes[:0]).tolist() == [UNCLEAR]


def test_without_opencv_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"imasks\[points\]"):
        find_places(np.zeros((8, 8), np.uint8))


def test_thousands_of_places_take_little_memory():
    side = 60
    places = np.stack(np.mgrid[:side, :side], -1).reshape(-1, 2) * 16
    tracemalloc.start()
    drawn = draw_places(places, (side * 16, side * 16))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert drawn[0, 4] == 1  # a quarter of the way to the next
    assert drawn[0, 5] == 0
    assert peak < len(places) ** 2  # bytes; all pairs at once would take more than eight each
