"""A review of one run: its unlabeled images with their predictions, in the order of their worth.

Everything lies in RUN/review: the decisions (see :mod:`imasks.data.decisions`) and, in
``predicted/``, what the networks said, which may be deleted.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imasks.data.card import read_labels
from imasks.data.checksum import digest_of
from imasks.data.decisions import Decision, Decisions, State
from imasks.data.files import Bytes, UnreadableFile, ordered, read_image, read_mask
from imasks.data.folder import Dataset, Sample, open_dataset
from imasks.data.prepare import Preparation, resize_image, to_uint8
from imasks.data.reviewed import REVIEWED
from imasks.errors import UserError
from imasks.jobs import write_atomic
from imasks.review.order import features, order, uncertainty
from imasks.runs.choice import Chosen, choose
from imasks.runs.predictions import INCONSISTENCY, MASKS, TABLE, predict_files
from imasks.runs.predictor import predictor_of
from imasks.runs.run import Run
from imasks.tasks import Task

REVIEW, PREDICTED, MADE_FROM, FEATURES = "review", "predicted", "made_from.json", "features.npz"
OnProgress = Callable[[str, int, int], None]


class Outdated(Exception):  # noqa: N818
    """A mask was accepted that is not the one the networks predict now; nothing was saved."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """An unlabeled image that can be reviewed.

    Args:
        name: of the image, by which decisions know it.
        path: of its file.
        height: pixels.
        width: pixels.
        im_share: share of the inconsistency mask.
        quality: the score to expect of the predicted mask, or None.
    """

    name: str
    path: Path
    height: int
    width: int
    im_share: float
    quality: float | None


@dataclass(frozen=True, kw_only=True)
class Session:
    """What the page asks for. Nothing that was decided is remembered: it is read from the disk.

    Args:
        folder: RUN/review.
        task: of the run.
        colors: of the classes, "#rrggbb" or empty.
        preparation: how the networks saw images; grey levels are shown alike.
        decisions: on the disk.
        items: in the order in which they should be seen.
        skipped: images that cannot be reviewed, with the reason.
        chosen: whose predictions they are.
    """

    folder: Path
    task: Task
    colors: tuple[str, ...]
    preparation: Preparation
    decisions: Decisions
    items: tuple[Item, ...]
    skipped: tuple[str, ...]
    chosen: Chosen

    @cached_property
    def by_name(self) -> Mapping[str, Item]:
        """Items by the names of their images."""
        return {item.name: item for item in self.items}

    def decision(self, item: Item) -> Decision:
        """What is on the disk about an image; version 0 if there is nothing."""
        return self.decisions.read(item.name) or Decision(name=item.name, image="")

    def predicted(self, item: Item) -> Bytes:
        """The mask that the networks predict, uint8 [P, H, W] in the internal encoding."""
        root, name = self.folder / PREDICTED / MASKS, f"{item.path.stem}.png"
        folders = self.task.classes if self.task.name == "multilabel" else (".",)
        card = replace(self.decisions.card, ignore=None)  # no prediction is ignored
        return read_labels([root / f / name for f in folders], card, (item.height, item.width))

    def shown(self, item: Item) -> tuple[Decision, Bytes]:
        """What is on the disk, and the mask to show: the person's if there is one."""
        decision = self.decision(item)
        if not decision.masks:
            return decision, self.predicted(item)
        try:
            return decision, self.decisions.read_mask(decision, (item.height, item.width))
        except UnreadableFile:
            if self.decision(item).version == decision.version:
                raise
            return self.shown(item)  # it was replaced just now

    def inconsistency(self, item: Item) -> Bytes:
        """The inconsistency mask, uint8 [H, W] of 0 and 1."""
        path = self.folder / PREDICTED / INCONSISTENCY / f"{item.path.stem}.png"
        return (read_mask(path) > 0).astype(np.uint8)

    def picture(self, item: Item) -> bytes:
        """The image as PNG of 8 bits, for a browser."""
        pixels = to_uint8(read_image(item.path), self.preparation, source=item.path)
        png = io.BytesIO()
        shown = pixels[..., 0] if pixels.shape[2] == 1 else pixels
        Image.fromarray(shown).save(png, format="PNG", compress_level=1)
        return png.getvalue()

    def save(
        self, item: Item, *, base: int, state: State | None, labels: Bytes | None, seen: str | None
    ) -> Decision:
        """Save a decision.

        Args:
            item: the image.
            base: the version that the person saw.
            state: what was decided.
            labels: the mask if it was changed, uint8 [P, H, W] in the internal encoding.
            seen: the tag (see :func:`tag`) of the mask that is accepted unchanged.

        Raises:
            Stale: another version was saved in between.
            Outdated: the mask on the disk is not the one that was seen.
        """
        changed = None
        if labels is None and state == "accepted":
            _, labels = self.shown(item)
            if tag(labels) != seen:
                raise Outdated
        if labels is not None:
            changed = int((labels != self.predicted(item)).sum())
        return self.decisions.save(
            item.name,
            image=digest_of(item.path),
            base=base,
            state=state,
            labels=labels,
            changed=changed,
        )

    def counts(self) -> Mapping[str, int]:
        """How many of the items are in each state; "" stands for those that are open."""
        decided = self.decisions.read_all()
        states = [decided[item.name].state if item.name in decided else None for item in self.items]
        return Counter(state or "" for state in states)


