"""Weights on disk: safetensors beside a readable configuration. Nothing is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from imasks.errors import UserError
from imasks.jobs import write_atomic
from imasks.models.evalnet import EvalNet, EvalNetConfig
from imasks.models.networks import KINDS, NetworkConfig, build, kind_of


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, object]) -> None:
    """Write tensors and JSON-able facts about them to one safetensors file, atomically."""
    dense = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, save(dense, metadata={"about": json.dumps(about)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Read what :func:`save_tensors` wrote.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise UserError(
            f"{path} cannot be read as a safetensors file",
            value=error,
            remedy="Delete the job folder that holds it and run the same command again.",
        ) from error


def save_network(folder: Path, network: nn.Module) -> None:
    """Write ``weights.safetensors`` and, beside it, ``network.json``.

    Args:
        folder: where they go.
        network: an EvalNet, or what :func:`imasks.models.networks.make_network` built.
    """
    save_tensors(folder / "weights.safetensors", network.state_dict(), {})
    made_of = cast("NetworkConfig | EvalNetConfig", network.config)
    kind = "evalnet" if isinstance(made_of, EvalNetConfig) else kind_of(made_of)
    config = {"network": kind, **asdict(made_of)}
    write_atomic(folder / "network.json", (json.dumps(config, indent=2) + "\n").encode())


def load_network(folder: Path) -> nn.Module:
    """Build the network that :func:`save_network` wrote, in evaluation mode, on the CPU.

    Raises:
        UserError: a file is missing or damaged, they do not fit each other, or what the network
            is made of is not installed.
    """
    path = folder / "network.json"
    try:
        config = json.loads(path.read_text())
        network = _build(config.pop("network"), config)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read", value=error, remedy="Train again or restore the file."
        ) from error
    tensors, _ = load_tensors(folder / "weights.safetensors")
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(
            f"{folder / 'weights.safetensors'} does not fit {path.name}",
            value=error,
            remedy="Restore the pair of files from one training run.",
        ) from error
    return network.eval()


def _build(kind: str, config: dict[str, Any]) -> nn.Module:
    if kind == "evalnet":
        return EvalNet(EvalNetConfig(**config))
    return build(KINDS[kind](**config))
