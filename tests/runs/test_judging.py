"""What the jobs of EvalNets compute, on arrays and networks whose answers are known."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from imasks.encoding import IGNORE
from imasks.errors import UserError
from imasks.jobs import Job, Store
from imasks.labelling import streamed
from imasks.labelling.grading import grade
from imasks.runs import judging
from imasks.runs.judging import do_choose, do_grade, do_quality, do_rank_graders
from imasks.tasks import Binary
from imasks.training.batches import mix

TASK = {"name": "binary", "classes": ["x"]}
N, SIDE = 8, 16
KEEP = {"erode": 0, "dilate": 0}


class Brightness(nn.Module):
    """Foreground where the image is brighter than a level."""

    def __init__(self, level):
        super().__init__()
        self.level = level

    def forward(self, images):
        return (images[:, :1] - self.level) / 10


class Share(nn.Module):
    """Expects as much of a mask as it covers of the image."""

    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))  # with which a gradient would come

    def forward(self, images, masks):
        return self.one * masks.mean((2, 3))[:, None].clamp(1e-6, 1 - 1e-6).logit()


def bright(shares):
    """Images uint8 [N, 16, 16, 1], a share of whose columns is bright, the rest black."""
    columns = np.arange(SIDE) < np.round(np.array(shares) * SIDE)[:, None]
    return np.broadcast_to(columns[:, None, :, None] * np.uint8(255), (len(shares), SIDE, SIDE, 1))


def write_split(folder, name, images, labels=None, source=None):
    names = [f"{name}{k}" for k in range(len(images) if source is None else max(source) + 1)]
    np.save(folder / f"{name}_images.npy", np.ascontiguousarray(images))
    if labels is not None:
        np.save(folder / f"{name}_labels.npy", np.ascontiguousarray(labels))
    np.save(folder / f"{name}_source.npy", np.array(source or range(len(images)), np.int64))
    (folder / f"{name}_names.json").write_text(json.dumps(names))


def labels_of(images):
    return (images > 128).transpose(0, 3, 1, 2).astype(np.uint8)


SHARES = [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 1]


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A run folder with arrays, two networks that agree, and one EvalNet; all answers known."""
    store = Store(tmp_path)
    prepare = Job(kind="prepare", params={})
    fits = tuple(Job(kind="fit", params={"seed": k}) for k in range(2))
    rank = Job(kind="rank", params={}, inputs=fits)
    grader = Job(kind="grader", params={"pairs": "inconsistent"}, inputs=fits)
    rank_graders = Job(kind="rank_graders", params={}, inputs=(grader,))
    label = Job(kind="label", params={}, inputs=fits)
    data = store.folder(prepare)
    store.folder(label).mkdir(parents=True)
    data.mkdir(parents=True)
    images = bright(SHARES)
    for name in ("labeled", "val", "test", "unlabeled"):
        write_split(data, name, images, labels_of(images))
    pseudo = {
        "labels": labels_of(images),
        "im": np.zeros((N, 1, SIDE, SIDE), bool),
        "region": np.zeros((N, SIDE, SIDE), bool),
        "keep": np.ones(N, bool),
    }
    for name, array in pseudo.items():
        np.save(store.folder(label) / f"{name}.npy", array)
    for job, result in (
        (prepare, {}),
        (rank, {"ranked": [fit.key for fit in fits]}),
        (rank_graders, {"ranked": [grader.key]}),
    ):
        store.folder(job).mkdir(parents=True, exist_ok=True)
        store.finish(job, result)
    networks = {fit.key: Brightness(128) for fit in fits}
    for name, found in {
        "best_networks": lambda job, store: list(networks.values()),
        "best_graders": lambda job, store, device=None: (Share(),),
        "load_candidate": lambda key, job, store: networks[key],
    }.items():
        monkeypatch.setattr(judging, name, found)
    monkeypatch.setattr("imasks.runs.work.best_graders", lambda job, store, device=None: (Share(),))

    def job(kind, **params):
        inputs = (prepare, label, rank, *fits, rank_graders, grader, *params.pop("more", ()))
        if kind == "choose":  # which makes labels itself
            inputs = tuple(one for one in inputs if one is not label)
        made = Job(
            kind=kind, params={"task": TASK, "device": "cpu", "models": 2, **params}, inputs=inputs
        )
        store.folder(made).mkdir(parents=True, exist_ok=True)
        return made

    return SimpleNamespace(store=store, data=data, label=label, networks=networks, job=job)


def graded(house, **params):
    job = house.job("grade", **{"thresholds": None, "by": "evalnet", "morphology": KEEP, **params})
    result = do_grade(job, house.store)
    folder = house.store.folder(job)
    return result, np.load(folder / "scores.npy"), np.load(folder / "copies.npy")


