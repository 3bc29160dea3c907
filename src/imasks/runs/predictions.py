"""Predictions for many image files: a folder of masks, overlays and one table."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imasks.data.files import (
    IMAGE_SUFFIXES,
    atomic,
    ordered,
    read_image,
    reason_of,
    safe_name,
    write_png,
    write_text,
)
from imasks.data.folder import count_images, nfc, page_names
from imasks.data.prepare import to_uint8
from imasks.data.source import image_pixels, open_image
from imasks.data.tiff import Pages
from imasks.errors import UserError
from imasks.runs.colors import class_colors, overlay
from imasks.runs.deciding import Prediction
from imasks.runs.ensemble import Ensemble
from imasks.runs.large import LARGE, predict_large, reduced, write_tiles

if TYPE_CHECKING:  # true masks are compared in torch, and predicting alone does not need it
    from torch import Tensor

    from imasks.runs.truth import Truth
    from imasks.tasks import Task

TABLE, SCORES = "predictions.csv", "scores.json"
MASKS, INCONSISTENCY, OVERLAYS = "masks", "inconsistency", "overlays"
OVERLAY_SIDE = 2048
FOLDERS = (MASKS, INCONSISTENCY, OVERLAYS)

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of the images.

    Args:
        done: images predicted.
        skipped: files that cannot be predicted, each with the reason.
        scores: of all predictions together, by name; empty without true masks.
    """

    done: int
    skipped: tuple[tuple[Path, str], ...]
    scores: Mapping[str, float] = field(default_factory=dict)


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
    predictor: Ensemble,
    inputs: Sequence[Path],
    out: Path,
    *,
    root: Path | None = None,
    overlays: bool = True,
    truth: Truth | None = None,
    on_progress: Callable[[float, int], None] | None = None,
) -> Report:
    """Predict image files and write the results.

    A second time, they replace the first; results of images that are no longer given stay.

    NAME is an image's path below `root` without its suffix, and for a page of a TIFF stack followed
    by `_page` and its number; what some system forbids in names of files becomes `_`:

    * `masks/NAME.png`: 0 and 255 (binary), or class ids with the classes' colours as palette
      (multiclass); `masks/CLASS/NAME.png`: 0 and 255 (multilabel);
    * `inconsistency/NAME.png`: 255 where the networks disagree, else 0;
    * `overlays/NAME.jpg`: classes and disagreement drawn on the image;
    * of images of more than 64 million pixels, masks and inconsistency masks are tiled TIFF files,
      and overlays are reduced to 2048 pixels;
    * `predictions.csv`, written last: a row an image, with the fields of
      :class:`imasks.runs.deciding.Prediction` and `area/CLASS`, all shares from 0 to 1, and
      `count/CLASS` where a class is points. Where EvalNets judge predictions, also `quality` and,
      if they tell classes apart, `quality/CLASS`; empty where they have nothing to say. `page` is
      that of a stack, from 1.

    Args:
        predictor: see :func:`imasks.runs.predictor.predictor_of`.
        inputs: image files, see :func:`list_inputs`.
        out: the folder for the results; made if need be.
        root: the folder below which all inputs lie; by default the deepest there is.
        overlays: whether to draw them.
        truth: true masks; then the table has the scores of every image as `true/SCORE`, and those
            of all together are in `scores.json`. They are taken at the images' own sizes.
        on_progress: is called with (images done or skipped, images in all); while a large image is
            worked on, with parts of it.

    Raises:
        UserError: two inputs would write the same file, `out` holds something else's files, or a
            true mask is missing.
    """
    pages = predictor.preparation.pages
    items = [Item(path, page, of) for path in inputs for page, of in _pages(path, pages)]
    names = _names(items, root or common_root(inputs), out)
    if truth is not None:
        truth.need(names.values())
    _claim(out)
    rows: list[dict[str, object]] = []
    tallies: list[Tensor] = []
    skipped: list[tuple[Path, str]] = []
    tell = on_progress or (lambda done, total: None)

    def score(name: _Name, prediction: Prediction) -> dict[str, object]:
        if truth is None:
            return {}
        tallies.append(truth.tally(name.file, prediction, page=name.item.page))
        return _true_scores(truth.task, tallies[-1])

    for done, (item, image) in enumerate(_images(items, predictor)):
        try:
            if isinstance(image, UserError):
                raise image
            name = _Name(out, names[item], item)
            if image is None:
                part = partial(_tell_part, tell, done, len(items))
                rows.append(_predict_large(name, predictor, overlays, score, part))
            else:
                rows.append(_predict(name, image, predictor, overlays, score))
        except UserError as error:
            skipped.append((item.path, reason_of(error)))
        tell(done + 1, len(items))
    summary: dict[str, float] = {}
    if truth is not None and tallies:
        import torch

        summary = truth.task.summary(torch.cat(tallies))
        known = {name: one if math.isfinite(one) else None for name, one in summary.items()}
        write_text(out / SCORES, json.dumps(known, indent=1))
    write_text(out / TABLE, _table(rows, predictor))
    return Report(done=len(rows), skipped=tuple(skipped), scores=summary)


