import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imasks.encoding import IGNORE
from imasks.errors import UserError
from imasks.labelling.agree import Morphology, block_output, cut_region, inconsistency
from imasks.labelling.grading import (
    auto_thresholds,
    copies,
    grade,
    inconsistent_pairs,
    pack,
    plain_pairs,
)
from imasks.models.evalnet import EvalNet, EvalNetConfig
from imasks.tasks import Binary, Multiclass, Multilabel

CPU = torch.device("cpu")
TASKS = [Binary(["x"]), Multiclass(["a", "b", "c"]), Multilabel(["a", "b"])]
SIDE = 20


@pytest.fixture(params=TASKS, ids=lambda task: task.name)
def task(request):
    return request.param


def data(task, *, models=5, count=6):
    """Draw images, true masks of a few large areas, and votes that are wrong near their borders."""
    rng = np.random.default_rng(0)
    images = rng.integers(1, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    first = task.outputs - len(task.classes)
    top = len(task.classes) if first else 1
    labels = rng.integers(first, top + 1, (count, task.planes, 2, 2), dtype=np.uint8)
    labels = labels.repeat(SIDE // 2, 2).repeat(SIDE // 2, 3)
    votes = np.stack([np.roll(labels, shift, 3) for shift in range(models)])
    return images, labels, votes


# --- golden --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["isic", "hela", "suim", "city"])
def test_copies_agree_with_the_published_ones(golden, name):
    d = golden("num_augs")
    lo, hi = d[f"{name}_thresholds"]
    found = copies(d[f"{name}_value"], lo, hi)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, d[f"{name}_num_augs_binary"])


@pytest.mark.parametrize(
    ("name", "task", "thresholds"),
    [
        ("mc", Multiclass([f"c{k}" for k in range(8)]), "mc_thresholds"),
        ("hela", Multilabel(["alive", "dead", "position"]), "hela_thresholds"),
    ],
)
def test_copies_by_two_evalnets_agree_with_the_published_ones(golden, name, task, thresholds):
    d = golden("num_augs")
    each = np.stack([d[f"{name}_iou"], d[f"{name}_det"]], 2)  # [N, 2 networks, heads, K]
    scores = task.pair_score(torch.from_numpy(each.mean(1))).numpy()
    np.testing.assert_array_equal(copies(scores, *d[thresholds]), d[f"{name}_num_augs"])


# --- pairs ---------------------------------------------------------------------------------------


def test_every_cut_pair_is_the_inconsistency_of_some_candidates(task):
    images, labels, votes = data(task, models=3, count=4)
    pairs = inconsistent_pairs(images, labels, votes, task, loops=3, seed=0, device=CPU)
    assert len(pairs) == 12
    assert pairs.rows.tolist() == [0, 1, 2, 3] * 3
    possible = set()
    for models in ([0, 1], [0, 2], [1, 2], [0, 1, 2]):
        label, im = inconsistency(votes[models])
        for erode in (0, 3, 5):
            for dilate in (0, 3, 5):
                region = cut_region(im, Morphology(erode=erode, dilate=dilate))
                grow = erode > 0 and task.name != "binary"
                mask = block_output(label, region, grow=grow)
                for row in range(4):
                    bits = pack(region[row])[0]
                    possible.add((row, mask[row].tobytes(), bits.tobytes()))
    made = [
        (int(row), mask.tobytes(), region.tobytes())
        for row, mask, region in zip(pairs.rows, pairs.masks, pairs.region, strict=True)
    ]
    assert set(made) <= possible
    assert len(set(made)) > 8  # loops differ


def test_targets_of_cut_pairs_are_what_the_task_says(task):
    images, labels, votes = data(task)
    pairs = inconsistent_pairs(images, labels, votes, task, loops=2, seed=0, device=CPU)
    bits = np.unpackbits(pairs.region, axis=1, count=SIDE * SIDE).astype(bool)
    expected = task.pair_quality(
        torch.from_numpy(pairs.masks),
        torch.from_numpy(labels[pairs.rows]),
        torch.from_numpy(bits.reshape(-1, 1, SIDE, SIDE)),
    )
    np.testing.assert_array_equal(pairs.targets, expected)
    assert pairs.targets.dtype == np.float32
    assert len(np.unique(pairs.targets[:, 0])) > 3


def test_cut_pairs_are_a_function_of_the_seed(task):
    images, labels, votes = data(task)
    one, two, other = (
        inconsistent_pairs(images, labels, votes, task, loops=2, seed=seed, device=CPU)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.masks, two.masks)
    np.testing.assert_array_equal(one.region, two.region)
    assert not np.array_equal(one.region, other.region)


@pytest.mark.parametrize(("models", "drawn"), [(2, {2}), (3, {2, 3}), (10, {2, 3, 4})])
def test_two_to_four_candidates_are_drawn(models, drawn):
    # in column e, candidate e alone votes for the foreground: the mask covers the chosen ones
    votes = np.zeros((models, 60, 1, SIDE, SIDE), np.uint8)
    for e in range(models):
        votes[e, :, :, :, 2 * e] = 1
    images = np.zeros((60, SIDE, SIDE, 1), np.uint8)
    pairs = inconsistent_pairs(images, votes[0], votes, TASKS[0], loops=8, seed=0, device=CPU)
    bits = np.unpackbits(pairs.region, axis=1, count=SIDE * SIDE).reshape(-1, SIDE, SIDE)
    untouched = bits[:, 0].sum(1)[bits.sum((1, 2)) == SIDE * bits[:, 0].sum(1)]
    assert drawn <= set(untouched)


def test_plain_pairs_are_all_predictions_and_the_true_masks(task):
    images, labels, votes = data(task, models=2)
    pairs = plain_pairs(images, labels, votes, task, device=CPU)
    assert pairs.rows.tolist() == [*range(6)] * 3
    np.testing.assert_array_equal(pairs.masks, np.concatenate([*votes, labels]))
    assert pairs.region is None
    scores = task.pair_score(torch.from_numpy(pairs.targets)).numpy()
    present = labels.reshape(6, -1).max(1) > 0
    np.testing.assert_allclose(scores[12:], present, atol=1e-6)
    assert (scores[6:12] <= scores[12:]).all()
    assert scores[6:12].min() < 0.95
    without = plain_pairs(images, labels, votes, task, truth=False, device=CPU)
    np.testing.assert_array_equal(without.targets, pairs.targets[:12])
    np.testing.assert_array_equal(without.rows, pairs.rows[:12])


def test_arrays_that_do_not_belong_together_are_refused(task):
    images, labels, votes = data(task)
    with pytest.raises(UserError, match="belong together"):
        plain_pairs(images[1:], labels, votes, task, device=CPU)
    with pytest.raises(UserError, match="belong together"):
        inconsistent_pairs(images, labels, votes[:, 1:], task, seed=0, device=CPU)


# --- answers -------------------------------------------------------------------------------------


def networks(task, count=2):
    torch.manual_seed(0)
    config = EvalNetConfig(
        in_channels=3,
        mask_channels=task.outputs,
        classes=task.outputs,
        detection=task.detects,
        width=0.25,
    )
    return [EvalNet(config).eval() for _ in range(count)]


def test_grades_are_the_mean_of_all_networks(task, monkeypatch):
    images, labels, _ = data(task)
    region = np.random.default_rng(1).random((6, SIDE, SIDE)) < 0.3
    asked = networks(task)
    found = grade(asked, images, labels, task, region=region, device=CPU)
    cut = torch.from_numpy(region)[:, None]
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float().masked_fill(cut, 0)
    mask = task.mask_input(torch.from_numpy(labels).masked_fill(cut, 0))
    with torch.inference_mode():
        expected = sum(network(x, mask).sigmoid() for network in asked) / 2
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32
    assert not np.allclose(found, grade(asked, images, labels, task, device=CPU))
    monkeypatch.setattr("imasks.labelling.grading.CHUNK", 4)
    again = grade(asked, images, labels, task, region=region, device=CPU)
    np.testing.assert_allclose(found, again, atol=1e-6)


def test_nothing_has_no_grades(task):
    images, labels, _ = data(task)
    found = grade(networks(task), images[:0], labels[:0], task, device=CPU)
    assert found.shape == (0, 1 + task.detects, task.outputs)


def test_ignored_pixels_of_true_masks_are_seen_as_nothing(task):
    images, labels, _ = data(task)
    labels = np.full_like(labels, IGNORE)
    assert np.isfinite(grade(networks(task), images, labels, task, device=CPU)).all()


# --- copies and thresholds -----------------------------------------------------------------------

unit = st.floats(0, 1, width=32)


@given(hnp.arrays(np.float32, st.integers(0, 30), elements=unit), unit, st.floats(0.01, 1))
def test_better_scores_have_no_fewer_copies(scores, lo, width):
    found = copies(np.sort(scores), lo, lo + width)
    assert ((found >= 1) & (found <= 5)).all()
    assert (np.diff(found) >= 0).all()


def test_thresholds_in_the_wrong_order_are_refused():
    with pytest.raises(UserError, match=r"0\.7.*0\.6"):
        copies(np.array([0.5]), 0.7, 0.6)


triples = st.integers(0, 12).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.float32, n, elements=unit),
        hnp.arrays(np.float32, n, elements=unit),
        hnp.arrays(np.float32, st.integers(0, 12), elements=unit),
    )
)


