from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from imasks.approaches.ladders import LADDERS
from imasks.approaches.presets import PRESETS
from imasks.data.prepare import Preparation, resize_image
from imasks.errors import UserError
from imasks.labelling.calibration import Calibration
from imasks.labelling.judge import Judge
from imasks.models.unet import UNet, UNetConfig
from imasks.models.weights import save_network
from imasks.runs import bands as module
from imasks.runs import ensemble as ensemble_module
from imasks.runs.choice import choose
from imasks.runs.config import RunConfig, write_config
from imasks.runs.predictor import Predictor, predictor_of
from imasks.runs.run import open_run
from imasks.tasks import Binary, Multiclass, Multilabel

CPU = torch.device("cpu")
TILES = Preparation(
    size=(32, 48), channels=3, fit="tile", levels=None, native=(100, 100), largest=(100, 100)
)
RESIZE = Preparation(
    size=(32, 48), channels=3, fit="resize", levels=None, native=(64, 96), largest=(64, 96)
)
TASKS = [Binary(["cell"]), Multiclass(["sea", "land", "ice"]), Multilabel(["a", "b"])]


class Pointwise(nn.Module):
    """A network whose every pixel depends on that pixel alone."""

    def __init__(self, outputs, seed=0, channels=3):
        super().__init__()
        self.conv = nn.Conv2d(channels, outputs, 1)
        generator = torch.Generator().manual_seed(seed)
        nn.init.normal_(self.conv.weight, std=0.02, generator=generator)
        nn.init.normal_(self.conv.bias, generator=generator)

    def forward(self, images):
        return self.conv(images - 128)


class Brightness(nn.Module):
    """Binary: foreground where the red channel is above a level."""

    def __init__(self, level):
        super().__init__()
        self.level = level

    def forward(self, images):
        return (images[:, :1] - self.level) / 10


def noise(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def make(networks, task, preparation=TILES, **more):
    networks = tuple(network.eval() for network in networks)
    return Predictor(networks=networks, task=task, preparation=preparation, device=CPU, **more)


def unet(task, seed=0, channels=3):
    torch.manual_seed(seed)
    return UNet(UNetConfig(in_channels=channels, outputs=task.outputs, width=0.25)).eval()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 130), st.integers(1, 130), st.integers(0, 2))
def test_tiles_of_a_pointwise_network_are_the_whole(height, width, kind):
    task = TASKS[kind]
    networks = [Pointwise(task.outputs, seed) for seed in (0, 1)]
    image = noise(height, width)
    by_tiles = make(networks, task)._in_parts(image)
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        whole = torch.stack([task.probabilities(network(x))[0] for network in networks])
    assert by_tiles.shape == (2, task.outputs, height, width)
    np.testing.assert_allclose(by_tiles, whole, rtol=0, atol=1e-6)


def seam_and_elsewhere(predictor, image):
    """Mean absolute steps between neighbouring columns, at the borders of tiles and elsewhere."""
    probability = predictor._in_parts(image)[:, 0]
    steps = np.abs(np.diff(probability, axis=2)).mean((0, 1))
    length, tile = image.shape[1], predictor.preparation.size[1]
    starts = module.starts(length, tile)
    borders = {x - 1 for x in starts} | {x + tile - 1 for x in starts}
    seams = sorted(border for border in borders if 0 <= border < length - 1)
    assert len(seams) >= 6
    return steps[seams].mean(), np.delete(steps, seams).mean()


def test_no_seam_shows(monkeypatch):
    task = Binary(["cell"])
    predictor = make([unet(task, seed) for seed in range(4)], task)
    y, x = np.mgrid[:40, :187]
    smooth = np.stack([y * 5, 127 + 100 * np.sin(x / 20), 200 - y * 3], -1)
    smooth = smooth.astype(np.uint8)
    seam, elsewhere = seam_and_elsewhere(predictor, smooth)
    assert seam <= elsewhere
    monkeypatch.setattr(module, "raised_cosine", np.ones)
    seam_when_flat, elsewhere = seam_and_elsewhere(predictor, smooth)
    assert seam_when_flat > 2 * elsewhere  # the test can tell


