import json

import pytest
import torch

from imasks.errors import UserError
from imasks.models.evalnet import EvalNet, EvalNetConfig
from imasks.models.unet import UNet, UNetConfig
from imasks.models.weights import load_network, load_tensors, save_network, save_tensors

CONFIG = UNetConfig(in_channels=1, outputs=2, width=0.25)
EVALNET = EvalNetConfig(in_channels=1, mask_channels=2, classes=2, detection=True, width=0.25)
IMAGES = torch.rand(1, 1, 16, 16) * 255
NETWORKS = [
    ("unet", UNet(CONFIG), [IMAGES]),
    ("evalnet", EvalNet(EVALNET), [IMAGES, torch.ones(1, 2, 16, 16)]),
]


@pytest.mark.parametrize(("kind", "network", "inputs"), NETWORKS, ids=["unet", "evalnet"])
def test_a_network_comes_back_as_it_was(tmp_path, kind, network, inputs):
    save_network(tmp_path, network.eval())
    assert json.loads((tmp_path / "network.json").read_text())["network"] == kind
    again = load_network(tmp_path)
    assert type(again) is type(network)
    assert again.config == network.config
    assert not again.training
    assert torch.equal(again(*inputs), network(*inputs))


def test_a_network_of_an_unknown_kind_is_an_error(tmp_path):
    save_network(tmp_path, UNet(CONFIG))
    (tmp_path / "network.json").write_text('{"network": "vnet", "in_channels": 1, "outputs": 2}')
    with pytest.raises(UserError, match="vnet"):
        load_network(tmp_path)


def test_the_configuration_is_readable(tmp_path):
    save_network(tmp_path, UNet(CONFIG))
    assert json.loads((tmp_path / "network.json").read_text())["outputs"] == 2


def test_tensors_of_any_layout_come_back_equal(tmp_path):
    tensor = torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    save_tensors(tmp_path / "x", {"t": tensor, "n": torch.tensor(3)}, {"step": 7})
    tensors, about = load_tensors(tmp_path / "x")
    assert torch.equal(tensors["t"], tensor)
    assert about == {"step": 7}


@pytest.mark.parametrize("content", [b"", b"torn", b"\x80\x04\x95pickle"])
def test_damaged_weights_are_an_error(tmp_path, content):
    save_network(tmp_path, UNet(CONFIG))
    (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.safetensors"):
        load_network(tmp_path)


def test_weights_of_another_network_are_an_error(tmp_path):
    save_network(tmp_path, UNet(CONFIG))
    (tmp_path / "network.json").write_text('{"network": "unet", "in_channels": 3, "outputs": 2}')
    with pytest.raises(UserError, match="does not fit"):
        load_network(tmp_path)


def test_a_missing_configuration_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"network\.json"):
        load_network(tmp_path)
