"""EvalNets that say how good the predictions of an ensemble are.

Shape letters: E networks of the ensemble, n images, C image channels or network outputs, K outputs
an EvalNet speaks about, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imasks.labelling.grading import answer, pair_of
from imasks.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Judge:
    """EvalNets that are shown predictions as they were taught to see them.

    Args:
        evalnets: in evaluation mode on one device; their mean counts.
        task: of the ensemble.
        plain: whether they learned from whole predictions; otherwise the inconsistency mask is cut
            out of what the ensemble agrees on, and black in the image.
    """

    evalnets: Sequence[nn.Module]
    task: Task
    plain: bool

    def __call__(self, images: Tensor, probabilities: Tensor) -> Tensor:
        """Ask about an ensemble's predictions of images.

        Args:
            images: float32 [n, C, H, W] in 0..255, of the size the networks were trained at.
            probabilities: float32 [E, n, C, H, W] of them, on the same device.

        Returns:
            float32 [n, heads, K] in 0..1, see :meth:`imasks.tasks.Task.pair_quality`.
        """
        if self.plain:
            masks = self.task.discrete(probabilities.mean(0), reserved=False)
        else:
            votes = torch.stack([self.task.discrete(one) for one in probabilities])
            masks, region = pair_of(votes, self.task)
            images = images.masked_fill(region, 0)
        return answer(self.evalnets, images, masks, self.task, precision="float32")
