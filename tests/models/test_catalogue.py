import json

import pytest

from imasks.errors import UserError
from imasks.models import catalogue, optional
from imasks.models.catalogue import find_encoder, locate
from tests.conftest import needs_encoders

pytestmark = needs_encoders


def test_names_lead_to_families_and_weights():
    resnet = find_encoder("resnet18")
    assert (resnet.name, resnet.family) == ("resnet18.imagenet", "smp")
    assert resnet.revision  # the repository as the library knows it, not as it may become
    assert find_encoder("resnet18.ssl").repository != resnet.repository
    universal = find_encoder("tu-resnet18")
    assert universal.family == "smp"
    assert universal.name.startswith("tu-resnet18.")
    dino = find_encoder("vit_small_patch14_dinov2")
    assert (dino.name, dino.family) == ("vit_small_patch14_dinov2.lvd142m", "vit")
    assert find_encoder(dino.name) == dino
    assert find_encoder("test_vit").norm == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnet81", r"no such encoder \(found: resnet81\).*resnet18"),
        ("resnet18.moon", "no such weights .*imagenet, ssl, swsl"),
        ("vit_small_patch14_dinov2.moon", "timm knows no such weights"),
        ("", "no such encoder"),
    ],
)
def test_unknown_names_are_errors(name, says):
    with pytest.raises(UserError, match=says):
        find_encoder(name)


@pytest.mark.parametrize(
    ("name", "files"),
    [("resnet18", "model.safetensors and config.json"), ("test_vit", "model.safetensors")],
)
def test_without_a_connection_the_remedy_names_the_files(name, files, tmp_path, monkeypatch):
    constants = optional.hub().constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    encoder = find_encoder(name)
    with pytest.raises(UserError, match=f"cannot be downloaded.*download {files} of that") as told:
        locate(encoder, None)
    assert encoder.repository in str(told.value)
    assert "--encoder-weights" in str(told.value)
    assert "--no-pretrained" in str(told.value)


def test_an_encoder_without_weights_cannot_begin_with_them():
    encoder = catalogue.Encoder(name="x", family="vit")
    with pytest.raises(UserError, match="no weights of this encoder"):
        locate(encoder, None)


def test_files_of_other_formats_are_refused(tmp_path):
    file = tmp_path / "model.bin"
    file.write_bytes(b"\x80\x04\x95pickle")
    for given in (file, tmp_path / "missing.safetensors"):
        with pytest.raises(UserError, match="must be a safetensors file"):
            locate(find_encoder("test_vit"), given)


def test_a_file_beside_the_weights_says_how_images_were_normalised(tmp_path):
    file, about = tmp_path / "model.safetensors", tmp_path / "config.json"
    file.touch()
    encoder = find_encoder("resnet18")
    with pytest.raises(UserError, match=r"config\.json must say how images"):
        locate(encoder, file)
    about.write_text(json.dumps({"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1], "input_space": None}))
    assert locate(encoder, file)[1].norm == ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    about.write_text(json.dumps({"mean": [51], "std": [255], "input_range": [0, 255]}))
    assert locate(encoder, file)[1].norm == ((0.2,), (1.0,))
    for wrong in ({"mean": [0.1]}, {"mean": [1], "std": [1], "input_space": "BGR"}):
        about.write_text(json.dumps(wrong))
        with pytest.raises(UserError, match=r"config\.json must say"):
            locate(encoder, file)
    assert locate(find_encoder("test_vit"), file)[0] == file  # timm itself knows
