"""What an approach is: a record, no code.

Source: the table of METHOD 7. Generation 0 is a supervised start; every later generation labels
the unlabeled images with the networks before it and trains new ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Approach:
    """One row of the method's table.

    Args:
        name: what users type and tables show.
        summary: one line for people who choose.
        start: the supervised approach whose candidates are generation 0; None: this approach is
            supervised itself and has no generations.
        truth: which true masks are trained on: of the labeled images, or of all.
        labeled: how labeled pairs are shown: as they are, or augmented.
        labels: how pseudo-labels are made: "top-1": by the best network; "ensemble": by the
            top n together; "views": by the best network on several views of the image;
            "inconsistency": where the top n agree; "best": by whichever candidate's mask EvalNets
            find best, if it is good enough.
        consistency: instead of generations, the best network of the start goes on learning, to
            answer two views of an unlabeled image alike that differ so much.
        noise: whether images with pseudo-labels are augmented ever more strongly from generation
            to generation (the schedule S_g).
        grow: whether networks get wider from generation to generation (the schedule A_g).
        plain_copies: how often each pseudo-labeled pair stands in the training set without that
            augmentation, beside the augmented one.
        copies: by what pairs are judged of which good ones are shown more often: by EvalNets, or
            by the true masks (an oracle: the ceiling of perfect EvalNets).
        teachers: supervised approaches whose candidates' masks EvalNets learn from; where pairs
            are chosen or judged by them.
        changes: settings of its own, names and values, see :mod:`imasks.approaches.variants`; the
            name says them too.
    """

    name: str
    summary: str
    start: str | None = None
    truth: Literal["labeled", "all"] = "labeled"
    labeled: Literal["plain", "augmented"] = "plain"
    labels: Literal["top-1", "ensemble", "views", "inconsistency", "best"] | None = None
    consistency: Literal["low", "mid", "high"] | None = None
    noise: bool = False
    grow: bool = False
    plain_copies: int = 0
    copies: Literal["evalnet", "truth"] | None = None
    teachers: tuple[str, ...] = ()
    changes: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        learns = self.labels is not None or self.consistency is not None
        assert (self.start is not None) == learns, "generations need labels or consistency"
        graded = self.labels == "best" or self.copies == "evalnet"
        assert bool(self.teachers) == graded, "EvalNets need somebody's masks to learn from"

    @property
    def needs_truth(self) -> bool:
        """Whether it learns from the true masks of the unlabeled images, as yardsticks do."""
        return self.truth == "all" or self.copies == "truth"
