"""What a model card tells, collected from a run as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imasks.deploy.about import About
from imasks.runs.choice import Chosen
from imasks.runs.run import Run
from imasks.runs.summary import QUALITY, Row, Spread


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written.

    Args:
        file: the model.
        card: the model card.
        images: validation images that the file was compared with PyTorch on.
        difference: the largest of a probability or quality, at the training size.
        resized: their mean difference, that of the worse of the two, at another size.
        pixels: the largest share of pixels whose label, or place in the inconsistency mask,
            differs.
    """

    file: Path
    card: Path
    images: int
    difference: float
    resized: float
    pixels: float


def record_of(
    run: Run,
    chosen: Chosen,
    about: About,
    done: Exported,
    *,
    license: str | None = None,
) -> dict[str, Any]:
    """Collect what :func:`imasks.deploy.card.model_card` writes.

    Args:
        run: that the model is of.
        chosen: which of its ensembles.
        about: what the model file says.
        done: what was written.
        license: of the model.
    """
    config = run.config
    row = next(one for one in run.rows() if one.approach == chosen.approach)
    return {
        "file": done.file.name,
        "license": license,
        "model": about.to_json(),
        "points": list(config.points),
        "finished": chosen.done == chosen.jobs,
        "data": {
            "name": config.title,
            "images": dict(config.images),
            "val_cut": len(config.val_cut),
            "checksum": config.checksum,
        },
        "training": {
            "preset": config.preset,
            "seeds": len(config.seeds),
            "parameters": list(row.parameters),
            "steps": list(row.steps),
            "versions": {"imasks": about.version},
        },
        "scores": _scores(row, about.primary),
        "quality": {name: _spread(row.quality.get(key)) for name, key in QUALITY.items()}
        if row.quality
        else {},
        "checked": {
            "images": done.images,
            "difference": done.difference,
            "resized": done.resized,
            "pixels": done.pixels,
        },
    }


def _scores(row: Row, primary: str) -> dict[str, Any]:
    return {
        f"validation {primary}, one network": _spread(row.val),
        f"test {primary}, one network": _spread(row.test),
        f"test {primary}, ensemble": _spread(row.ensemble_test),
    }


def _spread(value: Spread | None) -> dict[str, Any] | None:
    return None if value is None else asdict(value)
