"""What the four kinds of jobs do. A handler reads its inputs' folders and writes its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from imasks.approaches.generation import Source, assemble
from imasks.approaches.recipes import Policy
from imasks.data.arrays import Arrays, load_arrays, prepare
from imasks.data.card import shorten
from imasks.data.checksum import changed_files, checksum
from imasks.data.folder import open_dataset
from imasks.data.prepare import Preparation
from imasks.encoding import IGNORE
from imasks.errors import UserError
from imasks.jobs import Handler, Job, Store, write_atomic
from imasks.labelling.agree import Morphology
from imasks.labelling.labellers import Agreement, load_pseudo_labels, write_pseudo_labels
from imasks.models.unet import UNetConfig, make_unet
from imasks.models.weights import load_network, load_tensors, save_network
from imasks.runs.config import read_config
from imasks.tasks import Task, make_task
from imasks.training.batches import mix
from imasks.training.fit import fit, seeded_network
from imasks.training.measure import measure, sum_by_image
from imasks.training.objectives import Supervised
from imasks.training.predict import probabilities
from imasks.training.recipe import Recipe

CHECKPOINT = "checkpoint.safetensors"  # by this name, the store removes it once the job is done


def do_prepare(job: Job, store: Store) -> dict[str, Any]:
    """Decode and resize the data set into arrays."""
    config = read_config(store.root)
    dataset = open_dataset(Path(config.data))
    cache = store.root / "checksums.json"
    if checksum(dataset, cache, expected=config.checksum) != config.checksum:
        raise UserError(
            f"{config.data} has changed since the run in {store.root} began",
            value=shorten(changed_files(dataset, cache)),
            remedy="Restore the data, or start a new run with another --out.",
        )
    steps = _Steps(job, store, "images")
    return prepare(
        dataset,
        Preparation.from_json(job.params["preparation"]),  # type: ignore[arg-type]
        store.folder(job),
        on_progress=steps,
    )


def do_fit(job: Job, store: Store) -> dict[str, Any]:
    """Train one candidate, and score it on the validation and test images."""
    p: Any = job.params
    task = _task(job)
    folder = store.folder(job)
    recipe = Recipe(**p["recipe"])
    device = torch.device(p["device"])
    wanted = [Source.from_json(source) for source in p["sources"]]
    data = store.folder(job.inputs[0])
    needed = {source.pairs for source in wanted}
    unlabeled = None
    if needed - {"labeled"}:
        unlabeled = load_arrays(data, "unlabeled", truth="full" in needed)
        if "full" in needed and unlabeled.labels is None:
            raise UserError(
                f"{job.label}: the true masks of the unlabeled images cannot be used",
                value=shorten(store.result(job.inputs[0])["skipped"][-1:]),
                remedy="Correct the masks and start a new run, or leave this approach out.",
            )
    parts = assemble(
        wanted,
        labeled=load_arrays(data, "labeled"),
        unlabeled=unlabeled,
        pseudo=load_pseudo_labels(store.folder(job.inputs[1])) if "pseudo" in needed else None,
        policy=_policy(p["policy"]),
        seed=mix(*p["seed"][:2], 1),  # all candidates of a generation learn from the same copies
    )
    checkpoint = folder / CHECKPOINT
    done = _epoch_of(checkpoint)
    store.truncate_log(job, lambda record: record.get("epoch", 0) <= done)
    store.append_log(job, {"begin": True})
    seed = mix(*p["seed"])
    fitted = fit(
        seeded_network(make_unet, UNetConfig(**p["network"]), seed=seed, device=device),
        Supervised(task, parts, load_arrays(data, "val"), recipe, seed=seed, device=device),
        recipe,
        seed=seed,
        device=device,
        checkpoint=checkpoint,
        log=lambda record: store.append_log(job, record),
    )
    result: dict[str, Any] = {
        "epoch": fitted.epoch,
        "selection": fitted.selection,
        "steps": fitted.steps,
        "pairs": fitted.pairs,
        "parameters": sum(v.numel() for v in fitted.network.parameters()),
    }
    for split in ("val", "test"):
        arrays = load_arrays(data, split)
        if len(arrays.images):
            measured = measure(
                fitted.network, arrays, task, recipe, device=device, precision="float32"
            )
            result[split] = measured.scores
            _write_records(folder / f"{split}.json", arrays.names, task, measured.overlaps)
    save_network(folder, fitted.network)
    store.append_log(job, {"end": True})
    return result


def do_rank(job: Job, store: Store) -> dict[str, Any]:
    """Order candidates by validation score, and score the ensemble of the best n."""
    task = _task(job)
    fits = job.inputs[1:]
    results = [store.result(candidate) for candidate in fits]
    values = [result["val"][task.primary] for result in results]
    order = sorted(range(len(fits)), key=lambda k: -values[k])  # stable: ties keep their order
    best = [fits[k] for k in order]
    models: Any = job.params["models"]
    device = torch.device(read_config(store.root).device)
    networks = [load_network(store.folder(one)).to(device) for one in best[:models]]
    data = store.folder(job.inputs[0])
    result: dict[str, Any] = {
        "ranked": [one.key for one in best],
        "val_ranked": [values[k] for k in order],
        "best": results[order[0]],
        "ensemble": {},
    }
    for split in ("val", "test"):
        arrays = load_arrays(data, split)
        if len(arrays.images):
            overlaps = ensemble_overlaps(networks, arrays, task, device)
            result["ensemble"][split] = task.summary(overlaps)
    return result


def do_label(job: Job, store: Store) -> dict[str, Any]:
    """Label the unlabeled images by the best n of the generation before."""
    p: Any = job.params
    data, rank, *fits = job.inputs
    task = _task(job)
    device = torch.device(read_config(store.root).device)
    by_key = {one.key: one for one in fits}
    chosen = store.result(rank)["ranked"][: p["models"]]
    networks = [load_network(store.folder(by_key[key])).to(device) for key in chosen]
    unlabeled = load_arrays(store.folder(data), "unlabeled")
    steps = _Steps(job, store, "images")
    labeller = Agreement(
        networks=networks,
        task=task,
        morphology=Morphology(**p["morphology"]),
        choose=p["choose"],
        device=device,
    )
    counted: dict[str, Any] = write_pseudo_labels(
        store.folder(job),
        labeller,
        unlabeled.images,
        on_progress=lambda done: steps(done, len(unlabeled.images)),
    )
    counted["networks"] = chosen
    if not counted["kept"]:
        raise UserError(
            f"{job.label}: no pseudo-label passed the filter",
            value=f"0 of {counted['images']} images kept",
            remedy="Start a new run in another --out with --no-filter or with more --steps, or "
            "label more images.",
        )
    if unlabeled.labels is not None:
        counted["agreement"] = _against_truth(store.folder(job), unlabeled, task)
    return counted


HANDLERS: Mapping[str, Handler] = {
    "prepare": do_prepare,
    "fit": do_fit,
    "rank": do_rank,
    "label": do_label,
}


def ensemble_overlaps(
    networks: Sequence[nn.Module], split: Arrays, task: Task, device: torch.device
) -> Tensor:
    """Overlaps int64 [M, K, 3] of the mean probability of several networks with the truth.

    M images, which the split may show in tiles.
    """
    assert split.labels is not None
    found = []
    for rows, each in probabilities(networks, split.images, task, device=device):
        truth = torch.from_numpy(np.ascontiguousarray(split.labels[rows])).to(device)
        predicted = task.discrete(each.mean(0), reserved=False)
        found.append(task.overlaps(predicted, truth).cpu())
    return sum_by_image(torch.cat(found), split)


def _against_truth(folder: Path, split: Arrays, task: Task) -> dict[str, float]:
    """Score pseudo-labels outside the mask; for the report only, training never sees it.

    Tiles are summed by image; the pixels that two of them share count in both, as in training.
    """
    assert split.labels is not None
    truth = split.labels
    pseudo = load_pseudo_labels(folder)
    overlaps = []
    for start in range(0, len(truth), 256):
        rows = slice(start, start + 256)
        seen = np.where(pseudo.im[rows], np.uint8(IGNORE), truth[rows])
        overlaps.append(
            task.overlaps(torch.from_numpy(pseudo.labels[rows]), torch.from_numpy(seen))
        )
    return task.summary(sum_by_image(torch.cat(overlaps), split))


def _task(job: Job) -> Task:
    p: Any = job.params
    return make_task(p["task"]["name"], p["task"]["classes"])


def _policy(values: dict[str, Any] | None) -> Policy:
    if values is None:
        return Policy()
    return Policy(**{**values, "morphology": Morphology(**values["morphology"])})


def _epoch_of(checkpoint: Path) -> int:
    return int(str(load_tensors(checkpoint)[1]["epoch"])) if checkpoint.exists() else 0


def _write_records(path: Path, names: Sequence[str], task: Task, overlaps: Tensor) -> None:
    scores = {k: v.tolist() for k, v in task.scores(overlaps).items()}
    rows = [
        {"name": name, **{k: values[i] for k, values in scores.items()}}
        for i, name in enumerate(names)
    ]
    write_atomic(path, json.dumps(rows).encode())


@dataclass
class _Steps:
    """Logs progress in about a hundred steps, so that logs stay short."""

    job: Job
    store: Store
    what: str
    logged: float = -1.0

    def __call__(self, done: int, total: int) -> None:
        share = done / max(1, total)
        if share - self.logged >= 0.01 or done == total:
            self.store.append_log(self.job, {"step": done, "steps": total, "of": self.what})
            self.logged = share
