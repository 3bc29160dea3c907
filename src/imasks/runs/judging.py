"""What the jobs of EvalNets do: learn, judge pseudo-labels, and judge predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from imasks.data.arrays import Arrays, load_arrays
from imasks.data.augment import Augmentation
from imasks.encoding import IGNORE
from imasks.errors import UserError
from imasks.jobs import DeadEnd, Handler, Job, Store, write_atomic
from imasks.labelling.agree import Morphology
from imasks.labelling.best import write_best_labels
from imasks.labelling.calibration import calibrate, known, prediction_quality
from imasks.labelling.grading import (
    answer,
    auto_thresholds,
    copies,
    grade,
    inconsistent_pairs,
    pair_of,
    plain_pairs,
)
from imasks.labelling.labellers import PseudoLabels, load_pseudo_labels
from imasks.labelling.streamed import Streamed
from imasks.models.evalnet import EvalNet, EvalNetConfig, make_evalnet
from imasks.models.weights import save_network
from imasks.runs.lost import labeled_classes, vanished
from imasks.runs.work import (
    Steps,
    against_truth,
    best_graders,
    best_networks,
    chosen_graders,
    chosen_keys,
    data_of,
    device_of,
    has_truth,
    inputs_of,
    judge_of,
    load_candidate,
    resumed,
    tally_of,
    task_of,
    training_record,
)
from imasks.tasks import Task
from imasks.training.batches import mix
from imasks.training.fit import fit, seeded_network
from imasks.training.grading import Grading, Pairs
from imasks.training.measure import sum_by_image
from imasks.training.predict import CHUNK, chunks_on, images_on, probabilities, votes, votes_of
from imasks.training.recipe import Recipe


def do_grader(job: Job, store: Store) -> dict[str, Any]:
    """Train one EvalNet on the masks that a start's candidates make of labeled images."""
    p: Any = job.params
    recipe, seed, device = Recipe(**p["recipe"]), seed_of(job), device_of(job)
    network = seeded_network(make_evalnet, EvalNetConfig(**p["network"]), seed=seed, device=device)
    fitted = fit(
        network,
        Grading(
            task_of(job),
            _pairs(job, store, "labeled"),
            _pairs(job, store, "val"),
            recipe,
            # METHOD 8 changes half of the pairs of one kind only
            views=Augmentation() if p["pairs"] == "plain" else None,
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
    return training_record(fitted)


def seed_of(job: Job) -> int:
    """Return the seed of one EvalNet: of four numbers, as U-Nets have theirs of three."""
    p: Any = job.params
    return mix(*p["seed"], 0, 7)


def _pairs(job: Job, store: Store, split: str) -> Pairs:
    p: Any = job.params
    task, device = task_of(job), device_of(job)
    arrays = load_arrays(data_of(job, store), split)
    assert arrays.labels is not None
    images, labels = arrays.images, arrays.labels
    there = has_truth(labels)
    if not there.any():
        raise UserError(
            f"{job.label}: no image in {split} has a true mask to learn from",
            value=f"{len(there)} that are void everywhere",
            remedy="Add labeled images, or use an approach without EvalNets.",
        )
    if not there.all():
        images, labels = images[there], labels[there]
    teachers = inputs_of(job, "fit")
    validates = split == "val"
    if p["pairs"] == "plain" and validates:
        each = len(teachers) // p["groups"]
        teachers = [one for place, one in enumerate(teachers) if place % each < p["first"]]
    voted = _votes([load_candidate(one.key, job, store) for one in teachers], images, task, device)
    if p["pairs"] == "plain":
        return plain_pairs(images, labels, voted, task, truth=not validates, device=device)
    return inconsistent_pairs(
        images,
        labels,
        voted,
        task,
        loops=p["loops"][int(validates)],
        seed=mix(p["seed"][0], int(validates), 0, 8),  # all EvalNets of a start see the same pairs
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
    """Say how often each pseudo-labeled pair is shown, by EvalNets or by the true masks.

    Automatic thresholds know only pairs that are trained on.
    """
    p: Any = job.params
    by_truth = p["by"] == "truth"
    unlabeled = load_arrays(data_of(job, store), "unlabeled", truth=by_truth)
    pseudo = load_pseudo_labels(store.folder(inputs_of(job, "label")[0]))
    if by_truth:
        scores = _true_scores(job, pseudo, unlabeled)
        np.save(store.folder(job) / "scores.npy", scores)
        held_out = (scores[pseudo.keep], scores[pseudo.keep])
    else:
        graders = best_graders(job, store)
        scores = _scores(job, store, graders, unlabeled.images, pseudo)
        held_out = _held_out(job, store, graders)
    judged = scores[pseudo.keep & np.isfinite(scores)]
    lo, hi = p["thresholds"] or auto_thresholds(*held_out, judged)
    counted = copies(np.nan_to_num(scores, nan=lo), lo, hi)
    shown = counted[pseudo.keep]
    np.save(store.folder(job) / "copies.npy", counted)
    return {
        "lo": lo,
        "hi": hi,
        "score": float(judged.mean()) if len(judged) else None,
        "copies": float(shown.mean()),
        "by_copies": np.bincount(shown, minlength=6)[1:].tolist(),
        "networks": [*chosen_keys(job, store), *chosen_graders(job, store)],
    }


def _scores(
    job: Job,
    store: Store,
    graders: Sequence[EvalNet],
    images: np.ndarray,
    pseudo: PseudoLabels,
) -> np.ndarray:
    """What EvalNets say of pseudo-labels, as scores float32 [N]; goes on after a kill."""
    task, device, steps = task_of(job), device_of(job), Steps(job, store, "images")
    out = Streamed(store.folder(job), len(images))
    scores = out.array("scores", (), np.float32)
    for rows in out.parts(CHUNK):
        region = pseudo.region[rows]
        said = grade(graders, images[rows], pseudo.labels[rows], task, region=region, device=device)
        scores[rows] = task.pair_score(torch.from_numpy(said)).numpy()
        steps(rows.stop, len(images))
    return np.array(scores)


def do_choose(job: Job, store: Store) -> dict[str, Any]:
    """Keep of all candidates' masks the one that EvalNets find best, where it is good enough."""
    p: Any = job.params
    task = task_of(job)
    fits, before = inputs_of(job, "fit"), inputs_of(job, "choose")
    unlabeled = load_arrays(data_of(job, store), "unlabeled")
    fixed = p["thresholds"]
    steps = Steps(job, store, "images")
    counted: dict[str, Any] = write_best_labels(
        store.folder(job),
        [load_candidate(one.key, job, store) for one in fits],
        best_graders(job, store),
        unlabeled.images,
        task,
        threshold=fixed[("lo", "hi").index(p["keep_at"])] if fixed else None,
        previous=load_pseudo_labels(store.folder(before[0])) if before else None,
        device=device_of(job),
        on_progress=lambda done: steps(done, len(unlabeled.images)),
    )
    if not counted["kept"]:
        raise DeadEnd(
            "EvalNets found no mask good enough",
            value=f"0 of {counted['images']} images reach a score of {counted['threshold']:.3f}",
            remedy="Start a new run in another --out with --thresholds auto or with more --steps.",
        )
    counted |= {
        "networks": [*(one.key for one in fits), *chosen_graders(job, store)],
        "im_size": 0.0,
        "im_share": 0.0,
    }
    counted["vanished"] = vanished(
        store.folder(job), labeled_classes(data_of(job, store), task), task
    )
    if unlabeled.labels is not None:
        counted["agreement"] = against_truth(store.folder(job), unlabeled, task)
    return counted


def do_quality(job: Job, store: Store) -> dict[str, Any]:
    """Compare what EvalNets say of the ensemble's predictions with how good they are.

    Scores are calibrated on the validation images. Test images show what that is worth.
    """
    found = {}
    for split in ("val", "test"):
        arrays = load_arrays(data_of(job, store), split)
        if len(arrays.images):
            found[split] = _judged(job, store, arrays)
    calibration = calibrate(*found["val"])
    expected = {split: (calibration(said), true) for split, (said, true) in found.items()}
    shown = "test" if "test" in found else "val"
    predicted, true = known(*expected[shown])
    scores = {"predicted": predicted.tolist(), "true": true.tolist()}
    write_atomic(store.folder(job) / "scores.json", json.dumps(scores).encode())
    return {
        "calibration": calibration.to_json(),
        "of": shown,
        **{split: _finite(prediction_quality(*each)) for split, each in expected.items()},
    }


JUDGING: Mapping[str, Handler] = {
    "grader": do_grader,
    "rank_graders": do_rank_graders,
    "grade": do_grade,
    "choose": do_choose,
    "quality": do_quality,
}


def _judged(job: Job, store: Store, arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """What EvalNets say of an ensemble's predictions, and how good they are, float [M] each.

    True scores are those of whole images, NaN where an image is void everywhere.
    """
    assert arrays.labels is not None
    task, device = task_of(job), device_of(job)
    networks, judge = best_networks(job, store), judge_of(job, store)
    said, tallies = [], []
    for rows, each in probabilities(networks, arrays.images, task, device=device):
        answers = judge(images_on(device, arrays.images[rows]), each)
        said.append(task.pair_score(answers).cpu())
        tallies.append(tally_of(each, arrays, rows, task))
    true = task.scores(sum_by_image(torch.cat(tallies), arrays))[task.primary].numpy()
    there = _by_image(has_truth(arrays.labels), arrays) > 0
    return _by_image(torch.cat(said).numpy(), arrays), np.where(there, true, np.nan)


def _held_out(
    job: Job, store: Store, graders: Sequence[nn.Module]
) -> tuple[np.ndarray, np.ndarray]:
    """Grade pairs of validation images, made like the pseudo-labels; and how good they are.

    Both float32 [N], quality NaN where all is void.
    """
    p: Any = job.params
    task, device = task_of(job), device_of(job)
    val = load_arrays(data_of(job, store), "val")
    assert val.labels is not None
    shape = Morphology(**p["morphology"])
    scores, quality = [], []
    networks = best_networks(job, store)
    for rows, shown in chunks_on(device, val.images):
        masks, region = pair_of(votes_of(networks, shown, task), task, shape)
        images = shown.masked_fill(region, 0)
        answers = answer(graders, images, masks, task, precision="float32")
        scores.append(task.pair_score(answers).cpu())
        truth = torch.from_numpy(np.ascontiguousarray(val.labels[rows])).to(device)
        quality.append(task.pair_score(task.pair_quality(masks, truth, region)).cpu())
    there = has_truth(val.labels)
    return torch.cat(scores).numpy(), np.where(there, torch.cat(quality).numpy(), np.nan)


def _votes(
    networks: Sequence[nn.Module], images: np.ndarray, task: Task, device: torch.device
) -> np.ndarray:
    """All networks' predictions, uint8 [E, N, P, H, W]."""
    found = [each.cpu().numpy() for _, each in votes(networks, images, task, device=device)]
    return np.concatenate(found, axis=1)


def _true_scores(job: Job, pseudo: PseudoLabels, split: Arrays) -> np.ndarray:
    """The oracle's scores, float32 [N]; true masks are blanked under the region (METHOD 14.13)."""
    if split.labels is None:
        raise UserError(
            f"{job.label}: pairs cannot be judged, as true masks of unlabeled images are missing "
            "or damaged",
            remedy="Leave this approach out, or correct the masks and start a new run.",
        )
    task = task_of(job)
    found = []
    for start in range(0, len(pseudo.labels), CHUNK):
        rows = slice(start, start + CHUNK)
        seen = np.where(pseudo.region[rows][:, None], np.uint8(IGNORE), split.labels[rows])
        tally = task.tally(torch.from_numpy(pseudo.labels[rows]), torch.from_numpy(seen))
        found.append(task.scores(tally)[task.primary].float())
    return torch.cat(found).numpy()


def _by_image(scores: np.ndarray, arrays: Arrays) -> np.ndarray:
    """Average over an image's tiles, float [M]."""
    if arrays.source is None:
        return scores
    sums = np.bincount(arrays.source, weights=scores, minlength=len(arrays.names))
    return np.asarray(sums / np.bincount(arrays.source, minlength=len(arrays.names)))


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {k: v if np.isfinite(v) else None for k, v in values.items()}
