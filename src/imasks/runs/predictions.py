"""Predictions for many image files: a folder of masks, overlays and one table."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imasks.data.files import (
    IMAGE_SUFFIXES,
    UnreadableFile,
    atomic,
    ordered,
    read_image,
    write_png,
    write_text,
)
from imasks.data.prepare import to_uint8
from imasks.errors import UserError
from imasks.runs.colors import class_colors, overlay
from imasks.runs.predictor import Prediction, Predictor
from imasks.tasks import Multiclass, Multilabel, Task

TABLE = "predictions.csv"
MASKS, INCONSISTENCY, OVERLAYS = "masks", "inconsistency", "overlays"
FOLDERS = (MASKS, INCONSISTENCY, OVERLAYS)

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of the images.

    Args:
        done: images predicted.
        skipped: files that cannot be predicted, each with the reason.
    """

    done: int
    skipped: tuple[tuple[Path, str], ...]


def list_inputs(paths: Iterable[Path], *, out: Path | None = None) -> list[Path]:
    """List image files, those in folders and their sub-folders included, each once, sorted.

    Hidden files and folders are left out.

    Args:
        paths: files and folders.
        out: where results go; what is in its result folders is left out, so that the folder of
            the images may hold it.

    Raises:
        UserError: a path does not exist, a file is no image by its suffix, or a folder holds none.
    """
    found: set[Path] = set()
    results = [] if out is None else [_absolute(out / folder) for folder in FOLDERS]
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist", remedy="Give image files, or their folders.")
        images = [
            one
            for one in (_visible_files(path) if path.is_dir() else [path])
            if one.suffix.lower() in IMAGE_SUFFIXES
            and not any(_absolute(one).is_relative_to(folder) for folder in results)
        ]
        if not images:
            raise UserError(
                f"{path} is no image, and no folder that holds any",
                remedy=f"Read are {', '.join(IMAGE_SUFFIXES)}.",
            )
        found.update(images)
    by_place = {_absolute(path): path for path in sorted(found, reverse=True)}
    return [by_place[place] for place in sorted(by_place)]


def common_root(paths: Iterable[Path]) -> Path:
    """Return the deepest folder that holds all paths; a folder is in itself, a file is not."""
    folders = [_absolute(path if path.is_dir() else path.parent) for path in paths]
    try:
        return Path(os.path.commonpath(folders))
    except ValueError as error:
        raise UserError(
            "the images have no folder in common", value=error, remedy="Predict them apart."
        ) from error


