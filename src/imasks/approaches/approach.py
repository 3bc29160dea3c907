"""What an approach is: a record, no code.

Source: the table of METHOD 7. Generation 0 is a supervised start; every later generation labels
the unlabeled images with the networks before it and trains new ones from scratch.
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
        labels: how pseudo-labels are made: "top-1": by the best network; "inconsistency": where
            the top n agree.
        noise: whether images with pseudo-labels are augmented ever more strongly from generation
            to generation (the schedule S_g).
        grow: whether networks get wider from generation to generation (the schedule A_g).
        plain_copies: how often each pseudo-labeled pair stands in the training set without that
            augmentation, beside the augmented one.
    """

    name: str
    summary: str
    start: str | None = None
    truth: Literal["labeled", "all"] = "labeled"
    labeled: Literal["plain", "augmented"] = "plain"
    labels: Literal["top-1", "inconsistency"] | None = None
    noise: bool = False
    grow: bool = False
    plain_copies: int = 0

    def __post_init__(self) -> None:
        assert (self.start is None) == (self.labels is None), "generations need a labeller"
