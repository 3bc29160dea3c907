from dataclasses import replace

import pytest

from imasks.approaches.generation import Source, sources, to_json, width
from imasks.approaches.ladders import DEFAULT_LADDER, LADDERS, STRENGTHS
from imasks.approaches.presets import PRESETS, Preset
from imasks.approaches.recipes import APPROACHES, find_approach
from imasks.data.augment import Augmentation
from imasks.errors import UserError

PAPER, DEFAULT = PRESETS["paper"], PRESETS["default"]
ISIC = LADDERS["isic2018"]


def listed(name, preset=PAPER, generation=1, ladder=ISIC):
    return [
        (s.pairs, s.frozen, s.augmentation)
        for s in sources(APPROACHES[name], preset, ladder, generation)
    ]


def test_every_start_is_supervised():
    for approach in APPROACHES.values():
        if approach.start is not None:
            assert APPROACHES[approach.start].start is None


@pytest.mark.parametrize("name", APPROACHES)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_approach_has_something_to_learn_from(name, preset):
    for generation in range(7):
        wanted = sources(APPROACHES[name], PRESETS[preset], ISIC, generation)
        assert wanted
        assert tuple(Source.from_json(s) for s in to_json(wanted)) == wanted


def test_published_training_sets():
    nothing = Augmentation()
    assert listed("LDT") == [("labeled", 0, nothing)]
    assert listed("ALDT") == [("labeled", 0, nothing), ("labeled", 9, ISIC.augmented)]
    assert listed("FDT") == [("labeled", 0, nothing), ("full", 0, nothing)]
    assert listed("IM") == [("pseudo", 0, nothing), ("labeled", 0, nothing)]
    assert listed("IM+", generation=3) == [("pseudo", 1, ISIC.noise[2]), ("labeled", 0, nothing)]
    assert listed("Noisy Student", generation=3) == listed("IM+", generation=3)
    assert listed("AIM+") == [
        ("pseudo", 1, ISIC.noise[0]),
        ("pseudo", 0, nothing),
        ("labeled", 0, nothing),
        ("labeled", 9, ISIC.augmented),
    ]


def test_on_the_fly_nothing_is_frozen():
    for name in APPROACHES:
        assert all(frozen == 0 for _, frozen, _ in listed(name, DEFAULT))


def test_published_schedules():
    assert [s.max_noise for s in ISIC.noise] == [5, 10, 15, 20, 25]
    assert [s.max_blur for s in LADDERS["cityscapes"].noise] == [0, 0, 0, 0, 1]
    assert [s.contrast for s in LADDERS["hela"].noise] == [0.1, 0.1, 0.2, 0.2, 0.3]
    assert [s.free_rotation for s in (LADDERS["suim"].augmented, ISIC.augmented)] == [False, True]
    growing = [width(APPROACHES["IM+"], ISIC, g) for g in range(6)]
    assert growing == [0.5, 0.5, 0.75, 1.0, 1.25, 1.5]
    assert [width(APPROACHES["IM"], ISIC, g) for g in range(6)] == [0.5] * 6
    assert width(APPROACHES["IM+"], LADDERS["suim"], 9) == 2.0  # stays at the last


def test_published_views():
    numbers = {
        name: [(v.max_blur, v.max_noise, v.contrast, v.brightness) for v in ladder.views]
        for name, ladder in LADDERS.items()
    }
    far = [(1, 10, 0.15, 10), (2, 17, 0.3, 17), (3, 25, 0.5, 25)]
    near = [(0, 3, 0.05, 3), (0, 9, 0.2, 9), (1, 15, 0.4, 15)]
    assert numbers == {"isic2018": far, "hela": far, "suim": far, "cityscapes": near}
    assert all(len(ladder.views) == len(STRENGTHS) for ladder in LADDERS.values())
    moved = {name for name, ladder in LADDERS.items() if ladder.views[0].free_rotation}
    assert moved == {DEFAULT_LADDER["binary"]}


def test_published_preset():
    recipe = PAPER.recipe
    assert (recipe.epochs, recipe.batch, recipe.learning_rate) == (50, 32, 0.003)
    assert (PAPER.start_candidates, PAPER.candidates, PAPER.generations) == (10, 5, 5)
    assert (PAPER.policy.input, PAPER.policy.label, PAPER.policy.filter) == ("black", "blank", None)
    assert (recipe.schedule, recipe.norm_momentum, recipe.select) == ("flat", 0.01, "paper")


def test_names_are_found_whatever_their_capitals():
    assert find_approach("im+").name == "IM+"
    with pytest.raises(UserError, match=r"found: nosy student.*Did you mean Noisy Student"):
        find_approach("nosy student")


def test_more_votes_than_networks_are_refused():
    with pytest.raises(UserError, match="models = 4, candidates = 3"):
        Preset(models=4, candidates=3)


def test_small_images_get_less_blur_and_noise():
    ladder = LADDERS["suim"]
    assert ladder.for_pixels(256, meant=256) == ladder
    assert ladder.for_pixels(512, meant=256) == ladder
    half, tiny = (ladder.for_pixels(side, meant=256) for side in (128, 48))
    assert [step.max_noise for step in half.noise] == [2, 5, 8, 10, 12]
    assert [step.max_blur for step in half.noise] == [0, 0, 0, 1, 2]
    assert {step.max_blur for step in (*tiny.noise, *tiny.views[:2])} == {0, 1}
    assert tiny.augmented.max_noise == 5
    for before, after in zip(
        (*ladder.noise, *ladder.views), (*tiny.noise, *tiny.views), strict=True
    ):
        assert after == replace(before, max_blur=after.max_blur, max_noise=after.max_noise)
    assert PRESETS["paper"].meant_for is None
    assert PRESETS["default"].meant_for == 256