@given(st.integers(1, 2000), st.sampled_from([32, 48, 256]))
def test_tiles_cover_everything_and_overlap_by_half(length, tile):
    length = max(length, tile)
    starts = module.starts(length, tile)
    assert starts[0] == 0
    assert starts[-1] == length - tile
    assert all(0 < gap <= tile / 2 + 1 for gap in np.diff(starts))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_prediction_has_the_users_encoding_and_the_images_size(task):
    predictor = make([unet(task, seed) for seed in range(3)], task, RESIZE)
    found = predictor(noise(50, 70))
    shape = (2, 50, 70) if task.name == "multilabel" else (50, 70)
    assert found.mask.shape == shape
    assert found.mask.dtype == np.uint8
    assert found.mask.max() < max(2, len(task.classes))
    assert found.im.shape == (50, 70)
    assert found.im.dtype == np.bool_
    assert found.im_share == found.im.mean()
    assert found.agreement == 1 - found.im_share
    assert 0 < found.confidence <= 1
    planes = found.mask if task.name == "multilabel" else [found.mask]
    if task.name == "multiclass":
        planes = [found.mask == k for k in range(3)]
    expected = {name: plane.mean() for name, plane in zip(task.classes, planes, strict=True)}
    assert found.areas == pytest.approx(expected)


def test_networks_that_disagree():
    """Levels 0, 100, 200 against thresholds 50, 100+, 150: all agree only at the ends."""
    image = np.repeat(np.array([[0, 90, 120, 255]], np.uint8), 32, 0)[..., None].repeat(3, 2)
    predictor = make([Brightness(level) for level in (60, 100, 140)], Binary(["cell"]))
    found = predictor(image)
    assert found.mask[0].tolist() == [0, 0, 1, 1]
    assert found.im[0].tolist() == [False, True, True, False]
    assert found.agreement == 0.5
    assert found.areas == {"cell": 0.5}
    sure = torch.tensor([60, 100, 140]) / 10
    ends = (1 - torch.sigmoid(-sure).mean() + torch.sigmoid(25.5 - sure).mean()) / 2
    middle = torch.sigmoid(torch.tensor([[3.0, -1.0, -5.0], [-6.0, -2.0, 2.0]])).mean(1)
    middle = (1 - middle[0] + 1 - middle[1]) / 2
    assert found.confidence == pytest.approx(float((ends + middle) / 2), abs=1e-6)


def test_the_union_of_planes_is_the_mask_of_a_multilabel_ensemble():
    first, second = Pointwise(2), Pointwise(2)
    for network, biases in ((first, (5.0, -5.0)), (second, (5.0, 5.0))):
        nn.init.zeros_(network.conv.weight)
        network.conv.bias.data = torch.tensor(biases)
    found = make([first, second], Multilabel(["a", "b"]))(noise(8, 9))
    assert found.im.all()
    assert found.areas["a"] == 1


def test_the_reserved_index_is_never_answered():
    network = Pointwise(3)
    nn.init.zeros_(network.conv.weight)
    network.conv.bias.data = torch.tensor([9.0, 0.0, 1.0])
    found = make([network], Multiclass(["sea", "land"]))(noise(8, 9))
    assert (found.mask == 1).all()
    assert found.im_share == 0
    assert found.confidence < 0.001  # what goes to the reserved index is lost


def test_whole_is_what_training_saw():
    """At the training size, the probabilities are the networks' own."""
    task = TASKS[1]
    network = unet(task)
    image = noise(32, 48)
    with torch.no_grad():
        own = task.probabilities(network(torch.from_numpy(image).permute(2, 0, 1)[None]))
    found = make([network], task, RESIZE)(image)
    assert (found.mask == task.to_user(task.discrete(own, reserved=False))[0, 0].numpy()).all()


def test_whole_resizes_the_image_there_and_the_probability_back():
    task = Binary(["cell"])
    image = np.zeros((128, 96, 3), np.uint8)
    image[40:90, 30:70] = 255
    found = make([Brightness(128)], task, RESIZE, scale="whole")(image)
    assert (found.mask != (image[..., 0] > 0)).sum() < 4 * 90  # only near the border


def seen(predictor, image):
    """Record the shapes of the images that a network is shown."""
    shapes = []
    original = predictor.show
    object.__setattr__(predictor, "show", lambda images: shapes.append(images) or original(images))
    predictor(image)
    return shapes


@pytest.mark.parametrize(
    ("scale", "size", "tiles"),
    [
        ("auto", (64, 96), 1),
        ("auto", (96, 144), 1),  # 1.5 times the training images
        ("auto", (97, 144), 3),  # taller: 48.5 rows -> 48, in tiles of 32 -> 2 x (72 / 48 -> 2)
        ("auto", (20, 30), 1),
        ("whole", (640, 96), 1),
        ("native", (64, 96), 1),
        ("native", (128, 96), 3),
    ],
)
def test_scales(scale, size, tiles):
    predictor = make([Pointwise(1)], Binary(["cell"]), RESIZE, scale=scale)
    shown = np.concatenate(seen(predictor, noise(*size)))
    assert shown.shape[1:] == (32, 48, 3)
    expected = 4 if size == (97, 144) else tiles
    assert len(shown) == expected


