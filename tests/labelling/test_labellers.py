from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from imasks.data.augment import Augmentation
from imasks.encoding import SURE
from imasks.labelling import streamed
from imasks.labelling.agree import Morphology
from imasks.labelling.input_ensemble import InputEnsemble
from imasks.labelling.labellers import (
    Agreement,
    Labeller,
    ModelEnsemble,
    load_pseudo_labels,
    write_pseudo_labels,
)
from imasks.tasks import Binary, Multiclass, Multilabel
from imasks.training.predict import CHUNK

CPU = torch.device("cpu")
TASKS = [Binary(["x"]), Multiclass(["a", "b", "c"]), Multilabel(["a", "b"])]
POSITION = Augmentation(flip=True, free_rotation=True)
NOISE = Augmentation(contrast=0.3, brightness=20, max_blur=2, max_noise=20)
STRONG = Augmentation(
    flip=True, free_rotation=True, contrast=0.3, brightness=20, max_blur=2, max_noise=20
)


def pictures(count=5, size=(16, 32)):
    values = np.random.default_rng(0).integers(0, 256, (count, *size, 1))
    return values.astype(np.uint8)


class Brightness(nn.Module):
    """Each output a line of the pixel's own value: lies as the image lies."""

    def __init__(self, outputs, *, at=128.0):
        super().__init__()
        self.outputs, self.at = outputs, at
        self.shapes = []

    def forward(self, images):
        self.shapes.append(tuple(images.shape))
        x = (images - self.at) / 16
        return torch.cat([x * (-1) ** k + k for k in range(self.outputs)], 1)


