"""What the three segmentation tasks mean: outputs, decisions, losses, scores.

Discrete masks are uint8 [N, P, H, W] in the internal encoding, see :mod:`imasks.encoding`.
Source: METHOD 2, 5 and 9.
"""

from collections.abc import Mapping, Sequence

from imasks.encoding import IGNORE, TaskName
from imasks.errors import UserError
from imasks.tasks.multiclass import Multiclass, confusion
from imasks.tasks.planes import Binary, Multilabel
from imasks.tasks.task import DETECTED, LossName, SoftTarget, Task

__all__ = [
    "DETECTED",
    "IGNORE",
    "TASKS",
    "Binary",
    "LossName",
    "Multiclass",
    "Multilabel",
    "SoftTarget",
    "Task",
    "TaskName",
    "confusion",
    "make_task",
]

TASKS: Mapping[TaskName, type[Task]] = {
    "binary": Binary,
    "multiclass": Multiclass,
    "multilabel": Multilabel,
}


def make_task(
    name: str,
    classes: Sequence[str],
    *,
    points: Sequence[str] = (),
    weights: Sequence[float] = (),
    scored: Sequence[str] = (),
) -> Task:
    """Build a task from its name in ``dataset.toml``; see :class:`imasks.tasks.Task`.

    Raises:
        UserError: the name is none of the three.
    """
    for known, kind in TASKS.items():
        if known == name:
            return kind(classes, points=points, weights=weights, scored=scored)
    raise UserError("task is not known", value=name, remedy=f"Use one of {', '.join(TASKS)}.")
