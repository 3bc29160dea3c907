"""How fast this machine trains: measured, for choices and estimates."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from imasks.models.evalnet import EvalNetConfig, make_evalnet
from imasks.models.networks import NetworkConfig, make_network
from imasks.tasks import Task
from imasks.training.descent import Descent
from imasks.training.grading import grading_loss
from imasks.training.predict import autocast
from imasks.training.recipe import Precision, Recipe

FEWEST, MOST = 5, 20  # steps that are timed to choose a precision, the first of which warms up,
ENOUGH = 0.5  # and seconds after which no further one is begun
COARSE = 1e-3  # seconds that a clock may be off by
PIXELS = 2 * 256**2  # of the images that are timed on a processor: enough to leave the caches


def timed_images(recipe: Recipe, *, size: tuple[int, int], device: torch.device) -> int:
    """Say how many images of a batch are timed: on a processor, part of one of large images."""
    if device.type != "cpu":
        return recipe.batch
    return min(recipe.batch, max(1, PIXELS // math.prod(size)))


def seconds_per_step(
    config: NetworkConfig | EvalNetConfig,
    task: Task,
    recipe: Recipe,
    *,
    size: tuple[int, int],
    device: torch.device,
    precision: Precision,
    steps: int = 4,
    patience: float = math.inf,
) -> float:
    """Time training steps on random images, without augmentation; the fastest of a few.

    Where only a part of a batch is timed, see `timed_images`, the whole takes as much longer as it
    has more images.

    Args:
        config: the network's.
        task: its task.
        recipe: how it is trained.
        size: (height, width) of the images.
        device: where.
        precision: in which.
        steps: how many are timed.
        patience: seconds after which no further step is begun; one is always timed.
    """
    part = timed_images(recipe, size=size, device=device)
    step = _step(config, task, recipe, (part, config.in_channels, *size), device, precision)
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) <= steps and sum(seconds) < patience):
        begin = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:]) * recipe.batch / part  # the first one warms up


def _step(
    config: NetworkConfig | EvalNetConfig,
    task: Task,
    recipe: Recipe,
    shape: tuple[int, int, int, int],
    device: torch.device,
    precision: Precision,
) -> Callable[[], None]:
    """Return a function that trains on the same random images, of this shape, again and again."""
    images = _random(shape, device) * 255
    if isinstance(config, EvalNetConfig):
        network, loss = _evalnet(config, images)
    else:
        network, loss = _segmenter(config, task, recipe, images)
    descent = Descent(network.train(), recipe)

    def step() -> None:
        with autocast(device, precision):
            value = loss()
        descent.step(value, rate=recipe.learning_rate)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return step


def _segmenter(
    config: NetworkConfig, task: Task, recipe: Recipe, images: Tensor
) -> tuple[nn.Module, Callable[[], Tensor]]:
    network = make_network(config, images.device)
    shape = (len(images), task.planes, *images.shape[2:])
    labels = torch.zeros(shape, dtype=torch.uint8, device=images.device)
    return network, lambda: task.loss(network(images), labels, kind=recipe.loss)


def _evalnet(config: EvalNetConfig, images: Tensor) -> tuple[nn.Module, Callable[[], Tensor]]:
    network = make_evalnet(config, images.device)
    masks = _random((len(images), config.mask_channels, *images.shape[2:]), images.device)
    targets = torch.zeros(len(images), 1 + config.detection, config.classes, device=images.device)
    return network, lambda: grading_loss(network(images, masks), targets)


def _random(shape: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.rand(shape, device=device).contiguous(memory_format=torch.channels_last)


def choose_precision(
    config: NetworkConfig,
    task: Task,
    recipe: Recipe,
    *,
    size: tuple[int, int],
    device: torch.device,
) -> Precision:
    """Take bfloat16 where this machine trains at least a tenth faster with it than in float32.

    Both are timed in turns, on a processor by the time that it works for this process: other
    programs may be running.
    """
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        return "float32"
    shape = (timed_images(recipe, size=size, device=device), config.in_channels, *size)
    fine = time.get_clock_info("process_time").resolution < COARSE  # not so on all systems
    clock = time.process_time if device.type == "cpu" and fine else time.perf_counter
    candidates: tuple[Precision, ...] = ("float32", "bfloat16")
    steps = [_step(config, task, recipe, shape, device, one) for one in candidates]
    seconds: list[list[float]] = [[], []]
    while len(seconds[0]) < FEWEST or (len(seconds[0]) < MOST and sum(map(sum, seconds)) < ENOUGH):
        for step, found in zip(steps, seconds, strict=True):
            begin = clock()
            step()
            found.append(clock() - begin)
    full, half = (min(found[1:]) for found in seconds)  # the first one warms up
    return "bfloat16" if half < 0.9 * full else "float32"
