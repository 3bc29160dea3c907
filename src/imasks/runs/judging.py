"""What the jobs of EvalNets do: learn, judge pseudo-labels, and judge predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from imasks.data.arrays import Arrays, load_arrays
from imasks.encoding import IGNORE
from imasks.errors import UserError
from imasks.jobs import Handler, Job, Store, write_atomic
from imasks.labelling.agree import Morphology, cut_region, inconsistency
from imasks.labelling.best import write_best_labels
from imasks.labelling.calibration import calibrate, prediction_quality
from imasks.labelling.grading import (
    auto_thresholds,
    copies,
    grade,
    inconsistent_pairs,
    plain_pairs,
)
from imasks.labelling.labellers import load_pseudo_labels
from imasks.models.evalnet import EvalNetConfig, make_evalnet
from imasks.models.weights import save_network
from imasks.runs.work import (
    Steps,
    against_truth,
    best_graders,
    best_networks,
    chosen_keys,
    data_of,
    device_of,
    ensemble_overlaps,
    inputs_of,
    load_unet,
    resumed,
    task_of,
)
from imasks.tasks import Task
from imasks.training.batches import mix
from imasks.training.fit import fit, seeded_network
from imasks.training.grading import Grading, Pairs
from imasks.training.predict import votes
from imasks.training.recipe import Recipe


def do_grader(job: Job, store: Store) -> dict[str, Any]:
    """Train one EvalNet on the masks that a start's candidates make of labeled images."""
    p: Any = job.params
    recipe, seed, device = Recipe(**p["recipe"]), mix(*p["seed"], 7), device_of(job)
    network = seeded_network(make_evalnet, EvalNetConfig(**p["network"]), seed=seed, device=device)
    fitted = fit(
        network,
        Grading(
            task_of(job),
            _pairs(job, store, "labeled"),
            _pairs(job, store, "val"),
            recipe,
            seed=seed,
            device=device,
        ),
        recipe,
        seed=seed,
        device=device,
        checkpoint=resumed(job, store),
        log=lambda record: store.append_log(job, record),
    )
    save_network(store.folder(job), fitted.network)
    store.append_log(job, {"end": True})
    return {
        "epoch": fitted.epoch,
        "selection": fitted.selection,
        "steps": fitted.steps,
        "pairs": fitted.pairs,
        "parameters": sum(v.numel() for v in fitted.network.parameters()),
    }


def _pairs(job: Job, store: Store, split: str) -> Pairs:
    p: Any = job.params
    task, device = task_of(job), device_of(job)
    arrays = load_arrays(data_of(job, store), split)
    assert arrays.labels is not None
    teachers = inputs_of(job, "fit")
    validates = split == "val"
    if p["pairs"] == "plain" and validates:
        each = len(teachers) // p["groups"]
        teachers = [one for place, one in enumerate(teachers) if place % each < p["first"]]
    voted = _votes([load_unet(one.key, job, store) for one in teachers], arrays, task, device)
    if p["pairs"] == "plain":
        return plain_pairs(
            arrays.images, arrays.labels, voted, task, truth=not validates, device=device
        )
    return inconsistent_pairs(
        arrays.images,
        arrays.labels,
        voted,
        task,
        loops=p["loops"][int(validates)],
        seed=mix(p["seed"][0], int(validates), 8),  # all EvalNets of a start see the same pairs
        device=device,
    )


def do_rank_graders(job: Job, store: Store) -> dict[str, Any]:
    """Order EvalNets by their validation value, and keep the best."""
    p: Any = job.params
    graders = inputs_of(job, "grader")
    values = [store.result(one)["selection"] for one in graders]
    order = sorted(range(len(graders)), key=lambda k: -values[k])[: p["keep"]]
    return {"ranked": [graders[k].key for k in order], "val_ranked": [values[k] for k in order]}


