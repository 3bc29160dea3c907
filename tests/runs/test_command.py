import shlex

import pytest

from imasks import cli
from imasks.runs.command import commands_of
from imasks.runs.options import Options


@pytest.fixture
def given(monkeypatch):
    """Give what a command would begin with, without doing it."""

    def parse(command):
        seen = {}

        def study(dataset, out, names, seeds, options, **more):
            seen.update(out=out, names=names, seeds=seeds, options=options)

        monkeypatch.setattr("imasks.cli.training._study", study)
        monkeypatch.setattr("imasks.data.folder.open_dataset", lambda folder: folder)
        cli.app(shlex.split(command)[1:], standalone_mode=False)
        return seen

    return parse


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(
            quick=True,
            filter=False,
            quality=True,
            warm_start=False,
            size=(64, 96),
            learning_rate=0.001,
        ),
        Options(preset="paper", steps=30, start_candidates=3, im_label="mean"),
    ],
)
def test_the_command_gives_the_same_options(given, options):
    (command,) = commands_of("my data", "runs/x", ["IM+"], [0], options.asked())
    seen = given(command)
    assert seen["options"] == options
    assert (str(seen["out"]), seen["names"], seen["seeds"]) == ("runs/x", ["IM+"], [0])


def test_studies_count_their_seeds(given):
    (command,) = commands_of("d", "r", ["LDT", "IM++"], [0, 1, 2], {})
    seen = given(command)
    assert (seen["names"], seen["seeds"]) == (["LDT", "IM++"], [0, 1, 2])


def test_a_run_of_another_seed_that_grew_takes_two_commands(given):
    first, second = commands_of("d", "r", ["IM", "LDT"], [7, 0, 1], {})
    assert given(first)["seeds"] == [7]
    assert given(first)["names"] == ["IM"]
    assert given(second)["seeds"] == [0, 1]
    assert given(second)["names"] == ["IM", "LDT"]