def predict_files(
    predictor: Predictor,
    inputs: Sequence[Path],
    out: Path,
    *,
    root: Path | None = None,
    overlays: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Predict image files and write the results.

    A second time, they replace the first; results of images that are no longer given stay.

    NAME is an image's path below `root` without its suffix:

    * `masks/NAME.png`: 0 and 255 (binary), or class ids with the classes' colours as palette
      (multiclass); `masks/CLASS/NAME.png`: 0 and 255 (multilabel);
    * `inconsistency/NAME.png`: 255 where the networks disagree, else 0;
    * `overlays/NAME.jpg`: classes and disagreement drawn on the image;
    * `predictions.csv`, written last: a row an image, with the fields of
      :class:`imasks.runs.predictor.Prediction` and `area/CLASS`, all shares from 0 to 1. Where
      EvalNets judge predictions, also `quality` and, if they tell classes apart,
      `quality/CLASS`; empty where they have nothing to say.

    Args:
        predictor: see :func:`imasks.runs.predictor.predictor_of`.
        inputs: image files, see :func:`list_inputs`.
        out: the folder for the results; made if need be.
        root: the folder below which all inputs lie; by default the deepest there is.
        overlays: whether to draw them.
        on_progress: is called with (images done or skipped, images in all).

    Raises:
        UserError: two inputs would write the same file, or `out` holds something else's files.
    """
    names = _names(inputs, root or common_root(inputs), out)
    _claim(out)
    rows: list[dict[str, object]] = []
    skipped: list[tuple[Path, str]] = []
    for done, (path, image) in enumerate(_images(inputs, predictor), start=1):
        if isinstance(image, UserError):
            skipped.append((path, _reason(image)))
        else:
            prediction = predictor(image)
            stem = names[path].with_suffix("")
            _write_prediction(out, stem, prediction, predictor.task, predictor.colors)
            if overlays:
                _write_overlay(out, stem, image, prediction, predictor)
            rows.append(_row(names[path], prediction))
        if on_progress:
            on_progress(done, len(inputs))
    write_text(out / TABLE, _table(rows, predictor))
    return Report(done=len(rows), skipped=tuple(skipped))


def _visible_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _visible_files(path)
        else:
            yield path


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links


def _names(inputs: Sequence[Path], root: Path, out: Path) -> dict[Path, PurePath]:
    """Give every input its path below the root, by which its results are called."""
    names: dict[Path, PurePath] = {}
    owners: dict[PurePath, Path] = {}
    results = [_absolute(out / folder) for folder in FOLDERS]
    for path in inputs:
        place = _absolute(path)
        if any(place.is_relative_to(folder) for folder in results):
            raise UserError(
                f"{path} lies where results go",
                remedy="Choose another folder for the results, or leave this file out.",
            )
        if not place.is_relative_to(_absolute(root)):
            raise UserError(
                f"{path} is not below {root}", remedy="Give the folder that holds all images."
            )
        names[path] = place.relative_to(_absolute(root))
        other = owners.setdefault(names[path].with_suffix(""), path)
        if other != path:
            raise UserError(
                f"{other} and {path} would both write {names[path].with_suffix('.png')}",
                remedy="Rename one of them, or predict them apart.",
            )
    return names


def _claim(out: Path) -> None:
    """Make the folder of results, or recognise it by its table; strange masks are not replaced."""
    used = [out / name for name in FOLDERS if (out / name).exists()]
    if used and not (out / TABLE).exists():
        raise UserError(
            f"{out} holds {used[0].name}/ but no {TABLE}, so this is no folder of predictions",
            remedy="Choose another folder, so that nothing of yours is replaced.",
        )
    out.mkdir(parents=True, exist_ok=True)
    if not (out / TABLE).exists():
        write_text(out / TABLE, "")


def _images(
    inputs: Sequence[Path], predictor: Predictor
) -> Iterator[tuple[Path, NDArray[Any] | UserError]]:
    """Read images ahead of their prediction; one that cannot be predicted gives its error."""
    return zip(inputs, ordered(partial(_read, predictor=predictor), inputs), strict=True)


def _read(path: Path, *, predictor: Predictor) -> NDArray[Any] | UserError:
    try:
        image = read_image(path)
        to_uint8(image[:1, :1], predictor.preparation)  # refuses another depth
    except UserError as error:
        return error
    return image


def _reason(error: UserError) -> str:
    what = error.reason if isinstance(error, UnreadableFile) else error.what
    return what if error.value is None else f"{what} ({error.value})"


def _write_prediction(
    out: Path, stem: PurePath, prediction: Prediction, task: Task, colors: Sequence[str]
) -> None:
    name = f"{stem}.png"
    mask = prediction.mask
    if isinstance(task, Multiclass):
        palette = [(r, g, b) for r, g, b in class_colors(task, colors).tolist()]
        _write_png(out / MASKS / name, mask, palette)
    elif isinstance(task, Multilabel):
        for class_name, plane in zip(task.classes, mask, strict=True):
            _write_png(out / MASKS / class_name / name, plane * np.uint8(255))
    else:
        _write_png(out / MASKS / name, mask * np.uint8(255))
    _write_png(out / INCONSISTENCY / name, prediction.im * np.uint8(255))


def _write_png(
    path: Path, array: Bytes, palette: Sequence[tuple[int, int, int]] | None = None
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, array, palette)


def _write_overlay(
    out: Path, stem: PurePath, image: NDArray[Any], prediction: Prediction, predictor: Predictor
) -> None:
    path = out / OVERLAYS / f"{stem}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    task = predictor.task
    drawn = overlay(
        to_uint8(image, predictor.preparation),
        prediction.mask,
        prediction.im,
        task,
        class_colors(task, predictor.colors),
    )
    with atomic(path) as temp:
        # colours at full resolution, or thin outlines would smear
        Image.fromarray(drawn).save(temp, format="JPEG", quality=92, subsampling=0)


def _row(name: PurePath, prediction: Prediction) -> dict[str, object]:
    height, width = prediction.im.shape
    shares = {
        "agreement": prediction.agreement,
        "im_share": prediction.im_share,
        "confidence": prediction.confidence,
        **{f"area/{name}": area for name, area in prediction.areas.items()},
        **{f"quality/{name}": one for name, one in prediction.class_quality.items()},
    }
    if prediction.quality is not None:
        shares["quality"] = prediction.quality
    return {
        "file": name.as_posix(),
        "width": width,
        "height": height,
        **{key: f"{share:.6f}" for key, share in shares.items()},
    }


def _table(rows: Sequence[dict[str, object]], predictor: Predictor) -> str:
    task = predictor.task
    columns = ["file", "width", "height", "agreement", "im_share", "confidence"]
    if predictor.judge is not None:
        columns += ["quality", *(f"quality/{name}" for name in task.classes if task.detects)]
    columns += [f"area/{name}" for name in task.classes]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
