"""What EvalNets learn from, what they say, and how often pairs are shown for it.

Shape letters: E networks, N images, M pairs, P planes, K network outputs, H x W pixels.
Source: METHOD 7 (copies) and 8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from imasks.errors import UserError
from imasks.labelling.agree import Morphology, block_output, cut_region, inconsistency
from imasks.labelling.calibration import known, slope
from imasks.labelling.labellers import settle
from imasks.tasks import Task
from imasks.training.batches import mix
from imasks.training.grading import Pairs
from imasks.training.predict import CHUNK, autocast, images_on, in_parts
from imasks.training.recipe import Precision

MOST_MODELS = 4
SIDES = (0, 3, 5)  # of the kernels that change the shape of a drawn inconsistency mask
MOST_COPIES = 5
RISE = 0.11  # of what is missing to a perfect score, between the automatic thresholds
SMALLEST_STEP = 1e-3  # between them
FEWEST_HELD_OUT = 3


# --- pairs ---------------------------------------------------------------------------------------


def inconsistent_pairs(
    images: np.ndarray,
    labels: np.ndarray,
    votes: np.ndarray,
    task: Task,
    *,
    loops: int = 10,
    seed: int,
    device: torch.device,
) -> Pairs:
    """Cut inconsistency masks of many kinds out of labeled images (for IM++ and AIM++).

    Every loop draws for every image 2 to 4 of the candidates (at most E), and how the shape of
    their inconsistency mask is changed. Pair ``loop * N + i`` is of image i.

    Args:
        images: uint8 [N, H, W, C], referred to by the pairs.
        labels: uint8 [N, P, H, W], the true masks.
        votes: uint8 [E, N, P, H, W], the candidates' predictions.
        task: gives the targets.
        loops: pairs an image; published: 10, and 3 for the validation images.
        seed: of all draws.
        device: to compute on.
    """
    _check(images, labels, votes)
    N, P, H, W = labels.shape
    masks = np.empty((loops * N, P, H, W), np.uint8)
    regions = np.empty((loops * N, -(-H * W // 8)), np.uint8)
    targets = []
    for loop in range(loops):
        rng = np.random.default_rng(mix(seed, loop, 1))
        drawn = _draw_models(len(votes), N, rng)
        erode, dilate = rng.choice(SIDES, (2, N))
        quality = np.empty((N, 1 + task.detects, task.outputs), np.float32)
        for e, d in product(SIDES, SIDES):
            alike = np.flatnonzero((erode == e) & (dilate == d))
            shape = Morphology(erode=e, dilate=d)
            for rows in _chunks(alike):
                chosen = torch.from_numpy(votes[drawn[:, rows], rows]).to(device)
                truth = torch.from_numpy(labels[rows]).to(device)
                mask, region = pair_of(chosen, task, shape)
                quality[rows] = task.pair_quality(mask, truth, region).cpu().numpy()
                masks[loop * N + rows] = mask.cpu().numpy()
                regions[loop * N + rows] = pack(region[:, 0].cpu().numpy())
        targets.append(quality)
    return Pairs(
        images=images,
        rows=np.tile(np.arange(N), loops),
        masks=masks,
        region=regions,
        targets=np.concatenate(targets),
    )


def plain_pairs(
    images: np.ndarray,
    labels: np.ndarray,
    votes: np.ndarray,
    task: Task,
    *,
    truth: bool = True,
    device: torch.device,
) -> Pairs:
    """Pair every image with every candidate's prediction, and with its true mask once (EvalNet).

    Pair ``e * N + i`` is of candidate e and image i; the true masks come last. An empty true mask
    of a binary task has quality 0 as everywhere (METHOD 9), also against itself.

    Args:
        images: uint8 [N, H, W, C], referred to by the pairs.
        labels: uint8 [N, P, H, W], the true masks.
        votes: uint8 [E, N, P, H, W], the candidates' predictions.
        task: gives the targets.
        truth: whether the true masks are there too; published: not in validation pairs.
        device: to compute on.
    """
    _check(images, labels, votes)
    masks = np.concatenate([*votes, labels] if truth else [*votes])
    rows = np.tile(np.arange(len(labels)), len(votes) + truth)
    targets = [
        task.pair_quality(
            torch.from_numpy(masks[index]).to(device),
            torch.from_numpy(labels[rows[index]]).to(device),
        )
        for index in _chunks(np.arange(len(masks)))
    ]
    return Pairs(images=images, rows=rows, masks=masks, targets=torch.cat(targets).cpu().numpy())


def pair_of(votes: Tensor, task: Task, shape: Morphology | None = None) -> tuple[Tensor, Tensor]:
    """Cut the inconsistency mask out of what votes agree on: all that EvalNets of IM++ ever see.

    Args:
        votes: uint8 [E, N, P, H, W].
        task: whose labels grow where the mask is eroded, and whose points are drawn anew.
        shape: of the mask; as it is if not given.

    Returns:
        masks uint8 [N, P, H, W], 0 inside the region, and regions bool [N, 1, H, W], which are to
        be black in the images too.
    """
    shape = shape or Morphology()
    label, im = inconsistency(votes)
    region = cut_region(im, shape)
    return block_output(settle(label, task, shape), region), region


def pack(region: np.ndarray) -> np.ndarray:
    """Pack regions bool [M, H, W] to bits, uint8 [M, ceil(H W / 8)]."""
    return np.packbits(region.reshape(len(region), -1), axis=1)


def _draw_models(E: int, N: int, rng: np.random.Generator) -> np.ndarray:
    """Draw 2 to 4 different models of E for each of N images, int64 [4, N].

    Fewer than four are filled up with the first: a vote counted twice changes no agreement.
    """
    count = rng.integers(min(2, E), min(MOST_MODELS, E) + 1, N)
    order = rng.random((E, N)).argsort(0)
    place = np.arange(MOST_MODELS)[:, None]
    return np.take_along_axis(order, np.where(place < count, place, 0), 0)


def _check(images: np.ndarray, labels: np.ndarray, votes: np.ndarray) -> None:
    if votes.ndim != 5 or votes.shape[1:] != labels.shape or len(images) != len(labels):
        raise UserError(
            "images, true masks and votes do not belong together",
            value=(images.shape, labels.shape, votes.shape),
            remedy="Give images [N, H, W, C], labels [N, P, H, W] and votes [E, N, P, H, W].",
        )


def _chunks(rows: np.ndarray) -> Iterator[np.ndarray]:
    return (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))


# --- answers -------------------------------------------------------------------------------------


@torch.inference_mode()
def grade(
    networks: Sequence[nn.Module],
    images: np.ndarray,
    masks: np.ndarray,
    task: Task,
    *,
    region: np.ndarray | None = None,
    device: torch.device,
    precision: Precision = "float32",
) -> np.ndarray:
    """Ask EvalNets how good masks are, and take the mean of what they say.

    Args:
        networks: in evaluation mode, on the device.
        images: uint8 [N, H, W, C], may be memory-mapped like all arrays here.
        masks: uint8 [N, P, H, W].
        task: gives the networks' inputs.
        region: bool [N, H, W] that is cut out of image and mask, or None.
        device: where the networks lie.
        precision: of the convolutions.

    Returns:
        float32 [N, heads, K] in 0..1, of which :meth:`imasks.tasks.Task.pair_score` makes a score.
    """
    found = [np.empty((0, 1 + task.detects, task.outputs), np.float32)]
    for start in range(0, len(images), CHUNK):
        rows = slice(start, start + CHUNK)
        x = images_on(device, images[rows])
        mask = torch.from_numpy(np.ascontiguousarray(masks[rows])).to(device)
        if region is not None:
            cut = torch.from_numpy(np.ascontiguousarray(region[rows])).to(device)[:, None]
            x, mask = x.masked_fill(cut, 0), mask.masked_fill(cut, 0)
        found.append(answer(networks, x, mask, task, precision=precision).cpu().numpy())
    return np.concatenate(found)


@torch.inference_mode()
def answer(
    networks: Sequence[nn.Module],
    images: Tensor,
    masks: Tensor,
    task: Task,
    *,
    precision: Precision,
) -> Tensor:
    """Ask about one batch on the networks' device, see :func:`grade`: float32 [B, heads, K]."""
    with autocast(images.device, precision):
        shown = task.mask_input(masks)
        logits = [in_parts(network, images, shown) for network in networks]
    return torch.stack(logits).sigmoid().mean(0)


