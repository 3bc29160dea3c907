"""Labelme: one JSON file an image, with polygons, rectangles, circles and bitmaps."""

from __future__ import annotations

import base64
import binascii
import io
import math
import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from imasks.data.folder import visible
from imasks.errors import UserError
from imasks.exchange.shapes import Shape, ellipse, place, polygon, rectangle
from imasks.exchange.sheets import INCONSISTENCY, Sheet, Sheets, source_of
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
    paths = list(_json_files(source)) if source.is_dir() else [source]
    if not paths:
        raise UserError(f"{source} holds no JSON files", remedy="Give the folder Labelme wrote to.")
    left_out: Counter[str] = Counter()
    folder = source if source.is_dir() else source.parent
    images = options.images or folder
    sheets = tuple(_sheet(path, folder, images, left_out) for path in paths)
    labels = {s.label for sheet in sheets for s in sheet.shapes if s.label}
    found = Sheets(
        labels=tuple(sorted(labels - {INCONSISTENCY})),
        sheets=sheets,
        inputs=tuple(paths),
        left_out=left_out,
    )
    return source_of(found, folder.resolve().name, images, options)


def _json_files(folder: Path) -> Iterator[Path]:
    for path in visible(folder):
        if path.is_dir():
            yield from _json_files(path)
        elif path.suffix == ".json":
            yield path


def _sheet(path: Path, folder: Path, images: Path, left_out: Counter[str]) -> Sheet:
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
    return Sheet(
        image=_place_of(path, given, folder, images),
        shapes=tuple(shape for shape in shapes if shape is not None),
        size=size,
        source=path,
    )


def _place_of(path: Path, given: str, folder: Path, images: Path) -> str:
    """Find an image as seen from its JSON file, or at the same place among the images.

    Returns:
        Its path below the images' folder; where it lies at neither place, the path as given, which
        is often another machine's.
    """
    root = os.path.abspath(images)  # noqa: PTH100 - resolve() would follow links
    beside = images / path.parent.relative_to(folder) / PurePosixPath(given).name
    for candidate in (path.parent / given, beside):
        absolute = Path(os.path.abspath(candidate))  # noqa: PTH100
        if absolute.is_relative_to(root) and absolute.is_file():
            return absolute.relative_to(root).as_posix()
    return given


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
            if len(image.getbands()) != 1:
                raise ValueError(f"a picture of mode {image.mode}")
            pixels = np.asarray(image) > 0
    except (
        *(binascii.Error, UnidentifiedImageError, Image.DecompressionBombError),
        *(OSError, ValueError, SyntaxError),
    ) as error:
        raise UserError(
            f"{path}: a mask is no PNG in base64", value=error, remedy="Draw it once more."
        ) from error
    return place(pixels, corner, size)
