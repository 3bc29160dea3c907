"""Pseudo-labels of one network that looks several times.

Shape letters: V views, n images of one chunk, C image channels or network outputs, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from imasks.data.augment import VIEW_ORDER, Augmentation, Position, draw_positions, photometric
from imasks.labelling.labellers import Labelled, Labeller
from imasks.tasks import Task
from imasks.training.batches import mix
from imasks.training.predict import CHUNK, autocast, images_on
from imasks.training.recipe import Precision


@final
@dataclass(frozen=True, kw_only=True)
class InputEnsemble(Labeller):
    """One network on several views of an image, see :meth:`imasks.tasks.Task.view_consensus`.

    Each view gets a position, if ``how`` says so, and blur, noise and brightness of its own; the
    answers are laid back before they are merged. Views are independent of one another; those of
    the published code's multiclass ensembles each augment the one before.

    Args:
        network: in evaluation mode on the device.
        task: merges what the network says.
        views: the nominal number (3, 5 or 7 as published); some tasks look once more.
        how: how far views are changed.
        seed: of the views; those of an image depend on the seed and its number alone.
        device: where the network lies.
        precision: of the convolutions.

    Source: METHOD 7, 10 and 14.3.
    """

    network: nn.Module
    task: Task
    views: int
    how: Augmentation
    seed: int
    device: torch.device
    precision: Precision = "float32"

    @property
    def looks(self) -> int:
        """V, the views of each image."""
        return self.views + self.task.extra_views

    @property
    def chunk(self) -> int:
        """Images at once: the network sees as many views as it would see images otherwise."""
        return max(1, CHUNK // self.looks)

    @torch.inference_mode()
    def label(self, images: np.ndarray, *, first: int) -> Labelled:
        """See :meth:`Labeller.label`."""
        views: list[Tensor] = []
        positions: list[Position] = []
        for number, image in enumerate(images_on(self.device, images), start=first):
            # Blur and noise know no direction, so they may come before the position, as long as
            # all views have one shape.
            views += self._changed(image, number)
            positions += self._positions(number)
        laid = [at.apply(view) for view, at in zip(views, positions, strict=True)]
        answers = [
            at.restore(answer) for answer, at in zip(self._answers(laid), positions, strict=True)
        ]
        by_view = [torch.stack(answers[k :: self.looks]) for k in range(self.looks)]
        label = self.task.view_consensus(torch.stack(by_view))
        return Labelled.certain(self.task.redraw(label, label))

    def _changed(self, image: Tensor, number: int) -> Tensor:
        """Draw V views float32 [V, C, H, W] of one image [C, H, W], as it lies."""
        generator = torch.Generator(self.device).manual_seed(mix(self.seed, number, 1))
        views = image.expand(self.looks, -1, -1, -1)
        return photometric(views, self.how, generator, order=VIEW_ORDER)

    def _positions(self, number: int) -> list[Position]:
        """Draw the V positions of one image."""
        generator = torch.Generator().manual_seed(mix(self.seed, number, 2))
        return draw_positions(self.looks, self.how, generator)

    def _answers(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Show views [C, H, W] of one or two shapes; probabilities in the views' order."""
        answers: dict[int, Tensor] = {}
        for shape in dict.fromkeys(view.shape for view in views):
            chosen = [k for k, view in enumerate(views) if view.shape == shape]
            x = torch.stack([views[k] for k in chosen])
            with autocast(self.device, self.precision):
                logits = self.network(x.contiguous(memory_format=torch.channels_last))
            answers.update(zip(chosen, self.task.probabilities(logits), strict=True))
        return [answers[k] for k in range(len(views))]
