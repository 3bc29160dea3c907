import copy

import pytest

from imasks.deploy.card import model_card
from imasks.deploy.export import about_of
from imasks.deploy.graph import EnsembleGraph
from imasks.deploy.record import Exported, record_of
from imasks.runs.choice import choose
from imasks.runs.predictor import predictor_of


@pytest.fixture
def record(tiny_run, tmp_path):
    chosen = choose(tiny_run)
    predictor = predictor_of(tiny_run, device="cpu")
    about = about_of(predictor, chosen, EnsembleGraph(predictor))
    done = Exported(
        file=tmp_path / "model.onnx",
        card=tmp_path / "MODEL_CARD.md",
        images=3,
        difference=2e-6,
        resized=1e-4,
        pixels=0.0,
    )
    return record_of(tiny_run, chosen, about, done)


def test_a_card_tells_data_scores_limits_and_licence(record, tiny_run):
    card = model_card(record)
    (row,) = tiny_run.rows()
    for text in (
        "# LDT on cells",
        "| labeled | 6 |",
        "| unlabeled | 2 |",
        f"| test iou, one network | {row.test.mean:.3f} | 1 |",
        f"| test iou, ensemble | {row.ensemble_test.mean:.3f} | 1 |",
        "differ by at most 2e-06 (0.0001 on average where",
        "calibrated on 3 validation images",
        "trained with one seed",
        "## Licence\n\nNot stated.",
    ):
        assert text in card, text
    assert card.startswith('---\nlicense: "unknown"\n')
    assert "not finished" not in card


def test_spread_licence_and_what_is_missing(record):
    changed = copy.deepcopy(record)
    changed["license"] = "CC-BY-4.0"
    changed["finished"] = False
    changed["training"]["seeds"] = 3
    changed["points"] = ["nucleus"]
    changed["data"]["images"]["test"] = 0
    changed["scores"] = {
        "validation iou, one network": {"mean": 0.5, "deviation": 0.0123, "count": 3},
        "test iou, one network": None,
    }
    card = model_card(changed)
    for text in (
        '---\nlicense: "CC-BY-4.0"\n',
        "## Licence\n\nCC-BY-4.0",
        "| validation iou, one network | 0.500 ± 0.012 | 3 |",
        "| test iou, one network | not known | 0 |",
        "There were no test images",
        "Points (nucleus) come as masks",
        "was not finished",
    ):
        assert text in card, text
    assert "one seed" not in card


def test_names_break_no_table(record):
    record["model"]["classes"] = ["a|b", "two\nlines", "<b>"]
    record["data"]["name"] = "x | y"
    card = model_card(record)
    assert "a\\|b, two lines, &lt;b>" in card
    assert "# LDT on x \\| y" in card