def decided_files(run: Run, *, data: Path | None = None) -> list[tuple[State, Path]]:
    """List what was decided in a run's review, in the order of names: the state and the image.

    Images that are no longer unlabeled are left out; ``data`` is as in :func:`open_session`.
    """
    dataset = _dataset(run, data)
    decided = Decisions.open(run.folder / REVIEW, dataset.card).read_all()
    states = ((decided.get(s.name), s.image) for s in dataset.splits["unlabeled"])
    return [(one.state, path) for one, path in states if one is not None and one.state]


def tag(labels: Bytes) -> str:
    """A short name of a mask's content."""
    return hashlib.blake2b(labels.tobytes(), digest_size=8).hexdigest()


def open_session(
    run: Run,
    *,
    data: Path | None = None,
    device: str = "auto",
    approach: str | None = None,
    seed: int | None = None,
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
        on_progress: called with what is done, images done, and images in all.

    Raises:
        UserError: nothing of the run is finished, its data folder is gone or has changed, or there
            is nothing to review.
    """
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
    skipped = _made_before(out, stamp)
    if skipped is None:
        skipped = _predict(run, chosen, dataset, out, device, on_progress)
        made = {"stamp": stamp, "skipped": skipped}
        write_atomic(out / MADE_FROM, json.dumps(made).encode())
    rows = _rows(out)
    items = [_item(s, rows[s.image.name]) for s in samples if s.image.name in rows]
    prep = run.config.preparation
    return Session(
        folder=folder,
        task=run.config.make_task(),
        colors=dataset.card.colors,
        preparation=prep,
        decisions=decisions,
        items=tuple(items[place] for place in _order(items, out)),
        skipped=tuple(skipped),
        chosen=chosen,
    )


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
        [sample.image for sample in samples],
        out,
        root=samples[0].image.parent,
        overlays=False,
        on_progress=lambda done, total: on_progress("predicting", done, total),
    )
    if not report.done:
        raise UserError(
            "none of the unlabeled images can be predicted",
            value=f"{report.skipped[0][0]}: {report.skipped[0][1]}",
            remedy="`imasks check` says what is wrong with them.",
        )
    lost = {path for path, _ in report.skipped}
    paths = [s.image for s in samples if s.image not in lost]
    every = [*paths, *(s.image for s in labeled)]
    prep, found, total = run.config.preparation, [], len(every)
    for done, one in enumerate(ordered(lambda path: _features(path, prep), every), start=1):
        found.append(one)
        on_progress("ordering", done, total)
    described = np.stack(found)
    file = io.BytesIO()
    np.savez(file, unlabeled=described[: len(paths)], labeled=described[len(paths) :])
    write_atomic(out / FEATURES, file.getvalue())
    return [f"{path}: {reason}" for path, reason in report.skipped]


def _features(path: Path, prep: Preparation) -> NDArray[np.float64]:
    return features(resize_image(to_uint8(read_image(path), prep, source=path), prep.size))


def _order(items: Sequence[Item], out: Path) -> list[int]:
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


def _rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / TABLE).open(newline="", encoding="utf-8") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def _item(sample: Sample, row: Mapping[str, str]) -> Item:
    quality = row.get("quality")
    return Item(
        name=sample.name,
        path=sample.image,
        height=int(row["height"]),
        width=int(row["width"]),
        im_share=float(row["im_share"]),
        quality=float(quality) if quality else None,
    )