def test_copies_of_known_scores(house):
    result, scores, copies = graded(house, thresholds=[0.25, 0.75])
    np.testing.assert_allclose(scores, np.clip(SHARES, 1e-6, 1), atol=1e-5)
    # up to lo: 1; steps of 0.1; above hi: 5
    assert copies[[0, 1, 3, 4, 5, 7]].tolist() == [1, 1, 2, 3, 4, 5]
    assert (result["lo"], result["hi"]) == (0.25, 0.75)
    assert result["copies"] == pytest.approx(copies.mean())
    assert sum(result["by_copies"]) == N
    assert len(result["networks"]) == 3  # two that were shown, and the EvalNet


def test_after_a_kill_saved_scores_are_not_asked_for_again(house, monkeypatch):
    _, scores, _ = graded(house, thresholds=[0.25, 0.75])
    monkeypatch.setattr(judging, "CHUNK", 3)
    monkeypatch.setattr(streamed, "EVERY", 0)
    asked = []

    def killed(graders, images, *rest, **more):
        asked.append(len(images))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return grade(graders, images, *rest, **more)

    monkeypatch.setattr(judging, "grade", killed)
    again = {"thresholds": [0.25, 0.75], "more": (Job(kind="other", params={}),)}
    with pytest.raises(KeyboardInterrupt):
        graded(house, **again)
    _, resumed, _ = graded(house, **again)
    assert asked == [3, 3, 3, 2]
    np.testing.assert_array_equal(resumed, scores)


def test_automatic_thresholds_know_kept_pairs_only(house):
    keep = np.array(SHARES) >= 0.5
    np.save(house.store.folder(house.label) / "keep.npy", keep)
    result, _, copies = graded(house)
    assert result["lo"] == pytest.approx(np.mean([s for s in SHARES if s >= 0.5]), abs=1e-5)
    assert result["score"] == pytest.approx(result["lo"])
    assert sum(result["by_copies"]) == keep.sum()
    assert len(copies) == N


def test_void_images_teach_thresholds_nothing(house):
    images, labels = bright(SHARES), labels_of(bright(SHARES))
    labels[-3:] = IGNORE
    write_split(house.data, "val", images, labels)
    job = house.job("grade", thresholds=None, by="evalnet", morphology=KEEP)
    scores, quality = judging._held_out(job, house.store, [Share()])
    assert np.isnan(quality[-3:]).all()
    np.testing.assert_allclose(quality[:-3], [0, 1, 1, 1, 1], atol=1e-5)  # found exactly
    assert scores.shape == (N,)


