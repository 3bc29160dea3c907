"""What an exported model says about itself, so that the file alone suffices.

Needs no torch: this is what the file's reader knows of tasks and images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from imasks.data.prepare import Preparation
from imasks.encoding import TaskName
from imasks.errors import UserError

FORMAT = 1
INPUT = "images"
OUTPUTS = ("labels", "inconsistency", "probabilities", "members")
QUALITY, CLASS_QUALITY = "quality", "class_quality"
PREFIX = "imasks."


@dataclass(frozen=True, kw_only=True)
class About:
    """An exported model's own description.

    Args:
        task: binary, multiclass or multilabel.
        classes: class names.
        colors: "#rrggbb" of each, or empty for the default colours.
        primary: the score that quality is about.
        im_index: the network output that is reserved for the inconsistency mask; None: there is
            none. It is never among the labels.
        preparation: which images the networks saw, and how.
        networks: how many vote.
        outputs: names of the graph's outputs.
        approach: that trained them.
        seed: of it.
        generation: 0 is the supervised start.
        val: the validation score of the networks together; None if they have none.
        version: of imasks that wrote the file.
    """

    task: TaskName
    classes: tuple[str, ...]
    colors: tuple[str, ...]
    primary: str
    im_index: int | None
    preparation: Preparation
    networks: int
    outputs: tuple[str, ...]
    approach: str
    seed: int
    generation: int
    val: float | None
    version: str

    @property
    def name(self) -> TaskName:
        """The task, as :class:`imasks.runs.deciding.Meaning` wants it."""
        return self.task

    @property
    def judged(self) -> bool:
        """Whether the model predicts the quality of its masks."""
        return QUALITY in self.outputs

    @property
    def detects(self) -> bool:
        """Whether it does so for single classes."""
        return CLASS_QUALITY in self.outputs

    @property
    def counted(self) -> tuple[str, ...]:
        """What is counted in a mask: nothing, as this needs the run's own task."""
        return ()

    def __str__(self) -> str:
        networks = "1 network" if self.networks == 1 else f"{self.networks} networks"
        return f"{self.approach}, seed {self.seed}, generation {self.generation}: {networks}"

    def to_json(self) -> dict[str, Any]:
        """Return plain dictionaries, lists, numbers and strings."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {"format": FORMAT, **plain}

    def to_metadata(self) -> dict[str, str]:
        """Return what is written into a model file: one JSON text for every field."""
        return {PREFIX + key: json.dumps(value) for key, value in self.to_json().items()}

    @classmethod
    def from_metadata(cls, found: Mapping[str, str], path: Path) -> About:
        """Rebuild from what :meth:`to_metadata` gave.

        Args:
            found: keys of others are left aside.
            path: of the file, for the errors.

        Raises:
            UserError: they are not of a file that imasks wrote, or of a newer one.
        """
        try:
            own = {k: json.loads(v) for k, v in found.items() if k.startswith(PREFIX)}
            plain = {key.removeprefix(PREFIX): value for key, value in own.items()}
            if plain.pop("format") > FORMAT:
                raise UserError(
                    f"{path} was written by a newer imasks",
                    value=plain.get("version"),
                    remedy="Update imasks.",
                )
            return cls(
                **{
                    **plain,
                    "task": next(name for name in get_args(TaskName) if name == plain["task"]),
                    "classes": tuple(plain["classes"]),
                    "colors": tuple(plain["colors"]),
                    "outputs": tuple(plain["outputs"]),
                    "preparation": Preparation.from_json(plain["preparation"]),
                }
            )
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            raise UserError(
                f"{path} does not say what it is as a model of imasks does",
                value=repr(error),
                remedy="Give a file that `imasks export-model` wrote.",
            ) from error
