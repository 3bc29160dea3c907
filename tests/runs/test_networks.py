"""Other networks than the U-Net in runs."""

import dataclasses
import json
import shutil

import pytest
from rich.console import Console
from safetensors.torch import load_file, save_file

from imasks.api import load, make_options
from imasks.approaches.ladders import LADDERS
from imasks.approaches.presets import PRESETS
from imasks.approaches.recipes import APPROACHES
from imasks.data.prepare import Preparation
from imasks.errors import UserError
from imasks.jobs import in_order
from imasks.models.encoded import Encoded
from imasks.models.networks import build, from_record
from imasks.models.own import OwnConfig
from imasks.models.vit import VitConfig
from imasks.models.weights import load_network
from imasks.runs.config import RunConfig
from imasks.runs.configure import for_task
from imasks.runs.networks import choose_networks, step_of
from imasks.runs.options import Options
from imasks.runs.plan import make_plan
from imasks.runs.run import estimate, open_run, plan_run, work
from imasks.runs.tables import networks_text
from tests import networks_for_tests as made
from tests.conftest import needs_encoders

OWN = "tests.networks_for_tests:small"


def config(preset, **more):
    """A configuration that needs no data."""
    size = (64, 96)
    return RunConfig(
        data="data",
        checksum="c" * 32,
        task="binary",
        classes=("cell",),
        colors=(),
        preparation=Preparation(
            size=size, channels=3, fit="resize", levels=None, native=size, largest=size
        ),
        images={"labeled": 10, "unlabeled": 40, "val": 5, "test": 5},
        val_cut=(),
        approaches=("IM++",),
        seeds=(0,),
        preset=preset,
        how=for_task(PRESETS[preset], "binary"),
        ladder=LADDERS["isic2018"],
        device="cpu",
        threads=1,
        **more,
    )


@pytest.mark.parametrize(
    ("preset", "steps", "fit", "last"),
    [
        ("paper", None, "06527012ff6dacdb", "2ed42e682481fd63"),
        ("default", 2000, "667d62a571452bf3", "b52c8a4c6f0e8aaa"),
    ],
)
def test_jobs_of_unets_have_the_keys_they_had_before_there_were_others(preset, steps, fit, last):
    before = config(preset)
    recipe = dataclasses.replace(before.how.recipe, steps=steps)
    how = dataclasses.replace(before.how, warm_start=False, recipe=recipe)
    plan = make_plan(dataclasses.replace(before, how=how))
    assert plan.lines[0].generations[0].fits[0].key == fit
    assert plan.targets[-1].key == last
    assert "networks" not in config(preset).to_json()


def test_every_kind_of_network_has_its_turn(tiny_dataset, tiny, tmp_path):
    options = dataclasses.replace(tiny, network=f"{OWN},{OWN}", encoder="unet", candidates=2)
    how = {"approaches": ["LDT"], "seeds": [0]}
    with pytest.raises(UserError, match=r"3 kinds, 2 candidates\)\. Use --candidates 3"):
        plan_run(tiny_dataset, tmp_path / "run", options=options, **how)
    assert not (tmp_path / "run").exists()
    more = dataclasses.replace(options, candidates=3)
    plan_run(tiny_dataset, tmp_path / "run", options=more, **how)


def test_candidates_take_turns_and_only_unets_grow():
    own = OwnConfig(in_channels=3, outputs=1, factory=OWN)
    unet = from_record({"in_channels": 3, "outputs": 1})
    mixed = config("paper", networks=(own, unet))
    assert RunConfig.from_json(json.loads(json.dumps(mixed.to_json()))) == mixed
    (line,) = make_plan(mixed).lines
    kinds = [job.params["network"].get("kind", "unet") for job in line.generations[2].fits]
    assert kinds == ["python", "unet", "python", "unet", "python"]
    first, last = (line.generations[g].fits for g in (0, 5))
    assert first[0].params["network"] == last[0].params["network"]
    assert first[1].params["network"]["width"] < last[1].params["network"]["width"]
    assert networks_text(mixed) == (
        f"U-Nets, starting at width 0.5; {OWN}, of one size in all generations"
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"decoder": "fpn"}, r"about an encoder, and none is given \(found: decoder\)"),
        ({"pretrained": True, "network": OWN}, "found: pretrained"),
        ({"network": OWN, "width": 0.5}, "a width is that of U-Nets"),
        ({"encoder": " , "}, "a name is missing"),
        ({"encoder": "unet", "encoder_weights": "a,b"}, "one file of weights for each"),
        ({"encoder": "unet,unet,unet", "decoder": "unet,fpn"}, "one decoder for all.*2 for 3"),
        ({"encoder": "unet", "encoder_weights": "a", "pretrained": False}, "not both"),
    ],
)
def test_options_that_contradict_each_other_are_errors(given, says):
    with pytest.raises(UserError, match=says):
        choose_networks(Options(**given))


def test_the_unet_by_its_name_is_the_unet():
    assert choose_networks(Options(encoder="unet")) == ()
    assert choose_networks(Options()) == ()


