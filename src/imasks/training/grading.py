"""How an EvalNet is trained: pairs of image and mask, and how good each mask is.

Shape letters: N images, M pairs, B pairs of a batch, C image channels, P planes, K network outputs,
H x W pixels. Source: METHOD 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imasks.data.augment import Augmentation, augment
from imasks.errors import UserError
from imasks.tasks import Task
from imasks.training.batches import mix
from imasks.training.objectives import Objective, Verdict
from imasks.training.predict import CHUNK, autocast, images_on
from imasks.training.recipe import Recipe

# no turning by 90 degrees, and upright images stay upright, whatever the data set
BINARY_VIEWS = Augmentation(flip=True, contrast=0.4, brightness=20, max_blur=3, max_noise=20)
OTHER_VIEWS = Augmentation(flip=True, contrast=0.2, brightness=10, max_blur=1, max_noise=10)


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Masks of images and how good they are. Images are referred to, never copied.

    Args:
        images: uint8 [N, H, W, C], may be memory-mapped.
        rows: int64 [M], the image of every pair.
        masks: uint8 [M, P, H, W], 0 inside the region.
        region: uint8 [M, ceil(H W / 8)], the bits of what is cut out of image and mask, or None.
        targets: float32 [M, heads, K], see :meth:`imasks.tasks.Task.pair_quality`.
    """

    images: np.ndarray
    rows: np.ndarray
    masks: np.ndarray
    region: np.ndarray | None = None
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Take the pairs of ``index``, int64 [B].

        Returns images float32 [B, C, H, W], black in the region, masks uint8 [B, P, H, W] and
        targets float32 [B, heads, K].
        """
        images = images_on(device, self.images[self.rows[index]])
        if self.region is not None:
            H, W = images.shape[-2:]
            bits = np.unpackbits(self.region[index], axis=1, count=H * W)
            black = torch.from_numpy(bits.reshape(-1, 1, H, W)).to(device).bool()
            images = images.masked_fill(black, 0)
        masks = torch.from_numpy(self.masks[index]).to(device)
        return images, masks, torch.from_numpy(self.targets[index]).to(device)


@final
class Grading(Objective):
    """Learn to tell how good a mask is.

    Half of the pairs that are shown are augmented, drawn anew every time (the published code
    draws once, and writes files). Epochs are compared by the mean absolute error of the pairs'
    scores, ``mae``, where the task has one head, by the loss where it has two.

    Args:
        task: gives the network's inputs and the score of a pair.
        train: what is learned from.
        val: what epochs are compared on, never augmented.
        recipe: gives batch and precision.
        views: what happens to augmented pairs; the published values of the task if not given.
        seed: of order and augmentation.
        device: where the network lies.
    """

    def __init__(
        self,
        task: Task,
        train: Pairs,
        val: Pairs,
        recipe: Recipe,
        *,
        views: Augmentation | None = None,
        seed: int,
        device: torch.device,
    ) -> None:
        for name, pairs in (("train", train), ("validate", val)):
            if not len(pairs):
                raise UserError(
                    f"there is no pair of image and mask to {name} an EvalNet on",
                    remedy="Add labeled images, also to the validation split.",
                )
        self._task = task
        self._train = train
        self._val = val
        self._views = views or (OTHER_VIEWS if task.detects else BINARY_VIEWS)
        self._precision = recipe.precision
        self._batch = min(recipe.batch, len(train))
        self._seed = seed
        self._device = device

    @property
    def pairs(self) -> int:
        return len(self._train)

    @property
    def steps_per_epoch(self) -> int:
        return len(self._train) // self._batch

    def loss(self, network: nn.Module, step: int) -> Tensor:
        images, masks, targets = self._train.take(self._rows(step), self._device)
        images, masks = self._view(images, masks, step)
        with autocast(self._device, self._precision):
            logits = network(images, self._task.mask_input(masks))
        return grading_loss(logits, targets)

    @torch.inference_mode()
    def measure(self, network: nn.Module) -> Verdict:
        logits, targets = [], []
        for index in np.array_split(np.arange(len(self._val)), -(-len(self._val) // CHUNK)):
            images, masks, target = self._val.take(index, self._device)
            with autocast(self._device, self._precision):
                logits.append(network(images, self._task.mask_input(masks)))
            targets.append(target)
        answer, truth = torch.cat(logits), torch.cat(targets)
        found, true = (self._task.pair_score(each) for each in (answer.sigmoid(), truth))
        mae, loss = float((found - true).abs().mean()), float(grading_loss(answer, truth))
        return Verdict(
            selection=-loss if self._task.detects else -mae, record={"mae": mae, "val_loss": loss}
        )

    def _rows(self, step: int) -> np.ndarray:
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng(mix(self._seed, 2, epoch)).permutation(len(self._train))
        return order[place * self._batch : (place + 1) * self._batch]

    def _view(self, images: Tensor, masks: Tensor, step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator(self._device).manual_seed(mix(self._seed, 1, step))
        chosen = torch.rand(len(images), 1, 1, 1, generator=generator, device=self._device) < 0.5
        changed, moved = augment(images, masks, self._views, generator)
        images = torch.where(chosen, changed, images)
        masks = torch.where(chosen, moved, masks)
        return images.contiguous(memory_format=torch.channels_last), masks


def grading_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Squared error of the IoU plus, where there is a second head, cross-entropy of the detection.

    Both are [B, heads, K]; the IoU's error counts all outputs alike, undetected ones as 0.
    """
    loss = F.mse_loss(logits[:, 0].float().sigmoid(), targets[:, 0])
    if logits.shape[1] > 1:
        loss = loss + F.binary_cross_entropy_with_logits(logits[:, 1].float(), targets[:, 1])
    return loss
