import json
import re
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import save_file

from imasks.errors import UserError
from imasks.models import optional
from imasks.models.contract import check_contract
from imasks.models.networks import (
    build,
    check_weights,
    describe,
    from_record,
    make_network,
    stride_of,
    to_record,
)
from imasks.models.own import OwnConfig
from imasks.models.smp import SmpConfig
from imasks.models.unet import UNetConfig
from imasks.models.vit import VitConfig
from imasks.models.weights import load_network, save_network
from imasks.training.descent import make_optimiser
from imasks.training.fit import seeded_network
from imasks.training.recipe import Recipe
from tests.conftest import needs_encoders

CPU = torch.device("cpu")
UNET = UNetConfig(in_channels=3, outputs=2, width=0.25)
OWN = OwnConfig(in_channels=3, outputs=2, factory="tests.networks_for_tests:small")
TINY = {"embed_dim": 16, "depth": 3, "num_heads": 2}
COMMON = {"in_channels": 3, "outputs": 2}
MOBILE = SmpConfig(**COMMON, encoder="mobilenet_v2", decoder="fpn")
MIT = SmpConfig(**COMMON, encoder="mit_b0", decoder="segformer")
TIMM = SmpConfig(**COMMON, encoder="tu-test_convnext")
DINO2 = VitConfig(**COMMON, encoder="vit_small_patch14_dinov2", settings=TINY)
DINO3 = VitConfig(**COMMON, encoder="vit_small_patch16_dinov3", settings=TINY)
TEST = VitConfig(**COMMON, encoder="test_vit")  # timm would load a part of its weights, too
GREY = replace(DINO3, in_channels=1)
STRIDES = [
    (UNET, 16),
    (OWN, 16),
    (MOBILE, 32),
    (MIT, 32),
    (TIMM, 32),
    (DINO2, 14),
    (DINO3, 16),
    (GREY, 16),
]
ALL = [
    pytest.param(config, stride, marks=needs_encoders if hasattr(config, "encoder") else ())
    for config, stride in STRIDES
]


@pytest.mark.parametrize("config", [config for config, _ in STRIDES], ids=describe)
def test_a_record_is_plain_and_leads_back(config):
    record = json.loads(json.dumps(to_record(config)))
    assert from_record(record) == config
    without_none = {k: v for k, v in record.items() if v is not None}  # as TOML has it
    assert json.dumps(to_record(from_record(without_none))) == json.dumps(record)


def test_the_record_of_a_unet_is_what_it_was_before_there_were_others():
    assert to_record(UNET) == asdict(UNET)
    assert set(asdict(UNET)) == {"in_channels", "outputs", "width", "dropout", "norm_momentum"}


@pytest.mark.parametrize(("config", "stride"), ALL)
def test_every_kind_keeps_the_contract_and_comes_back_from_disk(config, stride, tmp_path):
    assert stride_of(config) == stride
    size = (stride, 2 * stride) if stride > 16 else (2 * stride, 3 * stride)
    network = make_network(config, CPU)
    check_contract(network, name="this", size=size, in_channels=config.in_channels, outputs=2)
    save_network(tmp_path, network)
    again = load_network(tmp_path)
    assert again.config == config
    assert not again.training
    images = torch.randint(0, 256, (2, config.in_channels, *size), dtype=torch.uint8)
    with torch.no_grad():  # so that both are computed alike, however their weights lie in memory
        assert torch.allclose(again(images), network.eval()(images), atol=1e-5)


@needs_encoders
def test_images_are_normalised_inside_the_network():
    network = build(replace(GREY, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0))).eval()
    seen = []
    network.backbone.patch_embed.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    network(torch.full((1, 1, 16, 16), 255, dtype=torch.uint8))
    assert seen[0][0, :, 0, 0].tolist() == pytest.approx([0.9, 0.4, 0.175])


@needs_encoders
@pytest.mark.parametrize("config", [MOBILE, DINO3], ids=describe)
@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_an_encoder_learns_at_its_own_rate_or_not_at_all(config, rate):
    config = replace(config, rate=rate, weights="a" * 32)
    network = seeded_network(make_network, config, seed=0, device=CPU).train()
    before = {k: v.clone() for k, v in network.encoder.state_dict().items()}
    groups = make_optimiser(network, Recipe(weight_decay=0)).param_groups
    assert [group["rate"] for group in groups] == ([1.0, rate] if rate else [1.0])
    learned = sum(len(group["params"]) for group in groups)
    theirs = len(list(network.encoder.parameters()))
    assert learned == len(list(network.parameters())) - (0 if rate else theirs)
    network(torch.rand(2, 3, 64, 64) * 255).square().mean().backward()
    after = network.encoder.state_dict()
    same = all(torch.equal(after[k], v) for k, v in before.items())
    reached = any(p.grad is not None for p in network.encoder.parameters())
    if rate:
        assert reached
    else:
        assert same  # running statistics, too
        assert not any(m.training for m in network.encoder.modules())
    assert all(m.training for m in network.modules() if m not in set(network.encoder.modules()))


@needs_encoders
def test_a_frozen_encoder_needs_weights():
    with pytest.raises(UserError, match="begins at random and never learns"):
        replace(DINO3, rate=0.0)


@needs_encoders
@pytest.mark.parametrize("config", [MOBILE, replace(MOBILE, in_channels=5), TIMM, TEST, DINO3])
def test_encoders_begin_with_the_weights_of_a_file(config, tmp_path):
    if config is TIMM:
        source = optional.timm().create_model("test_convnext").state_dict()
    else:
        source = build(replace(config, in_channels=3)).encoder.state_dict()
    file = tmp_path / "model.safetensors"
    save_file(source, file)
    began = build(config, file).encoder.state_dict()
    # a feature extractor of timm calls stages.0 stages_0
    saved = {re.sub(r"^model\.(stem|stages)_", r"\1.", k): v for k, v in began.items()}
    differ = [k for k, v in saved.items() if not torch.equal(source[k], v)]
    assert differ == (["features.0.0.weight"] if config.in_channels == 5 else [])
    check_weights(config, file)
    gone = next(k for k, v in source.items() if v.ndim == 4)
    for other in ({"x": torch.ones(2)}, {k: v for k, v in source.items() if k != gone}):
        save_file(other, file)
        with pytest.raises(UserError, match="does not hold the weights of"):
            check_weights(config, file)


@needs_encoders
@pytest.mark.parametrize(
    ("config", "says"),
    [
        (replace(MOBILE, encoder="xception", decoder="deeplabv3"), "cannot be put together"),
        (replace(DINO3, encoder="resnet18"), "no plain vision transformer.*tu-resnet18"),
        (replace(DINO3, settings={"patch_size": (16, 8)}), "no plain.*patches of 16 x 8"),
    ],
)
def test_parts_that_do_not_fit_are_named(config, says):
    with pytest.raises(UserError, match=says):
        build(config)


def test_libraries_are_imported_only_when_used():
    code = "import sys, imasks, imasks.api; from imasks import *; import imasks.runs.handlers; "
    code += "print([m for m in ('segmentation_models_pytorch', 'timm', 'torchvision', "
    code += "'huggingface_hub') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UserError, match=r"found: torchvision.*imasks\[encoders\]"):
        build(MOBILE)
