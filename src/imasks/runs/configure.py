"""From what a user asks for to a resolved configuration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch

from imasks.approaches.ladders import DEFAULT_LADDER, LADDERS, Ladder
from imasks.approaches.presets import (
    PRESETS,
    Budget,
    ClassWeights,
    InputPolicy,
    LabelPolicy,
    Preset,
    Sampling,
    Thresholds,
)
from imasks.approaches.recipes import APPROACHES, find_approach
from imasks.approaches.variants import varied
from imasks.data.checksum import checksum
from imasks.data.folder import Dataset
from imasks.data.prepare import STEP, Preparation, plan_preparation
from imasks.data.resources import cores
from imasks.encoding import TaskName
from imasks.errors import UserError
from imasks.models.unet import UNetConfig
from imasks.runs.config import RunConfig
from imasks.runs.networks import check_networks, choose_networks, fitted, step_of, with_weights
from imasks.runs.options import Options, check_value
from imasks.tasks import TASKS, make_task
from imasks.tasks.points import need_opencv
from imasks.training.pace import choose_precision
from imasks.training.recipe import Precision

ALL = "all"  # in place of names of approaches
OTHER_RATE = 0.001  # peak learning rate where there are other networks than U-Nets


def configure(
    dataset: Dataset,
    options: Options,
    *,
    approaches: Sequence[str],
    seeds: Sequence[int],
) -> RunConfig:
    """Check all that was asked for and resolve it, as far as that needs no measurement.

    Returns:
        A configuration without checksum and, if its precision is to be measured, without that;
        :func:`complete` adds them. Nothing has been written.

    Raises:
        UserError: an option is out of range, or the data set lacks what an approach needs.
    """
    names = tuple(dict.fromkeys(find_approach(name).name for name in approaches))
    if not names:
        raise UserError("no approach is given", remedy="See `imasks approaches`.")
    for name in names:
        check_needs(dataset, name)
    if not seeds:
        raise UserError("no seed is given", remedy="Give seeds, at least 1 of them.")
    networks = choose_networks(options)
    how = _preset(options, others=bool(networks))
    if options.im_label is None:
        how = for_task(how, dataset.card.task)
    trained = min(how.start_candidates, how.candidates)
    if len(networks) > trained:
        raise UserError(
            "more kinds of networks are named than networks are trained",
            value=f"{len(networks)} kinds, {trained} candidates",
            remedy=f"Use --candidates {len(networks)}, so that each has its turn.",
        )
    for name in names:
        _check_how(varied(how, find_approach(name).changes), dataset)
    if dataset.card.points:
        need_opencv()
    preparation = plan_preparation(
        dataset,
        size=options.size,
        longer_side=options.longer_side,
        at_most=128 if options.quick else None,
        crops=options.crops,
        crop_seed=options.crop_seed,
        step=step_of(networks, dataset.card.channels or 3) if networks else STEP,
    )
    outputs = make_task(dataset.card.task, dataset.card.classes).outputs
    device = find_device(options.device)
    return RunConfig(
        data=str(dataset.folder.resolve()),
        checksum="",
        task=dataset.card.task,
        classes=dataset.card.classes,
        colors=dataset.card.colors,
        name=dataset.card.name,
        ignore=dataset.card.ignore,
        points=dataset.card.points,
        weights=dataset.card.weights,
        scored=dataset.card.scored,
        preparation=preparation,
        images={split: len(samples) for split, samples in dataset.splits.items()},
        val_cut=dataset.val_cut,
        approaches=names,
        seeds=tuple(check_value("seed", seed, int, least=0) for seed in seeds),
        preset=options.preset,
        how=how,
        ladder=_ladder(dataset, options, how, preparation),
        device=device,
        threads=_threads(options, workers_for(options, how, device)),
        review=dataset.review,
        networks=fitted(networks, in_channels=preparation.channels, outputs=outputs),
    )


def for_task(how: Preset, task: TaskName) -> Preset:
    """Let a preset's "rare" be what it is without classes that exclude one another: "ignore"."""
    if how.policy.label == "rare" and not TASKS[task].exclusive:
        return replace(how, policy=replace(how.policy, label="ignore"))
    return how


