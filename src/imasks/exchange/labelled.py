"""What a run says of an unlabeled image, and of what classes it speaks: all that writers see.

Shape letters: K classes, P planes of a user's mask (1, or K for multilabel), H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from imasks.data.card import Card
from imasks.data.folder import Dataset, Sample
from imasks.data.prepare import Preparation
from imasks.exchange.sheets import INCONSISTENCY, has_background
from imasks.exchange.source import Bools
from imasks.runs.deciding import Prediction
from imasks.tasks import Task

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """One unlabeled image and its prediction.

    Args:
        sample: the image in the data folder.
        prediction: at the image's own size.
    """

    sample: Sample
    prediction: Prediction

    @property
    def name(self) -> str:
        """What the image is called in the data folder, without suffix."""
        return self.sample.name

    @property
    def file(self) -> str:
        """Its file name; a page of a stack is called like a file of its own."""
        image = self.sample.image
        return image.name if self.sample.page is None else f"{self.name}{image.suffix}"

    def says(self) -> dict[str, float]:
        """Return the numbers of this image, from 0 to 1; `quality` only where there is one."""
        found = self.prediction
        numbers = {
            "agreement": found.agreement,
            "im_share": found.im_share,
            "confidence": found.confidence,
        }
        if found.quality is not None:
            numbers["quality"] = found.quality
        return {key: round(number, 6) for key, number in numbers.items()}


@dataclass(frozen=True, kw_only=True)
class About:
    """What the predictions of a run are about.

    Args:
        dataset: whose unlabeled images were predicted.
        task: of the run.
        preparation: how the run's networks see images.
        model: which approach, seed, generation and networks predicted, in words.
        version: of imasks.
    """

    dataset: Dataset
    task: Task
    preparation: Preparation
    model: str
    version: str

    @property
    def card(self) -> Card:
        """The card of the data set."""
        return self.dataset.card

    @cached_property
    def shown(self) -> tuple[str, ...]:
        """The classes that annotation tools show: a background is what no other class covers."""
        return self.card.classes[1:] if has_background(self.card) else self.card.classes

    def regions(self, prediction: Prediction) -> Iterator[tuple[str, Bools]]:
        """Give every shown class and its pixels, bool [H,W]; the inconsistency mask last."""
        yield from zip(self.shown, self.class_regions(prediction), strict=True)
        yield INCONSISTENCY, prediction.im

    def class_regions(self, prediction: Prediction) -> Iterator[Bools]:
        """Give the pixels of every shown class."""
        for name in self.shown:
            place = self.card.classes.index(name)
            if self.card.task == "multiclass":
                yield prediction.mask == place
            elif self.card.task == "multilabel":
                yield prediction.mask[place] > 0
            else:
                yield prediction.mask > 0
