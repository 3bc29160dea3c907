import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torchmetrics.classification import MulticlassJaccardIndex

from imasks.encoding import SURE
from imasks.errors import UserError
from imasks.tasks import IGNORE, Binary, Multiclass, Multilabel, SoftTarget, confusion, make_task
from imasks.tasks.multiclass import soft_areas, soft_mean_iou

ALL = [Binary(["x"]), Multiclass(["a", "b", "c"]), Multilabel(["a", "b"])]


def tensor(array):
    return torch.from_numpy(np.ascontiguousarray(array))


def ensemble(array):
    """Recorded probabilities [E, N, H, W, C] as [E, N, C, H, W]."""
    return tensor(np.moveaxis(array, -1, 2))


@pytest.mark.parametrize("n", [2, 3])
def test_binary_ensembles_intersect(golden, n):
    d = golden("im_binary_real")
    label = Binary(["x"]).consensus(ensemble(d["probs"][:n]))
    np.testing.assert_array_equal(label[:, 0] * 255, d[f"ensemble_n{n}"])
    assert torch.equal(label, Binary(["x"]).view_consensus(ensemble(d["probs"][:n])))


def test_multiclass_ensembles_average(golden):
    d = golden("pseudo_labels_im_multiclass")
    task = Multiclass(["c"] * 11)
    label = task.consensus(ensemble(d["probs_first2"]))
    np.testing.assert_array_equal(label[:, 0], d["ens_soft_n3"])  # the reserved index included
    assert torch.equal(label, task.view_consensus(ensemble(d["probs_first2"])))


def test_multilabel_models_average_and_views_intersect(golden):
    d = golden("im_hela")
    task = Multilabel(["alive", "dead", "pos"])
    each = ensemble(d["probs"][:3])
    for k, name in enumerate(("alive", "dead")):
        np.testing.assert_array_equal(task.consensus(each)[:, k] * 255, d[f"ens_soft_n3_{name}"])
        np.testing.assert_array_equal(task.view_consensus(each)[:, k] * 255, d[f"n3_{name}"])


