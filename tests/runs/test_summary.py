import math
from statistics import fmean
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imasks.runs.summary import Spread, paired, stages

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


def outcome(approach, seed, *scores, start=None):
    """An outcome of (validation, test) scores, one a generation; the start may be shared."""
    steps = tuple(
        SimpleNamespace(
            generation=number,
            network=f"{start if start and not number else approach} {seed} {number}",
            val=val,
            test=test,
            ensemble_test=None,
            pseudo_label_score=float("nan"),
            im_share=None,
            kept=None,
            seconds=60.0 * (number + 1),
        )
        for number, (val, test) in enumerate(scores)
    )
    chosen = max(steps, key=lambda step: step.val, default=None)
    return SimpleNamespace(
        approach=approach,
        seed=seed,
        steps=steps,
        chosen=chosen,
        waits=len(steps) <= 1 and bool(start),
    )


STUDY = [
    outcome("IM", 0, (0.5, 0.4), (0.4, 0.6), (0.3, 0.7), start="LDT"),
    outcome("IM", 1, (0.5, 0.5), (0.6, 0.6), start="LDT"),
    outcome("IM", 2, start="LDT"),
    outcome("AIM+", 0, (0.5, 0.4), (0.4, 0.6), start="ALDT"),
    outcome("AIM++", 0, (0.5, 0.4), (0.4, 0.6), start="ALDT"),
    outcome("IM+", 0, (0.5, 0.4), start="LDT"),
    outcome("LDT", 0, (0.5, 0.4)),
    outcome("LDT", 1, (0.5, 0.5)),
    outcome("FDT", 0, (0.5, 0.8)),
]


def test_generations_are_summarised_whether_or_not_validation_chose_them():
    by = {(one.approach, one.generation): one for one in stages(STUDY)}
    assert by["IM", 1].test.mean == pytest.approx(0.6)
    assert by["IM", 1].to_lower.mean == pytest.approx(0.15)
    assert by["IM", 1].gap == pytest.approx(0.5)  # of seed 0 alone, which has all three
    assert (by["IM", 2].test.count, by["IM", 2].gap) == (1, pytest.approx(0.75))
    assert by["LDT", 0].to_lower is None
    assert [by["IM", number].seconds for number in (1, 2)] == [120, 180]


def test_a_start_that_two_approaches_wait_behind_is_listed_once():
    waiting = [outcome(name, 0, (0.5, 0.4), start="ALDT") for name in ("AIM+", "AIM++")]
    assert [(one.approach, one.generation) for one in stages(waiting)] == [("AIM+", 0)]


def test_a_start_is_listed_once_whatever_others_score():
    assert [(one.approach, one.generation) for one in stages(STUDY)] == [
        ("IM", 1),
        ("IM", 2),
        ("AIM+", 0),  # its start is not an approach of the study
        ("AIM+", 1),
        ("AIM++", 1),
        ("LDT", 0),
        ("FDT", 0),  # equal scores are no shared start
    ]


def test_what_is_not_a_number_is_left_out():
    nan = float("nan")
    assert Spread.of([nan, 0.5]) == Spread.of([0.5])
    assert Spread.of([nan]) is None
    two = [outcome("LDT", 0, (0.5, nan)), outcome("LDT", 1, (0.5, 0.5))]
    assert stages(two)[0].test == Spread.of([0.5])
    assert stages(STUDY)[0].pseudo_label_score is None
    assert stages([*two, outcome("FDT", 0, (0.5, 0.5))])[1].to_lower is None
