from dataclasses import replace

import pytest
from rich.console import Console

from imasks.runs.cost import times_seen
from imasks.runs.html.gather import page_of
from imasks.runs.tables import plan_table

NOTHING = {"computing": 0, "waiting": 0}


def with_steps(run, steps):
    how = run.config.how
    recipe = replace(how.recipe, steps=steps)
    return replace(run, config=replace(run.config, how=replace(how, recipe=recipe)))


def said(run):
    console = Console(width=200)
    with console.capture() as capture:
        console.print(plan_table(run, NOTHING, workers=1))
    return capture.get()


def test_how_often_an_image_is_seen(tiny_study):  # 6 labeled, 8 unlabeled, batches of 4
    assert times_seen(with_steps(tiny_study, 7).config) == pytest.approx(2)
    assert times_seen(with_steps(tiny_study, None).config) is None


def test_plan_and_report_warn_of_too_few_steps(tiny_study):
    few, enough = with_steps(tiny_study, 7), with_steps(tiny_study, 70)
    assert "seen       each image about 2.0 times where all are learned from (few" in said(few)
    assert "seen       each image about 20 times where all are learned from\n" in said(enough)
    assert "seen " not in said(with_steps(tiny_study, None))
    warned, silent = (
        [one.text for one in page_of([run], ["cells"]).runs[0].advice if "see each" in one.text]
        for run in (few, enough)
    )
    assert len(warned) == 1
    assert not silent