@given(triples)
def test_automatic_thresholds_always_work(both):
    held_out, quality, unlabeled = both
    lo, hi = auto_thresholds(held_out, quality, unlabeled)
    assert np.float32(lo) < np.float32(hi)
    found = copies(unlabeled, lo, hi)
    assert len(found) == 0 or found.min() == 1  # never more of everything


@pytest.mark.parametrize(("lo", "hi"), [(0.72, 0.75), (0.59, 0.62), (0.43, 0.51), (0.372, 0.453)])
def test_automatic_thresholds_are_close_to_the_published_ones(lo, hi):
    """If the labeller reaches the published lo on average, and scores are true."""
    rng = np.random.default_rng(0)
    scores = rng.normal(lo, 0.1, 5000)
    found = auto_thresholds(scores[:500], scores[:500], scores)
    assert found == pytest.approx((lo, hi), abs=0.025)


def test_a_grader_that_is_too_friendly_gives_the_same_copies():
    quality = np.random.default_rng(0).uniform(0.3, 0.9, 400)
    plain = copies(quality, *auto_thresholds(quality[:50], quality[:50], quality))
    friendly = quality / 2 + 0.45
    found = copies(friendly, *auto_thresholds(friendly[:50], quality[:50], friendly))
    assert (plain == found).mean() > 0.99


