import numpy as np
import pytest

from imasks.review import order as module
from imasks.review.order import features, order, shuffled, uncertainty


def test_unsure_is_a_mean_of_ranks():
    share = np.array([0.1, 0.5, 0.5, 0.0])
    np.testing.assert_allclose(uncertainty(share, None), np.array([2, 3.5, 3.5, 1]) / 4)
    quality = np.array([0.9, 0.2, 0.8, 0.7])
    np.testing.assert_allclose(
        uncertainty(share, quality), np.array([(2 + 1), (3.5 + 4), (3.5 + 2), (1 + 3)]) / 8
    )


def test_each_next_image_is_unlike_the_ones_before():
    """Two clusters of unsure images: after one of a cluster, the other cluster's turn comes."""
    described = np.array([[0.0], [0.1], [10.0], [10.1], [5.0]])
    unsure = np.array([1.0, 0.9, 0.8, 0.7, 0.01])
    found = order(unsure, described, seen=np.array([[5.0]]))
    assert found[:2].tolist() == [0, 2]
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert found[-1] == 4  # just like a labeled image


def test_labeled_images_push_their_like_back():
    described, unsure = np.array([[0.0], [10.0]]), np.array([0.6, 0.5])
    assert order(unsure, described, seen=np.zeros((0, 1))).tolist() == [0, 1]
    assert order(unsure, described, seen=np.array([[1.0]])).tolist() == [1, 0]


def test_equal_images_keep_their_order_and_the_tail_follows_uncertainty(monkeypatch):
    same = np.zeros((4, 3))
    assert order(np.ones(4), same, seen=same).tolist() == [0, 1, 2, 3]
    monkeypatch.setattr(module, "SPREAD", 1)
    found = order(np.array([0.2, 0.9, 0.5, 0.7]), np.eye(4), seen=np.zeros((1, 4)))
    assert found.tolist() == [1, 3, 2, 0]


def test_features_see_colour_and_texture_but_not_place():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (32, 48, 3), np.uint8)
    plain = features(np.full((32, 32, 1), 200, np.uint8))
    assert plain.shape == (11,)
    assert plain.tolist() == [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    assert features(noise).shape == (33,)
    np.testing.assert_allclose(features(noise), features(noise[::-1, ::-1]))
    board = np.kron(np.indices((32, 32)).sum(0) % 2, [[1]])[..., None].astype(np.uint8) * 255
    coarse = board.repeat(4, 0).repeat(4, 1)[:32, :32]
    assert features(board)[8] == pytest.approx(1)  # differs from the next pixel, not the one after
    assert features(board)[9] == 0
    assert features(coarse)[8] < 0.3
    assert features(coarse)[10] == pytest.approx(1)


def test_an_order_of_chance_is_always_the_same():
    assert sorted(shuffled(50)) == list(range(50))
    assert shuffled(50).tolist() == shuffled(50).tolist() != sorted(shuffled(50))
    assert shuffled(0).tolist() == []
