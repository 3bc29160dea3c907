"""Networks whose weights lie in one tensor learn exactly as others do."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from imasks.models.unet import UNetConfig, make_unet
from imasks.training.descent import make_optimiser
from imasks.training.flat import Flat, can_be_flat
from imasks.training.recipe import Recipe

CPU = torch.device("cpu")


def unet():
    torch.manual_seed(0)
    return make_unet(UNetConfig(in_channels=3, outputs=1, width=0.25), CPU)


def test_steps_are_the_same_to_the_bit():
    one, recipe = unet(), Recipe(weight_decay=0.01)
    other = deepcopy(one)
    flat = Flat(one)
    optimisers = make_optimiser(one, recipe, flat), make_optimiser(other, recipe)
    images = torch.rand(2, 3, 32, 32) * 255
    for _ in range(3):
        for network, optimiser in zip((one, other), optimisers, strict=True):
            for variable in network.parameters():
                variable.grad = None
            network(images).square().mean().backward()
            if network is one:
                flat.gather()
            optimiser.step()
    assert flat.weights.numel() == sum(v.numel() for v in other.parameters())
    for name, value in other.state_dict().items():
        assert torch.equal(one.state_dict()[name], value), name


def test_a_flat_network_lies_in_memory_as_before():
    before, network = unet(), unet()
    Flat(network)
    for one, other in zip(network.parameters(), before.parameters(), strict=True):
        assert one.stride() == other.stride()
        assert torch.equal(one, other)
    copy = deepcopy(network)
    with torch.no_grad():
        next(copy.parameters()).fill_(7)
    assert not torch.equal(next(copy.parameters()), next(network.parameters()))


def test_a_missing_gradient_is_an_error():
    network = unet()
    with pytest.raises(RuntimeError, match="no gradient"):
        Flat(network).gather()


def test_networks_that_may_leave_weights_alone_stay_as_they_are():
    network = unet()
    assert can_be_flat(network)
    network.head.bias.requires_grad_(False)
    assert not can_be_flat(network)
    assert not can_be_flat(nn.Linear(2, 2))
