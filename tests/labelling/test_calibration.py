import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imasks.errors import UserError
from imasks.labelling.calibration import ENOUGH, Calibration, calibrate, prediction_quality

unit = st.floats(0, 1, width=32)
pairs = st.integers(1, 80).flatmap(
    lambda n: st.tuples(*[hnp.arrays(np.float32, n, elements=unit) for _ in range(2)])
)


@given(pairs)
def test_expected_quality_never_falls_and_is_a_quality(both):
    fitted = calibrate(*both)
    assert (np.diff(fitted.scores) > 0).all()
    expected = fitted(np.linspace(-0.5, 1.5, 50))
    assert (np.diff(expected) >= 0).all()
    assert ((expected >= 0) & (expected <= 1)).all()


@pytest.mark.parametrize("count", [10, 2000])
def test_a_grader_that_is_too_friendly_is_corrected(count):
    rng = np.random.default_rng(0)
    quality = rng.uniform(0.2, 0.9, count)
    scores = 0.5 * quality + 0.5 + rng.normal(0, 0.005, count)
    expected = calibrate(scores, quality)(scores)
    assert expected.mean() == pytest.approx(quality.mean(), abs=0.01)
    assert np.abs(expected - quality).mean() < 0.5 * np.abs(scores - quality).mean()


def test_pools_are_those_of_isotonic_regression():
    quality = np.repeat([0.1, 0.5, 0.3, 0.4, 0.9], 10)
    fitted = calibrate(np.repeat([0.1, 0.2, 0.3, 0.4, 0.5], 10), quality)
    np.testing.assert_allclose(fitted.scores, [0.1, 0.3, 0.5])
    np.testing.assert_allclose(fitted.quality, [0.1, 0.4, 0.9])


def test_few_pairs_give_a_line_no_steeper_than_one():
    scores = np.linspace(0.4, 0.5, ENOUGH - 1)
    fitted = calibrate(scores, np.where(scores > 0.45, 0.9, 0.1))
    assert np.ptp(fitted.quality) == pytest.approx(0.1)


def test_scores_that_mislead_say_nothing():
    scores = np.linspace(0, 1, 100)
    for count in (5, 100):
        expected = calibrate(scores[:count], 1 - scores[:count])(scores)
        np.testing.assert_allclose(expected, (1 - scores[:count]).mean())


def test_pairs_without_a_true_score_do_not_count():
    scores, quality = np.array([0.1, 0.5, 0.9]), np.array([0.2, np.nan, 0.8])
    assert calibrate(scores, quality).scores.tolist() == [0.1, 0.9]
    assert prediction_quality(scores, quality)["mae"] == pytest.approx(0.1)
    with pytest.raises(UserError, match="validation"):
        calibrate(scores[:1], quality[1:2])


# --- how good predictions are --------------------------------------------------------------------


def test_numbers_of_a_small_example():
    scores = np.array([0.1, 0.2, 0.4, 0.8])
    found = prediction_quality(scores, scores**3)
    assert found["spearman"] == pytest.approx(1)
    assert found["pearson"] == pytest.approx(np.corrcoef(scores, scores**3)[0, 1])
    assert found["mae"] == pytest.approx((scores - scores**3).mean())
    assert found["bad"] == 0.75
    assert found["bad_in_lowest_tenth"] == pytest.approx(1 / 3)


def test_equal_values_share_their_rank():
    # by hand: ranks 1.5, 1.5, 3 and 1, 2, 3
    found = prediction_quality(np.array([0.2, 0.2, 0.9]), np.array([0.1, 0.3, 0.5]))
    assert found["spearman"] == pytest.approx(np.sqrt(3) / 2)


def test_the_lowest_tenth_may_hold_all_bad_predictions_or_none():
    quality = np.array([0.2] * 10 + [0.8] * 90)
    order = np.linspace(0, 1, 100)
    assert prediction_quality(order, quality)["bad_in_lowest_tenth"] == 1
    assert prediction_quality(order[::-1], quality)["bad_in_lowest_tenth"] == 0
    # scores that are all equal know as much as a draw
    assert prediction_quality(0 * order, quality)["bad_in_lowest_tenth"] == pytest.approx(0.1)


def test_what_cannot_be_said_is_not_a_number():
    found = prediction_quality(np.array([0.7, 0.7]), np.array([0.6, 0.9]))
    assert np.isnan([found["pearson"], found["spearman"], found["bad_in_lowest_tenth"]]).all()
    assert np.isnan(list(prediction_quality(np.empty(0), np.empty(0)).values())).all()


def test_a_calibration_survives_json():
    one = calibrate(np.linspace(0, 1, 40), np.linspace(0.2, 0.9, 40))
    again = Calibration.from_json(json.loads(json.dumps(one.to_json())))
    x = np.linspace(-0.5, 1.5, 50)
    np.testing.assert_array_equal(again(x), one(x))
