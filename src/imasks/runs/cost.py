"""What jobs are expected to cost, for progress and estimates; no result depends on it.

The unit is training on one image of 256 x 256 pixels with a U-Net of width 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imasks.approaches.generation import Source, repeats
from imasks.jobs import Job
from imasks.models.networks import NetworkConfig, from_record
from imasks.models.unet import UNetConfig
from imasks.runs.config import RunConfig

OTHER = 2.0  # networks that are no U-Net, in widths of one: a guess, as they differ a lot
EVALNET = 0.7  # of a U-Net of the same width, measured
FORWARD = 1 / 3  # of a training step
COPIES = 3  # of 1 to 5: what a judged pair is expected to be shown
FEW_TIMES = 10  # that an image is seen: below, full supervision was measured below its start


def training(width: float, config: RunConfig) -> float:
    """Cost of training a U-Net on one image.

    Small networks are bound by memory traffic, which grows with the width, not with its square.
    """
    H, W = config.preparation.size
    return width * H * W / 256**2


def of_network(network: NetworkConfig, config: RunConfig) -> float:
    """Cost of training a network on one image."""
    return training(network.width if isinstance(network, UNetConfig) else OTHER, config)


def grading(config: RunConfig) -> float:
    """Cost of training an EvalNet on one pair."""
    return EVALNET * training(config.how.grader_width * config.ladder.width, config)


def pairs_of(wanted: Sequence[Source], images: Mapping[str, int]) -> int:
    """Pairs of a training set, if no image is filtered out."""
    split = {"labeled": "labeled", "full": "unlabeled", "pseudo": "unlabeled"}
    counts = [
        images[split[source.pairs]] * max(1, source.frozen) * (COPIES if source.graded else 1)
        for source in wanted
    ]
    return sum(
        count * repeats(count, sum(counts) - count, source.least)
        for count, source in zip(counts, wanted, strict=True)
    )


def steps_of(job: Job, config: RunConfig) -> float:
    """Optimiser steps of a job that trains; a step that takes twice as long counts as two."""
    p: Any = job.params
    if job.kind == "grader":
        image = EVALNET * training(p["network"]["width"], config)
    else:
        image = of_network(from_record(p["network"]), config)
    return float(job.weight / (image * p["recipe"]["batch"]))


def times_seen(config: RunConfig) -> float | None:
    """How often an image is shown to a network that learns from all, labeled and unlabeled.

    None where a recipe counts epochs, or there are no images.
    """
    recipe = config.how.recipe
    images = config.images["labeled"] + config.images["unlabeled"]
    if recipe.steps is None or not images:
        return None
    return recipe.steps * recipe.batch / images
