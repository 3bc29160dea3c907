"""Pseudo-labels for any number of images, in flat memory.

Shape letters: E networks, N images, P planes, C network outputs, H x W pixels, n images of one
chunk.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final, get_args

import numpy as np
import torch
from torch import Tensor, nn

from imasks.labelling.agree import (
    Morphology,
    cut_region,
    grow_labels,
    inconsistency,
    keep_mostly_agreed,
    keep_same_classes,
    sizes,
)
from imasks.labelling.streamed import Streamed
from imasks.tasks import Task
from imasks.training.predict import CHUNK, probabilities
from imasks.training.recipe import Precision

Extra = Literal["mean", "votes"]
"""What is kept of the networks' answers beside labels and masks, if it is asked for."""


@dataclass(frozen=True, kw_only=True)
class PseudoLabels:
    """Labels of N unlabeled images.

    Args:
        labels: uint8 [N, P, H, W], 0 where the networks disagree; nothing is cut out yet.
        im: bool [N, P, H, W], the inconsistency mask of every plane.
        region: bool [N, H, W], what is cut: the union of the planes after morphology.
        keep: bool [N], which images are trained on.
        mean: uint8 [N, C, H, W], the networks' mean probability as soft labels, if asked for.
        votes: uint8 [N, E * P, H, W], what each of them said, if asked for.
    """

    labels: np.ndarray
    im: np.ndarray
    region: np.ndarray
    keep: np.ndarray
    mean: np.ndarray | None = None
    votes: np.ndarray | None = None