def _check_how(how: Preset, dataset: Dataset) -> None:
    if how.policy.label == "rare" and not TASKS[dataset.card.task].exclusive:
        raise UserError(
            "im_label 'rare' is about classes that exclude one another",
            value=f"task {dataset.card.task}",
            remedy="Use another --im-label, for example ignore or mean.",
        )
    if how.budget == "equal-steps" and how.recipe.steps is None:
        raise UserError(
            "equal steps need a number of steps",
            value="budget = equal-steps, trained in epochs",
            remedy="Give --steps.",
        )


def complete(
    config: RunConfig,
    dataset: Dataset,
    options: Options,
    *,
    there: RunConfig | None,
    cache: Path | None,
) -> RunConfig:
    """Add what :func:`configure` left open.

    Args:
        config: what it returned.
        dataset: to learn from.
        options: the user's wishes.
        there: the run's configuration, if it has begun: what was measured then is not again.
        cache: see :func:`imasks.data.checksum.checksum`.
    """
    expected = None if there is None else there.checksum
    config = replace(config, checksum=checksum(dataset, cache, expected=expected))
    begun = None
    if there is not None:
        # other threads sum in another order: the run stays with what it began with
        if options.threads is None:
            config = replace(config, threads=there.threads)
        begun = there.networks
    else:
        check_networks(config.networks, size=config.preparation.size, batch=config.how.recipe.batch)
    config = replace(config, networks=with_weights(config.networks, options, begun))
    if options.precision != "auto":
        return config
    measured = _fastest(config) if there is None else there.how.recipe.precision
    return _with_precision(config, measured)


def check_needs(dataset: Dataset, name: str) -> None:
    """Make sure that a data set has the images an approach learns from.

    Raises:
        UserError: it has not.
    """
    approach, unlabeled = find_approach(name), dataset.splits["unlabeled"]
    if (approach.start or approach.needs_truth) and not unlabeled:
        raise UserError(
            f"{name} needs unlabeled images",
            value=f"none in {dataset.folder / 'unlabeled' / 'images'}",
            remedy="Put some there, or use --approach ALDT, which learns from labeled images only.",
        )
    without = [sample.name for sample in unlabeled if not sample.masks]
    if approach.needs_truth and without:
        raise UserError(
            f"{name} needs the true masks of all unlabeled images in unlabeled/masks",
            value=f"{len(without)} of {len(unlabeled)} have none, {without[0]} for one",
            remedy="It is a yardstick for data sets that are labeled already; leave it out.",
        )