def do_grade(job: Job, store: Store) -> dict[str, Any]:
    """Say how often each pseudo-labeled pair is shown, by EvalNets or by the true masks."""
    p: Any = job.params
    task, device = task_of(job), device_of(job)
    unlabeled = load_arrays(data_of(job, store), "unlabeled", truth=p["by"] == "truth")
    pseudo = load_pseudo_labels(store.folder(inputs_of(job, "label")[0]))
    if p["by"] == "truth":
        scores = _true_scores(pseudo.labels, pseudo.region, unlabeled, task)
        held_out = (scores, scores)
    else:
        graders = best_graders(job, store)
        scores = _graded(graders, unlabeled.images, pseudo.labels, pseudo.region, task, device)
        held_out = _held_out(job, store)
    known = scores[np.isfinite(scores)]
    lo, hi = p["thresholds"] or auto_thresholds(*held_out, known)
    counted = copies(np.nan_to_num(scores, nan=lo), lo, hi)
    folder = store.folder(job)
    np.save(folder / "scores.npy", scores)
    np.save(folder / "copies.npy", counted)
    return {
        "lo": lo,
        "hi": hi,
        "score": float(known.mean()) if len(known) else None,
        "copies": float(counted.mean()),
        "by_copies": np.bincount(counted, minlength=6)[1:].tolist(),
    }


def do_choose(job: Job, store: Store) -> dict[str, Any]:
    """Keep of all candidates' masks the one that EvalNets find best, where it is good enough.

    Without given thresholds, good enough is what the best masks of the validation images reach on
    average, as EvalNets see them.
    """
    p: Any = job.params
    task, device, data = task_of(job), device_of(job), data_of(job, store)
    networks = [load_unet(one.key, job, store) for one in inputs_of(job, "fit")]
    graders = best_graders(job, store)
    if p["thresholds"]:
        threshold = p["thresholds"][("lo", "hi").index(p["keep_at"])]
    else:
        val = load_arrays(data, "val")
        masks = _votes(networks, val, task, device)
        threshold = float(
            np.max(
                [_graded(graders, val.images, one, None, task, device) for one in masks], 0
            ).mean()
        )
    unlabeled = load_arrays(data, "unlabeled")
    before = inputs_of(job, "choose")
    steps = Steps(job, store, "images")
    counted: dict[str, Any] = write_best_labels(
        store.folder(job),
        networks,
        graders,
        unlabeled.images,
        task,
        threshold=threshold,
        previous=load_pseudo_labels(store.folder(before[0])) if before else None,
        device=device,
        on_progress=lambda done: steps(done, len(unlabeled.images)),
    )
    counted |= {"networks": chosen_keys(job, store), "threshold": threshold}
    counted |= {"im_size": 0.0, "im_share": 0.0}
    if not counted["kept"]:
        raise UserError(
            f"{job.label}: EvalNets found no mask good enough",
            value=f"0 of {counted['images']} images reach a score of {threshold:.3f}",
            remedy="Start a new run in another --out with --thresholds auto or with more --steps.",
        )
    if unlabeled.labels is not None:
        counted["agreement"] = against_truth(store.folder(job), unlabeled, task)
    return counted


def do_quality(job: Job, store: Store) -> dict[str, Any]:
    """Compare what EvalNets say of the ensemble's predictions with how good they are.

    Scores are calibrated on the validation images. Test images show what that is worth.
    """
    task, device, data = task_of(job), device_of(job), data_of(job, store)
    networks, graders = best_networks(job, store), best_graders(job, store)
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for split in ("val", "test"):
        arrays = load_arrays(data, split)
        if len(arrays.images):
            overlaps = ensemble_overlaps(networks, arrays, task, device)
            true = task.scores(overlaps)[task.primary].numpy()
            found[split] = (_expected(networks, graders, arrays, task, device), true)
    calibration = calibrate(*found["val"])
    calibrated = {split: (calibration(each), true) for split, (each, true) in found.items()}
    shown = calibrated.get("test", calibrated["val"])
    scores = {"predicted": shown[0].tolist(), "true": np.nan_to_num(shown[1]).tolist()}
    write_atomic(store.folder(job) / "scores.json", json.dumps(scores).encode())
    return {
        "calibration": {
            "scores": calibration.scores.tolist(),
            "quality": calibration.quality.tolist(),
        },
        "of": "test" if "test" in found else "val",
        **{split: _finite(prediction_quality(*each)) for split, each in calibrated.items()},
    }


