from dataclasses import replace

import numpy as np
import pytest
import torch

from imasks.data.arrays import Arrays
from imasks.data.augment import Augmentation
from imasks.errors import UserError
from imasks.models.unet import UNetConfig, make_unet
from imasks.models.weights import load_tensors, save_tensors
from imasks.tasks import Binary, Multiclass, Multilabel
from imasks.training.batches import Part
from imasks.training.fit import fit, seeded_network
from imasks.training.objectives import Supervised
from imasks.training.recipe import Recipe

CPU = torch.device("cpu")
TINY = UNetConfig(in_channels=1, outputs=1, width=0.25, norm_momentum=0.1)
SHORT = Recipe(steps=12, batch=4, evaluations=4, schedule="cosine", ema=0.9, select="score")


def discs(count, *, seed=0, side=32):
    """Draw bright discs on a dark ground: images uint8 [N,H,W,1] and labels uint8 [N,1,H,W]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    centres = rng.uniform(8, side - 8, (count, 2, 1, 1))
    inside = (y - centres[:, 0]) ** 2 + (x - centres[:, 1]) ** 2 < 36
    images = np.where(inside, 180, 60) + rng.integers(-30, 30, inside.shape)
    return images.astype(np.uint8)[..., None], inside[:, None].astype(np.uint8)


def part(count=12, **options):
    images, labels = discs(count)
    return Part(images=images, labels=labels, **options)


def validation(count=4):
    images, labels = discs(count, seed=1)
    return Arrays(tuple(str(i) for i in range(count)), images, labels)


def weights(fitted):
    return torch.cat([v.flatten().double() for v in fitted.network.state_dict().values()])


# --- the loop ----------------------------------------------------------------------------------


def run(checkpoint=None, *, recipe=SHORT, seed=3, parts=None, log=lambda record: None):
    parts = parts or [part(augmentation=Augmentation(flip=True, max_noise=5))]
    return fit(
        seeded_network(make_unet, TINY, seed=seed, device=CPU),
        Supervised(Binary(["disc"]), parts, validation(), recipe, seed=seed, device=CPU),
        recipe,
        seed=seed,
        device=CPU,
        checkpoint=checkpoint,
        log=log,
    )


def test_learns_to_find_discs():
    recipe = Recipe(steps=120, batch=8, evaluations=6, schedule="cosine", norm_momentum=0.1)
    records = []
    fitted = run(recipe=recipe, log=records.append)
    assert fitted.selection > 0.8
    assert [r["epoch"] for r in records] == [1, 2, 3, 4, 5, 6]
    assert fitted.selection == max(r["selection"] for r in records)
    assert fitted.epoch == max(records, key=lambda r: r["selection"])["epoch"]
    assert not fitted.network.training


def test_same_seed_same_weights():
    assert torch.equal(weights(run()), weights(run()))
    assert not torch.equal(weights(run()), weights(run(seed=4)))


class Killed(Exception):
    pass


@pytest.mark.parametrize("dies_after", [1, 3])
def test_goes_on_to_the_same_numbers_after_an_interruption(tmp_path, dies_after):
    recipe = Recipe(steps=12, batch=4, evaluations=4, dropout=0.0, ema=0.9, norm_momentum=0.1)
    whole, resumed = [], []
    expected = run(recipe=recipe, log=whole.append)
    file = tmp_path / "checkpoint.safetensors"

    def die(record):
        resumed.append(record)
        if record["epoch"] == dies_after:
            raise Killed

    with pytest.raises(Killed):
        run(file, recipe=recipe, log=die)
    actual = run(file, recipe=recipe, log=resumed.append)
    assert resumed == whole
    assert torch.equal(weights(actual), weights(expected))
    assert (actual.epoch, actual.selection) == (expected.epoch, expected.selection)


LIVELY = Recipe(steps=3, batch=4, evaluations=3, ema=0.5, norm_momentum=0.1, clip=0.5)
NEAR = {"rtol": 1e-4, "atol": 1e-5}  # a step is a hundred times as long


def test_weights_in_one_tensor_learn_the_same(monkeypatch):
    """But for rounding: what is left over of small tensors is not computed in vectors."""
    flat = run(recipe=LIVELY)
    monkeypatch.setattr("imasks.training.descent.can_be_flat", lambda network: False)
    apart = run(recipe=LIVELY)
    for name, value in apart.network.state_dict().items():
        torch.testing.assert_close(flat.network.state_dict()[name], value, **NEAR)


@pytest.mark.parametrize("flat_first", [True, False])
def test_a_checkpoint_does_not_depend_on_how_weights_lie(tmp_path, monkeypatch, flat_first):
    """So a training that an earlier version began goes on, too."""
    expected = weights(run(recipe=LIVELY))
    file = tmp_path / "checkpoint.safetensors"

    def die(record):
        raise Killed

    for flat, log in ((flat_first, die), (not flat_first, lambda record: None)):
        with monkeypatch.context() as here:
            if not flat:
                here.setattr("imasks.training.descent.can_be_flat", lambda network: False)
            if log is die:
                with pytest.raises(Killed):
                    run(file, recipe=LIVELY, log=log)
            else:
                torch.testing.assert_close(
                    weights(run(file, recipe=LIVELY, log=log)), expected, **NEAR
                )


def test_a_checkpoint_of_another_network_is_an_error(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    run(file)
    tensors, about = load_tensors(file)
    name = next(n for n in tensors if n.endswith("exp_avg"))
    save_tensors(file, tensors | {name: torch.zeros(1)}, about)
    with pytest.raises(UserError, match="does not hold the state of this training"):
        run(file, recipe=replace(SHORT, steps=SHORT.steps + 4))


def test_a_damaged_checkpoint_is_an_error(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(b"torn")
    with pytest.raises(UserError, match="checkpoint"):
        run(file)


def test_nothing_to_train_on_is_an_error():
    with pytest.raises(UserError, match="no pair to train on"):
        run(parts=[part(0)])


def test_a_loss_that_explodes_is_an_error():
    recipe = Recipe(steps=40, batch=4, learning_rate=1e30)
    with pytest.raises(UserError, match="finite"):
        run(recipe=recipe)


@pytest.mark.parametrize(
    ("task", "planes"), [(Multiclass(["a", "b"]), 1), (Multilabel(["a", "b"]), 2)]
)
def test_other_tasks_train(task, planes):
    images, labels = discs(8)
    labels = labels + 1 if task.name == "multiclass" else labels.repeat(planes, 1)
    config = UNetConfig(in_channels=1, outputs=task.outputs, width=0.25, norm_momentum=0.1)
    recipe = Recipe(steps=60, batch=8, evaluations=3)
    parts, val = [Part(images=images, labels=labels)], Arrays(("x",) * 8, images, labels)
    fitted = fit(
        seeded_network(make_unet, config, seed=0, device=CPU),
        Supervised(task, parts, val, recipe, seed=0, device=CPU),
        recipe,
        seed=0,
        device=CPU,
    )
    assert np.isfinite(fitted.selection)


def test_ignored_pixels_teach_nothing():
    images, labels = discs(8)
    wrong = labels.copy()
    wrong[:, :, :16] = 1 - wrong[:, :, :16]
    ignored = labels.copy()
    ignored[:, :, :16] = 255
    also_ignored = wrong.copy()
    also_ignored[:, :, :16] = 255
    one = run(parts=[Part(images=images, labels=ignored)])
    two = run(parts=[Part(images=images, labels=also_ignored)])
    assert torch.equal(weights(one), weights(two))
    assert not torch.equal(weights(one), weights(run(parts=[Part(images=images, labels=wrong)])))


def test_published_number_of_steps():
    assert Recipe().total_steps(2040) == 50 * 63
    assert Recipe().total_steps(46) == 1500
    assert Recipe(steps=7).total_steps(46) == 7


def test_cosine_warms_up_and_ends_near_zero():
    recipe = Recipe(schedule="cosine")
    rates = [recipe.learning_rate_at(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.003 / 5)
    assert max(rates) == pytest.approx(0.003)
    assert rates[-1] < 1e-5
