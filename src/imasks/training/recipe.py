"""How one candidate is trained, as data."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi
from typing import Literal

from imasks.errors import UserError
from imasks.tasks import LossName

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Optimiser, length and selection; the values given here are the published ones (METHOD 5).

    Args:
        epochs: passes over the training set, N // batch steps each (at least one).
        min_steps: fewest optimiser steps, however small the training set.
        steps: if given, this many steps, whatever the size of the training set.
        batch: pairs per step; a training set smaller than that is one batch.
        learning_rate: the peak of the schedule.
        weight_decay: AdamW's, multiplied by the learning rate at every step.
        epsilon: AdamW's.
        schedule: "flat", or "cosine": linear warm-up over the first 5 % of the steps, then half a
            cosine down to zero.
        clip: largest norm of the gradient; 0 leaves it as it is.
        loss: "paper": squared error on sigmoid outputs (binary, multilabel), cross-entropy over
            classes (multiclass); "cross-entropy": cross-entropy for all three.
        norm_momentum: of the batch norm's running statistics, in PyTorch's sense.
        dropout: in every block but the first.
        ema: decay of the averaged weights that are validated and kept; 0: the weights themselves.
        evaluations: how often the candidate is validated and written to disk: the number of
            epochs as the log and the checkpoints count them.
        select: which epoch is kept: the best by the "paper" rule (foreground IoU over the whole
            split, soft mean IoU, loss) or by the "score" that ranks candidates, or the "last".
        precision: of convolutions while training.
    """

    epochs: int = 50
    min_steps: int = 1500
    steps: int | None = None
    batch: int = 32
    learning_rate: float = 0.003
    weight_decay: float = 1 / 30
    epsilon: float = 1e-7
    schedule: Literal["flat", "cosine"] = "flat"
    clip: float = 0.0
    loss: LossName = "paper"
    norm_momentum: float = 0.01
    dropout: float = 0.0
    ema: float = 0.0
    evaluations: int = 50
    select: Literal["paper", "score", "last"] = "paper"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "evaluations", "learning_rate"):
            if getattr(self, name) <= 0:
                raise UserError(
                    f"recipe.{name} must be positive", value=getattr(self, name), remedy="Raise it."
                )
        if self.steps is not None and self.steps < 1:
            raise UserError("recipe.steps must be at least 1", value=self.steps, remedy="Raise it.")
        if not 0 <= self.ema < 1:
            raise UserError(
                "recipe.ema must be in [0, 1)", value=self.ema, remedy="Use 0 or 0.99 to 0.999."
            )

    def total_steps(self, pairs: int) -> int:
        """Optimiser steps for a training set of so many pairs."""
        return self.steps_of(max(1, pairs // self.batch))

    def steps_of(self, steps_per_epoch: int) -> int:
        """Optimiser steps where one epoch takes so many."""
        if self.steps is not None:
            return self.steps
        return max(self.epochs * steps_per_epoch, self.min_steps)

    def learning_rate_at(self, step: int, total: int) -> float:
        """Learning rate of a step counted from 0."""
        if self.schedule == "flat":
            return self.learning_rate
        warm = max(1, total // 20)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * 0.5 * (1 + cos(pi * (step - warm) / max(1, total - warm)))