class TestContract:
    """What every task promises."""

    @pytest.fixture(params=ALL, ids=lambda task: task.name)
    def task(self, request):
        return request.param

    @pytest.fixture
    def logits(self, task):
        generator = torch.Generator().manual_seed(0)
        return torch.randn(3, task.outputs, 16, 16, generator=generator)

    def test_shapes_and_types(self, task, logits):
        probabilities = task.probabilities(logits)
        assert probabilities.shape == logits.shape
        assert probabilities.dtype == torch.float32
        masks = task.discrete(probabilities)
        assert masks.shape == (3, task.planes, 16, 16)
        assert masks.dtype == torch.uint8
        overlaps = task.overlaps(masks, masks)
        assert overlaps.shape == (3, len(task.classes), 3)
        assert all(len(values) == 3 for values in task.scores(overlaps).values())
        assert task.primary in task.scores(overlaps)

    def test_a_consensus_of_one_is_its_decision(self, task, logits):
        probabilities = task.probabilities(logits)
        for merge in (task.consensus, task.view_consensus):
            assert torch.equal(merge(probabilities[None]), task.discrete(probabilities))
            merged = merge(torch.stack([probabilities, probabilities.flip(-1)]))
            assert torch.equal(merged, merged.flip(-1))
            assert merged.dtype == torch.uint8

    def test_a_perfect_prediction_scores_one(self, task, logits):
        masks = task.discrete(task.probabilities(logits), reserved=False)
        summary = task.summary(task.overlaps(masks, masks))
        assert summary[task.primary] == pytest.approx(1, abs=1e-6)
        assert summary["mean_class_iou"] == 1

    def test_ignored_pixels_count_nowhere(self, task, logits):
        masks = task.discrete(task.probabilities(logits), reserved=False)
        truth = masks.clone()
        truth[:, :, :8] = IGNORE
        changed = masks.clone()
        changed[:, :, :8] = 1 - changed[:, :, :8].clamp(max=1)
        assert torch.equal(task.overlaps(masks, truth), task.overlaps(changed, truth))
        noisy = logits.clone()
        noisy[:, :, :8] += 3
        assert task.loss(logits, truth) == task.loss(noisy, truth)

    def test_a_better_prediction_has_a_smaller_loss(self, task, logits):
        masks = task.discrete(task.probabilities(logits), reserved=False)
        for kind in ("paper", "cross-entropy"):
            sharper = task.loss(logits * 3, task.discrete(task.probabilities(logits)), kind=kind)
            assert sharper < task.loss(logits, task.discrete(task.probabilities(logits)), kind=kind)
        assert task.loss(logits, torch.full_like(masks, IGNORE)) == 0

    @pytest.mark.parametrize("kind", ["paper", "cross-entropy"])
    def test_one_hot_soft_labels_teach_what_hard_ones_do(self, task, logits, kind):
        hard = task.discrete(task.probabilities(logits.roll(1, 0)), reserved=False)
        one_hot = (task.mask_input(hard) * SURE).to(torch.uint8)
        void = torch.zeros_like(hard, dtype=torch.bool)
        void[:, :, :3] = True
        expected = task.loss(logits, hard.masked_fill(void, IGNORE), kind=kind)
        masked = torch.zeros_like(void)
        masked[..., :8] = True
        one_hot = one_hot.masked_fill(void[:, :1], IGNORE)
        for under in (masked | void, torch.ones_like(void), void):
            labels = hard.masked_fill(under, IGNORE)
            for decide in (False, True):
                soft = task.soft_target(one_hot, decide=decide)
                torch.testing.assert_close(
                    task.loss(logits, labels, kind=kind, soft=soft), expected
                )

    def test_without_labels_of_either_kind_nothing_is_learned(self, task, logits):
        void = torch.full((3, task.planes, 16, 16), IGNORE, dtype=torch.uint8)
        soft = task.soft_target(torch.full(logits.shape, IGNORE, dtype=torch.uint8))
        assert task.loss(logits, void, soft=soft) == 0
        hard = task.discrete(task.probabilities(logits), reserved=False)
        hard[:, :, :5] = IGNORE
        torch.testing.assert_close(task.loss(logits, hard, soft=soft), task.loss(logits, hard))

    def test_a_soft_label_is_learned_best_by_those_who_say_the_same(self, task, logits):
        each = task.probabilities(torch.stack([logits, logits.flip(-1)]))
        mean = task.mean(each)
        soft = task.soft_target(task.soften(each))
        torch.testing.assert_close(soft.target, mean, atol=0.01, rtol=0)
        void = torch.full((3, task.planes, 16, 16), IGNORE, dtype=torch.uint8)
        # a multiclass network that reserves nothing answers so
        same = (mean + 1e-9).log() if task.name == "multiclass" else mean.logit()
        best = task.loss(same, void, soft=soft)
        for other in (same * 1.2, same * 0.8, logits):
            assert best < task.loss(other, void, soft=soft)

    def test_equal_networks_without_doubt_give_their_labels(self, task, logits):
        hard = task.discrete(task.probabilities(logits), reserved=False)
        each = task.mask_input(hard).expand(2, *logits.shape)
        assert torch.equal(task.soften(each), (task.mask_input(hard) * SURE).to(torch.uint8))

    def test_sureness_runs_from_all_alike_to_no_doubt(self, task):
        K = len(task.classes)
        alike = torch.full((1, task.outputs, 2, 2), 1 / K if task.name == "multiclass" else 0.5)
        hard = torch.ones(1, task.planes, 2, 2, dtype=torch.uint8)
        doubtless = task.mask_input(hard)
        found = [float(task.sureness(p).mean()) for p in (alike, doubtless)]
        assert found == pytest.approx([0, 1], abs=1e-6)
        half = task.sureness((alike + doubtless) / 2)
        assert half.shape == hard.shape
        torch.testing.assert_close(half, torch.full_like(half, 0.5))

    def test_decisions_count_as_much_as_they_are_sure(self, task, logits):
        soft = task.soften(task.probabilities(logits)[None])
        target, weight = task.soft_target(soft, decide=True)
        assert weight.shape == (3, task.planes, 16, 16)
        void = torch.full((3, task.planes, 16, 16), IGNORE, dtype=torch.uint8)
        sure = task.loss(logits, void, soft=SoftTarget(target, (weight > 0.5).float()))
        labels = task.discrete(task.soft_target(soft).target, reserved=False)
        expected = task.loss(logits, labels.masked_fill(weight <= 0.5, IGNORE))
        torch.testing.assert_close(sure, expected)

    def test_the_reserved_index_gets_no_share(self):
        task = ALL[1]
        each = torch.zeros(2, 1, 4, 1, 1)
        each[:, :, 0] = 1  # both networks are certain that the pixel is masked
        torch.testing.assert_close(task.mean(each).flatten(), torch.tensor([0, 1, 1, 1]) / 3)
        each[1] = torch.tensor([0.2, 0.6, 0.2, 0]).view(1, 4, 1, 1)
        torch.testing.assert_close(
            task.mean(each).flatten(), torch.tensor([0, 0.75, 0.25, 0]), atol=1e-6, rtol=0
        )

    def test_an_evalnet_sees_every_class_and_nothing_where_ignored(self, task, logits):
        masks = task.discrete(task.probabilities(logits))
        masks[:, :, :8] = IGNORE
        seen = task.mask_input(masks)
        assert seen.shape == logits.shape
        assert seen.dtype == torch.float32
        assert (seen[:, :, :8] == 0).all()
        # what is seen tells the mask in full
        assert torch.equal(task.discrete(seen)[:, :, 8:], masks[:, :, 8:])

    def test_a_perfect_pair_scores_one_and_a_wrong_one_less(self, task, logits):
        truth = task.discrete(task.probabilities(logits), reserved=False)
        quality = task.pair_quality(truth, truth)
        assert quality.shape == (3, 1 + task.detects, task.outputs)
        assert quality.dtype == torch.float32
        torch.testing.assert_close(task.pair_score(quality), torch.ones(3))
        wrong = task.discrete(task.probabilities(logits.roll(1, 0)), reserved=False)
        assert (task.pair_score(task.pair_quality(wrong, truth)) < 0.9).all()

    def test_a_pair_is_compared_with_the_whole_truth(self, task, logits):
        truth = task.discrete(task.probabilities(logits), reserved=False)
        region = torch.zeros(3, 1, 16, 16, dtype=torch.bool)
        region[..., :6] = True
        score = task.pair_score(task.pair_quality(truth.masked_fill(region, 0), truth, region))
        assert ((score > 0.4) & (score < 0.8)).all()  # 10 of 16 columns are left

    def test_ignored_pixels_change_no_pair(self, task, logits):
        truth = task.discrete(task.probabilities(logits), reserved=False)
        masks = truth.clone()
        masks[:, :, :8] = 1 - masks[:, :, :8].clamp(max=1)
        truth[:, :, :8] = IGNORE
        torch.testing.assert_close(task.pair_score(task.pair_quality(masks, truth)), torch.ones(3))
        void = torch.full_like(truth, IGNORE)
        for region in (None, torch.ones(3, 1, 16, 16, dtype=torch.bool)):
            assert (task.pair_score(task.pair_quality(masks, void, region)) == 0).all()

    def test_an_empty_split_has_no_scores(self, task):
        assert task.summary(torch.zeros(0, len(task.classes), 3, dtype=torch.int64)) == {}


