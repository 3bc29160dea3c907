import numpy as np
import pytest
import torch
from torch import nn

from imasks.data.arrays import Arrays
from imasks.encoding import IGNORE
from imasks.tasks import Binary, Multiclass, Multilabel
from imasks.training.measure import measure
from imasks.training.predict import probabilities, votes
from imasks.training.recipe import Recipe

CPU = torch.device("cpu")


class Brightness(nn.Module):
    """Logits that are positive where the image is bright, the same for every output."""

    def __init__(self, outputs=1):
        super().__init__()
        self.outputs = outputs

    def forward(self, images):
        return ((images[:, :1] - 128) / 10).expand(-1, self.outputs, -1, -1)


def split(count=5):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 16, 16, 1), np.uint8)
    return Arrays(tuple("abcde"[:count]), images, (images[..., 0] > 128)[:, None].astype(np.uint8))


@pytest.mark.parametrize("chunk", [1, 2, 64])
def test_probabilities_do_not_depend_on_the_chunk(chunk):
    task = Binary(["x"])
    images = split().images
    whole = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    expected = torch.stack([task.probabilities(Brightness()(whole))] * 2)
    networks = [Brightness(), Brightness()]
    parts = [p for _, p in probabilities(networks, images, task, device=CPU, chunk=chunk)]
    torch.testing.assert_close(torch.cat(parts, 1), expected)


def test_votes_are_discrete():
    (_, voted), *more = votes([Brightness()], split().images, Binary(["x"]), device=CPU)
    assert not more
    assert voted.shape == (1, 5, 1, 16, 16)
    assert voted.dtype == torch.uint8


@pytest.mark.parametrize("select", ["paper", "score"])
def test_a_perfect_network(select):
    measured = measure(Brightness(), split(), Binary(["x"]), Recipe(select=select), device=CPU)
    assert measured.scores["iou"] == pytest.approx(1)
    assert measured.selection == pytest.approx(1)
    assert measured.tally.shape == (5, 1, 3)


def test_selection_of_the_paper_weighs_pixels_of_the_score_images():
    arrays = split(2)
    labels = arrays.labels.copy()
    labels[1] = 0
    labels[1, 0, 2:] = 0  # the second image is nearly empty, and what is found there wrong
    wrong = Arrays(arrays.names, arrays.images, labels)
    task = Binary(["x"])
    paper = measure(Brightness(), wrong, task, Recipe(select="paper"), device=CPU)
    score = measure(Brightness(), wrong, task, Recipe(select="score"), device=CPU)
    hit, predicted, true = paper.tally.sum((0, 1)).tolist()
    assert paper.selection == pytest.approx(hit / (predicted + true - hit))
    assert score.selection == pytest.approx(score.scores["iou"])
    assert paper.selection != pytest.approx(score.selection, abs=1e-3)


def tiles_of_one_object(object_in):
    """Eight tiles of one image; one holds an object, which is bright."""
    images = np.zeros((8, 16, 16, 1), np.uint8)
    images[object_in, 4:9, 4:9] = 255
    labels = (images[..., 0] > 128)[:, None].astype(np.uint8)
    return Arrays(("image",), images, labels, np.zeros(8, np.int64))


@pytest.mark.parametrize("select", ["paper", "score"])
def test_images_are_scored_not_tiles(select):
    tiles, task = tiles_of_one_object(3), Binary(["x"])
    measured = measure(Brightness(), tiles, task, Recipe(select=select), device=CPU)
    assert measured.tally.tolist() == [[[25, 25, 25]]]
    assert measured.scores["iou"] == pytest.approx(1)
    assert measured.selection == pytest.approx(1)


def test_two_images_of_several_tiles():
    tiles, task = tiles_of_one_object(3), Binary(["x"])
    source = np.array([0, 0, 0, 0, 0, 1, 1, 1])
    two = tiles._replace(names=("a", "b"), source=source)
    measured = measure(Brightness(), two, task, Recipe(), device=CPU)
    assert measured.tally.tolist() == [[[25, 25, 25]], [[0, 0, 0]]]
    every = tiles._replace(names=tuple("abcdefgh"), source=np.arange(8))
    alone = tiles._replace(names=every.names, source=None)
    found = [measure(Brightness(), each, task, Recipe(), device=CPU) for each in (every, alone)]
    assert found[0].scores == found[1].scores
    assert found[0].tally.equal(found[1].tally)


def test_multilabel_selects_by_loss_and_leaves_ignored_pixels_out():
    arrays = split(2)
    labels = np.repeat(arrays.labels, 2, axis=1)
    task, recipe = Multilabel(["a", "b"]), Recipe(select="paper")
    good = measure(Brightness(2), arrays._replace(labels=labels), task, recipe, device=CPU)
    half = labels.copy()
    half[:, 1, :8] = 1 - half[:, 1, :8]
    bad = measure(Brightness(2), arrays._replace(labels=half), task, recipe, device=CPU)
    assert bad.selection < good.selection < 0
    half[:, 1, :8] = IGNORE
    ignored = measure(Brightness(2), arrays._replace(labels=half), task, recipe, device=CPU)
    assert ignored.selection > bad.selection


def test_multiclass_never_answers_the_reserved_class():
    class Reserved(nn.Module):
        def forward(self, images):
            logits = torch.zeros(len(images), 3, *images.shape[2:])
            logits[:, 0] = 5
            logits[:, 2] = 1
            return logits

    arrays = split(2)._replace(labels=np.full((2, 1, 16, 16), 2, np.uint8))
    task = Multiclass(["a", "b"])
    assert measure(Reserved(), arrays, task, Recipe(), device=CPU).scores["miou"] == 1
