"""COCO JSON: polygons and runs, compressed or not, as instances or as whole regions of a class."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from imasks.data.files import write_text
from imasks.errors import UserError
from imasks.exchange.labelled import About, Labelled
from imasks.exchange.shapes import Shape, need_coco, polygon
from imasks.exchange.sheets import INCONSISTENCY, Sheet, Sheets, source_of
from imasks.exchange.source import Bools, ReadOptions, Size, Source, malformed, read_json

FILE = "annotations.json"
WITHOUT = "without a segmentation, only a box"
CROWD = ("class", "ignore")


def read_coco(source: Path, options: ReadOptions) -> Source:
    """Read a COCO JSON file and the folder of its images.

    Regions that are marked as a crowd belong to their class like any other, or take no part.

    Args:
        source: the JSON file; the images lie in `options.images`, or beside the file in a folder
            `images`, or else in the file's folder.
        options: see `ReadOptions`.

    Raises:
        UserError: the file is no COCO JSON, an annotation names an image or category that is not
            there, or no image is found.
    """
    if options.crowd not in CROWD:
        raise UserError(
            "crowds cannot be treated so", value=options.crowd, remedy=f"Use {' or '.join(CROWD)}."
        )
    found = coco_sheets(source, ignore_crowd=options.crowd == "ignore")
    beside = source.parent / "images"
    images = options.images or (beside if beside.is_dir() else source.parent)
    return source_of(found, source.stem, images, options)


def coco_sheets(source: Path, *, ignore_crowd: bool = False) -> Sheets:
    """Read all shapes of a COCO JSON file, see :func:`read_coco`."""
    path = source / FILE if source.is_dir() else source
    content = read_json(path)
    try:
        labels = {key: str(one["name"]) for key, one in _by_id(path, content, "categories").items()}
        pictures = _by_id(path, content, "images")
        shapes: defaultdict[Any, list[Shape]] = defaultdict(list)
        left_out: Counter[str] = Counter()
        for one in content.get("annotations", ()):
            _known(path, one, "image_id", pictures, "image")
            _known(path, one, "category_id", labels, "category")
            if not one.get("segmentation"):
                left_out[WITHOUT] += 1
                continue
            crowd = ignore_crowd and one.get("iscrowd")
            label = None if crowd else labels[one["category_id"]]
            shapes[one["image_id"]].append(_shape(path, one, label))
        sheets = tuple(
            Sheet(
                image=str(one["file_name"]),
                shapes=tuple(shapes[key]),
                size=(int(one["height"]), int(one["width"])) if "height" in one else None,
            )
            for key, one in pictures.items()
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise malformed(path, error, form="COCO") from error
    return Sheets(
        labels=tuple(name for name in dict.fromkeys(labels.values()) if name != INCONSISTENCY),
        sheets=sheets,
        inputs=(path,),
        left_out=left_out,
    )


def write_coco(out: Path, about: About, labelled: Iterable[Labelled]) -> None:
    """Write `annotations.json`: one annotation a class and image, as compressed runs.

    The inconsistency mask is a category of its own, after the classes. Images carry what the run
    says of them (`quality`, `agreement`, `im_share`, `confidence`) as keys of their own.
    """
    names = [*about.shown, INCONSISTENCY]
    ids = {name: number for number, name in enumerate(names, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, one in enumerate(labelled, start=1):
        height, width = one.prediction.im.shape
        images.append(
            {
                "id": number,
                "file_name": one.file,
                "height": height,
                "width": width,
                **one.says(),
            }
        )
        for name, pixels in about.regions(one.prediction):
            if pixels.any():
                annotation = {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": ids[name],
                    "iscrowd": 0,
                    **_encoded(pixels),
                }
                annotations.append(annotation)
    content = {
        "info": {"description": about.model, "version": about.version},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": number, "name": name, "supercategory": ""} for name, number in ids.items()
        ],
    }
    write_text(out / FILE, json.dumps(content, indent=1))


def _by_id(path: Path, content: Mapping[str, Any], key: str) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for one in content[key]:
        if found.setdefault(one["id"], one) is not one:
            raise UserError(
                f"{path}: two {key} have one id", value=one["id"], remedy="Export it once more."
            )
    return found


def _known(
    path: Path, annotation: Mapping[str, Any], key: str, known: Mapping[Any, Any], what: str
) -> None:
    if annotation[key] not in known:
        raise UserError(
            f"{path}: annotation {annotation.get('id', '?')} is of an unknown {what}",
            value=f"{key} {annotation[key]}",
            remedy=f"Add the {what} to the file, or take the annotation out.",
        )


def _shape(path: Path, annotation: Mapping[str, Any], label: str | None) -> Shape:
    """Make a shape of polygons, [[x, y, x, y, ...], ...], or of runs, {"size", "counts"}."""
    given = annotation["segmentation"]
    if isinstance(given, Mapping):
        size = (int(given["size"][0]), int(given["size"][1]))
        counts = given["counts"]
        where = f"{path}: annotation {annotation.get('id', '?')}"
        return Shape(label=label, paint=partial(_runs, where, counts, size))
    rings = [list(zip(ring[::2], ring[1::2], strict=True)) for ring in given]
    return polygon(label, rings)


def _runs(where: str, counts: Any, own: Size, size: Size) -> Bools:
    """Decode runs down the columns, bool [H,W]: a list of lengths or COCO's compressed text."""
    if own != size:
        raise UserError(
            f"{where} is of another size than its image",
            value=f"annotation {own}, image {size}; height first",
            remedy="Give the images that were annotated.",
        )
    try:
        lengths = np.array(counts if isinstance(counts, list) else _lengths(counts), np.int64)
    except (TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise _bad_runs(where, error) from error
    if (lengths < 0).any() or lengths.sum() != own[0] * own[1]:
        raise _bad_runs(where, f"{lengths.sum()} pixels of {own[0] * own[1]}")
    values = np.arange(len(lengths)) % 2 == 1
    pixels: Bools = np.repeat(values, lengths).reshape(own, order="F")
    return pixels


def _lengths(text: str) -> list[int]:
    """Decode COCO's compressed lengths: 5 bits a character, from the third one on differences.

    pycocotools would do it too, but takes runs that do not fill the image.
    """
    lengths: list[int] = []
    number = shift = 0
    for byte in text.encode():
        bits = byte - 48
        if not 0 <= bits < 64:
            raise ValueError(f"a character that does not belong there: {chr(byte)!r}")
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:  # the number goes on
            continue
        if bits & 16:  # it is negative
            number -= 1 << shift
        lengths.append(number + (lengths[-2] if len(lengths) > 2 else 0))
        number = shift = 0
    if shift:
        raise ValueError("the text ends too early")
    return lengths


def _bad_runs(where: str, value: object) -> UserError:
    return UserError(
        f"{where} has runs that do not fill its image", value=value, remedy="Export it once more."
    )


def _encoded(pixels: Bools) -> dict[str, Any]:
    coco = need_coco()
    rle = coco.encode(np.asfortranarray(pixels.astype(np.uint8)))
    return {
        "segmentation": {"size": list(pixels.shape), "counts": rle["counts"].decode()},
        "area": int(coco.area(rle)),
        "bbox": coco.toBbox(rle).tolist(),
    }
