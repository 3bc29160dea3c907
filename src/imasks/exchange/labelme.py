"""Labelme: one JSON file an image, with polygons, rectangles, circles and bitmaps."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections import Counter
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from imasks.errors import UserError
from imasks.exchange.shapes import Shape, ellipse, place, polygon, rectangle
from imasks.exchange.sheets import Sheet, Sheets, source_of
from imasks.exchange.source import (
    BACKGROUND,
    Bools,
    ReadOptions,
    Size,
    Source,
    malformed,
    read_json,
)

_FORM = "Labelme"
LABELS = {"__ignore__": None, "_background_": BACKGROUND}  # Labelme's own words


def read_labelme(source: Path, options: ReadOptions) -> Source:
    """Read a folder of Labelme's JSON files.

    Images lie in `options.images`, or beside the JSON files; those without a file are unlabeled.
    A file without shapes says that an image shows nothing only with `options.empty`.

    Raises:
        UserError: there are no JSON files, one is damaged or of another form, or no image is
            found.
    """
    paths = sorted(source.rglob("*.json")) if source.is_dir() else [source]
    if not paths:
        raise UserError(f"{source} holds no JSON files", remedy="Give the folder Labelme wrote to.")
    left_out: Counter[str] = Counter()
    sheets = tuple(_sheet(path, left_out) for path in paths)
    found = Sheets(
        labels=tuple(sorted({s.label for sheet in sheets for s in sheet.shapes if s.label})),
        sheets=sheets,
        inputs=tuple(paths),
        left_out=left_out,
    )
    folder = source if source.is_dir() else source.parent
    return source_of(found, folder.resolve().name, options.images or folder, options)


def _sheet(path: Path, left_out: Counter[str]) -> Sheet:
    content = read_json(path)
    try:
        shapes = [_shape(path, one) for one in content["shapes"]]
        left_out.update(
            f"a {one.get('shape_type')} has no area"
            for one, shape in zip(content["shapes"], shapes, strict=True)
            if shape is None
        )
        given = str(content["imagePath"]).replace("\\", "/")
        size = None
        if content.get("imageHeight") and content.get("imageWidth"):
            size = (int(content["imageHeight"]), int(content["imageWidth"]))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise malformed(path, error, form=_FORM) from error
    # the path is as seen from the JSON file, and often from another machine: the name will do
    return Sheet(
        image=PurePosixPath(given).name,
        shapes=tuple(shape for shape in shapes if shape is not None),
        size=size,
        source=path,
    )


def _shape(path: Path, one: dict[str, Any]) -> Shape | None:
    label, kind = LABELS.get(one["label"], str(one["label"])), one.get("shape_type", "polygon")
    points = [(float(x), float(y)) for x, y in one["points"]]
    match kind:
        case "polygon":
            return polygon(label, [points])
        case "rectangle":
            xs, ys = zip(*points, strict=True)  # two corners, or all four
            return rectangle(label, (min(xs), min(ys)), (max(xs), max(ys)))
        case "circle":
            radius = math.dist(points[0], points[1])
            return ellipse(label, points[0], (radius, radius))
        case "mask":
            corner = (round(points[0][0]), round(points[0][1]))
            return Shape(label=label, paint=partial(_bitmap, path, str(one["mask"]), corner))
        case _:
            return None


def _bitmap(path: Path, text: str, corner: tuple[int, int], size: Size) -> Bools:
    """Decode a PNG in base64 whose upper left pixel lies at (x, y); what lies outside is cut."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as image:
            pixels = np.asarray(image) > 0
    except (binascii.Error, UnidentifiedImageError, OSError, ValueError) as error:
        raise UserError(
            f"{path}: a mask is no PNG in base64", value=error, remedy="Draw it once more."
        ) from error
    return place(pixels, corner, size)
