import numpy as np
import pytest
import torch

from imasks.models.unet import UNet, UNetConfig
from imasks.tasks import Binary, Multiclass
from imasks.training.descent import Descent, make_optimiser
from imasks.training.recipe import Recipe
from tests.models.test_unet import load_keras


def test_optimiser_agrees_with_the_published_one(golden):
    d = golden("optimizer_adamw")
    layer = torch.nn.Linear(7, 5, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(d["w"][0].T.reshape(5, 7)))
    recipe = Recipe(learning_rate=float(d["lr"]), weight_decay=float(d["wd"] / d["lr"]))
    assert recipe == Recipe(learning_rate=float(d["lr"]))  # these are the recipe's own values
    optimiser = make_optimiser(layer, recipe)
    for step, gradient in enumerate(d["grads"], start=1):
        layer.weight.grad = torch.from_numpy(gradient.T.copy())
        optimiser.step()
        np.testing.assert_allclose(layer.weight.detach().T, d["w"][step], atol=1e-4)


@pytest.mark.parametrize(
    ("stem", "task"),
    [
        ("trainsteps_unet_a05_mse", Binary(["x"])),
        ("trainsteps_unet_a05_cce", Multiclass(["a", "b", "c", "d"])),
    ],
)
def test_training_steps_agree_with_the_published_ones(golden, stem, task):
    d = golden(stem)
    config = UNetConfig(in_channels=3, outputs=task.outputs, width=0.5)
    network = load_keras(UNet(config), d, suffix="__init").train()
    optimiser = make_optimiser(network, Recipe())
    losses = []
    for x, y in zip(d["x"], d["y"], strict=True):
        truth = y.argmax(-1) if task.name == "multiclass" else y[..., 0]
        labels = torch.from_numpy(truth.astype(np.uint8))[:, None]
        loss = task.loss(network(torch.from_numpy(x).permute(0, 3, 1, 2)), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(d["losses"][0], abs=1e-4)
    assert losses[4] == pytest.approx(d["losses"][4], rel=0.03)


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_a_step_follows_the_gradient_at_its_rate(clip):
    one, other = (torch.nn.Linear(3, 1) for _ in range(2))
    other.load_state_dict(one.state_dict())
    recipe = Recipe(clip=clip)
    descent, optimiser = Descent(one, recipe), make_optimiser(other, recipe)
    for rate in (0.1, 0.01):
        x = torch.randn(4, 3) * 10
        descent.step(one(x).square().mean(), rate=rate)
        optimiser.zero_grad()
        other(x).square().mean().backward()
        if clip:
            assert torch.nn.utils.clip_grad_norm_(other.parameters(), clip) > clip
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
        for found, wanted in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(found, wanted)
