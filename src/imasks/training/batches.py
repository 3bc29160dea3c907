"""From uint8 arrays in memory to augmented batches on the device.

Shape letters: N pairs, B pairs a batch, C image channels, P label planes, O network outputs,
H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from imasks.data.augment import Augmentation, augment
from imasks.encoding import IGNORE
from imasks.errors import UserError


class Batch(NamedTuple):
    """B augmented pairs on the device.

    Args:
        images: float32 [B, C, H, W], channels last in memory.
        labels: uint8 [B, P, H, W].
        soft: uint8 [B, O, H, W], soft labels that count where labels are IGNORE; None: there are
            none.
    """

    images: Tensor
    labels: Tensor
    soft: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Part:
    """One source of training pairs. All arrays may be memory-mapped; only batches are copied.

    Args:
        images: uint8 [N, H, W, C].
        labels: uint8 [N, P, H, W], internal encoding, IGNORE where nothing is learned.
        rows: int64 [M], the images that are trained on; None: all.
        black: bool [N, H, W] where the image is shown black, or None.
        cut: bool [N, 1 or P, H, W] where the label becomes ``cut_to``, or None.
        cut_to: IGNORE, or 0: background, or the reserved class of a multiclass task.
        soft: uint8 [N, O, H, W], soft labels for where labels are IGNORE or become so, or None.
        votes: uint8 [N, E, H, W], what each of E networks said, or None.
        order: uint8 [256], with votes: where the label is cut, it becomes the vote of the highest
            order, if that is above 0.
        weights: float64 [M], how likely each pair is drawn beside the others; None: every pair is
            shown once an epoch. Where one part has weights, those without weigh 1 a pair.
        augmentation: drawn anew every time a pair is shown.
    """

    images: np.ndarray
    labels: np.ndarray
    rows: np.ndarray | None = None
    black: np.ndarray | None = None
    cut: np.ndarray | None = None
    cut_to: int = IGNORE
    soft: np.ndarray | None = None
    votes: np.ndarray | None = None
    order: np.ndarray | None = None
    weights: np.ndarray | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __len__(self) -> int:
        return len(self.images) if self.rows is None else len(self.rows)

    def take(self, index: Tensor, device: torch.device, generator: torch.Generator | None) -> Batch:
        """Take the pairs of ``index``, int64 [B], augmented if a generator is given."""
        rows = index.numpy() if self.rows is None else self.rows[index.numpy()]
        images = torch.from_numpy(self.images[rows]).to(device).permute(0, 3, 1, 2).float()
        labels = torch.from_numpy(self.labels[rows]).to(device)
        if self.black is not None:
            black = torch.from_numpy(self.black[rows]).to(device)
            images = images.masked_fill(black[:, None], 0)
        if self.cut is not None:
            cut = torch.from_numpy(self.cut[rows]).to(device)
            labels = labels.masked_fill(cut, self.cut_to)
            if self.votes is not None and self.order is not None:
                votes = torch.from_numpy(self.votes[rows]).to(device)
                most, which = torch.from_numpy(self.order).to(device)[votes.long()].max(1, True)
                labels = torch.where(cut & (most > 0), votes.gather(1, which), labels)
        planes = labels
        if self.soft is not None:
            planes = torch.cat([labels, torch.from_numpy(self.soft[rows]).to(device)], 1)
        if generator is not None:
            images, planes = augment(images, planes, self.augmentation, generator)
        P = labels.shape[1]
        return Batch(
            images.contiguous(memory_format=torch.channels_last),
            planes[:, :P],
            None if self.soft is None else planes[:, P:],
        )


class Batches:
    """An endless stream of batches over several parts, shuffled anew each epoch.

    Where pairs have weights, an epoch is as many independent draws as there are pairs.

    Batch ``step`` depends on the seed and on ``step`` alone, so that a killed training goes on
    with the very batch it would have seen.
    """

    def __init__(
        self, parts: Sequence[Part], *, batch: int, seed: int, device: torch.device
    ) -> None:
        self.parts = [part for part in parts if len(part)]
        self.pairs = sum(len(part) for part in self.parts)
        if not self.pairs:
            raise UserError(
                "there is no pair to train on",
                remedy="Add labeled images, or loosen the filter if it dropped all pseudo-labels.",
            )
        self.batch = min(batch, self.pairs)
        self.steps_per_epoch = self.pairs // self.batch
        self.seed = seed
        self.device = device
        self._weights = _weights(self.parts)
        self._shuffled: tuple[int, Tensor] | None = None

    def __call__(self, step: int) -> Batch:
        """Return the pairs of one step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        chosen = self._order(epoch)[place * self.batch : (place + 1) * self.batch]
        generator = torch.Generator(self.device).manual_seed(mix(self.seed, 1, step))
        cut = [
            part.take(index, self.device, generator)
            for part, index in zip(self.parts, self._split(chosen), strict=True)
            if len(index)
        ]
        images, labels, soft = zip(*cut, strict=True)
        return Batch(torch.cat(images), torch.cat(labels), _together(soft, labels))

    def _order(self, epoch: int) -> Tensor:
        if self._shuffled is None or self._shuffled[0] != epoch:
            generator = torch.Generator().manual_seed(mix(self.seed, 2, epoch))
            if self._weights is None:
                order = torch.randperm(self.pairs, generator=generator)
            else:
                order = torch.multinomial(
                    self._weights, self.pairs, replacement=True, generator=generator
                )
            self._shuffled = epoch, order
        return self._shuffled[1]

    def _split(self, chosen: Tensor) -> Iterator[Tensor]:
        start = 0
        for part in self.parts:
            yield chosen[(chosen >= start) & (chosen < start + len(part))] - start
            start += len(part)


def materialise(part: Part, *, copies: int, augmentation: Augmentation, seed: int) -> Part:
    """Augment every pair ``copies`` times once and for all, as the published code writes files.

    Returns a part of N x copies pairs in memory that are not augmented any further.
    """
    taken = []
    frozen = replace(part, augmentation=augmentation)
    for copy in range(copies):
        for start in range(0, len(part), 256):
            generator = torch.Generator().manual_seed(mix(seed, copy, start))
            index = torch.arange(start, min(start + 256, len(part)))
            x, y, soft = frozen.take(index, torch.device("cpu"), generator)
            taken.append(Batch(x.permute(0, 2, 3, 1).to(torch.uint8), y, soft))
    images, labels, softs = zip(*taken, strict=True)
    return Part(
        images=torch.cat(images).numpy(),
        labels=torch.cat(labels).numpy(),
        soft=None if part.soft is None else torch.cat(softs).numpy(),
    )


def _weights(parts: Sequence[Part]) -> Tensor | None:
    """Join the weights of several parts, float64 [sum of M]; None if none has any."""
    if all(part.weights is None for part in parts):
        return None
    each = [np.ones(len(part)) if part.weights is None else part.weights for part in parts]
    return torch.from_numpy(np.concatenate(each))


def _together(soft: Sequence[Tensor | None], labels: Sequence[Tensor]) -> Tensor | None:
    """Join soft labels of several parts, IGNORE for those that have none; None if none has any."""
    outputs = max(0 if one is None else one.shape[1] for one in soft)
    if not outputs:
        return None
    return torch.cat(
        [
            hard.new_full((len(hard), outputs, *hard.shape[2:]), IGNORE) if one is None else one
            for one, hard in zip(soft, labels, strict=True)
        ]
    )


def mix(*numbers: int) -> int:
    """Combine integers to one seed such that neighbouring seeds have nothing in common.

    Zeros at the end do not count: callers that mix alike must give equally many numbers.
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