def test_the_less_scores_know_the_fewer_copies_there_are():
    rng = np.random.default_rng(0)
    quality = rng.uniform(0.3, 0.9, 2000)
    totals = []
    for noise in (0.0, 0.2, 1.0):
        scores = quality + rng.normal(0, noise, 2000) if noise else quality
        totals.append(copies(scores, *auto_thresholds(scores, quality, scores)).mean())
    assert totals == sorted(totals, reverse=True)
    assert totals[-1] < totals[0] - 0.3


@pytest.mark.parametrize(
    ("held_out", "quality", "unlabeled"),
    [
        (np.linspace(0, 1, 9), np.linspace(0, 1, 9), np.full(7, 0.7, np.float32)),
        (np.full(9, 0.7), np.linspace(0, 1, 9), np.linspace(0, 1, 7)),
        (np.linspace(0, 1, 9), np.linspace(1, 0, 9), np.linspace(0, 1, 7)),
        (np.array([0.2, 0.8]), np.array([0.1, 0.9]), np.linspace(0, 1, 7)),
        (np.linspace(0, 1, 4), np.array([np.nan, np.nan, 0.5, 0.6]), np.linspace(0, 1, 7)),
    ],
    ids=["equal", "equal on held-out", "misleading", "too few", "too few known"],
)
def test_scores_that_know_nothing_give_one_copy(held_out, quality, unlabeled):
    lo, hi = auto_thresholds(held_out, quality, unlabeled)
    assert (copies(unlabeled, lo, hi) == 1).all()
