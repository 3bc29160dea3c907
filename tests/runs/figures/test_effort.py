from dataclasses import replace

import pytest

from imasks.runs.figures import sources
from imasks.runs.figures.effort import Effort, Race, describe_effort, effort_figure
from imasks.runs.run import Run
from imasks.runs.summary import Spread

IM = Effort(
    name="IM",
    points=((60.0, Spread.of([0.5, 0.6])), (240.0, Spread.of([0.7, 0.8]))),
)
CELLS = Race(
    title="cells",
    ylabel="test IoU",
    efforts=(IM, Effort(name="LDT", points=((60.0, Spread.of([0.5, 0.6])),))),
)


def test_every_generation_stands_where_its_time_is():
    (axes,) = effort_figure([CELLS]).axes
    im = axes.get_lines()[0]
    assert im.get_xdata().tolist() == [60.0, 240.0]
    assert im.get_ydata().tolist() == pytest.approx([0.55, 0.75])
    shown = dict(zip(axes.get_xticks(), axes.get_xticklabels(), strict=True))
    assert {tick: label.get_text() for tick, label in shown.items()} == {
        60: "60 s",
        80: "80 s",
        120: "2 min",
        180: "3 min",
        240: "4 min",
    }


def test_a_short_race_has_ticks_too():
    short = replace(CELLS, efforts=(Effort(name="IM", points=((3.1, Spread.of([0.5])),)),))
    (axes,) = effort_figure([short]).axes
    assert [label.get_text() for label in axes.get_xticklabels()]


def test_the_description_says_what_was_reached_when():
    assert describe_effort([CELLS]).endswith(
        "cells, soonest done first: LDT 0.550±0.071 after 60 s; "
        "IM 0.550±0.071 after 60 s and 0.750±0.071 after 4 min."
    )


def test_times_and_scores_are_those_of_finished_seeds(tiny_study):
    (race,) = sources.races([tiny_study], ["cells"])
    assert [one.name for one in race.efforts] == ["LDT", "FDT", "IM"]
    steps = tiny_study.outcomes()[2].steps
    points = race.efforts[2].points
    assert [(seconds, score.mean) for seconds, score in points] == [
        (step.seconds, step.test) for step in steps
    ]
    assert points[0][0] < points[1][0]


def test_seeds_that_are_not_finished_do_not_compete(tiny_study, monkeypatch):
    undone = [replace(one, complete=one.approach != "IM") for one in tiny_study.outcomes()]
    monkeypatch.setattr(Run, "outcomes", lambda run: undone)
    (race,) = sources.races([tiny_study], ["cells"])
    assert [one.name for one in race.efforts] == ["LDT", "FDT"]


def test_runs_on_one_data_set_compete_by_preset_or_else_title(tiny_study):
    other = replace(tiny_study, config=replace(tiny_study.config, preset="paper"))
    (race,) = sources.races([tiny_study, other], ["a", "b"])
    assert {"IM, default", "IM, paper"} < {one.name for one in race.efforts}
    (race,) = sources.races([tiny_study, tiny_study], ["a", "b"])
    assert {"IM, a", "IM, b"} < {one.name for one in race.efforts}
