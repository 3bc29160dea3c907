"""Networks over many images of the training size, chunk by chunk, in flat memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from imasks.tasks import Task
from imasks.training.recipe import Precision

CHUNK = 64
IN_CACHE = 2**18  # pixels that a processor takes through a network at once; more wait for memory


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context in which networks run at this precision."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def images_on(device: torch.device, images: np.ndarray) -> Tensor:
    """Bring uint8 [N, H, W, C] to the device as float32 [N, C, H, W], channels last in memory."""
    return torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float()


def chunks_on(
    device: torch.device, images: np.ndarray, *, chunk: int = CHUNK
) -> Iterator[tuple[slice, Tensor]]:
    """Bring one chunk after another to the device, see :func:`images_on`."""
    for start in range(0, len(images), chunk):
        rows = slice(start, min(start + chunk, len(images)))
        yield rows, images_on(device, images[rows])


@torch.inference_mode()
def logits_of(networks: Sequence[nn.Module], images: Tensor, precision: Precision) -> list[Tensor]:
    """Return the logits [n, C, H, W] of each network for images on the device."""
    with autocast(images.device, precision):
        return [in_parts(network, images) for network in networks]


def in_parts(network: nn.Module, *inputs: Tensor) -> Tensor:
    """Ask a network about inputs [n, C, H, W], on a processor as many at once as stay in cache."""
    if inputs[0].device.type != "cpu":
        answer: Tensor = network(*inputs)
        return answer
    height, width = inputs[0].shape[-2:]
    count = max(1, IN_CACHE // (height * width))
    parts = zip(*(torch.split(one, count) for one in inputs), strict=True)
    return torch.cat([network(*part) for part in parts])


@torch.inference_mode()
def votes_of(
    networks: Sequence[nn.Module],
    images: Tensor,
    task: Task,
    *,
    precision: Precision = "float32",
    reserved: bool = True,
) -> Tensor:
    """Return the discrete predictions uint8 [E, n, P, H, W] of images on the device."""
    found = [task.probabilities(one) for one in logits_of(networks, images, precision)]
    return torch.stack([task.discrete(one, reserved=reserved) for one in found])


@torch.inference_mode()
def outputs(
    networks: Sequence[nn.Module],
    images: np.ndarray,
    *,
    device: torch.device,
    precision: Precision = "float32",
    chunk: int = CHUNK,
) -> Iterator[tuple[slice, list[Tensor]]]:
    """Yield the logits [n, C, H, W] of each network for one chunk after another.

    Args:
        networks: E networks in evaluation mode, on the device.
        images: uint8 [N, H, W, C], may be memory-mapped.
        device: where the networks lie.
        precision: of the convolutions.
        chunk: images at once.
    """
    for rows, shown in chunks_on(device, images, chunk=chunk):
        yield rows, logits_of(networks, shown, precision)


@torch.inference_mode()
def probabilities(
    networks: Sequence[nn.Module],
    images: np.ndarray,
    task: Task,
    *,
    device: torch.device,
    precision: Precision = "float32",
    chunk: int = CHUNK,
) -> Iterator[tuple[slice, Tensor]]:
    """Yield float32 probabilities [E, n, C, H, W] of all networks for one chunk after another.

    Arguments are those of :func:`outputs`; ``task`` turns logits into probabilities.
    """
    for rows, logits in outputs(networks, images, device=device, precision=precision, chunk=chunk):
        yield rows, torch.stack([task.probabilities(one) for one in logits])


def votes(
    networks: Sequence[nn.Module],
    images: np.ndarray,
    task: Task,
    *,
    device: torch.device,
    precision: Precision = "float32",
    reserved: bool = True,
) -> Iterator[tuple[slice, Tensor]]:
    """Yield discrete predictions uint8 [E, n, P, H, W] for one chunk after another.

    ``reserved`` lets multiclass networks answer with the index of the inconsistency mask.
    """
    for rows, shown in chunks_on(device, images):
        yield rows, votes_of(networks, shown, task, precision=precision, reserved=reserved)