def asked_for(dataset: Dataset, names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Resolve "all" among names to all approaches that a data set has the images for.

    Returns:
        The names, as they are but for "all"; and those that it leaves out, with the reason.
    """
    found: list[str] = []
    lacking = {}
    for asked in names:
        if asked.strip().lower() != ALL:
            found.append(asked)
            continue
        for name in APPROACHES:
            try:
                check_needs(dataset, name)
                found.append(name)
            except UserError as error:
                lacking[name] = error.what
    return found, lacking


def workers_for(options: Options, how: Preset, device: str) -> int:
    """Processes to work with: on the CPU as many as cores or candidates, on a GPU one."""
    if options.workers is not None:
        return options.workers
    if device != "cpu":
        return 1
    return min(cores(), max(how.candidates, how.start_candidates))


def _threads(options: Options, workers: int) -> int:
    if options.threads is not None:
        return options.threads
    most = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    share = max(1, cores() // workers)
    return min(share, int(most)) if most.isdecimal() and int(most) else share


def find_device(asked: str) -> str:
    """Resolve "auto", and refuse a device this machine has not."""
    available = ["cpu"]
    if torch.cuda.is_available():
        available.append("cuda")
    if asked == "auto":
        return "cuda" if "cuda" in available else "cpu"
    if asked not in available:
        raise UserError(
            "this machine has no such device", value=asked, remedy=f"Use {' or '.join(available)}."
        )
    return asked


def _preset(options: Options, *, others: bool) -> Preset:
    preset = PRESETS.get(options.preset)
    if preset is None:
        raise UserError(
            "there is no such preset", value=options.preset, remedy=f"Use {' or '.join(PRESETS)}."
        )
    if options.quick:
        preset = replace(
            preset,
            recipe=replace(preset.recipe, steps=200, evaluations=10),
            grader=replace(preset.grader, steps=200, evaluations=10),
            start_candidates=2,
            candidates=2,
            generations=1,
            models=2,
            graders=1,
        )
    precision = _choice("precision", options.precision, ("auto", *get_args(Precision)))
    numeric = _given(precision=None if precision == "auto" else precision)
    rate = options.learning_rate
    if rate is None and others:
        rate = OTHER_RATE
    asked = _given(
        steps=options.steps,
        batch=options.batch,
        learning_rate=rate,
        select=_choice("keep", options.keep, ("last", "score")),
    )
    if options.epochs is not None:
        if options.steps is not None:
            raise UserError(
                "a training is as long as --steps or as --epochs says, not both",
                value=f"steps = {options.steps}, epochs = {options.epochs}",
                remedy="Leave one of them out.",
            )
        asked |= {"steps": None, "min_steps": 1, "epochs": options.epochs}
    recipe = replace(preset.recipe, **asked, **numeric)
    grader = replace(preset.grader, **_given(steps=options.steps), **numeric)
    policy = replace(
        preset.policy,
        **_given(
            input=_choice("im_input", options.im_input, get_args(InputPolicy)),
            label=_choice("im_label", options.im_label, get_args(LabelPolicy)),
            filter=options.filter,
            morphology=replace(
                preset.policy.morphology,
                **_given(erode=options.im_erode, dilate=options.im_dilate),
            ),
        ),
    )
    changes = _given(
        models=options.models,
        budget=_choice("budget", options.budget, get_args(Budget)),
        sampling=_choice("sampling", options.sampling, get_args(Sampling)),
        class_weights=_choice("class_weights", options.class_weights, get_args(ClassWeights)),
        views=options.views,
        graders=options.graders,
        quality=options.quality,
        thresholds=_choice("thresholds", options.thresholds, get_args(Thresholds)),
        generations=options.generations,
        warm_start=options.warm_start,
        candidates=options.candidates,
        start_candidates=options.candidates
        if options.start_candidates is None
        else options.start_candidates,
    )
    return replace(preset, recipe=recipe, grader=grader, policy=policy, **changes)


def _ladder(dataset: Dataset, options: Options, how: Preset, preparation: Preparation) -> Ladder:
    asked_for = (options.ladder, dataset.card.ladder, DEFAULT_LADDER[dataset.card.task])
    name = next(one for one in asked_for if one is not None)
    ladder = LADDERS.get(name)
    if ladder is None:
        raise UserError("there is no such ladder", value=name, remedy=f"Use {', '.join(LADDERS)}.")
    if how.meant_for is not None and preparation.fit != "tile":  # tiles show the images' own pixels
        ladder = ladder.for_pixels(min(preparation.size), meant=how.meant_for)
    asked = dataset.card.width if options.width is None else options.width
    ladder = ladder if asked is None else replace(ladder, width=float(asked))
    free = dataset.card.free_rotation
    if free is None:
        return ladder
    return replace(
        ladder,
        augmented=replace(ladder.augmented, free_rotation=free),
        noise=tuple(replace(step, free_rotation=free) for step in ladder.noise),
        views=tuple(
            replace(view, free_rotation=free) if view.flip else view for view in ladder.views
        ),
    )


def _fastest(config: RunConfig) -> Precision:
    """Measure which precision this machine trains faster with."""
    task = config.make_task()
    unet = UNetConfig(
        in_channels=config.preparation.channels,
        outputs=task.outputs,
        width=config.ladder.width,
    )
    others = [one for one in config.networks if not isinstance(one, UNetConfig)]
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        return choose_precision(
            others[0] if others else unet,
            task,
            config.how.recipe,
            size=config.preparation.size,
            device=torch.device(config.device),
        )
    finally:
        torch.set_num_threads(before)


def _with_precision(config: RunConfig, precision: Precision) -> RunConfig:
    how = config.how
    recipe = replace(how.recipe, precision=precision)
    grader = replace(how.grader, precision=precision)
    return replace(config, how=replace(how, recipe=recipe, grader=grader))


def _choice(name: str, value: str | None, allowed: Sequence[str]) -> str | None:
    if value is not None and value not in allowed:
        raise UserError(f"{name} is not known", value=value, remedy=f"Use {' or '.join(allowed)}.")
    return value


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
