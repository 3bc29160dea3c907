"""Hand a run's predictions of the unlabeled images to annotation tools and other trainers."""

from __future__ import annotations

import importlib.metadata
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from numpy.typing import NDArray

from imasks.data.files import ordered, read_image, reason_of, write_text
from imasks.data.folder import Dataset, Sample, open_dataset
from imasks.errors import UserError
from imasks.exchange.labelled import About, Labelled
from imasks.exchange.registry import find_format
from imasks.exchange.sheets import INCONSISTENCY
from imasks.runs.choice import Chosen
from imasks.runs.model_card import FILE, count, model_card, plain
from imasks.runs.predictor import Predictor
from imasks.runs.run import Run


@dataclass(frozen=True, kw_only=True)
class Export:
    """What is to be exported, of which run.

    Args:
        run: whose networks predict.
        chosen: which of them.
        predictor: made of them.
        dataset: whose unlabeled images are predicted.
    """

    run: Run
    chosen: Chosen
    predictor: Predictor
    dataset: Dataset


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export holds.

    Args:
        format: its name.
        says: the numbers of every image, see `imasks.exchange.labelled.Labelled.says`.
        skipped: images that could not be predicted, each with the reason.
        shared: images whose names images of other splits bear too.
    """

    format: str
    says: Sequence[Mapping[str, float]]
    skipped: Sequence[tuple[str, str]]
    shared: Sequence[str] = ()

    def lines(self) -> Iterator[str]:
        """Write lines of a model card."""
        yield f"Format: {self.format}; {count(len(self.says), 'image')}, not checked by anyone."
        for key, name in (
            ("agreement", "Agreement of the networks (share of pixels)"),
            ("im_share", "Share of pixels in the inconsistency masks"),
            ("quality", "Predicted quality"),
        ):
            numbers = [one[key] for one in self.says if key in one]
            if numbers:
                low, high = min(numbers), max(numbers)
                yield f"{name}: mean {fmean(numbers):.3f}, from {low:.3f} to {high:.3f}."
        if self.skipped:
            yield f"Left out: {count(len(self.skipped), 'image')}:"
            yield from (f"  {plain(name)}: {plain(reason)}" for name, reason in self.skipped)


def data_for(run: Run, folder: Path | None) -> Dataset:
    """Open the data folder of a run, or another one of the same task and classes.

    Raises:
        UserError: it is not there, is of another task or classes, or has no unlabeled images.
    """
    if folder is None and not Path(run.config.data).is_dir():
        raise UserError(
            "the data folder of the run is not there",
            value=run.config.data,
            remedy="Say where it is with --data.",
        )
    dataset = open_dataset(folder or run.config.data)
    card, config = dataset.card, run.config
    if (card.task, card.classes) != (config.task, config.classes):
        raise UserError(
            f"{dataset.folder} has another task or other classes than the run",
            value=f"{card.task}: {', '.join(card.classes)}",
            remedy=f"The run learned {config.task}: {', '.join(config.classes)}.",
        )
    if not dataset.splits["unlabeled"]:
        raise UserError(
            f"{dataset.folder} has no unlabeled images",
            remedy="Put images into unlabeled/images, or predict others with `imasks predict`.",
        )
    return dataset


def export(
    what: Export,
    format_name: str,
    out: Path,
    *,
    licence: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """Predict the unlabeled images and write them in the form of another tool.

    With them goes a model card. The folder appears under its name only when it is complete.

    Args:
        what: of which run.
        format_name: see `imasks.exchange.registry.FORMATS`.
        out: the folder to make; it must not exist, or be empty.
        licence: of the model, for the card.
        on_progress: is called with (images done or skipped, images in all).

    Raises:
        UserError: the format is unknown or cannot hold the classes, `out` is in use, or no image
            can be predicted.
    """
    write = find_format(format_name, "write").write
    assert write is not None
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not empty", remedy="Give a new folder.")
    if INCONSISTENCY in what.dataset.card.classes:
        raise UserError(
            "a class is called like the inconsistency mask",
            value=INCONSISTENCY,
            remedy="Rename the class in dataset.toml.",
        )
    about = About(
        dataset=what.dataset,
        task=what.predictor.task,
        preparation=what.predictor.preparation,
        model=f"imasks {what.chosen}",
        version=importlib.metadata.version("imasks"),
    )
    samples = what.dataset.splits["unlabeled"]
    says: list[Mapping[str, float]] = []
    skipped: list[tuple[str, str]] = []
    temp = out.resolve().with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        temp.mkdir(parents=True)
        write(temp, about, _labelled(what.predictor, samples, says, skipped, on_progress))
        if not says:
            name, reason = skipped[0]
            raise UserError(
                "no unlabeled image can be predicted",
                value=f"{name}: {reason}",
                remedy="Give images like those that were trained on.",
            )
        exported = Exported(
            format=format_name, says=says, skipped=skipped, shared=_shared_names(what.dataset)
        )
        lines = [f"Images of {plain(about.card.name)}.", *exported.lines()]
        write_text(temp / FILE, model_card(what.run, what.chosen, export=lines, licence=licence))
        if out.exists():
            out.rmdir()  # it is empty
        temp.rename(out)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return exported


def _shared_names(dataset: Dataset) -> list[str]:
    """Names of unlabeled images that images of other splits bear, too."""
    others = {
        sample.name
        for split, samples in dataset.splits.items()
        if split != "unlabeled"
        for sample in samples
    }
    return [sample.name for sample in dataset.splits["unlabeled"] if sample.name in others]


def _labelled(
    predictor: Predictor,
    samples: Sequence[Sample],
    says: list[Mapping[str, float]],
    skipped: list[tuple[str, str]],
    on_progress: Callable[[int, int], None] | None,
) -> Iterator[Labelled]:
    """Predict image after image; gather what is said of them, and what cannot be predicted."""

    pages = predictor.preparation.pages

    def read(sample: Sample) -> NDArray[Any] | UserError:
        try:
            return read_image(sample.image, page=sample.page, pages=pages)
        except UserError as error:
            return error

    images = ordered(read, samples)
    for done, (sample, image) in enumerate(zip(samples, images, strict=True), start=1):
        try:
            if isinstance(image, UserError):
                raise image
            prediction = predictor(image)
        except UserError as error:
            skipped.append((sample.name, reason_of(error)))
        else:
            one = Labelled(sample=sample, prediction=prediction)
            says.append(one.says())
            yield one
        if on_progress:
            on_progress(done, len(samples))
