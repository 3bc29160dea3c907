import numpy as np
import pytest
import torch
from torch.nn import functional as F

from imasks.data.augment import Augmentation
from imasks.errors import UserError
from imasks.labelling.grading import plain_pairs
from imasks.models.evalnet import EvalNetConfig, make_evalnet
from imasks.tasks import Binary, Multiclass, Multilabel
from imasks.training.fit import fit, seeded_network
from imasks.training.grading import Grading, Pairs, grading_loss
from imasks.training.recipe import Recipe
from tests.training.test_fit import CPU, discs
from tests.training.test_objectives import Contract

RECIPE = Recipe(steps=12, batch=4, evaluations=4)
BINARY, MULTICLASS = Binary(["disc"]), Multiclass(["ground", "disc"])
STILL = Augmentation()


def evalnet(task, width=0.25):
    config = EvalNetConfig(
        in_channels=1,
        mask_channels=task.outputs,
        classes=task.outputs,
        detection=task.detects,
        width=width,
        norm_momentum=0.1,
    )
    return seeded_network(make_evalnet, config, seed=0, device=CPU)


def shifted_pairs(task, count, *, seed=0, most=12):
    """Pair discs with their masks, whole and moved aside."""
    images, labels = discs(count, seed=seed)
    labels = labels + (task.outputs - len(task.classes))
    rng = np.random.default_rng(seed)
    votes = np.stack(
        [
            np.stack([np.roll(one, rng.integers(0, most), axis=-1) for one in labels])
            for _ in range(3)
        ]
    )
    return plain_pairs(images, labels, votes, task, device=CPU)


def grading(task=BINARY, *, seed=0, recipe=RECIPE, views=None):
    train, val = shifted_pairs(task, 3), shifted_pairs(task, 2, seed=1)
    return Grading(task, train, val, recipe, views=views, seed=seed, device=CPU)


class TestGrading(Contract):
    @pytest.fixture
    def network(self):
        return evalnet(BINARY)

    def make(self, *, seed=0):
        return grading(seed=seed)

    def test_counts(self):
        assert (self.make().pairs, self.make().steps_per_epoch) == (12, 3)


class TestGradingWithTwoHeads(Contract):
    @pytest.fixture
    def network(self):
        return evalnet(MULTICLASS)

    def make(self, *, seed=0):
        return grading(MULTICLASS, seed=seed)


def test_learns_to_tell_good_masks_from_bad():
    recipe = Recipe(steps=80, batch=16, evaluations=4, norm_momentum=0.1, weight_decay=0.01)
    train, val = shifted_pairs(BINARY, 24), shifted_pairs(BINARY, 8, seed=1)
    objective = Grading(BINARY, train, val, recipe, views=STILL, seed=0, device=CPU)
    fitted = fit(evalnet(BINARY, width=0.5), objective, recipe, seed=0, device=CPU)
    guess = np.abs(val.targets - np.median(val.targets)).mean()
    assert objective.measure(fitted.network).record["mae"] < 0.7 * guess


def test_epochs_are_compared_as_published():
    one = grading().measure(evalnet(BINARY).eval())
    assert one.selection == -one.record["mae"]
    two = grading(MULTICLASS).measure(evalnet(MULTICLASS).eval())
    assert two.selection == -two.record["val_loss"]


def test_half_of_the_shown_pairs_are_augmented():
    objective = grading(views=Augmentation(contrast=0.4, brightness=100, max_noise=50))
    network, seen = evalnet(BINARY), []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    for step in range(60):
        objective.loss(network, step)
    originals = objective._train.images[..., 0]
    same = [(image.numpy() == originals).all((1, 2)).any() for image in torch.cat(seen)[:, 0]]
    assert len(same) == 240
    assert np.mean(same) == pytest.approx(0.5, abs=0.1)


def test_image_and_mask_turn_together():
    objective = grading(views=Augmentation(flip=True))
    network, seen = evalnet(BINARY), []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    for step in range(6):
        objective.loss(network, step)
    train = objective._train
    known = {
        (turn(train.images[row, ..., 0]).tobytes(), turn(mask[0]).tobytes())
        for row, mask in zip(train.rows, train.masks, strict=True)
        for turn in (np.copy, np.fliplr)
    }
    for images, masks in seen:
        for image, mask in zip(images.numpy().astype(np.uint8), masks.numpy(), strict=True):
            assert (image[0].tobytes(), mask[0].astype(np.uint8).tobytes()) in known


def test_the_region_is_black():
    images, labels = discs(2, side=18)
    region = np.random.default_rng(0).random((2, 18, 18)) < 0.5
    pairs = Pairs(
        images=images,
        rows=np.array([1, 0]),
        masks=labels,
        region=np.packbits(region.reshape(2, -1), axis=1),
        targets=np.zeros((2, 1, 1), np.float32),
    )
    seen, _, _ = pairs.take(np.array([0, 1]), CPU)
    np.testing.assert_array_equal(seen[:, 0], np.where(region, 0, images[::-1, ..., 0]))


def test_loss_is_squared_error_plus_cross_entropy():
    logits, targets = torch.randn(4, 2, 3), torch.rand(4, 2, 3).round()
    squared = (logits[:, 0].sigmoid() - targets[:, 0]).square().mean()
    assert torch.equal(grading_loss(logits[:, :1], targets[:, :1]), squared)
    crossed = F.binary_cross_entropy(logits[:, 1].sigmoid(), targets[:, 1])
    torch.testing.assert_close(grading_loss(logits, targets), squared + crossed)


def test_no_pairs_are_an_error():
    pairs = shifted_pairs(BINARY, 2)
    none = shifted_pairs(BINARY, 1)
    none = Pairs(
        images=none.images, rows=none.rows[:0], masks=none.masks[:0], targets=none.targets[:0]
    )
    with pytest.raises(UserError, match="to train"):
        Grading(BINARY, none, pairs, RECIPE, seed=0, device=CPU)
    with pytest.raises(UserError, match="to validate"):
        Grading(BINARY, pairs, none, RECIPE, seed=0, device=CPU)


def test_all_tasks_have_a_loss():
    for task in (BINARY, MULTICLASS, Multilabel(["disc"])):
        assert torch.isfinite(grading(task).loss(evalnet(task), 0))
