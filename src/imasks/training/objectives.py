"""What a network is trained for: the loss of a step, and the value of an epoch.

The loop of :mod:`imasks.training.fit` knows nothing but this.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from imasks.data.arrays import Arrays
from imasks.tasks import Task
from imasks.training.batches import Batches, Part
from imasks.training.measure import measure
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
        seed: int,
        device: torch.device,
    ) -> None:
        self._task = task
        self._batches = Batches(parts, batch=recipe.batch, seed=seed, device=device)
        self._val = val
        self._recipe = recipe
        self._device = device

    @property
    def pairs(self) -> int:
        return self._batches.pairs

    @property
    def steps_per_epoch(self) -> int:
        return self._batches.steps_per_epoch

    def loss(self, network: nn.Module, step: int) -> Tensor:
        images, labels = self._batches(step)
        with autocast(self._device, self._recipe.precision):
            logits = network(images)
        return self._task.loss(logits, labels, kind=self._recipe.loss)

    def measure(self, network: nn.Module) -> Verdict:
        measured = measure(network, self._val, self._task, self._recipe, device=self._device)
        primary = self._task.primary
        return Verdict(selection=measured.selection, record={primary: measured.scores[primary]})