def test_the_oracle_gives_true_scores(house):
    folder = house.store.folder(house.label)
    images = bright([0.5] * N)
    truth, found = labels_of(images), labels_of(bright(SHARES))
    write_split(house.data, "unlabeled", images, truth)
    np.save(folder / "labels.npy", found)
    _, scores, copies = graded(house, by="truth", thresholds=[0.25, 0.75])
    expected = Binary(["x"]).scores(
        Binary(["x"]).overlaps(torch.from_numpy(found), torch.from_numpy(truth))
    )["iou"]
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert copies[[0, 4]].tolist() == [1, 5]
    # what is cut out of the pseudo-label is blank in the true mask
    region = np.zeros((N, SIDE, SIDE), bool)
    region[:, :, SIDE // 4 :] = True
    np.save(folder / "region.npy", region)
    _, cut, _ = graded(house, by="truth", thresholds=[0.25, 0.76])
    np.testing.assert_allclose(cut[2:], 1, atol=1e-6)


def test_the_oracle_needs_all_true_masks(house):
    (house.data / "unlabeled_labels.npy").unlink()
    with pytest.raises(UserError, match="true masks of unlabeled images are missing"):
        graded(house, by="truth")


def test_the_best_masks_are_kept(house):
    one, two = house.networks.values()
    one.level, two.level = 300, 128  # the first finds nothing
    job = house.job("choose", thresholds=[0.4, 0.6], keep_at="hi")
    result = do_choose(job, house.store)
    folder = house.store.folder(job)
    assert (np.load(folder / "labels.npy") == labels_of(bright(SHARES))).all()
    assert np.load(folder / "keep.npy").tolist() == [share >= 0.6 for share in SHARES]
    assert (result["kept"], result["threshold"]) == (3, 0.6)
    assert len(result["networks"]) == 3
    assert result["agreement"]["iou"] == pytest.approx(7 / 8)
    lower = do_choose(house.job("choose", thresholds=[0.4, 0.6], keep_at="lo"), house.store)
    assert lower["kept"] == 4
    auto = do_choose(house.job("choose", thresholds=None, keep_at="hi"), house.store)
    assert auto["threshold"] == pytest.approx(np.mean(SHARES), abs=1e-5)


def test_kept_masks_compete_with_those_of_the_next_generation(house):
    first = house.job("choose", thresholds=[0.1, 0.6], keep_at="hi")
    house.store.finish(first, do_choose(first, house.store))
    for network in house.networks.values():
        network.level = 300
    second = house.job("choose", thresholds=[0.1, 0.6], keep_at="hi", more=[first])
    result = do_choose(second, house.store)
    assert result["kept"] == 3
    kept = np.load(house.store.folder(second) / "keep.npy")
    labels = np.load(house.store.folder(second) / "labels.npy")
    assert (labels[kept] == labels_of(bright(SHARES))[kept]).all()
    assert not labels[~kept].any()


def test_no_mask_good_enough_is_an_error(house):
    for network in house.networks.values():
        network.level = 300
    with pytest.raises(UserError, match=r"0 of 8 images reach a score of 0\.600"):
        do_choose(house.job("choose", thresholds=[0.1, 0.6], keep_at="hi"), house.store)


def test_quality_is_calibrated_on_validation_and_tested_on_test_images(house):
    # the truth is always the left half: what covers less or more of it scores less
    for split in ("val", "test"):
        write_split(house.data, split, bright(SHARES), labels_of(bright([0.5] * N)))
    true = [s / 0.5 if s <= 0.5 else 0.5 / s for s in SHARES]
    job = house.job("quality")
    result = do_quality(job, house.store)
    scores = json.loads((house.store.folder(job) / "scores.json").read_text())
    np.testing.assert_allclose(scores["true"], true, atol=1e-5)
    assert result["of"] == "test"
    assert result["val"] == result["test"]
    error = np.abs(np.array(scores["predicted"]) - true).mean()
    assert result["test"]["mae"] == pytest.approx(error)
    assert np.mean(scores["predicted"]) == pytest.approx(np.mean(true))  # calibrated
    # 0, 1/4, and the two 1/2 that the published epsilon lowers
    assert result["test"]["bad"] == pytest.approx(4 / 8)


def test_quality_without_test_images_and_with_void_ones(house):
    labels = labels_of(bright(SHARES))
    labels[2] = IGNORE
    write_split(house.data, "val", bright(SHARES), labels)
    write_split(house.data, "test", bright([])[:0].reshape(0, SIDE, SIDE, 1), labels[:0])
    job = house.job("quality")
    result = do_quality(job, house.store)
    assert result["of"] == "val"
    assert "test" not in result
    scores = json.loads((house.store.folder(job) / "scores.json").read_text())
    assert len(scores["true"]) == N - 1


def test_tiles_are_averaged_to_images(house):
    images, labels = bright(SHARES), labels_of(bright(SHARES))
    write_split(house.data, "test", images, labels, source=[0, 0, 1, 1, 2, 2, 2, 2])
    job = house.job("quality")
    said, true = judging._judged(job, house.store, judging.load_arrays(house.data, "test"))
    np.testing.assert_allclose(said, [0.0625, 0.3125, 0.71875], atol=1e-5)
    np.testing.assert_allclose(true, 1, atol=1e-6)


def test_what_evalnets_learn_from(house):
    images = bright(SHARES)
    labels = labels_of(images)
    labels[0] = IGNORE
    for split in ("labeled", "val"):
        write_split(house.data, split, images, labels)
    common = {"loops": [10, 3], "groups": 2, "first": 1, "seed": [0, 0]}
    plain = house.job("grader", pairs="plain", **common)
    train, val = (judging._pairs(plain, house.store, split) for split in ("labeled", "val"))
    assert len(train) == 7 * 3  # two networks and the truth; a void image teaches nothing
    assert len(val) == 7 * 2  # the first network of each kind, no truth
    np.testing.assert_allclose(train.targets, 1, atol=1e-5)
    cut = house.job("grader", pairs="inconsistent", **common)
    assert [len(judging._pairs(cut, house.store, s)) for s in ("labeled", "val")] == [70, 21]
    write_split(house.data, "val", images, np.full_like(labels, IGNORE))
    with pytest.raises(UserError, match="no image in val has a true mask to learn from"):
        judging._pairs(cut, house.store, "val")


def test_evalnets_are_ranked(tmp_path):
    store = Store(tmp_path)
    graders = tuple(Job(kind="grader", params={"seed": k}) for k in range(5))
    for grader, value in zip(graders, (-0.3, -0.1, -0.5, -0.2, -0.4), strict=True):
        store.folder(grader).mkdir(parents=True)
        store.finish(grader, {"selection": value})
    found = do_rank_graders(Job(kind="rank_graders", params={"keep": 4}, inputs=graders), store)
    assert found["ranked"] == [graders[k].key for k in (1, 3, 0, 4)]
    assert found["val_ranked"] == [-0.1, -0.2, -0.3, -0.4]


def test_no_evalnet_draws_what_a_candidate_draws():
    grader = Job(kind="grader", params={"seed": [0, 0]})
    drawn = {mix(0, generation, k) for generation in range(6) for k in range(10)}
    assert judging.seed_of(grader) not in drawn
