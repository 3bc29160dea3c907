import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from imasks.runs.figures.painting import paint, spread_of
from imasks.tasks import Multiclass, Multilabel


def test_painting_labels():
    colors = np.array([[255, 0, 0], [0, 0, 254]], np.uint8)
    region = np.array([[False, False], [False, True]])
    classes = np.array([[[1, 2], [255, 1]]], np.uint8)
    painted = paint(classes, region, Multiclass(["a", "b"]), colors)
    assert painted.tolist() == [[[255, 0, 0], [0, 0, 254]], [[128] * 3, [128] * 3]]
    planes = np.array([[[1, 0], [1, 0]], [[1, 0], [0, 1]]], np.uint8)
    painted = paint(planes, None, Multilabel(["a", "b"]), colors)
    assert painted.tolist() == [[[127, 0, 127], [0, 0, 0]], [[255, 0, 0], [0, 0, 254]]]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(1, 6))
def test_chosen_images_span_the_range(values, count):
    found = spread_of(np.array(values), count)
    assert len(set(found)) == len(found) == min(count, len(values))
    assert values[found[0]] == min(values)
    if len(found) > 1:
        assert values[found[-1]] == max(values)
