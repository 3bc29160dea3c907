import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imasks.errors import UserError
from imasks.labelling.agree import (
    Morphology,
    block_input,
    block_output,
    change_shape,
    cut_region,
    disagreement,
    grow_labels,
    inconsistency,
    keep_mostly_agreed,
    keep_same_classes,
    sizes,
)
from imasks.tasks import Binary, Multilabel

KERNELS = [(e, d) for e in (0, 3, 5) for d in (0, 3, 5)]
RECORDED_KERNELS = [pair for pair in KERNELS if pair != (5, 3)]
votes_of_any_shape = hnp.arrays(
    np.uint8,
    st.tuples(*(st.integers(1, n) for n in (4, 3, 3, 9, 9))),
    elements=st.integers(0, 3),
)


def planes(*channels):
    """Stack recorded [N, H, W] arrays into [N, P, H, W]."""
    return np.stack(channels, axis=1)


# --- golden: the published implementation -------------------------------------------------------


def test_binary_masks_and_sizes(golden):
    d = golden("im_binary")
    cases = [key[:-3] for key in d if key.endswith("_in")]
    assert len(cases) >= 10
    for case in cases:
        votes = np.moveaxis(d[f"{case}_in"], -1, 1)[:, None].astype(np.uint8)  # [E,1,1,H,W]
        label, im = inconsistency(votes)
        np.testing.assert_array_equal(label[0, 0] * 255, d[f"{case}_mask"], err_msg=case)
        np.testing.assert_array_equal(im[0, 0] * 255, d[f"{case}_im"], err_msg=case)
        counted = sizes(label, im)
        assert [int(counted.im[0]), int(counted.agreed[0])] == d[f"{case}_sizes"].tolist()


@pytest.mark.parametrize("n", [2, 3])
def test_binary_on_real_probabilities(golden, n):
    d = golden("im_binary_real")
    probabilities = torch.from_numpy(np.moveaxis(d["probs"][:n], -1, 2))
    label, im = inconsistency(Binary(["x"]).discrete(probabilities))
    np.testing.assert_array_equal(label[:, 0] * 255, d[f"n{n}_mask"])
    np.testing.assert_array_equal(im[:, 0] * 255, d[f"n{n}_im"])
    np.testing.assert_array_equal(sizes(label, im).im, d[f"n{n}_im_size"])
    np.testing.assert_array_equal(sizes(label, im).agreed, d[f"n{n}_pred_size"])
    np.testing.assert_array_equal(label[:, 0] * 255, d[f"ensemble_n{n}"])


def test_binary_decision_at_exactly_one_half(golden):
    d = golden("im_binary_real")
    votes = Binary(["x"]).discrete(torch.full((2, 1, 1, 4, 4), 0.5))
    label, im = inconsistency(votes)
    np.testing.assert_array_equal(label[0, 0], d["edge_0p5_mask"])
    np.testing.assert_array_equal(im[0, 0], d["edge_0p5_im"])


@pytest.mark.parametrize(("e", "d"), RECORDED_KERNELS)
def test_binary_pseudo_labels_with_morphology(golden, e, d):
    g = golden("pseudo_labels_im_isic")
    votes = Binary(["x"]).discrete(torch.from_numpy(np.moveaxis(g["probs"][:2], -1, 2)))
    label, im = inconsistency(votes)
    kept = np.asarray(keep_mostly_agreed(sizes(label, im)))
    region = cut_region(im, Morphology(erode=e, dilate=d))
    case = f"e{e}d{d}"
    np.testing.assert_array_equal(kept, g[f"{case}_written"])
    np.testing.assert_array_equal(region[kept, 0] * 255, g[f"{case}_im"][kept])
    blanked = block_output(label, region)
    np.testing.assert_array_equal(blanked[kept, 0] * 255, g[f"{case}_masks"][kept])
    images = torch.from_numpy(g["images_rgb"]).permute(0, 3, 1, 2)
    blocked = block_input(images, region).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(blocked[kept], g[f"{case}_images_rgb"][kept])


def test_binary_without_filter_or_blocking(golden):
    g = golden("pseudo_labels_im_isic")
    votes = Binary(["x"]).discrete(torch.from_numpy(np.moveaxis(g["probs"], -1, 2)))
    label, _ = inconsistency(votes)
    np.testing.assert_array_equal(label[:, 0] * 255, g["nofilter_n3_noblockinput_masks"])
    np.testing.assert_array_equal(g["images_rgb"], g["nofilter_n3_noblockinput_images_rgb"])


def test_multiclass_masks(golden):
    d = golden("im_multiclass")
    for case in [key[:-3] for key in d if key.endswith("_in")]:
        votes = d[f"{case}_in"][:, :, None].astype(np.uint8)
        label, im = inconsistency(votes)
        np.testing.assert_array_equal(label[0, 0], d[f"{case}_mask"], err_msg=case)
        np.testing.assert_array_equal(im[0, 0] * 255, d[f"{case}_im"], err_msg=case)
        assert int(sizes(label, im).im[0]) == int(d[f"{case}_size"])


