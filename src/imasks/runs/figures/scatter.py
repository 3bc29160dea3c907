"""How well a score that is predicted agrees with the true one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imasks.runs.figures.style import COLORS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Correlation (Pearson's; NaN where one side does not vary) and mean absolute error."""

    correlation: float
    error: float

    def __str__(self) -> str:
        return f"correlation {self.correlation:.2f}, mean absolute error {self.error:.3f}"


def agreement(predicted: np.ndarray, true: np.ndarray) -> Agreement:
    """Compare predicted with true scores, float [N] each, N >= 1."""
    varies = min(predicted.var(), true.var()) > np.finfo(np.float64).tiny  # no rounding to 0
    return Agreement(
        correlation=float(np.corrcoef(predicted, true)[0, 1]) if varies else float("nan"),
        error=float(np.abs(predicted - true).mean()),
    )


def scatter_figure(
    predicted: np.ndarray, true: np.ndarray, *, title: str = "", what: str = "IoU"
) -> Figure:
    """Draw predicted against true scores.

    Args:
        predicted: float [N], in 0..1, N >= 1.
        true: float [N], likewise.
        title: above correlation and error.
        what: the name of the score.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="black", linestyle=(0, (4, 3)), linewidth=1)
    crowd = min(0.8, max(0.25, 100 / len(true)))  # many points show where they lie thickest
    axes.scatter(true, predicted, s=14, color=COLORS[0], alpha=crowd, linewidths=0)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.set_xlabel(f"true {what}", fontsize=9)
    axes.set_ylabel(f"predicted {what}", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    head = f"{title}\n" if title else ""
    count = f"{len(true)} predictions" if len(true) != 1 else "1 prediction"
    axes.set_title(f"{head}{agreement(predicted, true)}\n{count}", fontsize=9)
    return figure
