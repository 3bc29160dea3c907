from dataclasses import replace

import pytest

from imasks.runs.choice import choose
from imasks.runs.model_card import model_card


@pytest.fixture
def card(tiny_study):
    """Write the card of a study, with some of its configuration and its choice changed."""

    def write(*, licence=None, export=("One file.",), chosen=None, **changed):
        run = replace(tiny_study, config=replace(tiny_study.config, **changed))
        found = replace(choose(run, approach="IM"), **(chosen or {}))
        return model_card(run, found, export=export, licence=licence)

    return write


def test_a_card_tells_data_scores_limits_and_licence(card, tiny_study):
    text = card()
    row = next(row for row in tiny_study.rows() if row.approach == "IM")
    assert text.startswith('---\nlicense: "unknown"\n')
    for part in (
        "# IM on cells\n",
        f"checksum {tiny_study.config.checksum}.",
        "Images when training began: 6 labeled, 8 unlabeled, 3 val, 4 test.",
        f"| **IM** | {row.generation[0]} | {row.val} | {row.test} | {row.ensemble_test} |",
        "One seed: no spread. Validation and test are",
        "no EvalNets were trained",
        "## This export\n\n* One file.\n",
        "## Licence\n\nLicence: not stated.",
    ):
        assert part in text, part
    assert "not finished" not in text


def test_what_is_missing_is_said(card):
    text = card(
        licence='CC-BY-4.0 "as is"',
        images={"labeled": 1, "unlabeled": 8, "val": 3, "test": 0},
        chosen={"done": 3, "jobs": 4},
    )
    for part in (
        '---\nlicense: "CC-BY-4.0 \\"as is\\""\n',
        'Licence: CC-BY-4.0 "as is"',
        "It learned from 1 labeled image;",
        "There were no test images",
        "not finished (3 of 4 jobs)",
    ):
        assert part in text, part


def test_names_break_no_table(card):
    text = card(name="x | y\n<b>", classes=("a|b",))
    assert "# IM on x \\| y &lt;b>\n" in text
    assert "classes: a\\|b." in text
