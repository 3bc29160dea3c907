"""What a network is trained for: the loss of a step, and the value of an epoch.

The loop of :mod:`imasks.training.fit` knows nothing but this.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from imasks.data.arrays import Arrays
from imasks.data.augment import VIEW_ORDER, Augmentation, geometric, photometric
from imasks.tasks import Task
from imasks.training.batches import Batches, Part, mix
from imasks.training.measure import measure, measure_loss
from imasks.training.predict import autocast
from imasks.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a network is worth at the end of an epoch.

    Args:
        selection: by this epochs are compared; larger is better.
        record: further numbers for the log, by name.
    """

    selection: float
    record: dict[str, float]


class Objective(abc.ABC):
    """The loss of every step, on data of its own, and the judgement of every epoch."""

    @property
    @abc.abstractmethod
    def pairs(self) -> int:
        """What is trained on, counted as the log shows it."""

    @property
    @abc.abstractmethod
    def steps_per_epoch(self) -> int:
        """Steps that show everything once; with the recipe's epochs, how long training takes."""

    @abc.abstractmethod
    def loss(self, network: nn.Module, step: int) -> Tensor:
        """Draw batch number ``step``, counted from 0, run the network and return the scalar loss.

        What is drawn is a function of the objective's seed and of ``step`` alone, so that a killed
        training goes on with the very batch it would have seen.

        Args:
            network: in training mode.
            step: of the whole training.
        """

    @abc.abstractmethod
    def measure(self, network: nn.Module) -> Verdict:
        """Judge a network in evaluation mode on data that it is not trained on."""


@final
class Supervised(Objective):
    """Labels are to be reproduced.

    Args:
        task: gives loss and scores.
        parts: where training pairs come from.
        val: the validation split, with labels.
        recipe: says which loss, how many pairs a step, and by what epochs are compared.
        decide: learn the decision of soft labels, weighted by how sure it is.
        weights: float32 [P, V] on the device, what a pixel of each value counts in the loss; None:
            all count alike.
        seed: of order and augmentation.
        device: where networks lie.

    Raises:
        UserError: there is nothing to train on.
    """

    def __init__(
        self,
        task: Task,
        parts: Sequence[Part],
        val: Arrays,
        recipe: Recipe,
        *,
        decide: bool = False,
        weights: Tensor | None = None,
        seed: int,
        device: torch.device,
    ) -> None:
        self._task = task
        self._batches = Batches(parts, batch=recipe.batch, seed=seed, device=device)
        self._val = val
        self._recipe = recipe
        self._decide = decide
        self._weights = weights
        self._device = device

    @property
    def pairs(self) -> int:
        return self._batches.pairs

    @property
    def steps_per_epoch(self) -> int:
        return self._batches.steps_per_epoch

    def loss(self, network: nn.Module, step: int) -> Tensor:
        images, labels, mean = self._batches(step)
        with autocast(self._device, self._recipe.precision):
            logits = network(images)
        soft = None if mean is None else self._task.soft_target(mean, decide=self._decide)
        return self._task.loss(
            logits, labels, kind=self._recipe.loss, soft=soft, weights=self._weights
        )

    def measure(self, network: nn.Module) -> Verdict:
        measured = measure(network, self._val, self._task, self._recipe, device=self._device)
        primary = self._task.primary
        return Verdict(selection=measured.selection, record={primary: measured.scores[primary]})


@final
class Consistency(Objective):
    """Labels are to be reproduced, and two views of an unlabeled image to be answered alike.

    An epoch is one pass over the labeled batches (supervised loss) followed by one pass over the
    unlabeled ones (mean squared error between the probabilities of two views). Both views share
    a random position, if ``views`` says so (as published, for binary tasks), and then get blur,
    noise and brightness of their own. Epochs are compared by the validation loss.

    A step is a batch of either kind, so a recipe that counts epochs (100 for this approach, as
    published) makes as many steps as both passes have batches, each time; one that counts steps
    shares them out between the two kinds in that ratio. A training that ends within an epoch ends
    on labeled batches first. An unlabeled step runs the network twice.

    Where batches alternate, a labeled one follows every unlabeled one, whatever their numbers are:
    in long passes without labels networks lose what labels taught them.

    Args:
        task: gives loss, probabilities and scores.
        parts: where labeled pairs come from.
        unlabeled: images uint8 [N, H, W, C], may be memory-mapped.
        val: the validation split, with labels.
        views: how far the two views are changed.
        recipe: says which loss and how many images a step.
        alternate: labeled and unlabeled batches in turn, not in passes.
        weights: of the supervised loss, see :class:`Supervised`.
        seed: of order and augmentation.
        device: where networks lie.

    Raises:
        UserError: there is nothing to train on.

    Source: METHOD 7 and 10; published are passes.
    """

    def __init__(
        self,
        task: Task,
        parts: Sequence[Part],
        unlabeled: np.ndarray,
        val: Arrays,
        *,
        views: Augmentation,
        recipe: Recipe,
        alternate: bool = False,
        weights: Tensor | None = None,
        seed: int,
        device: torch.device,
    ) -> None:
        self._task = task
        self._labeled = Supervised(
            task, parts, val, recipe, weights=weights, seed=seed, device=device
        )
        N, H, W, _ = unlabeled.shape
        no_labels = np.empty((N, 0, H, W), np.uint8)  # no planes: nothing but images is drawn
        self._unlabeled = Batches(
            [Part(images=unlabeled, labels=no_labels)],
            batch=recipe.batch,
            seed=mix(seed, 4, 0),
            device=device,
        )
        self._val = val
        self._views = views
        self._alternate = alternate
        self._recipe = recipe
        self._seed = seed
        self._device = device

    @property
    def pairs(self) -> int:
        return self._labeled.pairs + self._unlabeled.pairs

    @property
    def steps_per_epoch(self) -> int:
        return self._labeled.steps_per_epoch + self._unlabeled.steps_per_epoch

    def loss(self, network: nn.Module, step: int) -> Tensor:
        labeled, place = self._place(step)
        if labeled:
            return self._labeled.loss(network, place)
        one, two = self._two_views(place)
        with autocast(self._device, self._recipe.precision):
            logits = network(one), network(two)
        a, b = map(self._task.probabilities, logits)
        return (a - b).square().mean()

    def measure(self, network: nn.Module) -> Verdict:
        measured = measure_loss(network, self._val, self._task, self._recipe, device=self._device)
        primary = self._task.primary
        return Verdict(selection=measured.selection, record={primary: measured.scores[primary]})

    def _place(self, step: int) -> tuple[bool, int]:
        """Say whether a step is a labeled one, and the how manieth of its kind."""
        if self._alternate:
            return step % 2 == 0, step // 2
        epoch, place = divmod(step, self.steps_per_epoch)
        first = self._labeled.steps_per_epoch
        if place < first:
            return True, epoch * first + place
        return False, epoch * self._unlabeled.steps_per_epoch + place - first

    def _two_views(self, step: int) -> tuple[Tensor, Tensor]:
        """Draw two views float32 [B, C, H, W] of one unlabeled batch."""
        images, labels, _ = self._unlabeled(step)
        generator = torch.Generator(self._device).manual_seed(mix(self._seed, 5, step))
        images, _ = geometric(images, labels, self._views, generator)
        one, two = (
            photometric(images, self._views, generator, order=VIEW_ORDER).contiguous(
                memory_format=torch.channels_last
            )
            for _ in range(2)
        )
        return one, two
