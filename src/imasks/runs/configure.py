"""From what a user asks for to a resolved configuration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from imasks.approaches.recipes import (
    DEFAULT_LADDER,
    LADDERS,
    PRESETS,
    Ladder,
    Policy,
    Preset,
    find_approach,
)
from imasks.data.checksum import checksum
from imasks.data.folder import Dataset
from imasks.data.prepare import plan_preparation
from imasks.errors import UserError
from imasks.models.unet import UNetConfig
from imasks.runs.config import FILE, RunConfig, read_config
from imasks.runs.options import Options
from imasks.tasks import make_task
from imasks.training.pace import choose_precision
from imasks.training.recipe import Precision


def configure(
    dataset: Dataset,
    options: Options,
    *,
    approaches: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
) -> RunConfig:
    """Resolve a configuration; whatever has to be measured is taken from the folder if it can be.

    Raises:
        UserError: an option is out of range, or the data set lacks what an approach needs.
    """
    names = tuple(dict.fromkeys(find_approach(name).name for name in approaches))
    for name in names:
        check_needs(dataset, name)
    how = _preset(options)
    longer_side = options.longer_side
    if options.quick and longer_side is None and options.size is None and not dataset.card.size:
        longer_side = 128
    preparation = plan_preparation(dataset, size=options.size, longer_side=longer_side)
    device = find_device(options.device)
    config = RunConfig(
        data=str(dataset.folder.resolve()),
        checksum=checksum(dataset, folder / "checksums.json" if folder.exists() else None),
        task=dataset.card.task,
        classes=dataset.card.classes,
        colors=dataset.card.colors,
        preparation=preparation,
        images={split: len(samples) for split, samples in dataset.splits.items()},
        val_cut=dataset.val_cut,
        approaches=names,
        seeds=tuple(seeds),
        preset=options.preset,
        how=how,
        ladder=_ladder(dataset, options, preparation.size),
        device=device,
        threads=_threads(workers_for(options, how, device)),
    )
    there = read_config(folder) if (folder / FILE).exists() else None
    if there is not None and options.workers is None:
        config = replace(config, threads=there.threads)
    return _with_precision(config, options.precision, there)


def check_needs(dataset: Dataset, name: str) -> None:
    """Make sure that a data set has the images an approach learns from.

    Raises:
        UserError: it has not.
    """
    approach, unlabeled = find_approach(name), dataset.splits["unlabeled"]
    if (approach.labels or approach.truth == "all") and not unlabeled:
        raise UserError(
            f"{name} needs unlabeled images",
            value=f"none in {dataset.folder / 'unlabeled' / 'images'}",
            remedy="Put some there, or use --approach ALDT, which learns from labeled images only.",
        )
    without = [sample.name for sample in unlabeled if not sample.masks]
    if approach.truth == "all" and without:
        raise UserError(
            f"{name} needs the true masks of all unlabeled images in unlabeled/masks",
            value=f"{len(without)} of {len(unlabeled)} have none, {without[0]} for one",
            remedy="It is a yardstick for data sets that are labeled already; leave it out.",
        )


def workers_for(options: Options, how: Preset, device: str) -> int:
    """Processes to work with: on the CPU as many as cores or candidates, on a GPU one."""
    if options.workers is not None:
        if options.workers < 1:
            raise UserError("workers must be at least 1", value=options.workers, remedy="Raise it.")
        return options.workers
    if device != "cpu":
        return 1
    return min(_cores(), max(how.candidates, how.start_candidates))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _threads(workers: int) -> int:
    return max(1, _cores() // workers)


def find_device(asked: str) -> str:
    """Resolve "auto", and refuse a device this machine has not."""
    available = ["cpu"]
    if torch.cuda.is_available():
        available.append("cuda")
    if torch.backends.mps.is_available():
        available.append("mps")
    if asked == "auto":
        return "cuda" if "cuda" in available else "cpu"
    if asked not in available:
        raise UserError(
            "this machine has no such device", value=asked, remedy=f"Use {' or '.join(available)}."
        )
    return asked


def _preset(options: Options) -> Preset:
    preset = PRESETS.get(options.preset)
    if preset is None:
        raise UserError(
            "there is no such preset", value=options.preset, remedy=f"Use {' or '.join(PRESETS)}."
        )
    if options.quick:
        recipe = replace(preset.recipe, steps=200, evaluations=10)
        preset = replace(
            preset, recipe=recipe, start_candidates=2, candidates=2, generations=1, models=2
        )
    recipe = replace(preset.recipe, **_given(steps=options.steps, batch=options.batch))
    policy = replace(
        preset.policy,
        **_given(
            input=_choice("im_input", options.im_input, Policy.inputs),
            label=_choice("im_label", options.im_label, Policy.labels),
            filter=options.filter,
        ),
    )
    changes = _given(
        models=options.models,
        generations=options.generations,
        candidates=options.candidates,
        start_candidates=options.start_candidates or options.candidates,
    )
    return replace(preset, recipe=recipe, policy=policy, **changes)


def _ladder(dataset: Dataset, options: Options, size: tuple[int, int]) -> Ladder:
    name = options.ladder or DEFAULT_LADDER[dataset.card.task]
    ladder = LADDERS.get(name)
    if ladder is None:
        raise UserError("there is no such ladder", value=name, remedy=f"Use {', '.join(LADDERS)}.")
    width = options.width or dataset.card.width or ladder.width
    UNetConfig(in_channels=1, outputs=1, width=width)  # refuses widths that leave no channels
    ladder = replace(ladder, width=width)
    free = dataset.card.free_rotation
    if free is None:
        return ladder
    return replace(
        ladder,
        augmented=replace(ladder.augmented, free_rotation=free),
        noise=tuple(replace(step, free_rotation=free) for step in ladder.noise),
    )


def _with_precision(config: RunConfig, asked: str, there: RunConfig | None) -> RunConfig:
    choice: Precision
    if asked in ("float32", "bfloat16"):
        choice = "bfloat16" if asked == "bfloat16" else "float32"
    elif asked != "auto":
        raise UserError(
            "precision is not known", value=asked, remedy="Use auto, float32 or bfloat16."
        )
    elif there is not None:
        choice = there.how.recipe.precision
    else:
        task = make_task(config.task, config.classes)
        network = UNetConfig(
            in_channels=config.preparation.channels,
            outputs=task.outputs,
            width=config.ladder.width,
        )
        before = torch.get_num_threads()
        torch.set_num_threads(config.threads)
        choice = choose_precision(
            network,
            task,
            config.how.recipe,
            size=config.preparation.size,
            device=torch.device(config.device),
        )
        torch.set_num_threads(before)
    recipe = replace(config.how.recipe, precision=choice)
    return replace(config, how=replace(config.how, recipe=recipe))


def _choice(name: str, value: str | None, allowed: Sequence[str]) -> str | None:
    if value is not None and value not in allowed:
        raise UserError(f"{name} is not known", value=value, remedy=f"Use {' or '.join(allowed)}.")
    return value


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
