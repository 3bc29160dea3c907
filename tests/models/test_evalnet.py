import json

import numpy as np
import pytest
import torch
from torch import nn

from imasks.errors import UserError
from imasks.kernels import ops
from imasks.models.evalnet import EvalNet, EvalNetConfig, make_evalnet

GOLDEN = [
    (
        "evalnet_binary_a1_c3",
        EvalNetConfig(in_channels=3, mask_channels=1, classes=1, detection=False),
    ),
    (
        "evalnet_miou_a1_c3_n9",
        EvalNetConfig(in_channels=3, mask_channels=9, classes=9, detection=True),
    ),
]
STEMS = 10  # weighted layers of both stems; Keras lists image and mask in turns


def load_keras(network, recorded):
    """Copy recorded Keras weights; the layers of the two stems are told apart by their turns."""
    layers = [layer for layer in json.loads(str(recorded["layers_json"])) if layer["weights"]]
    layers = [*layers[0:STEMS:2], *layers[1:STEMS:2], *layers[STEMS:]]
    kinds = nn.Conv2d | nn.BatchNorm2d | nn.Linear
    modules = [m for m in network.modules() if isinstance(m, kinds)]
    for layer, module in zip(layers, modules, strict=True):
        prefix = f"w{layer['i']:03d}__{layer['name']}__"
        weights = [torch.from_numpy(recorded[prefix + w]) for w in layer["weights"]]
        targets = [module.weight, module.bias]
        if isinstance(module, nn.Conv2d):
            weights[0] = weights[0].permute(3, 2, 0, 1)
        elif isinstance(module, nn.Linear):
            weights[0] = weights[0].T
        else:
            targets += [module.running_mean, module.running_var]
        for target, value in zip(targets, weights, strict=True):
            assert target.shape == value.shape
            with torch.no_grad():
                target.copy_(value)
    return network


def answer(network, recorded):
    images, masks = (torch.from_numpy(recorded[k]).permute(0, 3, 1, 2) for k in ("xa", "xb"))
    return network(images, (masks > 0).float()).sigmoid().detach().numpy()


def exact_answer(network, recorded):
    """Answer in float64, but for the heads, which compute in float32."""
    images, masks = (torch.from_numpy(recorded[k]).permute(0, 3, 1, 2) for k in ("xa", "xb"))
    network = network.double()
    network.heads.float()
    return network(images.double(), (masks > 0).double()).sigmoid().detach().numpy()


def expected(recorded, suffix=""):
    heads = [recorded[f"y{h}{suffix}"] for h in (0, 1) if f"y{h}{suffix}" in recorded]
    return np.stack(heads, 1)


@pytest.mark.parametrize(("stem", "config"), GOLDEN)
def test_agrees_with_the_published_network(golden, stem, config):
    recorded = golden(stem)
    network = load_keras(EvalNet(config), recorded).eval()
    np.testing.assert_allclose(answer(network, recorded), expected(recorded), atol=2e-5)
    assert sum(p.numel() for p in network.parameters()) == recorded["params"][1]


@pytest.mark.parametrize(("stem", "config"), GOLDEN)
def test_agrees_with_the_published_network_in_training_mode(golden, monkeypatch, stem, config):
    # The record was summed in float32, as plain PyTorch sums; our kernels sum in float64.
    monkeypatch.setattr(ops, "usable", lambda x: False)
    recorded = golden(stem)
    network = load_keras(EvalNet(config), recorded).train()
    difference = np.abs(answer(network, recorded) - expected(recorded, "_train"))
    assert difference.mean() < 1e-4


@pytest.mark.parametrize(("stem", "config"), GOLDEN)
def test_is_as_exact_as_plain_pytorch_in_training_mode(golden, monkeypatch, stem, config):
    recorded = golden(stem)
    ours = answer(load_keras(EvalNet(config), recorded).train(), recorded)
    monkeypatch.setattr(ops, "usable", lambda x: False)
    plain = answer(load_keras(EvalNet(config), recorded).train(), recorded)
    exact = exact_answer(load_keras(EvalNet(config), recorded).train(), recorded)
    assert np.abs(ours - exact).mean() <= np.abs(plain - exact).mean() + 1e-6


@pytest.mark.parametrize("size", [(16, 16), (48, 176), (208, 416)])
def test_any_size_and_number_of_heads(size):
    for detection in (False, True):
        config = EvalNetConfig(
            in_channels=2, mask_channels=3, classes=4, detection=detection, width=0.25
        )
        network = make_evalnet(config, torch.device("cpu")).eval()
        images = torch.randint(0, 256, (2, 2, *size), dtype=torch.uint8)
        logits = network(images, torch.ones(2, 3, *size))
        assert logits.shape == (2, 1 + detection, 4)
        assert logits.dtype == torch.float32


def test_both_inputs_matter():
    torch.manual_seed(0)
    config = EvalNetConfig(in_channels=1, mask_channels=1, classes=1, detection=False, width=0.25)
    network = EvalNet(config).eval()
    images, masks = torch.rand(2, 1, 32, 32) * 255, torch.rand(2, 1, 32, 32).round()
    first = network(images, masks)
    assert not torch.equal(first, network(images.flip(0), masks))
    assert not torch.equal(first, network(images, masks.flip(0)))


def test_a_width_without_channels_is_refused():
    with pytest.raises(UserError, match=r"width.*0\.01"):
        EvalNetConfig(in_channels=3, mask_channels=1, classes=1, detection=False, width=0.01)