JUDGING: Mapping[str, Handler] = {
    "grader": do_grader,
    "rank_graders": do_rank_graders,
    "grade": do_grade,
    "choose": do_choose,
    "quality": do_quality,
}


def pair_of(voted: Tensor, morphology: Morphology | None = None) -> tuple[Tensor, Tensor]:
    """Cut the inconsistency mask of votes uint8 [E, n, P, H, W] as EvalNets were taught.

    Returns:
        masks uint8 [n, P, H, W], 0 inside the region, and regions bool [n, 1, H, W].
    """
    label, im = inconsistency(voted)
    region = cut_region(im, morphology)
    return label.masked_fill(region, 0), region


def _expected(
    networks: Sequence[nn.Module],
    graders: Sequence[nn.Module],
    arrays: Arrays,
    task: Task,
    device: torch.device,
) -> np.ndarray:
    """What EvalNets say of an ensemble's predictions, image by image, float [M]."""
    masks, region = _agreed(networks, arrays, task, device)
    return _by_image(_graded(graders, arrays.images, masks, region, task, device), arrays)


def _held_out(job: Job, store: Store) -> tuple[np.ndarray, np.ndarray]:
    """Grade pairs of validation images, made like the pseudo-labels; and how good they are."""
    p: Any = job.params
    task, device = task_of(job), device_of(job)
    val = load_arrays(data_of(job, store), "val")
    assert val.labels is not None
    masks, region = _agreed(
        best_networks(job, store), val, task, device, Morphology(**p["morphology"])
    )
    scores = _graded(best_graders(job, store), val.images, masks, region, task, device)
    truth = [torch.from_numpy(np.ascontiguousarray(each)) for each in (masks, val.labels, region)]
    quality = task.pair_score(task.pair_quality(truth[0], truth[1], truth[2][:, None]))
    return scores, quality.numpy()


def _agreed(
    networks: Sequence[nn.Module],
    arrays: Arrays,
    task: Task,
    device: torch.device,
    morphology: Morphology | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Masks uint8 [N, P, H, W] and regions bool [N, H, W] of several networks."""
    voted = torch.from_numpy(_votes(networks, arrays, task, device))
    masks, region = pair_of(voted, morphology)
    return masks.numpy(), region[:, 0].numpy()


def _votes(
    networks: Sequence[nn.Module], arrays: Arrays, task: Task, device: torch.device
) -> np.ndarray:
    """All networks' predictions, uint8 [E, N, P, H, W]."""
    found = [each.cpu().numpy() for _, each in votes(networks, arrays.images, task, device=device)]
    return np.concatenate(found, axis=1)


def _graded(
    graders: Sequence[nn.Module],
    images: np.ndarray,
    masks: np.ndarray,
    region: np.ndarray | None,
    task: Task,
    device: torch.device,
) -> np.ndarray:
    """Predicted scores, float32 [N]."""
    answers = grade(graders, images, masks, task, region=region, device=device)
    return task.pair_score(torch.from_numpy(answers)).numpy()


def _true_scores(masks: np.ndarray, region: np.ndarray, split: Arrays, task: Task) -> np.ndarray:
    """The oracle's scores, float32 [N]; true masks are blanked under the region (METHOD 14.13)."""
    if split.labels is None:
        raise UserError(
            "the oracle needs the true masks of all unlabeled images, and some cannot be used",
            remedy="Leave GT-IM++ out, or correct the masks and start a new run.",
        )
    found = []
    for start in range(0, len(masks), 256):
        rows = slice(start, start + 256)
        seen = np.where(region[rows][:, None], np.uint8(IGNORE), split.labels[rows])
        overlaps = task.overlaps(torch.from_numpy(masks[rows]), torch.from_numpy(seen))
        found.append(task.scores(overlaps)[task.primary].float())
    return torch.cat(found).numpy()


def _by_image(scores: np.ndarray, arrays: Arrays) -> np.ndarray:
    """Average the scores of an image's tiles."""
    if arrays.source is None:
        return scores
    sums = np.bincount(arrays.source, weights=scores, minlength=len(arrays.names))
    return np.asarray(sums / np.bincount(arrays.source, minlength=len(arrays.names)))


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {k: v if np.isfinite(v) else None for k, v in values.items()}
