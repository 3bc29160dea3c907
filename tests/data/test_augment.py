import numpy as np
import pytest
import torch

from imasks.data.augment import (
    TWELVE,
    VIEW_ORDER,
    Augmentation,
    Position,
    add_noise,
    augment,
    blur,
    draw_noise,
    draw_positions,
    geometric,
    photometric,
    scale_brightness,
)
from imasks.errors import UserError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(image):
    return torch.from_numpy(image).permute(2, 0, 1)[None].float()


def picture(x):
    return x[0].permute(1, 2, 0).numpy().astype(np.uint8)


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_blur_agrees_with_the_published_code(golden, radius):
    d = golden("augment")
    out = picture(blur(batch(d["img"]), torch.tensor([radius])))
    np.testing.assert_array_equal(out, d[f"blur{2 * radius + 1}"])


@pytest.mark.parametrize("case", range(6))
def test_brightness_agrees_with_the_published_code(golden, case):
    d = golden("augment")
    a, b = torch.from_numpy(d[f"csa{case}_ab"]).float()[:, None]
    ramp = torch.arange(256.0).view(1, 1, 1, 256)
    out = scale_brightness(ramp, a, b)[0, 0].numpy()
    # where |a x + b| is a whole number and a half, float32 rounds either way
    exact = np.abs(d[f"csa{case}_ab"][0] * np.arange(256) + d[f"csa{case}_ab"][1])
    tie = np.abs(exact % 1 - 0.5) < 1e-4
    np.testing.assert_array_equal(out[0, ~tie], d[f"csa{case}_ramp"][0, ~tie])
    np.testing.assert_allclose(out, d[f"csa{case}_ramp"], atol=1)
    whole = picture(scale_brightness(batch(d["img"]), a, b))
    np.testing.assert_allclose(whole, d[f"csa{case}"], atol=1)


def test_noise_stays_in_its_range():
    x = torch.full((4, 3, 32, 32), 100.0)
    difference = add_noise(x, draw_noise(x.shape, 7, seeded())) - x
    assert difference.min() == -7
    assert difference.max() == 6


def test_geometry_moves_image_and_mask_alike():
    x = torch.randint(0, 256, (16, 1, 32, 32), generator=seeded()).float()
    how = Augmentation(flip=True, free_rotation=True)
    moved, mask = geometric(x, x.to(torch.uint8), how, seeded(1))
    torch.testing.assert_close(moved.to(torch.uint8), mask)


def test_free_rotation_reaches_all_eight_positions_equally():
    x = torch.arange(4.0).view(1, 1, 2, 2).expand(4000, 1, 2, 2)
    moved, _ = geometric(x, x.to(torch.uint8), Augmentation(free_rotation=True), seeded())
    _, counts = moved.flatten(1).unique(dim=0, return_counts=True)
    assert len(counts) == 8
    assert counts.min() > 400


def test_free_rotation_keeps_the_shape_of_oblong_images():
    x = torch.arange(6.0).view(1, 1, 2, 3).expand(500, 1, 2, 3)
    moved, _ = geometric(x, x.to(torch.uint8), Augmentation(free_rotation=True), seeded())
    assert len(moved.flatten(1).unique(dim=0)) == 4


def test_half_of_the_images_keep_their_brightness():
    x = torch.full((400, 1, 8, 8), 100.0)
    out = photometric(x, Augmentation(contrast=0.5, brightness=25), seeded())
    assert 0.4 < (out == x).all((1, 2, 3)).float().mean() < 0.6


def test_a_share_of_the_images_is_left_alone():
    x = torch.full((400, 1, 8, 8), 100.0)
    out = photometric(x, Augmentation(max_noise=20, share=0.25), seeded())
    assert 0.68 < (out == x).all((1, 2, 3)).float().mean() < 0.82


