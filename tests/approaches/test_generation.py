from dataclasses import replace

import numpy as np
import pytest
import torch

from imasks.approaches.generation import Source, assemble, pseudo_part
from imasks.approaches.presets import Policy
from imasks.data.arrays import Arrays
from imasks.data.augment import Augmentation
from imasks.labelling.agree import Morphology
from imasks.labelling.labellers import PseudoLabels


@pytest.fixture
def pseudo():
    """Two images, two planes; in the first, plane 0 is disputed in its first row."""
    labels = np.ones((2, 2, 4, 4), np.uint8)
    im = np.zeros((2, 2, 4, 4), np.bool_)
    im[0, 0, 0] = True
    labels[im] = 0
    return PseudoLabels(labels=labels, im=im, region=im.any(1), keep=np.array([True, False]))


IMAGES = np.full((2, 4, 4, 3), 200, np.uint8)


def shown(part):
    """The first pair of a part: image [C, H, W] and label [P, H, W]."""
    image, label, _ = part.take(torch.tensor([0]), torch.device("cpu"), None)
    return image[0], label[0]


def test_published_policy_cuts_label_and_image(pseudo):
    part = pseudo_part(IMAGES, pseudo, Policy())
    assert len(part) == 1  # the other image is not kept
    image, label = shown(part)
    assert (label[:, 0] == 0).all()  # both planes, although only one was disputed
    assert (label[:, 1:] == 1).all()
    assert (image[:, 0] == 0).all()
    assert (image[:, 1:] == 200).all()


def test_ignoring_keeps_the_image_and_the_planes_that_agree(pseudo):
    image, label = shown(pseudo_part(IMAGES, pseudo, Policy(input="keep", label="ignore")))
    assert (image == 200).all()
    assert (label[0, 0] == 255).all()
    assert (label[1] == 1).all()


def test_ignoring_follows_the_changed_region_where_there_is_morphology(pseudo):
    policy = Policy(input="keep", label="ignore", morphology=Morphology(dilate=3))
    _, label = shown(pseudo_part(IMAGES, pseudo, policy))
    assert (label[:, 0] == 255).all()


@pytest.mark.parametrize(("label", "soft_rows"), [("mean", 1), ("weigh", 1), ("soft", 4)])
def test_soft_labels_count_under_the_mask_or_everywhere(pseudo, label, soft_rows):
    mean = np.full((2, 2, 4, 4), 100, np.uint8)
    part = pseudo_part(IMAGES, replace(pseudo, mean=mean), Policy(input="keep", label=label))
    _, labels, soft = part.take(torch.tensor([0]), torch.device("cpu"), None)
    assert (labels[0, 0, :soft_rows] == 255).all()
    assert (labels[0, 0, soft_rows:] == 1).all()
    assert bool((labels[0, 1] == 1).all()) == (label != "soft")  # nobody disputed this plane
    assert (soft == 100).all()


@pytest.mark.parametrize("label", ["mean", "weigh", "soft", "rare"])
def test_labels_without_networks_that_vote_are_learned_as_they_are(label):
    labels = np.ones((2, 1, 4, 4), np.uint8)
    no = np.zeros((2, 1, 4, 4), np.bool_)
    certain = PseudoLabels(labels=labels, im=no, region=no[:, 0], keep=np.ones(2, np.bool_))
    policy = Policy(input="keep", label=label)
    _, label_, soft = pseudo_part(IMAGES, certain, policy).take(
        torch.tensor([0, 1]), torch.device("cpu"), None
    )
    assert (label_ == 1).all()
    assert soft is None


def test_starved_classes_live_on_under_the_mask():
    """Class 2 covers half of the labeled pixels, and is nowhere agreed upon."""
    labels = np.ones((2, 1, 4, 4), np.uint8)
    im = np.zeros((2, 1, 4, 4), np.bool_)
    im[:, :, :2] = True
    votes = np.ones((2, 2, 4, 4), np.uint8)
    votes[:, 1, 0], votes[:, 1, 1] = 2, 3
    labels[im] = 0
    true = np.ones((1, 1, 4, 4), np.uint8)
    true[:, :, :2] = 2
    part = pseudo_part(
        IMAGES,
        PseudoLabels(labels=labels, im=im, region=im[:, 0], keep=np.ones(2, np.bool_), votes=votes),
        Policy(input="keep", label="rare"),
        labeled=true,
    )
    _, label = shown(part)
    assert label[0, :, 0].tolist() == [2, 255, 1, 1]


def test_assembling_reads_only_what_is_asked_for(pseudo):
    labels = np.ones((2, 2, 4, 4), np.uint8)
    labeled = Arrays(("a", "b"), IMAGES, labels)
    wanted = [
        Source(pairs="pseudo", augmentation=Augmentation(flip=True)),
        Source(pairs="labeled", augmentation=Augmentation(flip=True), frozen=3),
    ]
    parts = assemble(
        wanted,
        labeled=labeled,
        unlabeled=Arrays(("c", "d"), IMAGES, None),
        pseudo=pseudo,
        policy=Policy(),
        seed=0,
    )
    assert [len(part) for part in parts] == [1, 6]
    assert parts[0].augmentation.flip
    assert parts[1].augmentation == Augmentation()


def test_true_pairs_are_repeated_to_their_least_share():
    labels = np.ones((2, 2, 4, 4), np.uint8)
    many = np.zeros((40, 4, 4, 3), np.uint8)
    full = np.zeros((40, 2, 4, 4), np.uint8)
    parts = assemble(
        [
            Source(pairs="full", augmentation=Augmentation()),
            Source(pairs="labeled", augmentation=Augmentation(), least=0.3),
        ],
        labeled=Arrays(("a", "b"), IMAGES, labels),
        unlabeled=Arrays(tuple("c" * 40), many, full),
        pseudo=None,
        policy=Policy(),
        seed=0,
    )
    assert [len(part) for part in parts] == [40, 18]
    assert sorted(parts[1].rows.tolist()) == [0] * 9 + [1] * 9
