"""Tasks whose classes are points, weigh differently, or have the field's own evaluation."""

import numpy as np
import pytest
import torch

from imasks.labelling.agree import Morphology, cut_region, inconsistency
from imasks.labelling.grading import pair_of
from imasks.labelling.labellers import settle
from imasks.tasks import IGNORE, Multiclass, Multilabel, make_task
from imasks.tasks.points import draw_places

pytest.importorskip("cv2", reason="the extra `points` is not installed")

HELA = Multilabel(["alive", "dead", "position"], points=["position"], weights=[1, 1, 3])


def nuclei(places, kinds, size=(64, 64)):
    """Draw cells of two kinds with a disc at each centre: uint8 [1, 3, H, W]."""
    planes = np.zeros((3, *size), np.uint8)
    for (x, y), kind in zip(places, kinds, strict=True):
        planes[kind, y - 7 : y + 8, x - 7 : x + 8] = 1
    planes[2] = draw_places(np.array(places).reshape(-1, 2), size)
    return torch.from_numpy(planes[None])


@pytest.mark.parametrize(
    ("name", "morphology"), [("e0d0", (0, 0)), ("e3d3", (3, 3)), ("e5d5", (5, 5)), ("e0d3", (0, 3))]
)
def test_points_of_pseudo_labels_are_redrawn_as_published(golden, name, morphology):
    recorded = golden("im_hela")
    votes = torch.from_numpy((recorded["probs"][:2] >= 0.5).astype(np.uint8))
    votes = votes.permute(0, 1, 4, 2, 3).contiguous()
    shape = Morphology(erode=morphology[0], dilate=morphology[1])
    label, im = inconsistency(votes)
    region = cut_region(im, shape)
    np.testing.assert_array_equal(region[:, 0].numpy() * 255, recorded[f"files_n2_{name}_im"])
    cut = settle(label, HELA, shape).masked_fill(region, 0)
    planes = [recorded[f"files_n2_{name}_{plane}"] for plane in ("alive", "dead")]
    planes.append(recorded[f"files_n2_{name}_mod_position"][..., 0])
    np.testing.assert_array_equal(cut.numpy() * 255, np.stack(planes, 1))
    assert pair_of(votes, HELA, shape)[0].equal(cut)  # EvalNets see the same


def test_other_classes_and_tasks_are_not_redrawn():
    label = nuclei([(20, 20)], [0])
    plain = Multilabel(HELA.classes)
    assert plain.redraw(label, label) is label
    assert HELA.redraw(label, label)[:, :2].equal(label[:, :2])


def test_things_are_counted_by_what_they_lie_on():
    truth = nuclei([(12, 12), (40, 12), (12, 40)], [0, 1, 1])
    missed = nuclei([(12, 12), (40, 12), (50, 50)], [0, 0, 0])
    missed[:, 0, 40:] = 0  # under the third place lies nothing
    names = ("position", "position/alive", "position/dead", "position/unclear")
    assert HELA.counted == names
    assert HELA.count(truth).tolist() == [[3, 1, 2, 0]]
    assert HELA.count(missed).tolist() == [[3, 2, 0, 1]]
    scores = HELA.scores(HELA.tally(missed, truth))
    assert scores["count_error"].tolist() == [1 + 2]
    assert scores["count_error/position/dead"].tolist() == [2]
    assert HELA.summary(HELA.tally(truth, truth))["count_error"] == 0


def test_miou_ad_leaves_the_points_out():
    truth = nuclei([(12, 12), (40, 40)], [0, 1])
    moved = truth.clone()
    moved[:, 2] = 0
    scores = HELA.scores(HELA.tally(moved, truth))
    assert scores["miou_ad"].item() == pytest.approx(1)
    assert scores["miou"].item() == pytest.approx(2 / 3)
    assert HELA.beside == ("miou_ad", "count_error")
    assert "miou_ad" not in Multilabel(["a", "b"]).scores(torch.ones((1, 2, 3)))


def test_a_channel_of_points_alone_is_simply_counted():
    task = Multilabel(["nucleus"], points=["nucleus"])
    truth = nuclei([(12, 12), (40, 12), (12, 40)], [0, 0, 0])[:, 2:]
    one = nuclei([(12, 12)], [0])[:, 2:]
    scores = task.scores(task.tally(one, truth))
    assert task.counted == ("nucleus",)
    assert scores["count_error"].tolist() == [2]
    assert task.beside == ("count_error",)


def test_void_hides_points_from_counting():
    truth = nuclei([(12, 12), (40, 40)], [0, 0])
    found = truth.clone()
    truth[:, :, 30:] = IGNORE
    assert HELA.scores(HELA.tally(found, truth))["count_error"].tolist() == [0]


def test_a_weight_raises_the_target_of_the_published_loss():
    labels = torch.zeros((1, 3, 1, 1), dtype=torch.uint8)
    labels[:, 2] = 1
    zero = torch.zeros((1, 3, 1, 1))
    assert HELA.loss(zero, labels).item() == pytest.approx((2 * 0.5**2 + (0.5 - 3) ** 2) / 3)
    plain = Multilabel(HELA.classes).loss(zero, labels, kind="cross-entropy").item()
    assert HELA.loss(zero, labels, kind="cross-entropy").item() == pytest.approx(plain * 5 / 3)


def test_evalnets_see_small_points_as_there():
    truth = torch.zeros((1, 3, 100, 100), dtype=torch.uint8)
    truth[:, :, 40:45, 40:50] = 1  # 0.5 % of the image
    assert HELA.pair_quality(truth, truth)[0, 1].tolist() == [0, 0, 1]


def test_the_fields_own_evaluation_leaves_out_all_pixels_of_other_classes():
    task = make_task("multiclass", ["void", "road", "car"], scored=["road", "car"])
    truth = torch.tensor([[[[1, 2, 2, 3, IGNORE]]]], dtype=torch.uint8)
    found = torch.tensor([[[[2, 2, 1, 3, 3]]]], dtype=torch.uint8)
    summary = task.summary(task.tally(found, truth))
    assert summary["class_iou/road"] == pytest.approx(1 / 3)  # the void pixel counts as road
    assert summary["class_iou_scored/road"] == pytest.approx(1 / 2)
    assert summary["class_iou_scored/car"] == 1
    assert summary["mean_class_iou_scored"] == pytest.approx(3 / 4)
    assert task.beside == ("mean_class_iou_scored",)
    plain = Multiclass(task.classes)
    assert plain.tally(found, truth).equal(task.tally(found, truth)[:, :3])
    assert plain.beside == ()