# --- golden ------------------------------------------------------------------------------------


def test_binary_scores_agree(golden):
    d = golden("metrics")
    task = Binary(["x"])
    overlaps = task.overlaps(tensor(d["bin_pred"] > 0)[:, None], tensor(d["bin_gt"] > 0)[:, None])
    scores = task.scores(overlaps)
    np.testing.assert_allclose(scores["iou"], d["iou_binary"], atol=1e-9)
    # the published Dice cuts masks at 128; its smooth 1 is on sums of zeros and ones
    hard = task.overlaps(tensor(d["bin_pred"] >= 128)[:, None], tensor(d["bin_gt"] >= 128)[:, None])
    np.testing.assert_allclose(task.scores(hard)["dice"], d["dice_numpy_binary"], atol=1e-9)


def test_an_empty_image_has_a_score_under_both_conventions():
    nothing = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    scores = Binary(["x"]).scores(Binary(["x"]).overlaps(nothing, nothing))
    assert scores["iou"] == 0
    assert scores["iou_empty_is_one"] == 1
    assert scores["iou_without_empty"].isnan().all()


def test_conventions_differ_in_empty_images_alone():
    task = Binary(["x"])
    # found and missed; nothing to find: nothing found, something found
    overlaps = torch.tensor([[[4, 6, 6]], [[0, 0, 2]], [[0, 0, 0]], [[0, 3, 0]]])
    summary = task.summary(overlaps)
    assert summary["iou"] == pytest.approx(0.5 / 4, abs=1e-6)
    assert summary["iou_empty_is_one"] == pytest.approx(1.5 / 4, abs=1e-6)
    assert summary["iou_without_empty"] == pytest.approx(0.5 / 2, abs=1e-6)
    assert set(task.conventions) <= set(summary)
    full = task.summary(overlaps[:2])
    assert full["iou"] == full["iou_empty_is_one"] == full["iou_without_empty"]


