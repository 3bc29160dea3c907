import pytest
import torch

from imasks.errors import UserError
from imasks.models.contract import check_contract
from imasks.models.evalnet import EvalNet, EvalNetConfig
from imasks.models.unet import UNet, UNetConfig
from tests import networks_for_tests as made

SHAPE = {"in_channels": 3, "outputs": 2, "size": (32, 48)}


@pytest.mark.parametrize(
    "network", [UNet(UNetConfig(in_channels=3, outputs=2, width=0.25)), made.small(3, 2)]
)
def test_networks_that_keep_it_are_left_as_they_were(network):
    before = {k: v.clone() for k, v in network.state_dict().items() if "running" not in k}
    check_contract(network, name="mine", **SHAPE)
    after = network.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items() if "batches" not in k)
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (made.TakesNoBytes, r"fails at uint8 images of shape \[2, 3, 32, 48\]"),
        (made.HalfSize, r"of shape \[2, 2, 32, 48\] .* \(found: \[2, 2, 16, 24\]\)"),
        (made.Pair, "one tensor of logits .found: tuple"),
        (made.Half, r"must return float32 \(found: torch\.bfloat16\)"),
        (made.NotFinite, "not finite"),
        (made.Detached, "no gradient"),
        (made.Noisy, "differently in evaluation mode"),
        (made.ScalesBytesOnly, "uint8 images differently"),
        (made.Tied, r"two names.*conv\.weight and again\.weight"),
        (made.Frozen, "no parameter to learn"),
        (lambda i, o: made.small(1, o), "fails at images of type float32, in training"),
    ],
)
def test_what_is_wrong_is_named(network, says):
    with pytest.raises(UserError, match=f"the network mine .*{says}"):
        check_contract(network(3, 2), name="mine", **SHAPE)


def test_it_is_not_for_networks_of_another_kind():
    config = EvalNetConfig(in_channels=3, mask_channels=1, classes=1, detection=False, width=0.25)
    with pytest.raises(UserError, match="mine fails at"):
        check_contract(EvalNet(config), name="mine", **SHAPE)
