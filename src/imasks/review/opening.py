"""How a review begins: the unlabeled images of a run are predicted and put in order."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from imasks.data.decisions import Decisions, State
from imasks.data.files import ordered, read_image
from imasks.data.folder import Dataset, Sample, open_dataset
from imasks.data.prepare import Preparation, resize_image, to_uint8
from imasks.data.reviewed import REVIEWED
from imasks.errors import UserError
from imasks.jobs import write_atomic
from imasks.review.order import ORDERS, Order, features, order, shuffled, uncertainty
from imasks.review.session import PREDICTED, Item, Session
from imasks.runs.choice import Chosen, choose
from imasks.runs.large import LARGE
from imasks.runs.predictions import TABLE, predict_files, result_name
from imasks.runs.predictions import Item as Source
from imasks.runs.predictor import predictor_of
from imasks.runs.run import Run

REVIEW, MADE_FROM, FEATURES = "review", "made_from.json", "features.npz"
LOCK = ".predicting.lock"
OnProgress = Callable[[str, float, int], None]


def open_session(
    run: Run,
    *,
    data: Path | None = None,
    device: str = "auto",
    approach: str | None = None,
    seed: int | None = None,
    by: Order = "unsure",
    on_progress: OnProgress = lambda what, done, total: None,
) -> Session:
    """Predict the unlabeled images of a run, where that is not done yet, and order them.

    A run that itself learned from a review begins with those decisions.

    Args:
        run: see :func:`imasks.runs.run.open_run`.
        data: its data folder, if that is not where the run began.
        device: "auto", "cpu" or "cuda".
        approach: see :func:`imasks.runs.choice.choose`.
        seed: likewise.
        by: "unsure": bad masks first, see :mod:`imasks.review.order`; "random": a fair sample.
        on_progress: called with what is done, images done, and images in all.

    Raises:
        UserError: there is no such order, nothing of the run is finished, its data folder is gone
            or has changed, or there is nothing to review.
    """
    if by not in ORDERS:
        raise UserError(
            "there is no such order", value=by, remedy=f"Use one of {', '.join(ORDERS)}."
        )
    dataset = _dataset(run, data)
    folder = run.folder / REVIEW
    if run.config.review is not None and not folder.exists():
        partial = folder.with_name(f".{REVIEW}.tmp")
        shutil.rmtree(partial, ignore_errors=True)  # of a start that was killed
        shutil.copytree(run.folder / REVIEWED, partial)
        partial.replace(folder)
    decisions = Decisions.begin(folder, dataset.card)
    chosen = choose(run, approach=approach, seed=seed)
    out = folder / PREDICTED
    samples = dataset.splits["unlabeled"]
    stamp = {
        "networks": [job.key for job in chosen.fits],
        "quality": None if chosen.quality is None else chosen.quality.key,
        "unlabeled": _stamp(samples),
        "labeled": _stamp(dataset.splits["labeled"]),
    }
    with FileLock(folder / LOCK):  # a second server waits for the predictions of the first
        skipped = _made_before(out, stamp)
        if skipped is None:
            skipped = _predict(run, chosen, dataset, out, device, on_progress)
            made = {"stamp": stamp, "skipped": skipped}
            write_atomic(out / MADE_FROM, json.dumps(made).encode())
    items = _items(samples, out)
    prep = run.config.preparation
    return Session(
        folder=folder,
        task=run.config.make_task(),
        colors=dataset.card.colors,
        preparation=prep,
        decisions=decisions,
        items=tuple(items[place] for place in _order(items, out, by)),
        skipped=tuple(skipped),
        chosen=chosen,
    )


def decided(run: Run, *, data: Path | None = None) -> list[tuple[State, Sample]]:
    """List what was decided in a run's review, in the order of names: the state and the image.

    Images that are no longer unlabeled are left out; ``data`` is as in :func:`open_session`. A run
    that learned from a review has those decisions until it has a review of its own.
    """
    dataset = _dataset(run, data)
    folder = run.folder / REVIEW
    if not folder.exists():
        if run.config.review is None:
            return []
        folder = run.folder / REVIEWED
    found = Decisions.open(folder, dataset.card).read_all()
    states = ((found.get(sample.name), sample) for sample in dataset.splits["unlabeled"])
    return [(one.state, sample) for one, sample in states if one is not None and one.state]


def _dataset(run: Run, data: Path | None) -> Dataset:
    config = run.config
    if data is None and not Path(config.data).exists():
        raise UserError(
            f"the data folder of {run.folder} is gone",
            value=config.data,
            remedy="Say with --data where it is now.",
        )
    dataset = open_dataset(data or config.data)
    if (dataset.card.task, dataset.card.classes) != (config.task, config.classes):
        raise UserError(
            f"{dataset.folder} has another task or other classes than the run in {run.folder}",
            value=f"{dataset.card.task}: {', '.join(dataset.card.classes)}",
            remedy="Restore its dataset.toml.",
        )
    if not dataset.splits["unlabeled"]:
        raise UserError(
            f"{dataset.folder} has no unlabeled images to review",
            remedy="Put some into unlabeled/images.",
        )
    return dataset


def _predict(
    run: Run, chosen: Chosen, dataset: Dataset, out: Path, device: str, on_progress: OnProgress
) -> list[str]:
    """Write predictions of the unlabeled images, and features of these and the labeled ones.

    Returns:
        The images that cannot be predicted, with the reason.
    """
    shutil.rmtree(out, ignore_errors=True)
    samples, labeled = dataset.splits["unlabeled"], dataset.splits["labeled"]
    report = predict_files(
        predictor_of(run, chosen=chosen, device=device),
        list(dict.fromkeys(sample.image for sample in samples)),
        out,
        root=samples[0].image.parent,
        overlays=False,
        on_progress=lambda done, total: on_progress("predicting", done, total),
    )
    skipped = [f"{path}: {reason}" for path, reason in report.skipped]
    skipped += [
        f"{row['file']}: has more than {LARGE // 10**6} million pixels, too many for a browser"
        for row in _rows(out)
        if _is_large(row)
    ]
    items = _items(samples, out)
    if not items:
        raise UserError(
            "none of the unlabeled images can be reviewed",
            value=skipped[0],
            remedy="`imasks check` says what is wrong with them.",
        )
    every: list[Item | Sample] = [*items, *labeled]
    prep, found, total = run.config.preparation, [], len(every)
    for done, one in enumerate(ordered(lambda each: _features(each, prep), every), start=1):
        found.append(one)
        on_progress("ordering", done, total)
    described = np.stack(found)
    file = io.BytesIO()
    np.savez(file, unlabeled=described[: len(items)], labeled=described[len(items) :])
    write_atomic(out / FEATURES, file.getvalue())
    return skipped


def _features(one: Item | Sample, prep: Preparation) -> NDArray[np.float64]:
    path = one.path if isinstance(one, Item) else one.image
    pixels = read_image(path, page=one.page, pages=prep.pages)
    return features(resize_image(to_uint8(pixels, prep, source=path), prep.size))


def _order(items: Sequence[Item], out: Path, by: Order) -> list[int]:
    if by == "random":
        return [int(place) for place in shuffled(len(items))]
    with np.load(out / FEATURES, allow_pickle=False) as file:
        described, seen = file["unlabeled"], file["labeled"]
    qualities = [item.quality for item in items if item.quality is not None]
    unsure = uncertainty(
        np.array([item.im_share for item in items]),
        np.array(qualities) if len(qualities) == len(items) else None,
    )
    return [int(place) for place in order(unsure, described, seen)]


def _stamp(samples: Sequence[Sample]) -> dict[str, object]:
    """What says whether image files are still the same."""
    files = ((sample.image, sample.image.stat()) for sample in samples)
    return {path.name: [stat.st_size, stat.st_mtime_ns] for path, stat in files}


def _made_before(out: Path, stamp: Mapping[str, object]) -> list[str] | None:
    """What was skipped when the predictions were made; None if they are not there or not these."""
    try:
        made = json.loads((out / MADE_FROM).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:  # they can be made anew
        return None
    return list(made["skipped"]) if made["stamp"] == stamp else None


def _rows(out: Path) -> list[dict[str, str]]:
    with (out / TABLE).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _is_large(row: Mapping[str, str]) -> bool:
    return int(row["height"]) * int(row["width"]) > LARGE


def _items(samples: Sequence[Sample], out: Path) -> list[Item]:
    """Pair samples with their rows in the table of predictions, those that a browser can show."""
    rows = {(row["file"], row.get("page") or ""): row for row in _rows(out)}
    pages = Counter(sample.image for sample in samples)
    found = []
    for sample in samples:
        page = "" if sample.page is None else str(sample.page + 1)
        row = rows.get((sample.image.name, page))
        if row is not None and not _is_large(row):
            found.append(_item(sample, row, pages[sample.image]))
    return found


def _item(sample: Sample, row: Mapping[str, str], pages: int) -> Item:
    quality = row.get("quality")
    source = Source(sample.image, sample.page, pages)
    return Item(
        name=sample.name,
        path=sample.image,
        page=sample.page,
        result=result_name(PurePath(sample.image.name), source),
        height=int(row["height"]),
        width=int(row["width"]),
        im_share=float(row["im_share"]),
        quality=float(quality) if quality else None,
    )