def copies(scores: np.ndarray, lo: float, hi: float) -> np.ndarray:
    """Say how often each pair is shown: 1 up to ``lo``, 5 above ``hi``, in even steps between.

    Args:
        scores: float [N].
        lo: the last score of a single copy.
        hi: the last score below full weight.

    Returns:
        int64 [N], computed in float32 as the published networks' scores are.

    Raises:
        UserError: lo is not below hi.
    """
    if not lo < hi:
        raise UserError(
            "the lower threshold of scores must be below the upper one",
            value=(lo, hi),
            remedy="Use for example 0.72 and 0.75, or auto.",
        )
    q, step = scores.astype(np.float32), np.float32((hi - lo) / MOST_COPIES)
    between = 1 + np.floor((q - np.float32(lo)) / step)
    counted = np.where(q > np.float32(hi), MOST_COPIES, np.minimum(between, MOST_COPIES))
    return np.where(q <= np.float32(lo), 1, counted).astype(np.int64)


def auto_thresholds(
    held_out_scores: np.ndarray, held_out_quality: np.ndarray, unlabeled_scores: np.ndarray
) -> tuple[float, float]:
    """Find ``lo`` and ``hi`` of :func:`copies` without any fully labeled result.

    The published thresholds are test scores: lo of a supervised start (ALDT), hi of full
    supervision (FDT). That is: lo is what a labeller reaches on average, and hi lies above it by
    0.07 to 0.14, 0.11 on average, of what is missing there to a perfect score (0.72 and 0.75 on
    ISIC 2018, 0.59 and 0.62 on HeLa, 0.43 and 0.51 on SUIM, 0.372 and 0.453 on Cityscapes). So:

    * lo is the mean score of the unlabeled pairs. Half of the pairs, roughly, get more weight than
      the other half, and a grader that is too friendly to all of them changes nothing.
    * hi is where the expected *quality* has risen by 0.11 of what is missing at lo. How much
      quality rises with scores is a straight line through held-out pairs. The flatter it is, the
      less the scores know, the further away is hi, and the fewer pairs get several copies.

    Where scores know nothing (they are all equal, or quality does not rise with them, or fewer than
    three held-out pairs could tell) no pair lies above lo: everything gets one copy.

    Args:
        held_out_scores: float [M], predicted for pairs of labeled images never trained on
            (validation images, not test images), made like the unlabeled ones.
        held_out_quality: float [M], their true scores.
        unlabeled_scores: float [N], predicted for the pairs that are to be weighted.

    Returns:
        lo < hi.
    """
    scores, quality = known(held_out_scores, held_out_quality)
    rise = slope(scores, quality)
    if len(scores) < FEWEST_HELD_OUT or not len(unlabeled_scores) or rise <= 0:
        lo = float(unlabeled_scores.max(initial=0))
        return lo, lo + 1
    if np.ptp(unlabeled_scores) == 0:  # apart, since their mean may be rounded below them
        lo = float(unlabeled_scores[0])
    else:
        lo = float(unlabeled_scores.mean(dtype=np.float64))
    expected = float(quality.mean() + rise * (lo - scores.mean()))
    missing = 1 - min(max(expected, 0.0), 1.0)
    return lo, lo + max(RISE * missing / rise, SMALLEST_STEP)
