"""How fast this machine trains: measured, for choices and estimates."""

from __future__ import annotations

import time

import torch

from imasks.models.unet import UNetConfig, make_unet
from imasks.tasks import Task
from imasks.training.fit import make_optimiser
from imasks.training.predict import autocast
from imasks.training.recipe import Precision, Recipe


def seconds_per_step(
    config: UNetConfig,
    task: Task,
    recipe: Recipe,
    *,
    size: tuple[int, int],
    device: torch.device,
    precision: Precision,
    steps: int = 4,
) -> float:
    """Time training steps on random images, without augmentation; the fastest of a few."""
    network = make_unet(config, device).train()
    optimiser = make_optimiser(network, recipe)
    shape = (recipe.batch, config.in_channels, *size)
    images = torch.rand(shape, device=device).contiguous(memory_format=torch.channels_last) * 255
    labels = torch.zeros(recipe.batch, task.planes, *size, dtype=torch.uint8, device=device)
    seconds = []
    for _ in range(steps + 1):  # the first one warms up
        begin = time.perf_counter()
        with autocast(device, precision):
            logits = network(images)
        loss = task.loss(logits, labels, kind=recipe.loss)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])


def choose_precision(
    config: UNetConfig,
    task: Task,
    recipe: Recipe,
    *,
    size: tuple[int, int],
    device: torch.device,
) -> Precision:
    """Take bfloat16 where this machine trains at least a tenth faster with it than in float32."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        return "float32"
    full, half = (
        seconds_per_step(config, task, recipe, size=size, device=device, precision=precision)
        for precision in ("float32", "bfloat16")
    )
    return "bfloat16" if half < 0.9 * full else "float32"