def test_images_as_large_as_the_largest_seen_are_shown_whole():
    """Of images of mixed sizes, training and scoring have squeezed even the largest whole."""
    mixed = replace(RESIZE, largest=(128, 192))
    predictor = make([Pointwise(1)], Binary(["cell"]), mixed)
    assert len(np.concatenate(seen(predictor, noise(192, 288)))) == 1
    assert len(np.concatenate(seen(predictor, noise(193, 288)))) > 1
    assert len(np.concatenate(seen(predictor, noise(20, 289)))) > 1


def test_native_keeps_the_magnification_of_training():
    predictor = make([Pointwise(1)], Binary(["cell"]), RESIZE, scale="native")
    image = noise(128, 96)
    shown = np.concatenate(seen(predictor, image))
    assert (shown[0] == resize_image(image, (64, 48))[:32]).all()


def test_depth_levels_and_grey_images():
    deep = replace(TILES, channels=1, levels=((1000.0, 3000.0),), depth="uint16")
    image = np.full((40, 40), 1000, np.uint16)
    image[:20] = 3000
    predictor = make([Brightness(128)], Binary(["cell"]), deep)
    assert (predictor(image).mask == (image == 3000)).all()
    assert (predictor(image[..., None].repeat(3, 2)).mask == (image == 3000)).all()
    with pytest.raises(UserError, match=r"uint8.*uint16"):
        predictor(image.astype(np.uint8))


@pytest.mark.parametrize("shape", [(5,), (4, 4, 4), (1, 4, 4, 3), (0, 4, 3)])
def test_strange_shapes_are_refused(shape):
    with pytest.raises(UserError, match="shape"):
        make([Pointwise(1)], Binary(["cell"]))(np.zeros(shape, np.uint8))


def test_wrong_scales_are_refused():
    with pytest.raises(UserError, match=r"no such scale.*auto or whole or native"):
        make([], Binary(["cell"]), scale="huge")
    with pytest.raises(UserError, match="tiles"):
        make([], Binary(["cell"]), TILES, scale="whole")


class Covered(nn.Module):
    """Expects of every output the share of the image that it covers; of the last, that it is not
    there."""

    def __init__(self, task):
        super().__init__()
        self.detects = task.detects

    def forward(self, images, masks):
        iou = masks.mean((2, 3)).clamp(1e-6, 1 - 1e-6).logit()
        there = torch.ones_like(iou)
        there[:, -1] = -1
        return torch.stack([iou, there] if self.detects else [iou], 1)


def test_quality_of_images_seen_whole():
    task = Binary(["cell"])
    judge = Judge(evalnets=[Covered(task)], task=task, plain=False)
    half = Calibration(scores=np.array([0.0, 1.0]), quality=np.array([0.0, 0.5]))
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, :24] = 255
    networks = [Brightness(128), Brightness(130)]
    one = make(networks, task, RESIZE, judge=judge, calibration=half)
    assert one(image).quality == pytest.approx(0.125, abs=1e-4)
    assert one(image).class_quality == {}
    raw = replace(one, calibration=None)
    assert raw(image).quality == pytest.approx(0.25, abs=1e-4)
    # what comes in tiles has none
    assert replace(one, scale="native")(image).quality is None
    assert one(noise(200, 96)).quality is None
    assert make(networks, task, TILES, judge=judge)(image).quality is None
    assert make(networks, task, RESIZE)(image).quality is None


def test_an_image_is_resized_once_though_it_is_judged(monkeypatch):
    resized = []
    task = Binary(["cell"])
    judge = Judge(evalnets=[Covered(task)], task=task, plain=False)

    def count(image, size):
        resized.append(size)
        return resize_image(image, size)

    monkeypatch.setattr(ensemble_module, "resize_image", count)
    made = make([Brightness(128), Brightness(130)], task, RESIZE, judge=judge)
    assert made(noise(64, 96)).quality is not None
    assert resized == [RESIZE.size]


