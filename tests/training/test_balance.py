import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imasks.encoding import IGNORE, SURE
from imasks.tasks import Binary, Multiclass, Multilabel
from imasks.training.balance import MOST, class_pixels, loss_weights, with_weights
from imasks.training.batches import Batches, Part

CPU = torch.device("cpu")
TASKS = [Binary(["a"]), Multiclass(["a", "b", "c"]), Multilabel(["a", "b"])]


def part_of(labels, **more):
    labels = np.asarray(labels, np.uint8)
    return Part(images=np.zeros((len(labels), 4, 4, 1), np.uint8), labels=labels, **more)


def planes(*values):
    """One image a value, which fills its only plane."""
    return np.stack([np.full((1, 4, 4), value, np.uint8) for value in values])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2), st.data())
def test_the_mean_weight_of_labeled_pixels_is_one(kind, data):
    task = TASKS[kind]
    values = st.sampled_from([*range(int(kind == 1), task.values), IGNORE])
    labels = data.draw(hnp.arrays(np.uint8, (3, task.planes, 4, 4), elements=values))
    weights = loss_weights(labels, task).numpy()
    assert weights.shape == (task.planes, task.values)
    for plane in range(task.planes):
        seen = labels[:, plane][labels[:, plane] != IGNORE]
        if len(seen):
            assert weights[plane][seen].mean() == pytest.approx(1, rel=1e-4)
            there = weights[plane][np.unique(seen)]
            assert there.max() <= MOST * there.min() * 1.0001
    absent = [v for v in range(task.values) if not (labels == v).any()]
    assert (weights[:, absent] == 1).all()


def test_rare_values_weigh_by_the_root_of_their_share():
    labels = np.ones((1, 1, 10, 10), np.uint8)
    labels[0, 0, 0, :4] = 2
    weights = loss_weights(labels, TASKS[1])[0]
    assert weights[2] / weights[1] == pytest.approx((96 / 4) ** 0.5, rel=1e-5)
    assert weights[0] == weights[3] == 1


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
@pytest.mark.parametrize("kind", ["paper", "cross-entropy"])
def test_weights_of_one_change_no_loss_and_others_do(task, kind):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((3, task.outputs, 8, 8), generator=generator)
    labels = torch.randint(0, task.values, (3, task.planes, 8, 8), generator=generator).byte()
    labels[:, :, :2] = IGNORE
    ones = torch.ones(task.planes, task.values)
    soft = torch.full((3, task.outputs, 8, 8), SURE // task.outputs, dtype=torch.uint8)
    for target in (None, task.soft_target(soft)):
        plain = task.loss(logits, labels, kind=kind, soft=target)
        same = task.loss(logits, labels, kind=kind, soft=target, weights=ones)
        torch.testing.assert_close(plain, same)
        doubled = task.loss(logits, labels, kind=kind, soft=target, weights=2 * ones)
        torch.testing.assert_close(plain, doubled)
        ones[0, 1] = 5
        assert task.loss(logits, labels, kind=kind, soft=target, weights=ones) != plain
        ones[0, 1] = 1


def test_a_weighted_loss_is_a_weighted_mean():
    logits = torch.zeros(1, 4, 1, 2)
    logits[0, 1, 0, 0] = 3.0
    labels = torch.tensor([[[[1, 2]]]], dtype=torch.uint8)
    each = -logits.log_softmax(1)[0, [1, 2], 0, [0, 1]]
    weights = torch.tensor([[1.0, 1.0, 4.0, 1.0]])
    found = TASKS[1].loss(logits, labels, weights=weights)
    torch.testing.assert_close(found, (each[0] + 4 * each[1]) / 5)


def test_images_of_rare_classes_come_as_often_as_others():
    part = with_weights(part_of(planes(*[1] * 80, *[2] * 20)), TASKS[1])
    assert part.weights.mean() == pytest.approx(1)
    assert part.weights[:80].sum() == pytest.approx(part.weights[80:].sum())
    batches = Batches([part], batch=10, seed=0, device=CPU)
    drawn = torch.cat([batches(step).labels[:, 0, 0, 0] for step in range(200)])
    assert (drawn == 2).float().mean() == pytest.approx(0.5, abs=0.05)


def test_a_single_image_does_not_rule():
    part = with_weights(part_of(planes(*[1] * 500, 2)), TASKS[1])
    assert part.weights[-1] / part.weights[0] == pytest.approx(MOST)


def test_empty_images_are_a_class_of_binary_tasks_and_void_ones_are_none():
    part = with_weights(part_of(planes(*[0] * 6, 1, 1, IGNORE)), TASKS[0])
    weights = part.weights / part.weights[0]
    assert weights.tolist() == pytest.approx([1] * 6 + [3, 3, 1])
    part = with_weights(part_of(planes(1, 1, 1, 2, 0)), TASKS[1])  # all of the last is cut
    assert (part.weights / part.weights[0]).tolist() == pytest.approx([1, 1, 1, 3, 1])


def test_chosen_rows_and_cut_labels_count_as_they_are_learned():
    labels = planes(1, 1, 1, 2, 2, 2)
    part = part_of(labels, rows=np.array([0, 0, 1, 3]))
    weights = with_weights(part, TASKS[1]).weights
    assert (weights / weights[0]).tolist() == pytest.approx([1, 1, 1, 3])
    labels[:3, :, :2] = 3
    cut = labels == 3
    weights = with_weights(part_of(labels, cut=cut), TASKS[1]).weights
    assert weights.tolist() == [1] * 6


def test_weighted_batches_depend_on_seed_and_step_alone():
    def make(seed):
        part = with_weights(part_of(planes(1, 1, 1, 2, 3)), TASKS[1])
        return Batches([part, part_of(planes(1, 2))], batch=3, seed=seed, device=CPU)

    one, two, other = make(0), make(0), make(1)
    forwards = [one(step).labels[:, 0, 0, 0].tolist() for step in range(9)]
    backwards = [two(step).labels[:, 0, 0, 0].tolist() for step in reversed(range(9))]
    assert forwards == backwards[::-1]
    assert forwards != [other(step).labels[:, 0, 0, 0].tolist() for step in range(9)]


def test_pixels_of_classes():
    labels = planes(1, 3, IGNORE, 0)
    assert class_pixels(labels, TASKS[1]).tolist() == [16, 0, 16]
    assert class_pixels(labels, TASKS[1], np.array([0])).tolist() == [16, 0, 0]
    assert class_pixels(planes(0, 1, IGNORE), TASKS[0]).tolist() == [16]