_FILES = ("labels", "im", "region", "keep")


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Labels of n images of one chunk.

    Args:
        labels: uint8 [n, P, H, W].
        im: bool [n, P, H, W], the inconsistency mask of every plane.
        region: bool [n, 1, H, W], what is cut.
        keep: bool [n], which images are trained on.
        mean: uint8 [n, C, H, W], soft labels, or None.
        votes: uint8 [n, E * P, H, W], or None.
    """

    labels: Tensor
    im: Tensor
    region: Tensor
    keep: Tensor
    mean: Tensor | None = None
    votes: Tensor | None = None

    @classmethod
    def certain(cls, labels: Tensor) -> Labelled:
        """Return labels uint8 [n, P, H, W] without a mask, all of them kept."""
        nowhere = torch.zeros_like(labels, dtype=torch.bool)
        keep = torch.ones(len(labels), dtype=torch.bool)
        return cls(labels=labels, im=nowhere, region=nowhere[:, :1], keep=keep)


class Labeller(abc.ABC):
    """A way to label images without true masks."""

    task: Task

    @property
    def chunk(self) -> int:
        """Images that are labelled at once, so that memory stays flat."""
        return CHUNK

    @abc.abstractmethod
    def label(self, images: np.ndarray, *, first: int) -> Labelled:
        """Label uint8 [n, H, W, C], which are numbers ``first``, ``first`` + 1, ... of all images.

        The result does not depend on how images are split into chunks.
        """


@final
@dataclass(frozen=True, kw_only=True)
class Agreement(Labeller):
    """Networks that must agree; where they do not lies the inconsistency mask.

    One network agrees with itself everywhere: that is a plain pseudo-label.

    Args:
        networks: E networks in evaluation mode on the device.
        task: turns outputs into votes.
        morphology: changes the region to cut.
        choose: "filtered" drops images by the published rule of the task.
        extra: what else of the networks' answers is kept.
        device: where the networks lie.
        precision: of the convolutions.
    """

    networks: Sequence[nn.Module]
    task: Task
    morphology: Morphology
    choose: Literal["all", "filtered"]
    device: torch.device
    precision: Precision = "float32"
    extra: Extra | None = None

    def label(self, images: np.ndarray, *, first: int) -> Labelled:
        """See :meth:`Labeller.label`."""
        ((_, each),) = probabilities(
            self.networks, images, self.task, device=self.device, precision=self.precision
        )
        voted = torch.stack([self.task.discrete(one) for one in each])
        label, im = inconsistency(voted)
        filtered = self.choose == "filtered"
        return Labelled(
            labels=settle(label, self.task, self.morphology),
            im=im,
            region=cut_region(im, self.morphology),
            keep=_kept(self.task, label, im, voted) if filtered else torch.ones(len(label)).bool(),
            mean=self.task.soften(each) if self.extra == "mean" else None,
            votes=voted.transpose(0, 1).flatten(1, 2) if self.extra == "votes" else None,
        )


@final
@dataclass(frozen=True, kw_only=True)
class ModelEnsemble(Labeller):
    """Networks that are merged to one label, see :meth:`imasks.tasks.Task.consensus`.

    Args:
        networks: E networks in evaluation mode on the device.
        task: merges what they say.
        device: where the networks lie.
        precision: of the convolutions.
    """

    networks: Sequence[nn.Module]
    task: Task
    device: torch.device
    precision: Precision = "float32"

    def label(self, images: np.ndarray, *, first: int) -> Labelled:
        """See :meth:`Labeller.label`."""
        ((_, each),) = probabilities(
            self.networks, images, self.task, device=self.device, precision=self.precision
        )
        label = self.task.consensus(each)
        return Labelled.certain(self.task.redraw(label, label))


def settle(label: Tensor, task: Task, morphology: Morphology) -> Tensor:
    """Make of what networks agree on, uint8 [N, P, H, W], a label from which nothing is cut yet.

    As published, classes grow where the mask is eroded, and points are drawn anew instead.
    """
    grow = morphology.erode > 0 and task.grows
    return task.redraw(grow_labels(label) if grow else label, label)


def write_pseudo_labels(
    folder: Path,
    labeller: Labeller,
    images: np.ndarray,
    *,
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, float]:
    """Label images and write arrays chunk by chunk; after a kill, go on where they ended.

    Args:
        folder: receives labels.npy, im.npy, region.npy and keep.npy, and mean.npy or votes.npy if
            the labeller gives them.
        labeller: how.
        images: uint8 [N, H, W, C], may be memory-mapped.
        on_progress: called with the number of images labelled so far.

    Returns:
        images, kept, and over all images: im_size (mean pixels, planes summed) and im_share (mean
        share of pixels in the region).
    """
    N, H, W, _ = images.shape
    out = Streamed(folder, N)
    for rows in out.parts(labeller.chunk):
        found = labeller.label(images[rows], first=rows.start)
        each = {
            "labels": found.labels,
            "im": found.im,
            "region": found.region[:, 0],
            "keep": found.keep,
            **{extra: getattr(found, extra) for extra in get_args(Extra)},
        }
        for name, values in each.items():
            if values is not None:
                there = values.cpu().numpy()
                out.array(name, there.shape[1:], there.dtype.type)[rows] = there
        out.add(kept=int(found.keep.sum()), im=int(found.im.sum()), region=int(found.region.sum()))
        on_progress(rows.stop)
    return {
        "images": N,
        "kept": int(out.sum("kept")),
        "im_size": out.sum("im") / max(1, N),
        "im_share": out.sum("region") / max(1, N * H * W),
    }


def load_pseudo_labels(folder: Path) -> PseudoLabels:
    """Map what :func:`write_pseudo_labels` wrote into memory."""
    extras = [name for name in get_args(Extra) if (folder / f"{name}.npy").exists()]
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in (*_FILES, *extras)}
    return PseudoLabels(**arrays)


def _kept(task: Task, label: Tensor, im: Tensor, voted: Tensor) -> Tensor:
    match task.filter:
        case "mostly agreed":
            return keep_mostly_agreed(sizes(label, im))
        case "same classes":
            return keep_same_classes(voted)
        case None:
            return torch.ones(len(label), dtype=torch.bool)