class Sided(Brightness):
    """Sees nothing in the left half, however the image is laid."""

    def forward(self, images):
        logits = super().forward(images)
        logits[..., : logits.shape[-1] // 2] = -9
        return logits


class Contract:
    """What every labeller promises; every final class inherits these tests."""

    masks = False

    def make(self, task) -> Labeller:
        raise NotImplementedError

    @pytest.fixture(params=TASKS, ids=lambda task: task.name)
    def task(self, request):
        return request.param

    def test_shapes_and_types(self, task):
        found = self.make(task).label(pictures(), first=0)
        assert found.labels.shape == found.im.shape == (5, task.planes, 16, 32)
        assert found.region.shape == (5, 1, 16, 32)
        assert found.keep.shape == (5,)
        assert found.labels.dtype == torch.uint8
        assert {found.im.dtype, found.region.dtype, found.keep.dtype} == {torch.bool}

    def test_only_labellers_with_masks_have_them(self, task):
        found = self.make(task).label(pictures(), first=0)
        assert bool(found.im.any()) == bool(found.region.any()) == self.masks
        assert bool(found.keep.all()) or self.masks

    def test_chunks_change_nothing(self, task):
        images = pictures(6)
        labeller = self.make(task)
        whole = labeller.label(images, first=3)
        for k in range(6):
            alone = self.make(task).label(images[k : k + 1], first=3 + k)
            for name in ("labels", "im", "region", "keep"):
                assert torch.equal(getattr(alone, name)[0], getattr(whole, name)[k]), name

    def test_files_hold_every_chunk(self, task, tmp_path):
        labeller = self.make(task)
        images = pictures(labeller.chunk + 3, size=(16, 16))
        done = []
        counted = write_pseudo_labels(tmp_path, labeller, images, on_progress=done.append)
        read = load_pseudo_labels(tmp_path)
        last = labeller.label(images[labeller.chunk :], first=labeller.chunk)
        np.testing.assert_array_equal(read.labels[labeller.chunk :], last.labels)
        np.testing.assert_array_equal(read.im[labeller.chunk :], last.im)
        np.testing.assert_array_equal(read.region[labeller.chunk :], last.region[:, 0])
        np.testing.assert_array_equal(read.keep[labeller.chunk :], last.keep)
        assert done == [labeller.chunk, labeller.chunk + 3]
        assert counted == {
            "images": len(images),
            "kept": read.keep.sum(),
            "im_size": read.im.sum() / len(images),
            "im_share": read.region.mean(),
        }

    def test_after_a_kill_saved_chunks_are_not_labelled_again(self, task, tmp_path, monkeypatch):
        monkeypatch.setattr(streamed, "EVERY", 0)
        labeller = self.make(task)
        images = pictures(2 * labeller.chunk + 3, size=(16, 16))
        whole, cut = tmp_path / "whole", tmp_path / "cut"
        whole.mkdir()
        cut.mkdir()
        counted = write_pseudo_labels(whole, labeller, images)

        def killed(done):
            if done > labeller.chunk:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_pseudo_labels(cut, labeller, images, on_progress=killed)
        done = []
        assert write_pseudo_labels(cut, labeller, images, on_progress=done.append) == counted
        assert len(done) < len(range(0, len(images), labeller.chunk))
        for name in ("labels", "im", "region", "keep"):
            np.testing.assert_array_equal(
                np.load(whole / f"{name}.npy"), np.load(cut / f"{name}.npy")
            )


class TestAgreement(Contract):
    masks = True

    @pytest.mark.parametrize("extra", ["mean", "votes"])
    def test_after_a_kill_what_is_kept_beside_labels_is_whole(
        self, extra, task, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(streamed, "EVERY", 0)
        labeller = replace(self.make(task), extra=extra)
        images = pictures(2 * labeller.chunk, size=(16, 16))
        whole, cut = tmp_path / "whole", tmp_path / "cut"
        whole.mkdir()
        cut.mkdir()
        write_pseudo_labels(whole, labeller, images)

        def killed(done):
            if done > labeller.chunk:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_pseudo_labels(cut, labeller, images, on_progress=killed)
        write_pseudo_labels(cut, labeller, images)
        np.testing.assert_array_equal(
            np.load(whole / f"{extra}.npy"), np.load(cut / f"{extra}.npy")
        )

    def make(self, task):
        return Agreement(
            networks=[Brightness(task.outputs), Brightness(task.outputs, at=140)],
            task=task,
            morphology=Morphology(),
            choose="filtered",
            device=CPU,
        )

    def test_the_mask_lies_between_the_two_thresholds(self):
        images = pictures()
        found = self.make(TASKS[0]).label(images, first=0)
        x = torch.from_numpy(images[..., 0])
        assert torch.equal(found.im[:, 0], (x > 128) & (x <= 140))
        assert torch.equal(found.labels[:, 0].bool(), x > 140)

    def test_answers_are_kept_where_asked_for(self, task, tmp_path):
        plain = self.make(task)
        for name in ("plain", "mean", "votes"):
            (tmp_path / name).mkdir()
        images = pictures(plain.chunk + 3, size=(16, 16))
        write_pseudo_labels(tmp_path / "plain", plain, images)
        found = load_pseudo_labels(tmp_path / "plain")
        assert found.mean is found.votes is None
        for extra, planes in (("mean", task.outputs), ("votes", 2 * task.planes)):
            folder = tmp_path / extra
            write_pseudo_labels(folder, replace(plain, extra=extra), images)
            read = load_pseudo_labels(folder)
            kept = getattr(read, extra)
            assert kept.shape == (len(images), planes, 16, 16)
            assert kept.dtype == np.uint8
            assert isinstance(kept, np.memmap)
            np.testing.assert_array_equal(read.labels, found.labels)
            np.testing.assert_array_equal(read.im, found.im)
        # where all networks say the same, so does their mean
        mean = load_pseudo_labels(tmp_path / "mean").mean
        decided = task.discrete(torch.from_numpy(mean / SURE), reserved=False).numpy()
        told = ~found.im & ((found.labels > 0) | (task.name != "multiclass"))
        np.testing.assert_array_equal(decided[told], found.labels[told])


class TestModelEnsemble(Contract):
    def make(self, task):
        networks = [Brightness(task.outputs), Brightness(task.outputs, at=160)]
        return ModelEnsemble(networks=networks, task=task, device=CPU)

    def test_binary_masks_are_intersected(self):
        images = pictures()
        labels = self.make(TASKS[0]).label(images, first=0).labels[:, 0]
        assert torch.equal(labels.bool(), torch.from_numpy(images[..., 0]) > 160)


class TestInputEnsemble(Contract):
    def make(self, task, *, how=STRONG, network=None, views=3, seed=0):
        return InputEnsemble(
            network=network or Brightness(task.outputs),
            task=task,
            views=views,
            how=how,
            seed=seed,
            device=CPU,
        )

    @pytest.mark.parametrize("size", [(16, 16), (16, 32)])
    def test_answers_are_laid_back(self, task, size):
        images = pictures(size=size)
        found = self.make(task, how=POSITION, views=7).label(images, first=0)
        plain = ModelEnsemble(networks=[Brightness(task.outputs)], task=task, device=CPU)
        assert torch.equal(found.labels, plain.label(images, first=0).labels)

    def test_views_are_turned_and_mirrored(self):
        images = np.full((8, 16, 16, 1), 255, np.uint8)
        found = self.make(TASKS[0], how=POSITION, network=Sided(1), views=2).label(images, first=0)
        shares = set(found.labels.float().mean((1, 2, 3)).tolist())
        assert shares == {0.0, 0.25, 0.5}  # two halves: opposite, across, or the same

    def test_oblong_views_are_shown_in_both_shapes(self):
        network = Brightness(1)
        self.make(TASKS[0], network=network, views=7).label(pictures(), first=0)
        assert {shape[2:] for shape in network.shapes} == {(16, 32), (32, 16)}

    @pytest.mark.parametrize(("number", "looks"), [(0, 5), (1, 6), (2, 6)])
    def test_published_number_of_views(self, number, looks):
        network = Brightness(TASKS[number].outputs)
        labeller = self.make(TASKS[number], how=NOISE, network=network, views=5)
        labeller.label(pictures(2), first=0)
        assert network.shapes == [(2 * looks, 1, 16, 32)]
        assert labeller.chunk == CHUNK // looks

    def test_views_are_drawn_for_every_image_and_seed(self):
        images = np.repeat(pictures(1), 3, 0)
        one, same, other = (
            self.make(TASKS[0], how=NOISE, seed=seed).label(images, first=0).labels
            for seed in (0, 0, 1)
        )
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
        assert not torch.equal(one[0], one[1])
