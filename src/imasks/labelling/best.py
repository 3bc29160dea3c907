"""The EvalNet approach's pseudo-labels: of several masks of an image, the best, if good enough.

Shape letters: E networks, N images, P planes, H x W pixels. Source: METHOD 8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from imasks.labelling.grading import answer
from imasks.labelling.labellers import PseudoLabels
from imasks.labelling.streamed import Streamed
from imasks.tasks import Task
from imasks.training.predict import CHUNK, images_on, votes_of
from imasks.training.recipe import Precision


def write_best_labels(
    folder: Path,
    networks: Sequence[nn.Module],
    evalnets: Sequence[nn.Module],
    images: np.ndarray,
    task: Task,
    *,
    threshold: float | None,
    previous: PseudoLabels | None = None,
    device: torch.device,
    precision: Precision = "float32",
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, float]:
    """Let EvalNets choose among the predictions of networks, chunk by chunk; goes on after a kill.

    A label kept before competes with the new ones, and no pair that was kept is dropped again.

    Args:
        folder: receives labels.npy, im.npy and region.npy (these two empty: nothing is cut out),
            keep.npy, and score.npy, float32 [N], the predicted score of each label.
        networks: E networks in evaluation mode on the device.
        evalnets: in evaluation mode on the device; their mean counts.
        images: uint8 [N, H, W, C], may be memory-mapped.
        task: turns outputs into masks and answers into scores.
        threshold: the least score of a pair that is trained on; None: the mean score of all, so
            that roughly the better half is kept.
        previous: of the last generation, of the same images.
        device: where the networks lie.
        precision: of the convolutions.
        on_progress: called with the number of images labelled so far.

    Returns:
        images, kept, score (mean over all images) and threshold.
    """
    N, H, W, _ = images.shape
    out = Streamed(folder, N)
    labels = out.array("labels", (task.planes, H, W), np.uint8)
    out.array("im", (task.planes, H, W), np.bool_)  # these two stay empty: nothing is cut out
    out.array("region", (H, W), np.bool_)
    score = out.array("score", (), np.float32)
    for rows in out.parts(CHUNK):
        shown = images_on(device, images[rows])
        masks = votes_of(networks, shown, task, precision=precision)
        if previous is not None:
            before = torch.from_numpy(np.ascontiguousarray(previous.labels[rows])).to(device)
            masks = torch.cat([masks, before[None]])
        scores = _scores(evalnets, shown, masks, task, precision)
        if previous is not None:
            scores[-1, ~previous.keep[rows]] = -np.inf
        best = scores.argmax(0)  # the first of equals
        each = np.arange(len(best))
        chosen = masks[torch.from_numpy(best).to(device), torch.from_numpy(each).to(device)]
        drawn = task.redraw(chosen, chosen).cpu().numpy()
        kept = (best == len(networks))[:, None, None, None]  # of the last generation: drawn already
        labels[rows] = np.where(kept, chosen.cpu().numpy(), drawn)
        score[rows] = scores[best, each]
        on_progress(rows.stop)
    mean = float(score.mean(dtype=np.float64)) if N else 0.0
    threshold = mean if threshold is None else threshold
    keep = score >= np.float32(threshold)
    if previous is not None:
        keep |= previous.keep
    np.save(folder / "keep.npy", keep)
    return {"images": N, "kept": int(keep.sum()), "score": mean, "threshold": threshold}


def _scores(
    evalnets: Sequence[nn.Module],
    images: torch.Tensor,
    masks: torch.Tensor,
    task: Task,
    precision: Precision,
) -> np.ndarray:
    """Score masks uint8 [E, n, P, H, W] of images [n, C, H, W]: float32 [E, n]."""
    answers = (answer(evalnets, images, one, task, precision=precision) for one in masks)
    return torch.stack([task.pair_score(one) for one in answers]).cpu().numpy()
