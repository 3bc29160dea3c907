"""Pseudo-labels for any number of images, in flat memory.

Shape letters: E networks, N images, P planes, H x W pixels, n images of one chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
from imasks.tasks import Task
from imasks.training.predict import votes
from imasks.training.recipe import Precision


@dataclass(frozen=True, kw_only=True)
class PseudoLabels:
    """Labels of N unlabeled images.

    Args:
        labels: uint8 [N, P, H, W], 0 where the networks disagree; nothing is cut out yet.
        im: bool [N, P, H, W], the inconsistency mask of every plane.
        region: bool [N, H, W], what is cut: the union of the planes after morphology.
        keep: bool [N], which images are trained on.
    """

    labels: np.ndarray
    im: np.ndarray
    region: np.ndarray
    keep: np.ndarray


_FILES = ("labels", "im", "region", "keep")


def write_pseudo_labels(
    folder: Path,
    networks: Sequence[nn.Module],
    images: np.ndarray,
    task: Task,
    *,
    morphology: Morphology,
    choose: Literal["all", "filtered"],
    device: torch.device,
    precision: Precision = "float32",
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, float]:
    """Label images with networks that must agree, and write arrays chunk by chunk.

    One network agrees with itself everywhere: that is a plain pseudo-label.

    Args:
        folder: receives labels.npy, im.npy, region.npy and keep.npy.
        networks: E networks in evaluation mode on the device.
        images: uint8 [N, H, W, C], may be memory-mapped.
        task: turns outputs into votes.
        morphology: changes the region to cut.
        choose: "filtered" drops images by the published rule of the task.
        device: where the networks lie.
        precision: of the convolutions.
        on_progress: called with the number of images labelled so far.

    Returns:
        images, kept, and over all images: im_size (mean pixels, planes summed) and im_share (mean
        share of pixels in the region).
    """
    N, H, W, _ = images.shape
    out = {
        "labels": _create(folder, "labels", (N, task.planes, H, W), np.uint8),
        "im": _create(folder, "im", (N, task.planes, H, W), np.bool_),
        "region": _create(folder, "region", (N, H, W), np.bool_),
        "keep": _create(folder, "keep", (N,), np.bool_),
    }
    im_pixels = region_pixels = 0
    for rows, voted in votes(networks, images, task, device=device, precision=precision):
        label, im = inconsistency(voted)
        region = cut_region(im, morphology)
        grow = morphology.erode > 0 and task.name != "binary"
        out["labels"][rows] = (grow_labels(label) if grow else label).cpu().numpy()
        out["im"][rows] = im.cpu().numpy()
        out["region"][rows] = region[:, 0].cpu().numpy()
        kept = _kept(task, label, im, voted) if choose == "filtered" else torch.ones(len(label))
        out["keep"][rows] = kept.bool().cpu().numpy()
        im_pixels += int(im.sum())
        region_pixels += int(region.sum())
        on_progress(rows.stop)
    kept_images = int(out["keep"].sum())
    for array in out.values():
        array.flush()
    return {
        "images": N,
        "kept": kept_images,
        "im_size": im_pixels / max(1, N),
        "im_share": region_pixels / max(1, N * H * W),
    }


def load_pseudo_labels(folder: Path) -> PseudoLabels:
    """Map what :func:`write_pseudo_labels` wrote into memory."""
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in _FILES}
    return PseudoLabels(**arrays)


def _kept(task: Task, label: Tensor, im: Tensor, voted: Tensor) -> Tensor:
    if task.name == "binary":
        return keep_mostly_agreed(sizes(label, im))
    if task.name == "multiclass":
        return keep_same_classes(voted)
    return torch.ones(len(label), dtype=torch.bool)


def _create(folder: Path, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> np.memmap:
    # a kill leaves half-written arrays behind, but no done mark: they are written anew
    return np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)
