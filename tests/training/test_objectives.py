from dataclasses import replace

import numpy as np
import pytest
import torch

from imasks.data.augment import Augmentation
from imasks.encoding import IGNORE, SURE
from imasks.models.unet import make_unet
from imasks.tasks import Binary, Multiclass, Multilabel
from imasks.training.batches import Part
from imasks.training.fit import fit, seeded_network
from imasks.training.objectives import Consistency, Objective, Supervised
from imasks.training.recipe import Recipe
from tests.training.test_fit import CPU, TINY, Killed, discs, part, validation, weights

RECIPE = Recipe(steps=12, batch=4, evaluations=4)
NOISY = Augmentation(flip=True, max_noise=5)
VIEWS = Augmentation(
    flip=True, free_rotation=True, contrast=0.3, brightness=17, max_blur=2, max_noise=17
)


def tiny_network(outputs=1):
    return seeded_network(make_unet, replace(TINY, outputs=outputs), seed=0, device=CPU)


class Contract:
    """What the loop relies on; every final class of objectives inherits these tests."""

    def make(self, *, seed=0) -> Objective:
        raise NotImplementedError

    @pytest.fixture
    def network(self):
        return tiny_network()

    def test_loss_is_one_number_with_gradients(self, network):
        loss = self.make().loss(network.train(), 0)
        assert loss.shape == ()
        assert torch.isfinite(loss)
        loss.backward()
        assert all(v.grad is not None for v in network.parameters())

    def test_loss_depends_on_seed_and_step_alone(self, network):
        one, two, other = self.make(), self.make(), self.make(seed=1)
        steps = range(one.steps_per_epoch + 2)
        in_order = [float(one.loss(network.train(), step).detach()) for step in steps]
        backwards = [float(two.loss(network.train(), step).detach()) for step in reversed(steps)]
        assert in_order == backwards[::-1]
        assert in_order != [float(other.loss(network.train(), step).detach()) for step in steps]

    def test_an_epoch_has_steps(self):
        objective = self.make()
        assert 1 <= objective.steps_per_epoch <= objective.pairs

    def test_the_verdict_is_finite_and_repeatable(self, network):
        verdict = self.make().measure(network.eval())
        assert np.isfinite(verdict.selection)
        assert np.isfinite(list(verdict.record.values())).all()
        assert verdict == self.make(seed=1).measure(network.eval())

    def test_measuring_teaches_nothing(self, network):
        before = {k: v.clone() for k, v in network.state_dict().items()}
        self.make().measure(network.eval())
        assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


class TestSupervised(Contract):
    def make(self, *, seed=0):
        parts = [part(augmentation=NOISY)]
        return Supervised(Binary(["disc"]), parts, validation(), RECIPE, seed=seed, device=CPU)

    def test_counts(self):
        assert (self.make().pairs, self.make().steps_per_epoch) == (12, 3)


def consistency(*, seed=0, views=VIEWS, images=None, recipe=RECIPE, alternate=False):
    return Consistency(
        Binary(["disc"]),
        [part(8, augmentation=NOISY)],
        discs(12, seed=2)[0] if images is None else images,
        validation(),
        views=views,
        recipe=recipe,
        alternate=alternate,
        seed=seed,
        device=CPU,
    )