def test_same_seed_same_result():
    x = torch.randint(0, 256, (4, 3, 32, 32), generator=seeded()).float()
    how = Augmentation(
        flip=True,
        free_rotation=True,
        contrast=0.3,
        brightness=9,
        max_blur=3,
        max_noise=5,
        share=0.7,
    )
    first, second = (augment(x, x.to(torch.uint8), how, seeded(5)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    other, _ = augment(x, x.to(torch.uint8), how, seeded(6))
    assert not torch.equal(first[0], other)


def test_no_augmentation_changes_nothing():
    x = torch.randint(0, 256, (2, 3, 16, 16), generator=seeded()).float()
    image, mask = augment(x, x.to(torch.uint8), Augmentation(), seeded())
    assert torch.equal(image, x)
    assert torch.equal(mask, x.to(torch.uint8))


def test_impossible_settings_are_refused():
    with pytest.raises(UserError, match=r"max_blur.*found: 4"):
        Augmentation(max_blur=4)
    with pytest.raises(UserError, match=r"contrast.*-1"):
        Augmentation(contrast=-1)


def test_the_order_of_views():
    # noise before brightness: halving it afterwards leaves half of its range
    x = torch.full((200, 1, 8, 8), 100.0)
    how = Augmentation(contrast=1.0, max_noise=100)
    published = photometric(x, how, seeded())
    views = photometric(x, how, seeded(), order=VIEW_ORDER)
    assert published.std((1, 2, 3)).min() > 25  # a dark image is as noisy as a bright one
    assert views.std((1, 2, 3)).min() < 20


def test_the_twelve_positions_are_the_published_ones(golden):
    d = golden("transforms")
    for stem in ("sq", "rect"):
        image = torch.from_numpy(d[f"{stem}_in"])
        image = image.permute(2, 0, 1) if stem == "sq" else image[None]
        for number, position in enumerate((Position(), *TWELVE)):
            laid = position.apply(image)
            expected = torch.from_numpy(d[f"{stem}_t{number:02d}"])
            expected = expected.permute(2, 0, 1) if stem == "sq" else expected[None]
            assert torch.equal(laid, expected), (stem, number)
            assert torch.equal(position.restore(laid), image)


def test_random_positions_are_laid_as_the_published_ones(golden):
    d = golden("transforms")
    image = torch.from_numpy(d["sq_in"]).permute(2, 0, 1)
    for number, (up_down, left_right, quarters) in enumerate(d["rnd_params_flipH_flipV_rot"]):
        position = Position(
            left_right=bool(left_right), up_down=bool(up_down), quarters=int(quarters)
        )
        assert position in TWELVE
        laid = position.apply(image)
        np.testing.assert_array_equal(laid.permute(1, 2, 0), d[f"rnd_{number}"])
        np.testing.assert_array_equal(
            position.restore(laid).permute(1, 2, 0), d["rnd_restored"][number]
        )


def test_positions_are_drawn_from_what_is_allowed():
    free = draw_positions(600, Augmentation(free_rotation=True), seeded())
    assert set(free) == set(TWELVE)
    assert min(free.count(position) for position in TWELVE) > 25
    mirrored = draw_positions(60, Augmentation(flip=True), seeded())
    assert set(mirrored) == {Position(), Position(left_right=True)}
    assert set(draw_positions(9, Augmentation(max_noise=3), seeded())) == {Position()}


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("size", [(8, 8), (8, 12)])
def test_only_what_is_drawn_is_computed_and_nothing_is_changed_in_place(monkeypatch, share, size):
    how = Augmentation(
        flip=True, free_rotation=True, contrast=0.3, brightness=20, max_blur=2, max_noise=9,
        share=share,
    )  # fmt: skip
    images = torch.randint(0, 256, (9, 3, *size), generator=seeded()).float()
    masks = (images[:, :1] > 99).to(torch.uint8)
    before = images.clone(), masks.clone()
    some = augment(images, masks, how, seeded(1))

    def everywhere(x, chosen, change):  # as on a GPU
        return torch.where(chosen.view(-1, 1, 1, 1), change(x, slice(None)), x)

    monkeypatch.setattr("imasks.data.augment._changed", everywhere)
    for one, other in zip(some, augment(images, masks, how, seeded(1)), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(images, before[0])
    assert torch.equal(masks, before[1])


@pytest.mark.parametrize("size", [(8, 8), (8, 12)])
@pytest.mark.parametrize("how", [Augmentation(flip=True), Augmentation(free_rotation=True)])
def test_one_copy_moves_images_as_one_move_after_the_other(how, size):
    images = torch.rand(9, 3, *size, generator=seeded())
    moves = [lambda x: x.flip(-1)]
    if how.free_rotation:
        moves += [lambda x: x.flip(-2), lambda x: x.mT][: 1 + (size[0] == size[1])]
    expected, generator = images, seeded(4)
    for move in moves:
        chosen = torch.rand(9, generator=generator) < 0.5
        expected = torch.where(chosen.view(-1, 1, 1, 1), move(expected), expected)
    for given in (images, images.contiguous(memory_format=torch.channels_last)):
        moved, masks = geometric(given, given[:, :0], how, seeded(4))
        assert torch.equal(moved, expected)
        assert masks.shape == (9, 0, *size)


@pytest.mark.parametrize("reach", [1, 2])
def test_a_blur_needs_to_reach_no_further_than_its_radius(reach):
    images = torch.randint(0, 256, (6, 3, 9, 11), generator=seeded()).float()
    radius = torch.tensor([0, 1, reach, reach, 1, 0])
    assert torch.equal(blur(images, radius, reach=reach), blur(images, radius))
