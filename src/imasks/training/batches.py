"""From uint8 arrays in memory to augmented batches on the device.

Shape letters: N pairs, B pairs a batch, C image channels, P label planes, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from imasks.data.augment import Augmentation, augment
from imasks.encoding import IGNORE
from imasks.errors import UserError


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
        augmentation: drawn anew every time a pair is shown.
    """

    images: np.ndarray
    labels: np.ndarray
    rows: np.ndarray | None = None
    black: np.ndarray | None = None
    cut: np.ndarray | None = None
    cut_to: int = IGNORE
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __len__(self) -> int:
        return len(self.images) if self.rows is None else len(self.rows)

    def take(
        self, index: Tensor, device: torch.device, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Take the pairs of ``index``, int64 [B], augmented if a generator is given.

        Returns images float32 [B, C, H, W] (channels last in memory) and labels uint8 [B, P, H, W].
        """
        rows = index.numpy() if self.rows is None else self.rows[index.numpy()]
        images = torch.from_numpy(self.images[rows]).to(device).permute(0, 3, 1, 2).float()
        labels = torch.from_numpy(self.labels[rows]).to(device)
        if self.black is not None:
            black = torch.from_numpy(self.black[rows]).to(device)
            images = images.masked_fill(black[:, None], 0)
        if self.cut is not None:
            labels = labels.masked_fill(torch.from_numpy(self.cut[rows]).to(device), self.cut_to)
        if generator is not None:
            images, labels = augment(images, labels, self.augmentation, generator)
        return images.contiguous(memory_format=torch.channels_last), labels


class Batches:
    """An endless stream of batches over several parts, shuffled anew each epoch.

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
        self._shuffled: tuple[int, Tensor] | None = None

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return images float32 [B, C, H, W] and labels uint8 [B, P, H, W] of one step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        chosen = self._order(epoch)[place * self.batch : (place + 1) * self.batch]
        generator = torch.Generator(self.device).manual_seed(mix(self.seed, 1, step))
        cut = [
            part.take(index, self.device, generator)
            for part, index in zip(self.parts, self._split(chosen), strict=True)
            if len(index)
        ]
        images, labels = zip(*cut, strict=True)
        return torch.cat(images), torch.cat(labels)

    def _order(self, epoch: int) -> Tensor:
        if self._shuffled is None or self._shuffled[0] != epoch:
            generator = torch.Generator().manual_seed(mix(self.seed, 2, epoch))
            self._shuffled = epoch, torch.randperm(self.pairs, generator=generator)
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
    images, labels = [], []
    frozen = replace(part, augmentation=augmentation)
    for copy in range(copies):
        for start in range(0, len(part), 256):
            generator = torch.Generator().manual_seed(mix(seed, copy, start))
            index = torch.arange(start, min(start + 256, len(part)))
            x, y = frozen.take(index, torch.device("cpu"), generator)
            images.append(x.permute(0, 2, 3, 1).to(torch.uint8).numpy())
            labels.append(y.numpy())
    return Part(images=np.concatenate(images), labels=np.concatenate(labels))


def mix(*numbers: int) -> int:
    """Combine integers to one seed such that neighbouring seeds have nothing in common.

    Zeros at the end do not count: callers that mix alike must give equally many numbers.
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