def test_multiclass_scores_agree(golden):
    d = golden("metrics")
    # the recorded masks hold classes 0..11; shifted by one they are internal labels
    task = Multiclass([f"c{k}" for k in range(12)])
    predicted, truth = (tensor(d[k] + 1).to(torch.uint8)[:, None] for k in ("mc_pred", "mc_gt"))
    scores = task.scores(task.overlaps(predicted, truth))
    np.testing.assert_allclose(scores["miou"], d["iou_multi_unique"], atol=1e-6)
    np.testing.assert_allclose(scores["pixel_accuracy"], d["pixel_accuracy"], atol=1e-9)


def test_targets_of_evalnets_agree(golden):
    d = golden("metrics")
    # the recorded masks hold indices 0..11, of which the published code reserves 0 as well
    task = Multiclass([f"c{k}" for k in range(11)])
    predicted, truth = (tensor(d[k])[:, None] for k in ("mc_pred", "mc_gt"))
    plain = task.pair_quality(predicted, truth)
    np.testing.assert_array_equal(plain[:, 1, 1:], d["classwise_detection"][:, 1:])
    uncut = task.pair_quality(predicted, truth, torch.zeros_like(truth, dtype=torch.bool))
    # recorded with four decimals
    np.testing.assert_allclose(uncut[:, 0, 1:], d["classwise_iou"][:, 1:], atol=6e-5)
    np.testing.assert_allclose(
        plain[:, 0, 1:], (d["classwise_iou"] * d["classwise_detection"])[:, 1:], atol=6e-5
    )
    region = tensor(d["detection_im_maskblocked_by"])[:, None]
    cut = task.pair_quality(predicted.masked_fill(region, 0), truth, region)
    np.testing.assert_array_equal(cut[:, 1, 1:], d["classwise_detection_im"][:, 1:])


def test_selection_scores_agree(golden):
    d = golden("metrics")
    p = tensor(np.moveaxis(d["tf_soft_pred"], -1, 1))
    truth = tensor(d["tf_soft_true_argmax"])[:, None]
    assert float(soft_mean_iou(soft_areas(p, truth))) == pytest.approx(
        float(d["tf_MeanIoU_soft"]), abs=1e-6
    )
    probabilities = tensor(np.moveaxis(d["bin_probs"], -1, 1))
    binary_truth = tensor(d["bin_gt"][:10] > 127).to(torch.uint8)[:, None]
    task = Binary(["x"])
    overlaps = task.overlaps(task.discrete(probabilities), binary_truth)
    assert float(task.class_iou(overlaps)[0]) == pytest.approx(
        float(d["tf_binary_iou_all10"]), abs=1e-6
    )
    loss = task.loss(probabilities.double().logit(), binary_truth)
    assert float(loss) == pytest.approx(float(d["tf_mse"]), abs=1e-6)


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)
def test_selection_adds_up_over_chunks_and_rises_with_the_prediction(task):
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 2, (4, task.planes, 8, 8), generator=generator, dtype=torch.uint8)
    truth = truth + 1 if task.exclusive else truth
    right = task.mask_input(truth) * 0.8 + 0.1
    unsure = right * 0.4 + torch.rand(right.shape, generator=generator) * 0.6
    truth[0, :, :2] = IGNORE

    def selection(probabilities, chunk):
        parts = zip(probabilities.split(chunk), truth.split(chunk), strict=True)
        sums = sum(task.selection_sums(*part) for part in parts)
        found = task.discrete(probabilities, reserved=False)
        return task.selection(sums, task.overlaps(found, truth))

    assert selection(unsure, 1) == pytest.approx(selection(unsure, 4))
    assert selection(right, 4) > selection(unsure, 4)
    before = selection(unsure, 4)
    unsure[0, :, :2] = 1 - unsure[0, :, :2]  # nobody knows what is right there
    assert selection(unsure, 4) == pytest.approx(before)


# --- pairs of image and mask -------------------------------------------------------------------


