"""What Python users touch: open a data set, train, predict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from imasks.data.files import read_image
from imasks.data.folder import Dataset, open_dataset
from imasks.deploy.observe import Opener, observed, observers
from imasks.errors import UserError
from imasks.models.own import name_of
from imasks.runs.choice import Chosen, choose
from imasks.runs.config import changed_versions
from imasks.runs.configure import ALL, asked_for
from imasks.runs.deciding import Prediction
from imasks.runs.options import Options, check_value
from imasks.runs.predictor import Predictor, predictor_of
from imasks.runs.report import write_report
from imasks.runs.run import Run, default_workers, open_run, plan_run, work
from imasks.runs.summary import Row

Image = np.ndarray | Path | str


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A run that can be asked for results and predictions."""

    run: Run

    def __repr__(self) -> str:
        return f"Trained({str(self.run.folder)!r}, {', '.join(self.run.config.approaches)})"

    def results(self) -> list[Row]:
        """Scores of every approach, over all seeds."""
        return self.run.rows()

    @cached_property
    def chosen(self) -> Chosen:
        """Which approach, seed and generation predictions are made with."""
        return choose(self.run)

    @cached_property
    def predictor(self) -> Predictor:
        """The ensemble of the generation with the best validation score."""
        return predictor_of(self.run)

    def predict(self, images: Image | Iterable[Image]) -> np.ndarray | list[np.ndarray]:
        """Predict masks at the images' own sizes.

        Args:
            images: an image, [H, W] or [H, W, C] of the data set's own depth, or the path of one;
                or several of them.

        Returns:
            A mask, or a list of masks: uint8 [H, W] of 0/1 (binary) or class ids (multiclass),
            uint8 [K, H, W] of 0/1 (multilabel).
        """
        if isinstance(images, np.ndarray | Path | str):
            return self.predict_one(images).mask
        return [self.predict_one(image).mask for image in images]

    def predict_one(self, image: Image) -> Prediction:
        """Predict one image with all that is known: mask, inconsistency mask, shares, quality."""
        if not isinstance(image, np.ndarray):
            image = read_image(Path(image), pages=self.run.config.preparation.pages)
        return self.predictor(image)


def train(
    data: Dataset | Path | str,
    *,
    out: Path | str,
    approach: str = "IM+",
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> Trained:
    """Train an approach on a data folder, or go on with a training that was stopped.

    Args:
        data: a data set, or its folder.
        out: the run folder.
        approach: its name, as ``imasks approaches`` lists them.
        seed: of everything that is random.
        progress: show it.
        options: the fields of :class:`imasks.runs.options.Options`; ``network`` may also be the
            function itself that its name stands for.

    Raises:
        UserError: the data or an option is wrong; the message names the remedy.
    """
    return _train(
        data, Path(out), [approach], [seed], make_options(**options), progress, grow=False
    )


def study(
    data: Dataset | Path | str,
    *,
    out: Path | str,
    approaches: Sequence[str] = ALL,
    seeds: int = 3,
    progress: bool = True,
    **options: Any,
) -> Trained:
    """Train several approaches under the same conditions; more can be added later.

    Args:
        data: a data set, or its folder.
        out: the run folder.
        approaches: their names, or "all": those that the data set has the images for.
        seeds: independent runs of everything.
        progress: show it.
        options: the fields of :class:`imasks.runs.options.Options`.

    Raises:
        UserError: the data or an option is wrong; the message names the remedy.
    """
    wished = make_options(**options)
    if isinstance(approaches, str) and approaches.strip().lower() != ALL:
        raise UserError(
            "approaches must be several names",
            value=approaches,
            remedy=f'Give ["{approaches}"], or "all".',
        )
    count = check_value("seeds", seeds, int, least=1)
    names = [approaches] if isinstance(approaches, str) else approaches
    return _train(data, Path(out), names, range(count), wished, progress, grow=True)


def load(folder: Path | str) -> Trained:
    """Open the folder of an earlier run.

    Raises:
        UserError: it is no run folder.
    """
    return Trained(run=open_run(folder))


def make_options(**options: Any) -> Options:
    """Make options of keyword arguments; ``network`` may be a function that makes one.

    Raises:
        UserError: there is no such option, or its value is of another type or out of range.
    """
    known = [field.name for field in fields(Options)]
    if unknown := [name for name in options if name not in known]:
        raise UserError(
            "there is no such option",
            value=", ".join(unknown),
            remedy=f"Known: {', '.join(known)}.",
        )
    if isinstance(options.get("review"), Path):
        options["review"] = str(options["review"])
    if callable(options.get("network")):
        options["network"] = name_of(options["network"])
    return Options(**options)


def finish(
    run: Run, *, workers: int, console: Console, openers: Sequence[Opener] = ()
) -> list[Path]:
    """Do what is left of a run and write its report; return the files written.

    A run that began with other versions goes on, and its console is told. Trainings are shown to
    the observers that :func:`imasks.deploy.observe.observers` found.
    """
    if changed := changed_versions(run.folder):
        text = f"The run began with other versions: {'; '.join(changed)}. "
        text += "What is computed from here on may differ in its last digits or more."
        console.print(Text(text, style="yellow"), soft_wrap=True)
    with observed(run, openers, console):
        work(run, workers=workers, console=console)
    with console.status("drawing the report"):
        return write_report([run])


def report(
    runs: Trained | Path | str | Sequence[Trained | Path | str],
    *,
    out: Path | str | None = None,
    published: Path | str | None = None,
) -> list[Path]:
    """Redraw page, tables and figures from what is finished, of several runs side by side.

    Args:
        runs: a run or its folder, or several.
        out: where the report goes; by default ``report/`` in the folder of the one run.
        published: a CSV of published results to draw beside the scores, with the columns
            dataset, metric, approach, generation and test_score.

    Returns:
        The files to begin with: the page, both tables, and the list of figures if there are any.

    Raises:
        UserError: a folder is no run, there are several runs and no ``out``, or the CSV cannot be
            used.
    """
    several = [runs] if isinstance(runs, Trained | Path | str) else runs
    return write_report(
        [one.run if isinstance(one, Trained) else open_run(one) for one in several],
        out=None if out is None else Path(out),
        published=None if published is None else Path(published),
    )


def _train(
    data: Dataset | Path | str,
    out: Path,
    approaches: Sequence[str],
    seeds: Sequence[int],
    options: Options,
    progress: bool,
    *,
    grow: bool,
) -> Trained:
    openers = observers(options)
    dataset = data if isinstance(data, Dataset) else open_dataset(data)
    console = Console(quiet=not progress)
    names, lacking = asked_for(dataset, approaches) if grow else (approaches, {})
    for name, reason in lacking.items():
        console.print(Text(f"left out {name}: {reason}", style="yellow"), soft_wrap=True)
    run = plan_run(dataset, out, approaches=names, seeds=seeds, options=options, may_grow=grow)
    finish(run, workers=default_workers(run, options), console=console, openers=openers)
    return Trained(run=run)
