import json

import numpy as np
import pytest

from imasks.data import decisions as module
from imasks.data.card import Card
from imasks.data.decisions import Decisions, Stale
from imasks.data.files import read_mask
from imasks.encoding import IGNORE
from imasks.errors import UserError

SHAPE = (3, 4)


def card(task="binary", classes=("cell",), **more):
    return Card(name="data", task=task, classes=classes, **more)


def save(decisions, name="a", base=0, state="accepted", labels=None, **more):
    return decisions.save(name, image="d1", base=base, state=state, labels=labels, **more)


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        (card(), [0, 1]),
        (card(ignore=255), [0, 1, IGNORE]),
        (card(ignore=7), [0, 1, IGNORE]),
        (card("multiclass", ("a", "b", "c")), [1, 2, 3]),
        (card("multiclass", ("a", "b", "c"), ignore=60000), [1, 2, 3, IGNORE]),
        (card("multilabel", ("a", "b"), ignore=255), [0, 1, IGNORE]),
    ],
)
def test_masks_come_back_as_they_were(tmp_path, given, labels):
    decisions = Decisions.begin(tmp_path / "review", given)
    planes = len(given.classes) if given.task == "multilabel" else 1
    mask = np.resize(np.array(labels, np.uint8), (planes, *SHAPE))
    saved = save(decisions, labels=mask, changed=2)
    assert (saved.version, saved.state, saved.changed) == (1, "accepted", 2)
    there = Decisions.open(tmp_path / "review", given).read("a")
    assert there == saved
    np.testing.assert_array_equal(decisions.read_mask(there, SHAPE), mask)
    with pytest.raises(UserError, match="differs in size"):
        decisions.read_mask(there, (4, 3))


def test_foreground_is_visible_in_the_file(tmp_path):
    decisions = Decisions.begin(tmp_path, card())
    saved = save(decisions, labels=np.eye(4, dtype=np.uint8)[None])
    assert set(np.unique(read_mask(tmp_path / saved.masks[0]))) == {0, 255}
    with pytest.raises(ValueError, match="no value for pixels that are ignored"):
        save(decisions, base=1, labels=np.full((1, 2, 2), IGNORE, np.uint8))


def test_versions_count_and_old_masks_go(tmp_path):
    decisions = Decisions.begin(tmp_path, card())
    ones = np.ones((1, *SHAPE), np.uint8)
    save(decisions, labels=ones, changed=3)
    kept = save(decisions, base=1, state="rejected")
    assert (kept.version, kept.masks, kept.changed) == (2, ("masks/a.v1.png",), 3)
    save(decisions, base=2, state=None, labels=0 * ones)
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["a.v3.png"]
    assert list(decisions.read_all()) == ["a"]


def test_a_stale_save_changes_nothing(tmp_path):
    decisions = Decisions.begin(tmp_path, card())
    ones = np.ones((1, *SHAPE), np.uint8)
    first = save(decisions, labels=ones)
    with pytest.raises(Stale) as stale:
        save(decisions, base=0, state="rejected", labels=0 * ones)
    assert stale.value.there == first == decisions.read("a")
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["a.v1.png"]


def test_nothing_is_accepted_without_a_mask(tmp_path):
    decisions = Decisions.begin(tmp_path, card())
    with pytest.raises(ValueError, match="without a mask"):
        save(decisions)
    assert decisions.read("a") is None


def test_a_stop_between_mask_and_decision_leaves_the_old_pair(tmp_path, monkeypatch):
    decisions = Decisions.begin(tmp_path, card())
    ones = np.ones((1, *SHAPE), np.uint8)
    first = save(decisions, labels=ones)
    real = module.write_atomic

    def stop(path, data):
        if path.suffix == ".json":
            raise KeyboardInterrupt
        real(path, data)

    monkeypatch.setattr(module, "write_atomic", stop)
    with pytest.raises(KeyboardInterrupt):
        save(decisions, base=1, labels=0 * ones)
    assert decisions.read("a") == first
    np.testing.assert_array_equal(decisions.read_mask(first, SHAPE), ones)


def test_reviews_of_other_data_sets_are_refused(tmp_path):
    Decisions.begin(tmp_path / "review", card())
    with pytest.raises(UserError, match=r"another data set .*classes: \['cell'\] -> \['wing'\]"):
        Decisions.open(tmp_path / "review", card(classes=("wing",)))
    with pytest.raises(UserError, match=r"no review: review.json is missing.*Give .*/review\."):
        Decisions.open(tmp_path, card())


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        json.dumps({"name": "a"}),
        json.dumps({"name": "b", "image": "", "masks": []}),
        json.dumps({"name": "a", "image": "", "masks": [], "state": "perhaps"}),
        json.dumps({"name": "a", "image": "", "masks": ["../../elsewhere.png"]}),
    ],
)
def test_damaged_files_are_named(tmp_path, content):
    decisions = Decisions.begin(tmp_path, card())
    (tmp_path / "decisions" / "a.json").write_text(content)
    with pytest.raises(UserError, match=r"decisions/a\.json cannot be read"):
        decisions.read_all()
