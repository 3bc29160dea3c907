"""The resolved configuration of a run: everything that its numbers depend on, in `run.toml`."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import tomli_w
import torch

from imasks.approaches.ladders import Ladder
from imasks.approaches.presets import Policy, Preset
from imasks.data.augment import Augmentation
from imasks.data.folder import Review
from imasks.data.prepare import Preparation
from imasks.encoding import RESERVED
from imasks.errors import UserError
from imasks.jobs import write_atomic
from imasks.kernels import kernels
from imasks.labelling.agree import Morphology
from imasks.models.encoded import EncodedConfig
from imasks.models.networks import NetworkConfig, from_record, kind_of, to_record
from imasks.tasks import Task, make_task
from imasks.training.recipe import Recipe

FILE = "run.toml"
LIBRARIES = ("segmentation-models-pytorch", "timm")  # where encoders come from


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What a run computes, on which data, and how this machine computes it.

    Args:
        data: the data folder; only where to find it, the checksum says what it is.
        checksum: of every file of the data set and its card.
        task: name of the task.
        classes: class names.
        colors: "#rrggbb" of each class, or empty.
        name: what tables and figures call the data set; empty in older runs.
        ignore: the value of void pixels in mask files, for who reads more of them; None: none.
        points: classes that mark places.
        weights: of the classes in the loss, or empty.
        scored: classes of the field's own evaluation, or empty.
        preparation: how images become arrays.
        images: how many there are in each split.
        val_cut: images taken from labeled/ for validation, as there is no val/.
        approaches: names.
        seeds: one independent run each.
        preset: the name of the preset that ``how`` began as.
        how: the preset after the user's changes.
        ladder: noise and widths.
        device: "cpu" or "cuda".
        threads: of each process on the CPU; sums in another order give other last digits.
        review: the decisions of a person that the run learns from, kept in its folder; None: none.
        networks: what the candidates are, in turn; none: all are U-Nets. How wide a U-Net is, the
            ladder says.
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
    review: Review | None = None
    networks: tuple[NetworkConfig, ...] = ()
    name: str = ""
    ignore: int | None = None
    points: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    scored: tuple[str, ...] = ()

    def make_task(self) -> Task:
        """Build the task."""
        return make_task(**self.task_json())

    def task_json(self) -> dict[str, Any]:
        """Return all that the task is made of, for jobs; what is not said is left out."""
        more = {"points": self.points, "weights": self.weights, "scored": self.scored}
        said = {key: list(value) for key, value in more.items() if value}
        return {"name": self.task, "classes": list(self.classes), **said}

    @property
    def title(self) -> str:
        """What tables and figures call the data set."""
        return self.name or Path(self.data).name

    @property
    def budget(self) -> str:
        """How long networks are trained, in words: by what runs of the same data may differ."""
        recipe = self.how.recipe
        if recipe.steps is None:
            least = f", at least {recipe.min_steps:,} steps" if recipe.min_steps > 1 else ""
            return f"{recipe.epochs} epochs a network{least}"
        if self.how.budget == "equal-steps":
            return f"equal steps an approach, {recipe.steps:,} a generation"
        return f"{recipe.steps:,} steps a network"

    def to_json(self) -> dict[str, Any]:
        """Return plain dictionaries, lists, numbers and strings; None is left out."""
        plain = json.loads(json.dumps(asdict(self)))
        del plain["networks"]
        if self.networks:  # U-Nets alone are not named: they were there before there were others
            records = [{"kind": kind_of(one), **to_record(one)} for one in self.networks]
            plain["networks"] = json.loads(json.dumps(records))
        return cast("dict[str, Any]", _without_none(plain))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunConfig:
        """Rebuild from what :meth:`to_json` gave."""
        known = {f.name for f in fields(cls)}
        plain = {k: v for k, v in values.items() if k in known}
        prep = {"levels": None, **plain.pop("preparation")}
        review = plain.pop("review", None)
        return cls(
            **{
                **plain,
                "classes": tuple(plain["classes"]),
                "colors": tuple(plain["colors"]),
                **_tuples(plain, "points", "weights", "scored"),
                "val_cut": tuple(plain["val_cut"]),
                "approaches": tuple(plain["approaches"]),
                "seeds": tuple(plain["seeds"]),
                "preparation": Preparation.from_json(prep),
                "how": _preset(plain["how"]),
                "ladder": _ladder(plain["ladder"]),
                "review": None if review is None else _review(review),
                "networks": tuple(map(from_record, plain.get("networks", ()))),
            }
        )


def write_config(
    folder: Path,
    config: RunConfig,
    *,
    versions: Mapping[str, str] | None = None,
    asked: Mapping[str, Any] | None = None,
) -> None:
    """Write ``run.toml``.

    Args:
        folder: of the run.
        config: what it computes.
        versions: that the run began with; by default those of now.
        asked: the options that led to the configuration, as far as they differ from the defaults;
            nothing is computed from them, they only say how to give the command again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoded = any(isinstance(one, EncodedConfig) for one in config.networks)
    versions = versions or versions_now(LIBRARIES if encoded else ())
    about: dict[str, Any] = {"reserved_index": RESERVED} if config.task == "multiclass" else {}
    about["versions"] = dict(versions)
    if asked is not None:
        about["asked"] = dict(asked)
    text = tomli_w.dumps({**config.to_json(), **about})
    head = "# What this run computes. Resuming needs it unchanged; see the documentation.\n\n"
    write_atomic(folder / FILE, (head + text).encode())