class Item(NamedTuple):
    """One image to predict: a file, or the page of a stack (from 0; None: the file is no stack)."""

    path: Path
    page: int | None
    of: int


@dataclass(frozen=True)
class _Name:
    """Where the results of one item go: below `out`, by the path of its file below the root."""

    out: Path
    file: PurePath
    item: Item

    def stem(self) -> str:
        return result_name(self.file, self.item)


def _pages(path: Path, pages: Pages) -> Iterator[tuple[int | None, int]]:
    count = count_images(path, pages)
    yield from ((None if count == 1 else page, count) for page in range(count))


def _tell_part(tell: Callable[[float, int], None], done: int, total: int, share: float) -> None:
    tell(done + share, total)


def result_name(file: PurePath, item: Item) -> str:
    """Name an item's results, such that every system accepts it.

    Args:
        file: its path below the root.
        item: it.

    Returns:
        The path, without suffix, below each folder of results.
    """
    stem = file.with_suffix("")
    if item.page is not None:
        stem = stem.with_name(page_names(stem.name, item.of)[item.page])
    return PurePath(*map(safe_name, stem.parts)).as_posix()


Scorer = Callable[[_Name, Prediction], dict[str, object]]


def _predict(
    name: _Name, image: NDArray[Any], predictor: Ensemble, overlays: bool, score: Scorer
) -> dict[str, object]:
    prediction = predictor(image)
    _write_prediction(name, prediction, predictor)
    if overlays:
        shown = to_uint8(image, predictor.preparation)
        _write_overlay(name, shown, prediction.mask, prediction.im, predictor)
    return _row(name, prediction) | score(name, prediction)


def _predict_large(
    name: _Name,
    predictor: Ensemble,
    overlays: bool,
    score: Scorer,
    on_progress: Callable[[float], None],
) -> dict[str, object]:
    path, page, _ = name.item
    pages = predictor.preparation.pages
    with (
        TemporaryDirectory(dir=name.out, prefix=".") as folder,
        open_image(path, page=page, pages=pages) as source,
    ):
        prediction = predict_large(predictor, source, Path(folder), on_progress=on_progress)
        _write_prediction(name, prediction, predictor)
        if overlays:
            small = reduced(source, prediction, predictor.preparation, side=OVERLAY_SIDE)
            _write_overlay(name, *small, predictor)
        row = _row(name, prediction) | score(name, prediction)
        del prediction  # Windows does not delete files that are mapped
    return row


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


def _names(items: Sequence[Item], root: Path, out: Path) -> dict[Item, PurePath]:
    """Give every item the path of its file below the root, by which its results are called."""
    names: dict[Item, PurePath] = {}
    owners: dict[str, Path] = {}
    results = [_absolute(out / folder) for folder in FOLDERS]
    for item in items:
        path, place = item.path, _absolute(item.path)
        if any(place.is_relative_to(folder) for folder in results):
            raise UserError(
                f"{path} lies where results go",
                remedy="Choose another folder for the results, or leave this file out.",
            )
        if not place.is_relative_to(_absolute(root)):
            raise UserError(
                f"{path} is not below {root}", remedy="Give the folder that holds all images."
            )
        names[item] = place.relative_to(_absolute(root))
        stem = result_name(names[item], item)
        # some systems hold names to be one that differ in capitals or composed accents alone
        other = owners.setdefault(nfc(stem).casefold(), path)
        if other != path:
            raise UserError(
                f"{other} and {path} would both write {stem}.png",
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
    items: Sequence[Item], predictor: Ensemble
) -> Iterator[tuple[Item, NDArray[Any] | UserError | None]]:
    """Read images ahead of their prediction; None stands for one that is too large for that.

    One that cannot be predicted gives its error.
    """
    return zip(items, ordered(partial(_read, predictor=predictor), items), strict=True)


