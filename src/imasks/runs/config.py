"""The resolved configuration of a run: everything that its numbers depend on, in `run.toml`."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import tomli_w
import torch

from imasks.approaches.recipes import Ladder, Policy, Preset
from imasks.data.augment import Augmentation
from imasks.data.prepare import Preparation
from imasks.errors import UserError
from imasks.jobs import write_atomic
from imasks.labelling.agree import Morphology
from imasks.tasks import Task, make_task
from imasks.training.recipe import Recipe

FILE = "run.toml"
_GROWS = ("approaches", "seeds")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What a run computes, on which data, and how this machine computes it.

    Args:
        data: the data folder; only where to find it, the checksum says what it is.
        checksum: of every file of the data set and its card.
        task: name of the task.
        classes: class names.
        colors: "#rrggbb" of each class, or empty.
        preparation: how images become arrays.
        images: how many there are in each split.
        val_cut: images taken from labeled/ for validation, as there is no val/.
        approaches: names.
        seeds: one independent run each.
        preset: the name of the preset that ``how`` began as.
        how: the preset after the user's changes.
        ladder: noise and widths.
        device: "cpu", "cuda" or "mps".
        threads: of each process on the CPU; sums in another order give other last digits.
    """

    data: str
    checksum: str
    task: str
    classes: tuple[str, ...]
    colors: tuple[str, ...]
    preparation: Preparation
    images: Mapping[str, int]
    val_cut: tuple[str, ...]
    approaches: tuple[str, ...]
    seeds: tuple[int, ...]
    preset: str
    how: Preset
    ladder: Ladder
    device: str
    threads: int

    def make_task(self) -> Task:
        """Build the task."""
        return make_task(self.task, self.classes)

    def to_json(self) -> dict[str, Any]:
        """Return plain dictionaries, lists, numbers and strings; None is left out."""
        plain = json.loads(json.dumps(asdict(self)))
        return cast("dict[str, Any]", _without_none(plain))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunConfig:
        """Rebuild from what :meth:`to_json` gave."""
        known = {f.name for f in fields(cls)}
        plain = {k: v for k, v in values.items() if k in known}
        prep = {"levels": None, **plain.pop("preparation")}
        return cls(
            **{
                **plain,
                "classes": tuple(plain["classes"]),
                "colors": tuple(plain["colors"]),
                "val_cut": tuple(plain["val_cut"]),
                "approaches": tuple(plain["approaches"]),
                "seeds": tuple(plain["seeds"]),
                "preparation": Preparation.from_json(prep),
                "how": _preset(plain["how"]),
                "ladder": _ladder(plain["ladder"]),
            }
        )


def write_config(folder: Path, config: RunConfig) -> None:
    """Write ``run.toml``, with the versions that made it."""
    versions = {
        "imasks": importlib.metadata.version("imasks"),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    text = tomli_w.dumps({**config.to_json(), "versions": versions})
    head = "# What this run computes. Resuming needs it unchanged; see the documentation.\n\n"
    write_atomic(folder / FILE, (head + text).encode())


def read_config(folder: Path) -> RunConfig:
    """Read ``run.toml``.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = folder / FILE
    if not path.exists():
        raise UserError(
            f"{folder} is no run folder: {path.name} is missing",
            remedy="Give the folder named by --out when the run was started.",
        )
    try:
        return RunConfig.from_json(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read", value=error, remedy="Restore it, or start a new run folder."
        ) from error


def agree_with_folder(folder: Path, wanted: RunConfig, *, may_grow: bool) -> RunConfig:
    """Write a new run's configuration, or check it against the one that is there.

    Args:
        folder: of the run.
        wanted: what the user asks for now.
        may_grow: approaches and seeds may be added to those that are there.

    Returns:
        The configuration of the folder from now on.

    Raises:
        UserError: the folder holds a run of another configuration; it names the differences.
    """
    if not (folder / FILE).exists():
        write_config(folder, wanted)
        return wanted
    there = read_config(folder)
    if may_grow:
        wanted = replace(
            wanted,
            approaches=tuple(dict.fromkeys((*there.approaches, *wanted.approaches))),
            seeds=tuple(dict.fromkeys((*there.seeds, *wanted.seeds))),
        )
    changed = differences(there.to_json(), wanted.to_json())
    grown = [c for c in changed if may_grow and c.split(":")[0] in _GROWS]
    # the folder may move; what is in it is told by the checksum
    moved = [c for c in changed if c.startswith("data:")]
    if serious := [c for c in changed if c not in grown and c not in moved]:
        raise UserError(
            f"{folder} holds a run of another configuration",
            value="; ".join(serious),
            remedy="Give the options of that run again, or another --out.",
        )
    if changed:
        write_config(folder, wanted)
    return wanted


def differences(there: Mapping[str, Any], wanted: Mapping[str, Any], at: str = "") -> list[str]:
    """Name what differs between two configurations, as "key: old -> new"."""
    found = []
    for key in dict.fromkeys((*there, *wanted)):
        old, new = there.get(key), wanted.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{at}{key}.")
        elif old != new:
            found.append(f"{at}{key}: {_show(old)} -> {_show(new)}")
    return found


def _show(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) if len(value) <= 6 else f"{len(value)} entries"
    return str(value)


def _without_none(value: object) -> object:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, list) else value


def _preset(values: dict[str, Any]) -> Preset:
    policy = values["policy"]
    return Preset(
        **{
            **values,
            "recipe": Recipe(**values["recipe"]),
            "policy": Policy(**{**policy, "morphology": Morphology(**policy["morphology"])}),
        }
    )


def _ladder(values: dict[str, Any]) -> Ladder:
    return Ladder(
        augmented=Augmentation(**values["augmented"]),
        noise=tuple(Augmentation(**step) for step in values["noise"]),
        width=values["width"],
        growth=tuple(values["growth"]),
    )
