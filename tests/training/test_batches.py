from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imasks.data.augment import Augmentation
from imasks.encoding import IGNORE
from imasks.training.batches import Batches, Part, materialise, mix

CPU = torch.device("cpu")


def numbered(start, count, **options):
    """Images whose every pixel is their number."""
    numbers = np.arange(start, start + count, dtype=np.uint8)
    images = np.broadcast_to(numbers[:, None, None, None], (count, 16, 16, 1)).copy()
    labels = np.broadcast_to((numbers % 2)[:, None, None, None], (count, 1, 16, 16)).copy()
    return Part(images=images, labels=labels, **options)


def shown(batches, steps):
    return [batches(step)[0][:, 0, 0, 0].int().tolist() for step in steps]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 7))
def test_every_pair_is_shown_once_an_epoch(first, second, batch):
    batches = Batches([numbered(0, first), numbered(50, second)], batch=batch, seed=0, device=CPU)
    epoch = [n for batch_ in shown(batches, range(batches.steps_per_epoch)) for n in batch_]
    assert len(epoch) == len(set(epoch)) == batches.steps_per_epoch * min(batch, first + second)


def test_only_chosen_rows_are_shown():
    chosen = np.array([1, 4, 5])
    batches = Batches([numbered(0, 9, rows=chosen)], batch=3, seed=0, device=CPU)
    assert batches.pairs == 3
    assert sorted(shown(batches, [0])[0]) == [1, 4, 5]


def test_a_batch_depends_on_seed_and_step_alone():
    how = Augmentation(flip=True, max_noise=9)
    one = Batches([numbered(0, 9, augmentation=how)], batch=4, seed=1, device=CPU)
    two = Batches([numbered(0, 9, augmentation=how)], batch=4, seed=1, device=CPU)
    one(0), one(1), one(2)
    for a, b in zip(one(3)[:2], two(3)[:2], strict=True):
        assert torch.equal(a, b)
    other = Batches([numbered(0, 9, augmentation=how)], batch=4, seed=2, device=CPU)
    assert not torch.equal(one(3)[0], other(3)[0])


def test_epochs_are_shuffled_anew():
    batches = Batches([numbered(0, 20)], batch=20, seed=0, device=CPU)
    first, second = shown(batches, [0, 1])
    assert first != second
    assert sorted(first) == sorted(second)


def test_black_pixels_are_black_in_the_image_only():
    black = np.zeros((3, 16, 16), np.bool_)
    black[:, :4] = True
    batches = Batches([numbered(5, 3, black=black)], batch=3, seed=0, device=CPU)
    images, labels, _ = batches(0)
    assert (images[:, :, :4] == 0).all()
    assert (images[:, :, 4:] >= 5).all()
    assert labels.float().mean() > 0


def test_images_are_channels_last():
    images, _, soft = Batches([numbered(0, 4)], batch=4, seed=0, device=CPU)(0)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert soft is None


def softened(count, *, outputs=2, **options):
    """Pairs whose soft labels are their image, and one more step in every further plane."""
    values = np.random.default_rng(0).integers(0, 200, (count, 16, 16, 1)).astype(np.uint8)
    return Part(
        images=values,
        labels=np.full((count, 1, 16, 16), IGNORE, np.uint8),
        soft=np.moveaxis(values + np.arange(outputs, dtype=np.uint8), -1, 1),
        **options,
    )


@pytest.mark.parametrize("frozen", [False, True])
def test_soft_labels_move_with_the_image(frozen):
    how = Augmentation(flip=True, free_rotation=True)
    part = softened(40, augmentation=how)
    if frozen:
        part = materialise(part, copies=2, augmentation=how, seed=0)
    images, _, soft = Batches([part], batch=40, seed=0, device=CPU)(0)
    assert torch.equal(soft, torch.cat([images, images + 1], 1).to(torch.uint8))
    lying = {image.tobytes() for image in softened(40).images}
    assert not {image.numpy().tobytes() for image in images.byte()} <= lying  # something has moved


def test_parts_with_and_without_soft_labels_are_mixed():
    batches = Batches([numbered(200, 6), softened(6)], batch=12, seed=0, device=CPU)
    images, labels, soft = batches(0)
    hard = images[:, 0, 0, 0] >= 200
    assert hard.sum() == 6
    assert (soft[:6] == IGNORE).all()
    assert (labels[:6] != IGNORE).all()
    assert torch.equal(soft[6:, :1], images[6:].to(torch.uint8))
    one_by_one = Batches(batches.parts, batch=1, seed=0, device=CPU)
    assert {one_by_one(step).soft is None for step in range(12)} == {False, True}


def test_soft_labels_on_the_disk_are_read_batch_by_batch(tmp_path):
    part = softened(8)
    np.save(tmp_path / "mean.npy", part.soft)
    mapped = replace(part, soft=np.load(tmp_path / "mean.npy", mmap_mode="c"))
    one, two = (Batches([p], batch=4, seed=0, device=CPU)(1) for p in (part, mapped))
    assert torch.equal(one.soft, two.soft)


def test_cut_pixels_become_the_vote_of_the_highest_order():
    order = np.zeros(256, np.uint8)
    order[[2, 3]] = 1, 2
    votes = np.array([[1, 2, 3, 2, 2], [1, 1, 2, 3, 2]], np.uint8).reshape(1, 2, 1, 5)
    cut = np.array([1, 1, 1, 1, 0], np.bool_).reshape(1, 1, 1, 5)
    part = Part(
        images=np.zeros((1, 1, 5, 1), np.uint8),
        labels=np.full((1, 1, 1, 5), 4, np.uint8),
        cut=cut,
        votes=votes,
        order=order,
    )
    labels = part.take(torch.tensor([0]), CPU, None).labels
    assert labels.flatten().tolist() == [IGNORE, 2, 3, 3, 4]


def test_frozen_copies_are_drawn_once():
    how = Augmentation(max_noise=20)
    part = materialise(numbered(100, 3), copies=5, augmentation=how, seed=0)
    again = materialise(numbered(100, 3), copies=5, augmentation=how, seed=0)
    assert len(part) == 15
    assert part.augmentation == Augmentation()
    np.testing.assert_array_equal(part.images, again.images)
    assert len({image.tobytes() for image in part.images}) == 15


def test_arrays_on_the_disk_give_the_same_batches(tmp_path):
    part = numbered(0, 8, augmentation=Augmentation(flip=True))
    np.save(tmp_path / "images.npy", part.images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="c")
    other = Part(images=mapped, labels=part.labels, augmentation=part.augmentation)
    for a, b in zip(
        Batches([part], batch=4, seed=0, device=CPU)(1)[:2],
        Batches([other], batch=4, seed=0, device=CPU)(1)[:2],
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("pair", [((0, 1), (1, 0)), ((0,), (1,)), ((5, 2), (5, 3))])
def test_mixed_seeds_differ(pair):
    one, two = pair
    assert mix(*one) != mix(*two)
    assert 0 <= mix(*one) < 2**63