def _read(item: Item, *, predictor: Ensemble) -> NDArray[Any] | UserError | None:
    path, page, _ = item
    pages = predictor.preparation.pages
    try:
        if image_pixels(path, page=page, pages=pages) > LARGE:
            return None
        image = read_image(path, page=page, pages=pages)
        to_uint8(image[:1, :1], predictor.preparation)  # refuses another depth
    except UserError as error:
        return error
    return image


def _write_prediction(name: _Name, prediction: Prediction, predictor: Ensemble) -> None:
    task, mask = predictor.task, prediction.mask
    masks = name.out / MASKS
    if task.name == "multiclass":
        palette = [(r, g, b) for r, g, b in class_colors(task, predictor.colors).tolist()]
        _write_mask(masks / name.stem(), mask, palette)
    elif task.name == "multilabel":
        for class_name, plane in zip(task.classes, mask, strict=True):
            _write_mask(masks / safe_name(class_name) / name.stem(), plane.view(np.bool_))
    else:
        _write_mask(masks / name.stem(), mask.view(np.bool_))
    _write_mask(name.out / INCONSISTENCY / name.stem(), prediction.im)


def _write_mask(
    path: Path, array: NDArray[Any], palette: Sequence[tuple[int, int, int]] | None = None
) -> None:
    """Write uint8 ids, or bool as 0 and 255, under a path without suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    large = array.size > LARGE
    used, unused = (".tif", ".png") if large else (".png", ".tif")
    target = path.with_name(path.name + used)
    if large:
        write_tiles(target, array, palette)
    else:
        write_png(target, array * np.uint8(255) if array.dtype == np.bool_ else array, palette)
    path.with_name(path.name + unused).unlink(missing_ok=True)  # of an earlier time


def _write_overlay(
    name: _Name, image: Bytes, mask: Bytes, im: NDArray[np.bool_], predictor: Ensemble
) -> None:
    path = name.out / OVERLAYS / f"{name.stem()}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    task = predictor.task
    drawn = overlay(image, mask, im, task, class_colors(task, predictor.colors))
    with atomic(path) as temp:
        # colours at full resolution, or thin outlines would smear
        Image.fromarray(drawn).save(temp, format="JPEG", quality=92, subsampling=0)


def _row(name: _Name, prediction: Prediction) -> dict[str, object]:
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
    page = name.item.page
    return {
        "file": name.file.as_posix(),
        **({} if page is None else {"page": page + 1}),
        "width": width,
        "height": height,
        **{key: f"{share:.6f}" for key, share in shares.items()},
        **{f"count/{name}": count for name, count in prediction.counts.items()},
    }


def _true_scores(task: Task, tally: Tensor) -> dict[str, object]:
    """Write the scores of one image for the table; empty where there is none, as all is void."""
    scores = {name: float(values) for name, values in task.scores(tally).items()}
    return {f"true/{name}": "" if math.isnan(one) else f"{one:.6f}" for name, one in scores.items()}


def _table(rows: Sequence[dict[str, object]], predictor: Ensemble) -> str:
    task = predictor.task
    pages = ["page"] if any("page" in row for row in rows) else []
    columns = ["file", *pages, "width", "height", "agreement", "im_share", "confidence"]
    if predictor.judged:
        columns += ["quality", *(f"quality/{name}" for name in task.classes if task.detects)]
    columns += [f"area/{name}" for name in task.classes]
    columns += [f"count/{name}" for name in task.counted]
    columns += [name for name in (rows[0] if rows else ()) if name.startswith("true/")]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