class TestConsistency(Contract):
    make = staticmethod(consistency)

    def test_counts(self):
        assert (self.make().pairs, self.make().steps_per_epoch) == (20, 2 + 3)

    def test_batches_may_alternate(self, network):
        passes, turns = self.make(), self.make(alternate=True)
        network.train()
        # of passes of 2 and 3 batches: labeled 0, 1, 5, 6, unlabeled 2, 3, 4, 7
        for turn, place in {0: 0, 2: 1, 4: 5, 6: 6, 1: 2, 3: 3, 5: 4, 7: 7}.items():
            assert torch.equal(turns.loss(network, turn), passes.loss(network, place))

    def test_labeled_batches_come_first_and_are_those_of_supervised_training(self, network):
        alone = Supervised(
            Binary(["disc"]),
            [part(8, augmentation=NOISY)],
            validation(),
            RECIPE,
            seed=0,
            device=CPU,
        )
        both = self.make()
        network.train()
        for step, same in {0: 0, 1: 1, 5: 2, 6: 3, 10: 4}.items():
            assert torch.equal(both.loss(network, step), alone.loss(network, same))

    def test_equal_views_cost_nothing(self, network):
        still = self.make(views=Augmentation())
        assert float(still.loss(network.train(), 2).detach()) == 0
        assert float(still.loss(network.train(), 0).detach()) > 0
        assert float(self.make().loss(network.train(), 2).detach()) > 0

    def test_both_views_lie_alike(self, network):
        # the answers to views that only differ in position would differ if each had its own
        turned = self.make(views=Augmentation(flip=True, free_rotation=True))
        assert float(turned.loss(network.train(), 2).detach()) == 0
        images = discs(12, seed=2)[0]
        one, two = turned._two_views(0)
        assert torch.equal(one, two)
        shown = {picture.tobytes() for picture in one[:, 0].numpy().astype(np.uint8)}
        assert not shown <= {picture.tobytes() for picture in images[..., 0]}

    def test_epochs_are_compared_by_the_validation_loss(self, network):
        val, task = validation(), Binary(["disc"])
        network.eval()
        for kind in ("paper", "cross-entropy"):
            logits = network(torch.from_numpy(val.images).permute(0, 3, 1, 2))
            expected = -float(task.loss(logits, torch.from_numpy(val.labels), kind=kind).detach())
            verdict = self.make(recipe=replace(RECIPE, loss=kind)).measure(network)
            assert verdict.selection == pytest.approx(expected, rel=1e-5)
            assert verdict.record.keys() == {"iou"}

    def test_goes_on_to_the_same_numbers_after_an_interruption(self, tmp_path):
        def train(log, file=None):
            objective = self.make(recipe=recipe)
            return fit(
                tiny_network(), objective, recipe, seed=0, device=CPU, checkpoint=file, log=log
            )

        def die(record):
            resumed.append(record)
            if record["epoch"] == 2:
                raise Killed

        recipe = replace(RECIPE, steps=None, epochs=2, min_steps=0)
        whole, resumed = [], []
        expected = train(whole.append)
        assert expected.steps == 2 * 5
        file = tmp_path / "checkpoint.safetensors"
        with pytest.raises(Killed):
            train(die, file)
        actual = train(resumed.append, file)
        assert resumed == whole
        assert torch.equal(weights(actual), weights(expected))


@pytest.mark.parametrize("task", [Multiclass(["a", "b"]), Multilabel(["a", "b"])])
def test_consistency_of_other_tasks(task):
    images, labels = discs(8)
    labels = labels + 1 if task.name == "multiclass" else labels.repeat(2, 1)
    objective = Consistency(
        task,
        [Part(images=images, labels=labels)],
        images,
        validation()._replace(labels=labels[:4], images=images[:4]),
        views=replace(VIEWS, flip=False, free_rotation=False),
        recipe=RECIPE,
        seed=0,
        device=CPU,
    )
    network = tiny_network(task.outputs)
    losses = [float(objective.loss(network.train(), step).detach()) for step in (0, 2)]
    assert min(losses) > 0
    assert np.isfinite(objective.measure(network.eval()).selection)


@pytest.mark.parametrize(
    "task", [Binary(["x"]), Multiclass(["a", "b"]), Multilabel(["a", "b"])], ids=lambda t: t.name
)
def test_soft_labels_stand_in_for_labels(task):
    """Soft labels without doubt teach what labels do, beside true pairs, and doubt tells."""
    images, labels = discs(8)
    labels = labels + 1 if task.name == "multiclass" else labels.repeat(task.planes, 1)
    one_hot = (task.mask_input(torch.from_numpy(labels)) * SURE).to(torch.uint8).numpy()
    network = tiny_network(task.outputs).train()

    def loss(*, decide=False, **changes):
        part = replace(Part(images=images, labels=labels), **changes)
        objective = Supervised(
            task,
            [part, Part(images=images, labels=labels)],
            validation(),
            replace(RECIPE, batch=16),
            decide=decide,
            seed=0,
            device=CPU,
        )
        torch.manual_seed(0)
        return objective.loss(network, 0).detach()

    nothing = np.full_like(labels, IGNORE)
    doubtful = one_hot.copy()
    rest = 54 // (task.outputs - 1 or 1)
    doubtful[..., :16] = np.where(one_hot > 0, 200, rest)[..., :16]
    hard = loss()
    for decide in (False, True):
        torch.testing.assert_close(loss(labels=nothing, soft=one_hot, decide=decide), hard)
        assert loss(labels=nothing, soft=doubtful, decide=decide) != hard
