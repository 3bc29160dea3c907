"""Semi-supervised image segmentation with Inconsistency Masks.

import imasks

data = imasks.open_dataset("my_data")
run = imasks.train(data, approach="IM+", out="runs/first")
masks = run.predict(["a.png", "b.png"])

label, im = imasks.inconsistency(votes)   # for one's own networks and loop
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imasks.api import Trained, load, report, study, train
    from imasks.data.folder import Dataset, open_dataset
    from imasks.errors import UserError
    from imasks.labelling.agree import (
        Morphology,
        block_input,
        block_output,
        cut_region,
        disagreement,
        inconsistency,
        keep_mostly_agreed,
        keep_same_classes,
        sizes,
    )
    from imasks.models.unet import UNet, UNetConfig
    from imasks.tasks import Binary, Multiclass, Multilabel, Task

# Names are imported when they are used: `imasks --help` need not wait for PyTorch.
_HOMES = {
    "imasks.api": ("Trained", "load", "report", "study", "train"),
    "imasks.data.folder": ("Dataset", "open_dataset"),
    "imasks.errors": ("UserError",),
    "imasks.labelling.agree": (
        "Morphology",
        "block_input",
        "block_output",
        "cut_region",
        "disagreement",
        "inconsistency",
        "keep_mostly_agreed",
        "keep_same_classes",
        "sizes",
    ),
    "imasks.models.unet": ("UNet", "UNetConfig"),
    "imasks.tasks": ("Binary", "Multiclass", "Multilabel", "Task"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Binary",
    "Dataset",
    "Morphology",
    "Multiclass",
    "Multilabel",
    "Task",
    "Trained",
    "UNet",
    "UNetConfig",
    "UserError",
    "block_input",
    "block_output",
    "cut_region",
    "disagreement",
    "inconsistency",
    "keep_mostly_agreed",
    "keep_same_classes",
    "load",
    "open_dataset",
    "report",
    "sizes",
    "study",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'imasks' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