def versions_now(libraries: Iterable[str] = ()) -> dict[str, str]:
    """Versions of what the numbers of a run depend on.

    Args:
        libraries: what they depend on beside torch, left out where it is not installed.
    """
    found = {}
    for name in libraries:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return {
        **found,
        "imasks": importlib.metadata.version("imasks"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "kernels": kernels(),
    }


def read_versions(folder: Path) -> dict[str, str]:
    """Read the versions that a run began with.

    Raises:
        UserError: there is no ``run.toml``, or it is damaged.
    """
    return {k: str(v) for k, v in _read(folder).get("versions", {}).items()}


def read_asked(folder: Path) -> dict[str, Any] | None:
    """Read the options that a run was asked for; None if they were not noted.

    Raises:
        UserError: there is no ``run.toml``, or it is damaged.
    """
    asked = _read(folder).get("asked")
    return asked if isinstance(asked, dict) else None


def changed_versions(folder: Path) -> list[str]:
    """Name what has another version than when the run began, as "torch: 2.11.0 -> 2.12.0".

    Python's own version is only noted: it computes nothing of a training.

    Raises:
        UserError: there is no ``run.toml``, or it is damaged.
    """
    there = {k: v for k, v in read_versions(folder).items() if k != "python"}
    now = versions_now(name for name in LIBRARIES if name in there)
    return differences(there, {k: now.get(k) for k in there})


def read_config(folder: Path) -> RunConfig:
    """Read ``run.toml``.

    Raises:
        UserError: there is none, or it is damaged.
    """
    values = _read(folder)
    try:
        return RunConfig.from_json(values)
    except (KeyError, TypeError) as error:
        raise _unreadable(folder / FILE, error) from error


def _read(folder: Path) -> dict[str, Any]:
    path = folder / FILE
    if not path.exists():
        raise UserError(
            f"{folder} is no run folder: {path.name} is missing",
            remedy="Give the folder named by --out when the run was started.",
        )
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path} cannot be read", value=error, remedy="Restore it, or start a new run folder."
    )


def agree(
    there: RunConfig, wanted: RunConfig, *, folder: Path, may_grow: bool = False
) -> RunConfig:
    """Check what is asked for now against the configuration of a run that has begun.

    Args:
        there: the run's.
        wanted: what the user asks for now.
        folder: of the run, for the error.
        may_grow: approaches and seeds may be added to those that are there.

    Returns:
        The run's configuration from now on: ``there`` with what was added, and with the data's
        place, name, colours and void value, which no number depends on (a void value that changes
        masks changes the checksum). The rest is not taken from ``wanted``, as 1
        and 1.0 are equal but name different jobs.

    Raises:
        UserError: the two differ; it names the differences.
    """
    free = ("data", "name", "colors", "ignore")
    allowed: dict[str, Any] = {key: getattr(wanted, key) for key in free}
    if may_grow:
        allowed["approaches"] = tuple(dict.fromkeys((*there.approaches, *wanted.approaches)))
        allowed["seeds"] = tuple(dict.fromkeys((*there.seeds, *wanted.seeds)))
    changed = differences(there.to_json(), replace(wanted, **allowed).to_json())
    if serious := [c for c in changed if c.split(":")[0] not in allowed]:
        raise UserError(
            f"{folder} holds a run of another configuration",
            value="; ".join(serious),
            remedy="Give the options of that run again, or another --out.",
        )
    return replace(there, **allowed)


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


def _tuples(values: Mapping[str, Any], *names: str) -> dict[str, tuple[Any, ...]]:
    """What older runs do not hold is left to its default."""
    return {name: tuple(values[name]) for name in names if name in values}


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
            "grader": Recipe(**values["grader"]),
            "loops": tuple(values["loops"]),
            "policy": Policy(**{**policy, "morphology": Morphology(**policy["morphology"])}),
        }
    )


def _review(values: dict[str, Any]) -> Review:
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Review(**plain)


def _ladder(values: dict[str, Any]) -> Ladder:
    return Ladder(
        augmented=Augmentation(**values["augmented"]),
        noise=tuple(Augmentation(**step) for step in values["noise"]),
        views=tuple(Augmentation(**view) for view in values["views"]),
        width=values["width"],
        growth=tuple(values["growth"]),
        thresholds=tuple(values["thresholds"]),
        keep_at=values["keep_at"],
    )
