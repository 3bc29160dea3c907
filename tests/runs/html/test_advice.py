from dataclasses import replace
from types import SimpleNamespace

import pytest

from imasks.runs.html.advice import Known, advice_of


@pytest.fixture
def said(study):
    """Tell what is said of copies, if the run's IM were an approach that grades so."""

    def say(*copies, by="evalnet", thresholds="auto"):
        one = next(one for one in study.outcomes() if one.approach == "IM")
        steps = tuple(replace(one.steps[-1], copies=each) for each in copies)
        line = next(line for line in study.plan.lines if line.approach.name == "IM")
        line = replace(
            line,
            approach=SimpleNamespace(name="IM", copies=by),
            how=replace(line.how, thresholds=thresholds),
        )
        run = replace(study, plan=replace(study.plan, lines=(line,)))
        known = Known(
            run=run, found=[replace(one, steps=steps)], rows=study.rows(), chosen=None, counts=None
        )
        return [f"{one.text} {one.remedy}" for one in advice_of(known) if "second copy" in one.text]

    return say


def test_evalnets_that_tell_nothing_apart_are_told(said):
    (text,) = said(None, 1.0, 1.0)
    assert text.startswith("No image got a second copy in IM (seed 0): EvalNets cannot tell")
    assert not said(None, 1.0, 1.2)
    assert not said(None, None)  # nothing grades them


def test_true_masks_are_no_evalnets(said):
    assert not said(None, 1.0, by="truth")


def test_fixed_thresholds_may_be_too_high(said):
    (text,) = said(None, 1.0, thresholds="ladder")
    assert "EvalNets cannot tell" not in text
    assert "--thresholds auto" in text
