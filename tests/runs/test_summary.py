import math
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imasks.runs.summary import Spread, paired

SCORES = st.dictionaries(st.integers(0, 9), st.floats(0, 1), max_size=6)


def test_the_standard_error_is_that_of_the_mean():
    spread = Spread.of([0.1, 0.2, 0.3, 0.4])
    assert spread.error == pytest.approx(math.sqrt(0.05 / 3) / 2)
    assert spread.as_difference() == "+0.250±0.065"
    assert Spread.of([0.5]).error is None
    assert Spread.of([-0.5]).as_difference() == "-0.500"


def test_differences_are_taken_within_seeds():
    hard_and_easy = {0: 0.2, 1: 0.8}
    spread = paired({seed: score + 0.01 for seed, score in hard_and_easy.items()}, hard_and_easy)
    assert spread.mean == pytest.approx(0.01)
    assert spread.deviation == pytest.approx(0, abs=1e-12)


@given(SCORES, SCORES)
def test_only_shared_seeds_are_compared(values, reference):
    spread, shared = paired(values, reference), values.keys() & reference.keys()
    if not shared:
        assert spread is None
        return
    assert spread.count == len(shared)
    expected = fmean(values[seed] for seed in shared) - fmean(reference[seed] for seed in shared)
    assert spread.mean == pytest.approx(expected, abs=1e-12)
