"""Label Studio: JSON with brush masks, polygons, rectangles and ellipses."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree as ET

import numpy as np

from imasks.data.files import IMAGE_SUFFIXES, atomic, write_text
from imasks.errors import UserError
from imasks.exchange.brush import decode_brush, encode_brush
from imasks.exchange.labelled import About, Labelled
from imasks.exchange.shapes import Shape, ellipse, polygon, rectangle
from imasks.exchange.sheets import INCONSISTENCY, Sheet, Sheets, source_of
from imasks.exchange.source import Bools, ReadOptions, Size, Source, malformed, read_json

FILE, CONFIG = "tasks.json", "labeling_config.xml"
IMAGE_KEY = "image"
_FORM = "a Label Studio export (JSON)"
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # Label Studio puts this before the names of uploads


def read_labelstudio(source: Path, options: ReadOptions) -> Source:
    """Read a JSON export and the folder of its images, `options.images`.

    Only annotations count, not predictions; of several annotations the last one that was not
    cancelled. An annotation without regions says that the image shows nothing.

    Raises:
        UserError: the file is damaged or of another form, or no image is found.
    """
    found = labelstudio_sheets(source)
    return source_of(found, source.stem, options.images or found.inputs[0].parent, options)


def labelstudio_sheets(source: Path) -> Sheets:
    """Read all regions of a JSON export, see :func:`read_labelstudio`."""
    path = source / FILE if source.is_dir() else source
    tasks = read_json(path)
    left_out: Counter[str] = Counter()
    try:
        if not isinstance(tasks, list):
            raise TypeError("the file holds no list of tasks")
        sheets = tuple(_sheet(path, task, left_out) for task in tasks)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise malformed(path, error, form=_FORM) from error
    labels = {str(shape.label) for sheet in sheets for shape in sheet.shapes}
    return Sheets(
        labels=tuple(sorted(labels - {INCONSISTENCY})),
        sheets=sheets,
        inputs=(path,),
        left_out=left_out,
    )


def write_labelstudio(out: Path, about: About, labelled: Iterable[Labelled]) -> None:
    """Write `tasks.json` with one prediction an image, and `labeling_config.xml`.

    Every class is one brush mask, exact to the pixel, and so is the inconsistency mask. The score
    of a prediction is its quality, where the run has it; what else the run says stands beside the
    image in the task's data.
    """
    tasks = [_task(about, one) for one in labelled]
    write_text(out / FILE, json.dumps(tasks))
    view = ET.Element("View")
    ET.SubElement(view, "Image", name="image", value=f"${IMAGE_KEY}", zoom="true")
    brushes = ET.SubElement(view, "BrushLabels", name="label", toName="image")
    for name in (*about.shown, INCONSISTENCY):
        ET.SubElement(brushes, "Label", value=name)
    ET.indent(view)
    with atomic(out / CONFIG) as temp:
        ET.ElementTree(view).write(temp, encoding="utf-8")


def image_name(task: Mapping[str, Any], *, uploaded: bool = False) -> str:
    """Find a task's image: in a path, a URL, or the name of an upload.

    Args:
        task: of an export.
        uploaded: the name under which Label Studio keeps an upload, instead of its own.

    Raises:
        KeyError: the task's data hold none.
    """
    for value in task["data"].values():
        if not isinstance(value, str):
            continue
        url = urlsplit(value)
        local = parse_qs(url.query).get("d")  # /data/local-files/?d=folder/name.png
        place = PurePosixPath(unquote(local[0] if local else url.path).replace("\\", "/"))
        if place.suffix.lower() in IMAGE_SUFFIXES:
            if "/upload/" not in url.path:
                return str(place).lstrip("/")
            return place.name if uploaded else _UPLOADED.sub("", place.name)
    raise KeyError(f"the image of task {task.get('id', '?')}")


def _task(about: About, one: Labelled) -> dict[str, Any]:
    said = one.says()
    regions = enumerate(about.regions(one.prediction))
    prediction: dict[str, Any] = {
        "model_version": about.model,
        "result": [
            _region(f"{one.name}-{number}", name, pixels)
            for number, (name, pixels) in regions
            if pixels.any()
        ],
    }
    if "quality" in said:
        prediction["score"] = said["quality"]
    return {"data": {IMAGE_KEY: one.file, **said}, "predictions": [prediction]}


def _region(key: str, name: str, pixels: Bools) -> dict[str, Any]:
    H, W = pixels.shape
    return {
        "id": key,
        "type": "brushlabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": W,
        "original_height": H,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": encode_brush(pixels), "brushlabels": [name]},
    }


def _sheet(path: Path, task: Mapping[str, Any], left_out: Counter[str]) -> Sheet:
    name = image_name(task)
    done = [one for one in task.get("annotations") or () if not one.get("was_cancelled")]
    shapes, sizes = [], set()
    for one in done[-1]["result"] if done else ():
        value = one.get("value", {})
        kind = one["type"]
        if kind in ("choices", "textarea", "rating", "relation", "number", "taxonomy"):
            continue  # of the whole image
        size = (int(one["original_height"]), int(one["original_width"]))
        turned = one.get("image_rotation", 0) != 0
        made = [] if turned else _shapes(path, name, value, size)
        if not made:
            left_out[
                "on an image turned in Label Studio" if turned else f"{kind} have no area"
            ] += 1
        else:
            shapes += made
            sizes.add(size)
    if len(sizes) > 1:
        raise ValueError(f"the regions of {name} are of several sizes")
    return Sheet(
        image=name,
        kept_as=image_name(task, uploaded=True),
        shapes=tuple(shapes),
        size=next(iter(sizes), None),
        done=bool(done),
    )


def _shapes(path: Path, name: str, value: Mapping[str, Any], size: Size) -> list[Shape]:
    """Make a shape of a region for each of its labels; none of one that has no area."""
    key = next((one for one in value if one.endswith("labels")), None)
    labels = [str(label) for label in value[key]] if key is not None else []
    made = [_shape(path, name, value, label, size) for label in labels]
    return [shape for shape in made if shape is not None]


def _shape(path: Path, name: str, value: Mapping[str, Any], label: str, size: Size) -> Shape | None:
    """Make a shape of a region, whose points are given in percent of the image's sides."""
    H, W = size

    def point(x: float, y: float) -> tuple[float, float]:
        return x * W / 100, y * H / 100

    if "rle" in value:
        return Shape(label=label, paint=partial(_brush, path, name, value["rle"], size))
    if "points" in value:
        return polygon(label, [[point(x, y) for x, y in value["points"]]])
    turn = float(value.get("rotation", 0))
    if "radiusX" in value:
        center = point(value["x"], value["y"])
        return ellipse(label, center, point(value["radiusX"], value["radiusY"]), turn)
    if "width" in value and "height" in value:  # a point has a width alone
        first = point(value["x"], value["y"])
        second = point(value["x"] + value["width"], value["y"] + value["height"])
        return rectangle(label, first, second, turn=turn, about=first)
    return None


def _brush(path: Path, name: str, rle: list[int], own: Size, size: Size) -> Bools:
    if own != size:
        return np.zeros(size, np.bool_)  # the sheet's size has been refused before
    try:
        return decode_brush(rle, own)
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(
            f"{path}: the brush mask of {name} is damaged",
            value=error,
            remedy="Export it once more.",
        ) from error
