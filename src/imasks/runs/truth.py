"""How good predicted masks are, where the true ones are given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
import torch
from torch import Tensor

from imasks.data.card import Card, read_labels, shorten
from imasks.data.folder import list_images, stem_of
from imasks.errors import UserError
from imasks.runs.config import RunConfig
from imasks.runs.deciding import Prediction
from imasks.tasks import Multiclass, Task

AT_ONCE = 2**24  # pixels that are compared


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A folder of true masks, which lie in it as in the masks/ of a data folder.

    Args:
        folder: `NAME.png`, or `CLASS/NAME.png` for multilabel; NAME is an image's path below the
            images' common folder, without its suffix.
        card: what their values mean.
        task: gives the scores.
    """

    folder: Path
    card: Card
    task: Task
    _listings: dict[Path, Mapping[str, tuple[Path, ...]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def of(cls, folder: Path, config: RunConfig) -> Truth:
        """Read masks as the data set of a run has them."""
        card = Card(
            name=config.title,
            task=config.make_task().name,
            classes=config.classes,
            ignore=config.ignore,
        )
        return cls(folder=folder, card=card, task=config.make_task())

    def need(self, names: Iterable[PurePath]) -> None:
        """Make sure that every image has its masks.

        Raises:
            UserError: some have not; it names them.
        """
        missing = [str(name) for name in names if not self._masks(name)]
        if missing:
            raise UserError(
                f"{self.folder} does not hold the true masks of all images",
                value=shorten(missing),
                remedy="Give them the images' names, each once; of multilabel tasks, in one folder "
                "a class.",
            )

    def tally(self, name: PurePath, prediction: Prediction, *, page: int | None = None) -> Tensor:
        """Compare at the image's own size: int64 [1, R, 3], see :meth:`imasks.tasks.Task.tally`.

        Large images are compared some rows at a time, and their tallies added up.

        Raises:
            UserError: a mask cannot be used, or has another size than the image.
        """
        H, W = prediction.im.shape
        labels = read_labels(self._masks(name), self.card, (H, W), page=page)
        mask = prediction.mask.reshape(labels.shape)
        first = np.uint8(isinstance(self.task, Multiclass))  # 0 is reserved there
        rows = max(1, AT_ONCE // W)
        return torch.stack(
            [
                self.task.tally(
                    torch.from_numpy(mask[None, :, start : start + rows] + first),
                    torch.from_numpy(labels[None, :, start : start + rows]),
                )
                for start in range(0, H, rows)
            ]
        ).sum(0)

    def _masks(self, name: PurePath) -> tuple[Path, ...]:
        """Find the masks of an image; none if one is missing or ambiguous."""
        planes = self.card.classes if self.card.task == "multilabel" else (".",)
        stem = stem_of(Path(name))
        found = [self._list(self.folder / plane / name.parent).get(stem, ()) for plane in planes]
        return tuple(paths[0] for paths in found) if all(len(one) == 1 for one in found) else ()

    def _list(self, folder: Path) -> Mapping[str, tuple[Path, ...]]:
        """List a folder once: it may hold the masks of thousands of images."""
        if folder not in self._listings:
            self._listings[folder] = list_images(folder)[0]
        return self._listings[folder]
