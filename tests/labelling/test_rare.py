import numpy as np

from imasks.labelling.labellers import PseudoLabels
from imasks.labelling.rare import starved


def strip(*counts):
    """Labels [1, 1, 1, W]: class k so often."""
    return np.repeat(np.arange(len(counts), dtype=np.uint8), counts)[None, None, None]


def agreed(labels, im=None):
    im = labels == 0 if im is None else im
    keep = np.ones(len(labels), np.bool_)
    return PseudoLabels(labels=labels, im=im, region=im[:, 0], keep=keep)


def test_what_loses_most_of_its_share_comes_first():
    order = starved(strip(0, 40, 20, 20, 20), agreed(strip(0, 70, 9, 2, 19)))
    assert order.nonzero()[0].tolist() == [2, 3]
    assert order[3] > order[2]  # a tenth of its share is left, of the other's not quite half


def test_a_half_is_not_below_half():
    assert not starved(strip(0, 80, 20), agreed(strip(0, 90, 10))).any()
    assert starved(strip(0, 80, 20), agreed(strip(0, 91, 9)))[2]


def test_masked_and_void_pixels_and_unknown_classes_do_not_count():
    true = strip(0, 50, 50)
    void = np.concatenate([true, np.full_like(true, 255)], -1)
    labels = strip(100, 50, 50)
    np.testing.assert_array_equal(starved(void, agreed(labels)), starved(true, agreed(labels)))
    assert not starved(true, agreed(labels)).any()
    assert starved(true, agreed(labels, im=labels == 2))[2]
    assert not starved(true, agreed(strip(0, 1, 1, 1)))[3]
