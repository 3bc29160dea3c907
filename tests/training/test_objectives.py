import numpy as np
import pytest
import torch

from imasks.data.augment import Augmentation
from imasks.models.unet import make_unet
from imasks.tasks import Binary
from imasks.training.fit import seeded_network
from imasks.training.objectives import Objective, Supervised
from imasks.training.recipe import Recipe
from tests.training.test_fit import CPU, TINY, part, validation

RECIPE = Recipe(steps=12, batch=4, evaluations=4)
NOISY = Augmentation(flip=True, max_noise=5)


class Contract:
    """What the loop relies on; every final class of objectives inherits these tests."""

    def make(self, *, seed=0) -> Objective:
        raise NotImplementedError

    @pytest.fixture
    def network(self):
        return seeded_network(make_unet, TINY, seed=0, device=CPU)

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
