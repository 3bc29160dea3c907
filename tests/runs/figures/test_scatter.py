import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imasks.runs.figures.scatter import agreement, scatter_figure

SCORES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20)


def test_agreement_of_known_numbers():
    true = np.array([0.1, 0.2, 0.3, 0.6])
    found = agreement(true / 2 + 0.3, true)
    assert found.correlation == pytest.approx(1)
    assert found.error == pytest.approx((0.25 + 0.2 + 0.15 + 0.0) / 4)
    assert agreement(1 - true, true).correlation == pytest.approx(-1)


@given(SCORES)
def test_any_scores_can_be_drawn(pairs):
    predicted, true = np.array(pairs).T
    found = agreement(predicted, true)
    assert math.isnan(found.correlation) or -1 <= round(found.correlation, 9) <= 1
    assert 0 <= found.error <= 1


def test_the_title_has_both_numbers():
    true = np.array([0.2, 0.4])
    (axes,) = scatter_figure(true + 0.1, true, title="AIM++").axes
    assert axes.get_title() == ("AIM++\ncorrelation 1.00, mean absolute error 0.100\n2 predictions")
    assert axes.collections[0].get_offsets().tolist() == [[0.2, 0.2 + 0.1], [0.4, 0.5]]


def test_a_constant_prediction_has_no_correlation():
    assert math.isnan(agreement(np.full(3, 0.5), np.array([0.1, 0.2, 0.3])).correlation)
