import numpy as np
import pytest
import torch
from torch import nn

from imasks.labelling import streamed
from imasks.labelling.best import write_best_labels
from imasks.labelling.labellers import load_pseudo_labels
from imasks.tasks import Binary, Multiclass, Multilabel

CPU = torch.device("cpu")


class Threshold(nn.Module):
    """Calls what is brighter than a level the last class."""

    def __init__(self, task, level):
        super().__init__()
        self.task, self.level = task, level

    def forward(self, images):
        bright = (images[:, :1] - self.level) * 10
        reserved = torch.full_like(bright, -1e6)
        return torch.cat([reserved, -bright, bright][3 - self.task.outputs :], 1)


class Judge(nn.Module):
    """Says how close the share of the last class is to what it wants."""

    def __init__(self, task, wanted):
        super().__init__()
        self.task, self.wanted = task, wanted

    def forward(self, images, masks):
        share = masks[:, -1].mean((1, 2))
        quality = (1 - (share - self.wanted).abs()).view(-1, 1, 1)
        iou = quality.expand(-1, 1, self.task.outputs).logit()
        return torch.cat([iou, torch.ones_like(iou)], 1) if self.task.detects else iou


TASKS = [Binary(["x"]), Multiclass(["a", "b"]), Multilabel(["a", "b"])]


@pytest.fixture(params=TASKS, ids=lambda task: task.name)
def task(request):
    return request.param


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (70, 16, 16, 1), dtype=np.uint8)


def last_class(labels, task):
    return (task.mask_input(torch.from_numpy(np.array(labels)))[:, -1].mean((1, 2))).numpy()


def test_the_best_mask_is_written(tmp_path, task, images):
    networks = [Threshold(task, level) for level in (30.5, 127.5, 220.5)]
    record = write_best_labels(
        tmp_path, networks, [Judge(task, 0.5)], images, task, threshold=0.0, device=CPU
    )
    found = load_pseudo_labels(tmp_path)
    shares = last_class(found.labels, task)
    np.testing.assert_allclose(shares, (images > 127).mean((1, 2, 3)), atol=1e-6)
    assert not found.im.any()
    assert not found.region.any()
    assert found.keep.all()
    scores = np.load(tmp_path / "score.npy")
    np.testing.assert_allclose(scores, 1 - np.abs(shares - 0.5), atol=1e-5)
    mean = pytest.approx(scores.mean())
    assert record == {"images": 70, "kept": 70, "score": mean, "threshold": 0.0}


class Counted(np.ndarray):
    """Images that count how often chunks are read."""

    reads = 0

    def __getitem__(self, index):
        type(self).reads += isinstance(index, slice)
        return np.asarray(super().__getitem__(index))


def test_images_are_read_once(tmp_path, task, images, monkeypatch):
    monkeypatch.setattr(Counted, "reads", 0)
    networks = [Threshold(task, 127.5)]
    counted = images.view(Counted)
    write_best_labels(
        tmp_path, networks, [Judge(task, 0.5)], counted, task, threshold=0, device=CPU
    )
    assert Counted.reads == 2  # chunks of 70 images


def test_evalnets_are_averaged(tmp_path, task, images):
    networks = [Threshold(task, level) for level in (30.5, 127.5, 220.5)]
    judges = [Judge(task, 0.9), Judge(task, 0.86), Judge(task, 0.2)]  # two of three like much
    write_best_labels(tmp_path, networks, judges, images, task, threshold=0.0, device=CPU)
    shares = last_class(load_pseudo_labels(tmp_path).labels, task)
    np.testing.assert_allclose(shares, (images > 30).mean((1, 2, 3)), atol=1e-6)


def test_kept_labels_compete_and_stay(tmp_path, task, images):
    one, two, three = (tmp_path / name for name in "abc")
    for folder in (one, two, three):
        folder.mkdir()
    judges = [Judge(task, 0.5)]
    options = {"device": CPU, "threshold": 0.98}
    write_best_labels(one, [Threshold(task, 127.5)], judges, images, task, **options)
    before = load_pseudo_labels(one)
    assert 0 < before.keep.sum() < 70
    # worse masks replace nothing that is kept; what was not kept is forgotten
    write_best_labels(
        two, [Threshold(task, 220.5)], judges, images, task, previous=before, **options
    )
    after = load_pseudo_labels(two)
    np.testing.assert_array_equal(after.keep, before.keep)
    np.testing.assert_array_equal(after.labels[after.keep], before.labels[before.keep])
    shares = last_class(after.labels[~after.keep], task)
    np.testing.assert_allclose(shares, (images > 220).mean((1, 2, 3))[~after.keep], atol=1e-6)
    # better ones do
    write_best_labels(
        three,
        [Threshold(task, 127.5)],
        judges,
        images,
        task,
        previous=load_pseudo_labels(two),
        **options,
    )
    np.testing.assert_array_equal(load_pseudo_labels(three).labels, before.labels)


def test_without_a_threshold_the_better_half_is_kept(tmp_path, task, images):
    networks, judges = [Threshold(task, 127.5)], [Judge(task, 0.6)]
    record = write_best_labels(tmp_path, networks, judges, images, task, threshold=None, device=CPU)
    scores, keep = np.load(tmp_path / "score.npy"), np.load(tmp_path / "keep.npy")
    assert record["threshold"] == pytest.approx(scores.mean())
    assert (keep == (scores >= scores.mean())).all()
    assert 20 < keep.sum() < 50


def test_equal_scores_are_all_kept(tmp_path, task, images):
    same = np.repeat(images[:1], 70, 0)
    networks, judges = [Threshold(task, 127.5)], [Judge(task, 0.6)]
    write_best_labels(tmp_path, networks, judges, same, task, threshold=None, device=CPU)
    assert np.load(tmp_path / "keep.npy").all()


def test_after_a_kill_saved_chunks_are_not_judged_again(tmp_path, task, images, monkeypatch):
    monkeypatch.setattr(streamed, "EVERY", 0)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    how = ([Threshold(task, 30.5), Threshold(task, 127.5)], [Judge(task, 0.5)], images, task)
    more = {"threshold": None, "device": CPU}
    record = write_best_labels(whole, *how, **more)

    def killed(done):
        if done < len(images):
            return
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_best_labels(cut, *how, on_progress=killed, **more)
    done = []
    assert write_best_labels(cut, *how, on_progress=done.append, **more) == record
    assert done == [len(images)]
    for name in ("labels", "im", "region", "keep", "score"):
        np.testing.assert_array_equal(np.load(cut / f"{name}.npy"), np.load(whole / f"{name}.npy"))
