"""What networks of different architectures are worth in one ensemble: U-Nets, encoders, and both.

Three runs of IM with two candidates see the same data: two U-Nets, a U-Net and a network with an
encoder, and two of these. Do networks that are built differently disagree where they are wrong?
And what do their students learn? The data folder needs masks of all unlabeled images, and test
images:

    python bench/mixed.py my_data out --encoder resnet18 --option size=[64,64]

The same command again goes on where it was. OUT/mixed.csv has a row a run and seed, and is written
anew after each run.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shutil import copy, copytree, ignore_patterns
from statistics import mean
from typing import Any

import numpy as np
import torch
from rich.table import Table
from scripts import arguments, check_truth, console, options_of, run_script, spread, write_rows

from imasks.api import finish, make_options
from imasks.data.arrays import load_arrays
from imasks.data.folder import Dataset, open_dataset
from imasks.encoding import IGNORE
from imasks.errors import UserError
from imasks.jobs import Job, in_order
from imasks.labelling.agree import inconsistency
from imasks.runs.line import Line
from imasks.runs.results import Outcome
from imasks.runs.run import Run, default_workers, plan_run
from imasks.runs.work import best_networks, data_of, device_of, task_of
from imasks.training.predict import votes

BASE = {
    "candidates": 2,
    "generations": 1,
    "width": 0.5,
    "pretrained": False,
    "learning_rate": 0.003,
    "precision": "float32",
}


@dataclass(frozen=True, kw_only=True)
class Taught:
    """The two networks of one start, the mask between them, and their students.

    Args:
        pair: which networks.
        seed: of everything.
        unet_test: mean test score of the start's U-Nets; None where it has none.
        encoder_test: likewise of its networks with an encoder.
        im_share: of the unlabeled pixels.
        wrong: share of the pixels that the better network gets wrong.
        caught: share of these that the mask covers.
        right_to_cut: share of the mask where the better network is wrong.
        label: score of the labels outside of the mask.
        unet_student: mean test score of the U-Nets that learned from them; None without.
        encoder_student: likewise.
    """

    pair: str
    seed: int
    unet_test: float | None
    encoder_test: float | None
    im_share: float
    wrong: float
    caught: float
    right_to_cut: float
    label: float
    unet_student: float | None
    encoder_student: float | None


def main() -> None:
    """Measure, write and show."""
    parser = arguments("What mixed architectures are worth.")
    parser.add_argument("--encoder", default="resnet18", help="as imasks train takes it")
    given = parser.parse_args()
    pairs = {
        "two U-Nets": None,
        "mixed": f"unet,{given.encoder}",
        f"two {given.encoder}": given.encoder,
    }
    dataset, options = open_dataset(given.data), {**BASE, **options_of(given)}
    check_truth(dataset)
    if "size" not in options:
        raise UserError(
            "all networks must see images of one size, and each kind would choose its own",
            remedy="Say --option size=[HEIGHT,WIDTH], multiples of 32 for most encoders.",
        )
    rows: list[Taught] = []
    for name, encoder in pairs.items():
        console.print(name, highlight=False)
        run = _train(dataset, given, name, encoder, options)
        lines = zip(run.plan.lines, run.outcomes(), strict=True)
        rows += [_measure(name, line, outcome, run) for line, outcome in lines]
        write_rows(given.out / "mixed.csv", [vars(row) for row in rows])
    console.print(_table(rows, list(pairs), given.encoder))


def _train(
    dataset: Dataset,
    given: argparse.Namespace,
    name: str,
    encoder: str | None,
    options: Mapping[str, Any],
) -> Run:
    unknown = "pretrained" if encoder is None else "" if "unet" in encoder.split(",") else "width"
    wished = make_options(
        **{key: value for key, value in options.items() if key != unknown}, encoder=encoder
    )
    folder = given.out / name.replace(" ", "_").lower()
    run = plan_run(
        dataset,
        folder,
        approaches=["IM"],
        seeds=range(given.seeds),
        options=wished,
        may_grow=True,
    )
    for job in in_order(run.plan.targets):  # the first network of two runs is the same, for one
        there = next(given.out.glob(f"*/jobs/{job.key}/done.json"), None)
        if there is not None and not run.store.done(job):
            here = run.store.folder(job)
            left_out = ignore_patterns(".lock", there.name)
            copytree(there.parent, here, ignore=left_out, dirs_exist_ok=True)
            copy(there, here)  # last: a copy that was killed is no finished job
    finish(run, workers=default_workers(run, wished), console=console)
    return run


def _measure(name: str, line: Line, outcome: Outcome, run: Run) -> Taught:
    start, taught = line.generations
    assert taught.label is not None
    task, device = task_of(taught.label), device_of(taught.label)
    networks = best_networks(taught.label, run.store, count=2)
    split = load_arrays(data_of(taught.label, run.store), "unlabeled")
    score = outcome.steps[1].pseudo_label_score
    assert split.labels is not None
    assert score is not None
    pixels = masked = wrong = caught = 0
    for rows, said in votes(networks, split.images, task, device=device, reserved=False):
        truth = torch.from_numpy(np.ascontiguousarray(split.labels[rows])).to(device)
        known, (_, im) = truth != IGNORE, inconsistency(said)
        miss = (said[0] != truth) & known
        pixels += int(known.sum())
        masked += int((im & known).sum())
        wrong += int(miss.sum())
        caught += int((im & miss).sum())
    return Taught(
        pair=name,
        seed=line.seed,
        **_scores(start.fits, run, "test"),
        im_share=masked / pixels,
        wrong=wrong / pixels,
        caught=caught / max(1, wrong),
        right_to_cut=caught / max(1, masked),
        label=score,
        **_scores(taught.fits, run, "student"),
    )


def _scores(fits: Sequence[Job], run: Run, what: str) -> Mapping[str, float | None]:
    """Mean test scores of U-Nets and of the others among trained networks."""
    primary = run.config.make_task().primary
    kinds: dict[str, list[float]] = {"unet": [], "encoder": []}
    for fit in fits:
        record: Any = fit.params["network"]
        kind = "encoder" if "kind" in record else "unet"
        kinds[kind].append(run.store.result(fit)["test"][primary])
    return {f"{kind}_{what}": mean(found) if found else None for kind, found in kinds.items()}


def _table(rows: Sequence[Taught], pairs: Sequence[str], encoder: str) -> Table:
    words = {
        "unet_test": "U-Net, start: test score",
        "encoder_test": f"{encoder}, start: test score",
        "im_share": "mask, share of the pixels",
        "wrong": "the better network is wrong at",
        "caught": "of this the mask covers",
        "right_to_cut": "of the mask it is wrong at",
        "label": "score of labels outside",
        "unet_student": "U-Net, student: test score",
        "encoder_student": f"{encoder}, student: test score",
    }
    seeds = len({row.seed for row in rows})
    table = Table("", *pairs, title=f"mean±deviation over {seeds} seeds")
    for name, text in words.items():
        each = ([getattr(row, name) for row in rows if row.pair == pair] for pair in pairs)
        table.add_row(text, *map(spread, each))
    return table


if __name__ == "__main__":
    run_script(main)
