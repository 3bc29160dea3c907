import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imasks.data.augment import Augmentation
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
    for a, b in zip(one(3), two(3), strict=True):
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
    images, labels = batches(0)
    assert (images[:, :, :4] == 0).all()
    assert (images[:, :, 4:] >= 5).all()
    assert labels.float().mean() > 0


def test_images_are_channels_last():
    images, _ = Batches([numbered(0, 4)], batch=4, seed=0, device=CPU)(0)
    assert images.is_contiguous(memory_format=torch.channels_last)


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
        Batches([part], batch=4, seed=0, device=CPU)(1),
        Batches([other], batch=4, seed=0, device=CPU)(1),
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("pair", [((0, 1), (1, 0)), ((0,), (1,)), ((5, 2), (5, 3))])
def test_mixed_seeds_differ(pair):
    one, two = pair
    assert mix(*one) != mix(*two)
    assert 0 <= mix(*one) < 2**63