@pytest.mark.parametrize("case", ["e0d0", "e3d3", "e5d5", "e3d0", "e0d5"])
def test_multiclass_pseudo_labels(golden, case):
    g = golden("pseudo_labels_im_multiclass")
    votes = g["probs_argmax"][:, :, None]
    morphology = Morphology(erode=int(case[1]), dilate=int(case[3]))
    label, im = inconsistency(votes)
    region = cut_region(im, morphology)
    np.testing.assert_array_equal(region[:, 0] * 255, g[f"{case}_im"])
    blanked = block_output(label, region, grow=morphology.erode > 0)
    np.testing.assert_array_equal(blanked[:, 0], g[f"{case}_masks"])
    blocked = block_input(np.moveaxis(g["images_rgb"], -1, 1), region)
    np.testing.assert_array_equal(np.moveaxis(blocked, 1, -1), g[f"{case}_images_rgb"])
    # the published mean is cut to an integer
    assert int(sizes(label, im).im.mean()) == int(g[f"{case}_mean_im_size"])
    np.testing.assert_array_equal(keep_same_classes(votes), g[f"{case}_filt_written"])


def test_hard_multiclass_ensembles_are_the_agreed_label(golden):
    g = golden("pseudo_labels_im_multiclass")
    label, _ = inconsistency(g["probs_first2"].argmax(-1)[:, :, None].astype(np.uint8))
    np.testing.assert_array_equal(label[:, 0], g["ens_hard_n3"])


@pytest.mark.parametrize("n", [2, 3, 4])
def test_multilabel_masks(golden, n):
    g = golden("im_hela")
    probabilities = torch.from_numpy(np.moveaxis(g["probs"][:n], -1, 2))
    label, im = inconsistency(Multilabel(["alive", "dead", "pos"]).discrete(probabilities))
    for k, name in enumerate(("alive", "dead", "pos")):
        np.testing.assert_array_equal(label[:, k] * 255, g[f"n{n}_{name}"])
    np.testing.assert_array_equal(im.any(1) * 255, g[f"n{n}_im"])
    np.testing.assert_array_equal(sizes(label, im).im, g[f"n{n}_im_size"])


@pytest.mark.parametrize("case", ["e0d0", "e3d3", "e5d5", "e0d3"])
def test_multilabel_pseudo_labels_with_morphology(golden, case):
    g = golden("im_hela")
    probabilities = torch.from_numpy(np.moveaxis(g["probs"][:2], -1, 2))
    votes = Multilabel(["alive", "dead", "pos"]).discrete(probabilities)
    morphology = Morphology(erode=int(case[1]), dilate=int(case[3]))
    label, im = inconsistency(votes)
    region = cut_region(im, morphology)
    np.testing.assert_array_equal(region[:, 0] * 255, g[f"files_n2_{case}_im"])
    blanked = block_output(label, region, grow=morphology.erode > 0)
    for k, name in enumerate(("alive", "dead")):
        np.testing.assert_array_equal(blanked[:, k] * 255, g[f"files_n2_{case}_{name}"])
    brightfield = block_input(g["brightfield"][:, None], region.numpy())
    np.testing.assert_array_equal(brightfield[:, 0], g[f"files_n2_{case}_brightfield"])


@pytest.mark.parametrize(("e", "d"), KERNELS)
def test_morphology(golden, e, d):
    g = golden("morphology")
    out = change_shape(g["im_in"] > 0, Morphology(erode=e, dilate=d))
    np.testing.assert_array_equal(out * 255, g[f"e{e}d{d}"])


def test_growing_labels(golden):
    g = golden("morphology")
    np.testing.assert_array_equal(grow_labels(g["mc_in"]), g["dilate_mask_k3_i1"])
    np.testing.assert_array_equal(grow_labels(g["mc_in"], side=5), g["dilate_mask_k5_i1"])
    np.testing.assert_array_equal(grow_labels(g["im_in"]), g["dilate_mask_bin255"])


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_continuous_outputs(golden, n, factor):
    g = golden("depth_map")
    out = disagreement(np.moveaxis(g[f"n{n}_pred"], -1, 2), factor=factor)
    np.testing.assert_array_equal(out[:, 0], g[f"n{n}_t{factor}_im"][..., 0])


# --- properties --------------------------------------------------------------------------------


@given(votes_of_any_shape)
def test_label_and_mask_never_overlap(votes):
    label, im = inconsistency(votes)
    assert not (label * im).any()
    assert (im == (votes.max(0) != votes.min(0))).all()


@given(votes_of_any_shape)
def test_order_of_models_does_not_matter(votes):
    for a, b in zip(inconsistency(votes), inconsistency(votes[::-1].copy()), strict=True):
        np.testing.assert_array_equal(a, b)


@given(votes_of_any_shape)
def test_one_more_model_never_shrinks_the_mask(votes):
    _, fewer = inconsistency(votes[:1])
    _, more = inconsistency(votes)
    assert not fewer.any()
    assert (more | fewer == more).all()


@given(votes_of_any_shape)
def test_numpy_and_torch_agree(votes):
    for a, b in zip(inconsistency(votes), inconsistency(torch.from_numpy(votes)), strict=True):
        np.testing.assert_array_equal(a, b.numpy())


# --- errors ------------------------------------------------------------------------------------


def test_votes_need_five_axes():
    with pytest.raises(UserError, match="models, images, planes"):
        inconsistency(np.zeros((2, 4, 4), np.uint8))


def test_votes_must_be_discrete():
    with pytest.raises(UserError, match="uint8"):
        inconsistency(np.zeros((2, 1, 1, 4, 4), np.float32))


def test_kernels_must_be_odd():
    with pytest.raises(UserError, match=r"erode.*found: 4"):
        Morphology(erode=4)
