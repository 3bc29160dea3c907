"""What handlers of jobs share: finding their inputs, and logging how far they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from imasks.data.arrays import Arrays
from imasks.encoding import IGNORE
from imasks.jobs import Job, Store, write_atomic
from imasks.labelling.judge import Judge
from imasks.labelling.labellers import load_pseudo_labels
from imasks.models.evalnet import EvalNet
from imasks.models.weights import load_network, load_tensors
from imasks.tasks import Task, make_task
from imasks.training.fit import Fitted
from imasks.training.measure import sum_by_image
from imasks.training.predict import probabilities

CHECKPOINT = "checkpoint.safetensors"  # by this name, the store removes it once the job is done


def task_of(job: Job) -> Task:
    """Build the task that a job is about."""
    p: Any = job.params
    return make_task(**p["task"])


def device_of(job: Job) -> torch.device:
    """Where a job computes."""
    return torch.device(str(job.params["device"]))


def inputs_of(job: Job, kind: str) -> list[Job]:
    """Those of a job's inputs that are of one kind, in their order."""
    return [one for one in job.inputs if one.kind == kind]


def data_of(job: Job, store: Store) -> Path:
    """The folder of the prepared data."""
    return store.folder(inputs_of(job, "prepare")[0])


def chosen_keys(job: Job, store: Store, *, count: int | None = None) -> list[str]:
    """Keys of the best n candidates among a job's inputs, n being its parameter "models"."""
    p: Any = job.params
    ranked: list[str] = store.result(inputs_of(job, "rank")[0])["ranked"]
    return ranked[: p["models"] if count is None else count]


def best_networks(job: Job, store: Store, *, count: int | None = None) -> list[nn.Module]:
    """Load the best n candidates among a job's inputs, see :func:`chosen_keys`."""
    return [load_candidate(key, job, store) for key in chosen_keys(job, store, count=count)]


def load_candidate(key: str, job: Job, store: Store) -> nn.Module:
    """Load one candidate of a job's inputs."""
    (fit,) = [one for one in inputs_of(job, "fit") if one.key == key]
    return load_network(store.folder(fit)).to(device_of(job))


def chosen_graders(job: Job, store: Store) -> list[str]:
    """Keys of the best n EvalNets among a job's inputs; none where it has none."""
    p: Any = job.params
    return [
        key
        for rank in inputs_of(job, "rank_graders")
        for key in store.result(rank)["ranked"][: p["models"]]
    ]


def best_graders(
    job: Job, store: Store, *, device: torch.device | None = None
) -> tuple[EvalNet, ...]:
    """Load the best n EvalNets among a job's inputs, by default to where the job computes."""
    by_key = {one.key: one for one in inputs_of(job, "grader")}
    found = []
    for key in chosen_graders(job, store):
        network = load_network(store.folder(by_key[key]))
        assert isinstance(network, EvalNet)
        found.append(network.to(device or device_of(job)))
    return tuple(found)


def judge_of(job: Job, store: Store, *, device: torch.device | None = None) -> Judge:
    """Load the EvalNets of a quality job, to be asked as that job asks them."""
    return Judge(
        evalnets=best_graders(job, store, device=device),
        task=task_of(job),
        plain=inputs_of(job, "grader")[0].params["pairs"] == "plain",
    )


def ensemble_tally(
    networks: Sequence[nn.Module], split: Arrays, task: Task, device: torch.device
) -> Tensor:
    """Tally int64 [M, R, 3] of the mean probability of several networks against the truth.

    M images, which the split may show in tiles.
    """
    found = [
        tally_of(each, split, rows, task)
        for rows, each in probabilities(networks, split.images, task, device=device)
    ]
    return sum_by_image(torch.cat(found), split)


def tally_of(probabilities: Tensor, split: Arrays, rows: slice, task: Task) -> Tensor:
    """Tally int64 [n, R, 3], on the CPU, of the mean of [E, n, C, H, W] against the truth."""
    assert split.labels is not None
    truth = torch.from_numpy(np.ascontiguousarray(split.labels[rows])).to(probabilities.device)
    predicted = task.discrete(probabilities.mean(0), reserved=False)
    return task.tally(predicted, truth).cpu()


def has_truth(labels: np.ndarray) -> np.ndarray:
    """Say which of [N, P, H, W] have any pixel that is not void: bool [N]."""
    return np.array([(one != IGNORE).any() for one in labels], np.bool_)


def against_truth(folder: Path, split: Arrays, task: Task) -> dict[str, float]:
    """Score pseudo-labels outside the mask; for the report only, training never sees it.

    Tiles are summed by image; the pixels that two of them share count in both, as in training.
    """
    assert split.labels is not None
    truth = split.labels
    pseudo = load_pseudo_labels(folder)
    tallies = []
    for start in range(0, len(truth), 256):
        rows = slice(start, start + 256)
        seen = np.where(pseudo.im[rows], np.uint8(IGNORE), truth[rows])
        tallies.append(task.tally(torch.from_numpy(pseudo.labels[rows]), torch.from_numpy(seen)))
    return task.summary(sum_by_image(torch.cat(tallies), split))


def resumed(job: Job, store: Store) -> Path:
    """Return the checkpoint of a training, with the log cut back to it."""
    checkpoint = store.folder(job) / CHECKPOINT
    done = int(str(load_tensors(checkpoint)[1]["epoch"])) if checkpoint.exists() else 0
    store.truncate_log(job, lambda record: record.get("epoch", 0) <= done)
    store.append_log(job, {"begin": True})
    return checkpoint


def training_record(fitted: Fitted[Any]) -> dict[str, Any]:
    """What is kept of any training, beside the weights."""
    return {
        "epoch": fitted.epoch,
        "selection": fitted.selection,
        "steps": fitted.steps,
        "pairs": fitted.pairs,
        "parameters": sum(v.numel() for v in fitted.network.parameters()),
    }


def write_records(path: Path, names: Sequence[str], task: Task, tally: Tensor) -> None:
    """Write the scores of every image as JSON."""
    scores = {k: v.tolist() for k, v in task.scores(tally).items()}
    rows = [
        {"name": name, **{k: values[i] for k, values in scores.items()}}
        for i, name in enumerate(names)
    ]
    write_atomic(path, json.dumps(rows).encode())


@dataclass
class Steps:
    """Logs progress in about a hundred steps, so that logs stay short."""

    job: Job
    store: Store
    what: str
    logged: float = -1.0

    def __call__(self, done: int, total: int) -> None:
        """Say how far the job is."""
        share = done / max(1, total)
        if share - self.logged >= 0.01 or done == total:
            self.store.append_log(self.job, {"step": done, "steps": total, "of": self.what})
            self.logged = share
