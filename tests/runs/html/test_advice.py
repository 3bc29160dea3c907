from dataclasses import replace

from imasks.runs.html.advice import Known, advice_of


def said(run, **changes):
    found = [
        replace(one, steps=tuple(replace(step, **changes) for step in one.steps))
        for one in run.outcomes()
        if one.approach == "IM"
    ]
    known = Known(run=run, found=found, rows=run.rows(), chosen=None, counts=None)
    return [one.text for one in advice_of(known) if "second copy" in one.text]


def test_evalnets_that_tell_nothing_apart_are_told(study):
    (text,) = said(study, copies=1.0)
    assert text.startswith("No image got a second copy in IM (seed 0")
    assert not said(study, copies=1.2)
    assert not said(study)  # nothing grades them
