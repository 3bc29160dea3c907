"""What the jobs of a generation do. A handler reads its inputs' folders and writes its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imasks.approaches.generation import Source, assemble
from imasks.approaches.presets import Policy
from imasks.data.arrays import load_arrays, prepare
from imasks.data.augment import Augmentation
from imasks.data.card import shorten
from imasks.data.checksum import changed_files, checksum
from imasks.data.folder import open_dataset
from imasks.data.prepare import Preparation
from imasks.data.reviewed import REVIEWED, apply_review
from imasks.errors import UserError
from imasks.jobs import DeadEnd, Handler, Job, Store
from imasks.labelling.agree import Morphology
from imasks.labelling.input_ensemble import InputEnsemble
from imasks.labelling.labellers import (
    Agreement,
    Labeller,
    ModelEnsemble,
    load_pseudo_labels,
    write_pseudo_labels,
)
from imasks.models.networks import from_record, make_network
from imasks.models.weights import save_network
from imasks.runs.config import read_config
from imasks.runs.judging import JUDGING
from imasks.runs.lost import labeled_classes, never_predicted, vanished
from imasks.runs.networks import kept_weights
from imasks.runs.work import (
    Steps,
    against_truth,
    best_networks,
    chosen_keys,
    data_of,
    device_of,
    ensemble_tally,
    inputs_of,
    load_candidate,
    resumed,
    task_of,
    training_record,
    write_records,
)
from imasks.training.balance import loss_weights, with_weights
from imasks.training.batches import Part, mix
from imasks.training.fit import fit, seeded_network
from imasks.training.measure import measure
from imasks.training.objectives import Consistency, Objective, Supervised
from imasks.training.recipe import Recipe


def do_prepare(job: Job, store: Store) -> dict[str, Any]:
    """Decode and resize the data set into arrays."""
    config = read_config(store.root)
    dataset = open_dataset(Path(config.data))
    if config.review is not None:
        dataset = apply_review(dataset, store.root / REVIEWED)
    cache = store.root / "checksums.json"
    if checksum(dataset, cache, expected=config.checksum) != config.checksum:
        raise UserError(
            f"{config.data} has changed since the run in {store.root} began",
            value=shorten(changed_files(dataset, cache)),
            remedy="Restore the data, or start a new run with another --out.",
        )
    steps = Steps(job, store, "images")
    return prepare(
        dataset,
        Preparation.from_json(job.params["preparation"]),  # type: ignore[arg-type]
        store.folder(job),
        on_progress=steps,
    )


def do_fit(job: Job, store: Store) -> dict[str, Any]:
    """Train one candidate, and score it on the validation and test images."""
    p: Any = job.params
    task, device, data, folder = (
        task_of(job),
        device_of(job),
        data_of(job, store),
        store.folder(job),
    )
    recipe = Recipe(**p["recipe"])
    seed = mix(*p["seed"])
    begun = _goes_on_from(job, store)
    if begun is not None:
        network = load_candidate(begun, job, store)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    else:
        network = seeded_network(
            lambda config, where: make_network(config, where, kept_weights(store.root, config)),
            from_record(p["network"]),
            seed=seed,
            device=device,
        )
    checkpoint = resumed(job, store)
    weights = _loss_weights(job, store)
    fitted = fit(
        network,
        _objective(job, store, recipe, weights=weights, seed=seed),
        recipe,
        seed=seed,
        device=device,
        checkpoint=checkpoint,
        log=lambda record: store.append_log(job, record),
    )
    result: dict[str, Any] = training_record(fitted)
    if weights is not None:
        result["class_weights"] = weights.tolist()
    if begun is not None:
        result["networks"] = [begun]
    for split in ("val", "test"):
        arrays = load_arrays(data, split)
        if len(arrays.images):
            measured = measure(
                fitted.network, arrays, task, recipe, device=device, precision="float32"
            )
            result[split] = measured.scores
            write_records(folder / f"{split}.json", arrays.names, task, measured.tally)
    save_network(folder, fitted.network)
    store.append_log(job, {"end": True})
    return result


def _goes_on_from(job: Job, store: Store) -> str | None:
    """Return the key of the candidate whose weights a training begins with; None: random ones.

    Consistency loss goes on from the best network of the start; with warm starts, candidate k from
    the k-th best of the generation before, so that they stay different.
    """
    p: Any = job.params
    if "views" in p:
        return chosen_keys(job, store, count=1)[0]
    if not p.get("warm_start"):
        return None
    ranked: list[str] = store.result(inputs_of(job, "rank")[0])["ranked"]
    candidate: int = p["seed"][2]
    return ranked[candidate % len(ranked)]


def _loss_weights(job: Job, store: Store) -> torch.Tensor | None:
    if job.params.get("class_weights") != "balanced":
        return None
    labels = load_arrays(data_of(job, store), "labeled").labels
    assert labels is not None
    return loss_weights(labels, task_of(job)).to(device_of(job))


def _objective(
    job: Job, store: Store, recipe: Recipe, *, weights: torch.Tensor | None, seed: int
) -> Objective:
    p: Any = job.params
    task, device, data = task_of(job), device_of(job), data_of(job, store)
    val, parts = load_arrays(data, "val"), _parts(job, store)
    if p.get("sampling") == "balanced":
        parts = [with_weights(part, task) for part in parts]
    if "views" not in p:
        decide = _policy(p["policy"]).label == "weigh"
        return Supervised(
            task, parts, val, recipe, decide=decide, weights=weights, seed=seed, device=device
        )
    return Consistency(
        task,
        parts,
        load_arrays(data, "unlabeled", truth=False).images,
        val,
        views=Augmentation(**p["views"]),
        recipe=recipe,
        alternate=p.get("alternate", False),
        weights=weights,
        seed=seed,
        device=device,
    )


def _parts(job: Job, store: Store) -> list[Part]:
    """Put the training set of a candidate together."""
    p: Any = job.params
    data = data_of(job, store)
    wanted = [Source.from_json(source) for source in p["sources"]]
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
    labels = [*inputs_of(job, "label"), *inputs_of(job, "choose")]
    grades = inputs_of(job, "grade")
    return assemble(
        wanted,
        labeled=load_arrays(data, "labeled"),
        unlabeled=unlabeled,
        pseudo=load_pseudo_labels(store.folder(labels[0])) if labels else None,
        policy=_policy(p["policy"]),
        seed=mix(*p["seed"][:2], 1),  # all candidates of a generation learn from the same copies
        copies=np.load(store.folder(grades[0]) / "copies.npy") if grades else None,
    )


def do_rank(job: Job, store: Store) -> dict[str, Any]:
    """Order candidates by validation score, and score the ensemble of the best n."""
    p: Any = job.params
    task, data = task_of(job), data_of(job, store)
    fits = inputs_of(job, "fit")
    results = [store.result(candidate) for candidate in fits]
    values = [result["val"][task.primary] for result in results]
    order = sorted(range(len(fits)), key=lambda k: -values[k])  # stable: ties keep their order
    ranked = [fits[k].key for k in order]
    networks = [load_candidate(key, job, store) for key in ranked[: p["models"]]]
    result: dict[str, Any] = {
        "ranked": ranked,
        "val_ranked": [values[k] for k in order],
        "best": results[order[0]],
        "ensemble": {},
    }
    for split in ("val", "test"):
        arrays = load_arrays(data, split)
        if len(arrays.images):
            tally = ensemble_tally(networks, arrays, task, device_of(job))
            result["ensemble"][split] = task.summary(tally)
            write_records(store.folder(job) / f"{split}.json", arrays.names, task, tally)
            if split == "val":
                overlaps = tally[:, : len(task.classes)]
                result["never_predicted"] = never_predicted(overlaps, labeled_classes(data, task))
    return result


def do_label(job: Job, store: Store) -> dict[str, Any]:
    """Label the unlabeled images by the best of the generation before."""
    task = task_of(job)
    unlabeled = load_arrays(data_of(job, store), "unlabeled")
    steps = Steps(job, store, "images")
    counted: dict[str, Any] = write_pseudo_labels(
        store.folder(job),
        _labeller(job, store),
        unlabeled.images,
        on_progress=lambda done: steps(done, len(unlabeled.images)),
    )
    counted["networks"] = chosen_keys(job, store)
    if not counted["kept"]:
        raise DeadEnd(
            "no pseudo-label passed the filter",
            value=f"0 of {counted['images']} images kept",
            remedy="Start a new run in another --out with --no-filter or with more --steps, or "
            "label more images.",
        )
    counted["vanished"] = vanished(
        store.folder(job), labeled_classes(data_of(job, store), task), task
    )
    if unlabeled.labels is not None:
        counted["agreement"] = against_truth(store.folder(job), unlabeled, task)
    return counted


def _labeller(job: Job, store: Store) -> Labeller:
    p: Any = job.params
    task, device, networks = task_of(job), device_of(job), best_networks(job, store)
    kind = p.get("kind", "agreement")
    if kind == "views":
        return InputEnsemble(
            network=networks[0],
            task=task,
            views=p["views"],
            how=Augmentation(**p["augmentation"]),
            seed=mix(*p["seed"], 1),
            device=device,
        )
    if kind == "ensemble":
        return ModelEnsemble(networks=networks, task=task, device=device)
    return Agreement(
        networks=networks,
        task=task,
        morphology=Morphology(**p["morphology"]),
        choose=p["choose"],
        device=device,
        extra=p.get("extra"),
    )


HANDLERS: Mapping[str, Handler] = {
    "prepare": do_prepare,
    "fit": do_fit,
    "rank": do_rank,
    "label": do_label,
    **JUDGING,
}


def _policy(values: dict[str, Any] | None) -> Policy:
    if values is None:
        return Policy()
    return Policy(**{**values, "morphology": Morphology(**values["morphology"])})