@needs_encoders
def test_encoders_are_looked_up():
    options = Options(encoder="resnet18,test_vit,unet", decoder="fpn", network=OWN)
    resnet, vit, _, own = choose_networks(options)
    assert (resnet.encoder, resnet.decoder, resnet.rate) == ("resnet18.imagenet", "fpn", 0.1)
    assert (vit.encoder, vit.rate, vit.mean) == ("test_vit.r160_in1k", 0.0, (0.5, 0.5, 0.5))
    assert own.factory == OWN
    assert step_of((resnet, vit, own), 3) == 32
    plain = choose_networks(dataclasses.replace(options, pretrained=False))
    assert (plain[0].encoder, plain[0].weights, plain[0].rate) == ("resnet18", None, 1.0)
    with pytest.raises(UserError, match=r"no such decoder .found: moon.*fpn"):
        choose_networks(dataclasses.replace(options, decoder="moon"))


def test_a_factory_may_be_given_itself():
    assert make_options(network=made.small).network == OWN


def test_a_network_that_breaks_the_contract_leaves_no_folder(tiny_dataset, tmp_path, tiny):
    options = dataclasses.replace(tiny, width=None, network="tests.networks_for_tests:HalfSize")
    with pytest.raises(UserError, match="HalfSize must return logits of shape"):
        plan_run(tiny_dataset, tmp_path / "run", approaches=["LDT"], seeds=[0], options=options)
    assert not list(tmp_path.glob("run/run.toml"))


def test_images_get_a_size_that_the_network_can_halve(tiny_dataset, tmp_path, tiny):
    options = dataclasses.replace(tiny, width=None, network="tests.networks_for_tests:Strided")
    what = {"approaches": ["LDT"], "seeds": [0], "dry": True}
    run = plan_run(tiny_dataset, tmp_path / "run", options=options, **what)
    assert run.config.preparation.size == (48, 48)
    wrong = dataclasses.replace(options, size=(32, 48))
    with pytest.raises(UserError, match=r"multiples of 24.*nearest is \[48, 48\]"):
        plan_run(tiny_dataset, tmp_path / "run", options=wrong, **what)


@pytest.mark.slow
def test_worker_processes_train_a_network_of_ones_own(tiny_dataset, tmp_path, tiny):
    options = dataclasses.replace(tiny, network=OWN, encoder="unet", candidates=2)
    what = {"approaches": ["IM"], "seeds": [0], "options": options}
    run = plan_run(tiny_dataset, tmp_path / "run", **what)
    assert estimate(run, workers=2)["waiting"] > 0
    work(run, workers=2, console=Console(quiet=True))
    fits = run.plan.lines[0].generations[1].fits
    networks = [load_network(run.store.folder(job)) for job in fits]
    assert [type(one).__name__ for one in networks] == ["UNet", "OwnNetwork"]
    assert plan_run(tiny_dataset, tmp_path / "run", **what).config == run.config
    image = next((tiny_dataset.folder / "test" / "images").iterdir())
    assert load(tmp_path / "run").predict(image).shape == (32, 32)


@pytest.mark.slow
@needs_encoders
def test_every_approach_works_with_mixed_architectures(tiny_dataset, tmp_path, tiny):
    options = dataclasses.replace(
        tiny, width=None, steps=2, encoder="unet,test_vit", candidates=2, graders=1,
        filter=False, pretrained=False,
    )  # fmt: skip
    run = plan_run(
        tiny_dataset, tmp_path / "run", approaches=list(APPROACHES), seeds=[0], options=options
    )
    work(run, workers=1, console=Console(quiet=True))
    assert {one.approach for one in run.outcomes() if one.complete} == set(APPROACHES)
    for line in run.plan.lines:
        for generation in line.generations:
            networks = [load_network(run.store.folder(job)) for job in generation.fits]
            kinds = [type(one).__name__ for one in networks]
            if generation.number and line.approach.consistency:  # the best of the start goes on
                assert len(set(kinds)) == 1
            else:
                assert kinds == ["UNet", "VitNetwork"], line.approach.name


@pytest.mark.slow
@needs_encoders
def test_a_run_keeps_the_weights_its_encoders_begin_with(tiny_dataset, tmp_path, tiny):
    given = tmp_path / "given" / "model.safetensors"
    given.parent.mkdir()
    save_file(
        build(VitConfig(in_channels=3, outputs=1, encoder="test_vit")).encoder.state_dict(), given
    )
    options = dataclasses.replace(
        tiny, width=None, encoder="test_vit,test_vit3", encoder_weights=f"{given},{given}"
    )
    what = {"approaches": ["LDT"], "seeds": [0]}
    with pytest.raises(UserError, match="does not hold the weights of test_vit3"):
        plan_run(tiny_dataset, tmp_path / "run", options=options, **what)
    options = dataclasses.replace(options, encoder="test_vit", encoder_weights=str(given))
    run = plan_run(tiny_dataset, tmp_path / "run", options=options, **what)
    shutil.move(given, given.with_name("moved.safetensors"))
    work(run, workers=1, console=Console(quiet=True))
    (fit, _) = run.plan.lines[0].generations[0].fits
    network = load_network(run.store.folder(fit))
    assert isinstance(network, Encoded)
    before = load_file(given.with_name("moved.safetensors"))
    after = network.encoder.state_dict()
    assert all((after[k] == v).all() for k, v in before.items())  # frozen, as is the default
    for again in (options, dataclasses.replace(options, encoder_weights=None)):
        assert plan_run(tiny_dataset, tmp_path / "run", options=again, **what).config == run.config
    assert in_order(open_run(tmp_path / "run").plan.targets) == in_order(run.plan.targets)
    shutil.rmtree(run.folder / "encoders")
    shutil.rmtree(run.folder / "jobs")
    with pytest.raises(UserError, match="is gone, with the weights"):
        work(run, workers=1, console=Console(quiet=True))