def test_quality_of_classes_that_are_found():
    task = Multiclass(["sea", "land", "ice"])
    judge = Judge(evalnets=[Covered(task)], task=task, plain=True)
    found = make([unet(task)], task, RESIZE, judge=judge)(noise(32, 48))
    assert set(found.class_quality) == {"sea", "land"}
    expected = {name: found.areas[name] for name in ("sea", "land")}
    assert found.class_quality == pytest.approx(expected, abs=1e-4)
    assert found.quality == pytest.approx(np.mean(list(expected.values())), abs=1e-4)


@pytest.fixture
def run(tmp_path):
    preset = PRESETS["default"]
    how = replace(preset, start_candidates=3, candidates=3, models=2, generations=1)
    config = RunConfig(
        data="data",
        checksum="0",
        task="binary",
        classes=("cell",),
        colors=("#ff0000",),
        preparation=RESIZE,
        images={"labeled": 4, "unlabeled": 8, "val": 2, "test": 0},
        val_cut=(),
        approaches=("LDT", "IM"),
        seeds=(0, 1),
        preset="default",
        how=how,
        ladder=LADDERS["isic2018"],
        device="cpu",
        threads=1,
    )
    write_config(tmp_path, config)
    return open_run(tmp_path)


def line_of(run, approach, seed):
    return next(ln for ln in run.plan.lines if (ln.approach.name, ln.seed) == (approach, seed))


def finish(run, generation, value):
    """Pretend that a generation is done, its last candidate the best, then the first."""
    a, b, c = generation.fits
    ranked = [c.key, a.key, b.key]
    store = run.store
    store.folder(generation.rank).mkdir(parents=True, exist_ok=True)
    store.finish(generation.rank, {"ranked": ranked, "ensemble": {"val": {"iou": value}}})
    return c, a


def test_choose_takes_the_best_validation_score(run):
    finish(run, line_of(run, "IM", 0).generations[0], 0.5)
    best = finish(run, line_of(run, "IM", 0).generations[1], 0.8)
    finish(run, line_of(run, "IM", 1).generations[0], 0.7)
    chosen = choose(run)
    assert (chosen.approach, chosen.seed, chosen.generation) == ("IM", 0, 1)
    assert chosen.val == 0.8
    assert chosen.fits == best
    assert choose(run, seed=1).val == 0.7
    assert choose(run, approach="im", seed=0).fits == best


def test_choose_takes_no_start_of_what_goes_on_unless_there_is_nothing_else(run):
    finish(run, line_of(run, "IM", 1).generations[0], 0.9)
    assert choose(run, approach="IM").val == 0.9
    finish(run, line_of(run, "IM", 0).generations[0], 0.5)
    finish(run, line_of(run, "IM", 0).generations[1], 0.6)
    assert choose(run, approach="IM").val == 0.6
    assert choose(run, approach="IM", seed=1).val == 0.9
    both = choose(run)  # what is a start of one is all that another is to have
    assert (both.approach, both.seed, both.val) == ("LDT", 1, 0.9)


def test_choose_puts_scores_that_are_no_numbers_last(run):
    finish(run, line_of(run, "IM", 0).generations[0], float("nan"))
    finish(run, line_of(run, "IM", 0).generations[1], 0.1)
    assert choose(run).val == 0.1


def test_choose_needs_something_finished(run):
    with pytest.raises(UserError, match=r"no finished generation.*imasks status"):
        choose(run)
    finish(run, line_of(run, "IM", 0).generations[0], 0.5)
    with pytest.raises(UserError, match="no finished generation"):
        choose(run, seed=1)


def test_choose_names_what_there_is(run):
    with pytest.raises(UserError, match=r"no such approach.*LDT or IM"):
        choose(run, approach="FDT")
    with pytest.raises(UserError, match=r"no such seed.*0 or 1"):
        choose(run, seed=5)
    with pytest.raises(UserError, match="there is no such approach"):
        choose(run, approach="imm")


def test_predictor_of_loads_the_ensemble(run):
    jobs = finish(run, line_of(run, "LDT", 1).generations[0], 0.9)
    task = run.config.make_task()
    for seed, job in enumerate(jobs):
        run.store.folder(job).mkdir(parents=True, exist_ok=True)
        save_network(run.store.folder(job), unet(task, seed))
    predictor = predictor_of(run, device="cpu")
    assert predictor.colors == ("#ff0000",)
    assert not any(network.training for network in predictor.networks)
    image = noise(64, 96)
    expected = make([unet(task, 0), unet(task, 1)], task, RESIZE)(image)
    found = predictor(image)
    assert (found.mask == expected.mask).all()
    assert found.confidence == expected.confidence