def test_the_reserved_index_is_right_where_anything_is_cut_out():
    task = Multiclass(["a", "b"])
    truth = torch.ones(2, 1, 10, 10, dtype=torch.uint8)
    region = torch.zeros(2, 1, 10, 10, dtype=torch.bool)
    region[0, 0, 0, 0] = True
    quality = task.pair_quality(truth.masked_fill(region, 0), truth, region)
    assert quality[:, :, 0].tolist() == [[1, 1], [0, 0]]
    assert (task.pair_quality(truth, truth)[:, :, 0] == 0).all()
    quality[:, 0, 0] = 0.123  # and has no say in the score
    torch.testing.assert_close(task.pair_score(quality), torch.tensor([0.99, 1.0]))


@pytest.mark.parametrize(
    ("share", "left", "detected"),
    [(0.2, 0.06, True), (0.2, 0.05, False), (0.5, 0.1, True), (0.5, 0.09, False)],
)
def test_a_class_is_detected_while_enough_of_it_is_left(share, left, detected):
    task = Multiclass(["a", "b"])
    truth = torch.ones(1, 1, 10, 10, dtype=torch.uint8)
    truth.view(-1)[: int(share * 100)] = 2
    region = torch.zeros(1, 1, 10, 10, dtype=torch.bool)
    region.view(-1)[: round((share - left) * 100)] = True
    iou, detection = task.pair_quality(truth.masked_fill(region, 0), truth, region)[0, :, 2]
    assert bool(detection) is detected
    assert float(iou) == pytest.approx(left / share if detected else 0)


def test_a_plane_is_detected_from_one_percent():
    task = Multilabel(["a", "b"])
    truth = torch.zeros(1, 2, 20, 20, dtype=torch.uint8)
    truth[0, 0].view(-1)[:4] = 1
    truth[0, 1].view(-1)[:3] = 1
    assert task.pair_quality(truth, truth).tolist() == [[[1, 0], [1, 0]]]


def test_a_pair_without_a_class_scores_zero():
    assert Multilabel(["a", "b"]).pair_score(torch.full((1, 2, 2), 0.4)).tolist() == [0]


# --- an independent referee, and properties ----------------------------------------------------

masks_of_four = hnp.arrays(np.uint8, (2, 1, 7, 9), elements=st.integers(1, 3))


@settings(max_examples=25)
@given(masks_of_four, masks_of_four)
def test_class_iou_agrees_with_torchmetrics(predicted, truth):
    task = Multiclass(["a", "b", "c"])
    ours = task.class_iou(task.overlaps(tensor(predicted), tensor(truth)))
    theirs = MulticlassJaccardIndex(3, average="none")(
        tensor(predicted).long() - 1, tensor(truth).long() - 1
    )
    torch.testing.assert_close(ours.nan_to_num(0).float(), theirs)


@given(masks_of_four, masks_of_four)
def test_confusion_counts_every_pixel_once(predicted, truth):
    matrix = confusion(tensor(predicted), tensor(truth), classes=4)
    assert (matrix.sum((1, 2)) == 63).all()
    assert torch.equal(matrix.sum(2)[:, 1], (tensor(truth) == 1).sum((1, 2, 3)))


@given(masks_of_four, masks_of_four)
def test_a_score_lies_between_zero_and_one(predicted, truth):
    for task in (Binary(["x"]), Multiclass(["a", "b", "c"])):
        for values in task.scores(task.overlaps(tensor(predicted), tensor(truth))).values():
            assert ((values >= 0) & (values <= 1)).all()


def test_a_class_that_is_only_predicted_does_not_count():
    task = Multiclass(["a", "b"])
    truth = torch.ones(1, 1, 2, 2, dtype=torch.uint8)
    predicted = truth.clone()
    predicted[0, 0, 0, 0] = 2
    assert task.scores(task.overlaps(predicted, truth))["miou"] == 0.75


def test_the_reserved_class_is_not_shown_to_users():
    task = Multiclass(["a", "b"])
    probabilities = torch.tensor([0.8, 0.15, 0.05]).view(1, 3, 1, 1)
    assert task.discrete(probabilities).item() == 0
    assert task.discrete(probabilities, reserved=False).item() == 1
    ids = task.to_user(torch.tensor([1, 2, IGNORE], dtype=torch.uint8))
    assert ids.tolist() == [0, 1, IGNORE]


def test_an_unknown_task_is_refused():
    with pytest.raises(UserError, match=r"found: regression.*binary"):
        make_task("regression", ["x"])
