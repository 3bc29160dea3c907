"""CVAT: "CVAT for images 1.1" (XML) and "Segmentation mask 1.1" (colours with a label map)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

from imasks.data.files import atomic, write_text
from imasks.errors import UserError
from imasks.exchange.labelled import About, Labelled
from imasks.exchange.palette import LABELMAP, read_label_map
from imasks.exchange.shapes import Shape, ellipse, place, polygon, rectangle
from imasks.exchange.sheets import INCONSISTENCY, Sheet, Sheets, source_of
from imasks.exchange.source import Bools, ReadOptions, Size, Source, malformed
from imasks.runs.colors import default_colors

FILE, LABELS = "annotations.xml", "labels.json"
QUALITY = "predicted"  # the tag of an image that carries the run's numbers
FLAT = ("tag",)  # says something of the whole image
GREY = "#808080"  # of the inconsistency mask, as in overlays
_FORM = '"CVAT for images 1.1"'


def read_cvat(source: Path, options: ReadOptions) -> Source:
    """Read an unpacked export of CVAT.

    Args:
        source: of "CVAT for images 1.1" the XML file or its folder, with the images in
            `options.images` or in `images/` beside the file; of "Segmentation mask 1.1" the
            folder with `labelmap.txt`.
        options: see `ReadOptions`.

    Raises:
        UserError: it is neither, the file is damaged, or a shape has a label that is not declared.
    """
    if (source / LABELMAP).is_file():
        return read_label_map(source, options)
    found = cvat_sheets(source)
    folder = found.inputs[0].parent
    beside = folder / "images"
    images = options.images or (beside if beside.is_dir() else folder)
    return source_of(found, folder.resolve().name, images, options)


def cvat_sheets(source: Path) -> Sheets:
    """Read all shapes of a "CVAT for images 1.1" file, see :func:`read_cvat`."""
    path = source / FILE if source.is_dir() else source
    if not path.is_file() or path.suffix.lower() == ".zip":
        raise UserError(
            f"{source} is no unpacked export of CVAT",
            remedy=f"Unpack the archive and give its folder, which holds {FILE} or {LABELMAP}.",
        )
    try:
        root = ET.parse(path).getroot()
    except (ET.ParseError, LookupError, ValueError) as error:  # or an encoding that is unknown
        raise UserError(
            f"{path} is no valid XML", value=error, remedy="Export it once more."
        ) from error
    if root.tag != "annotations":
        raise malformed(path, f"<{root.tag}>", form=_FORM)
    if root.find("track") is not None:
        raise malformed(path, "<track>, which belongs to videos", form=_FORM)
    labels = [name.text or "" for name in root.findall("meta//label/name")]
    labels = [name for name in dict.fromkeys(labels) if name != QUALITY]
    left_out: Counter[str] = Counter()
    try:
        sheets = tuple(_sheet(path, image, labels, left_out) for image in root.iter("image"))
    except (KeyError, ValueError) as error:
        raise malformed(path, error, form=_FORM) from error
    return Sheets(
        labels=tuple(name for name in labels if name != INCONSISTENCY),
        sheets=sheets,
        inputs=(path,),
        left_out=left_out,
    )


def write_cvat(out: Path, about: About, labelled: Iterable[Labelled]) -> None:
    """Write `annotations.xml`, and `labels.json` with the labels that a CVAT task needs.

    Every class is one mask an image, exact to the pixel; the inconsistency mask is a label of its
    own. The tag `predicted` carries what the run says of the image, as attributes.
    """
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    labels = _labels(about)
    meta = ET.SubElement(ET.SubElement(ET.SubElement(root, "meta"), "task"), "labels")
    for label in labels:
        _declare(meta, label)
    for number, one in enumerate(labelled):
        H, W = one.prediction.im.shape
        image = ET.SubElement(
            root, "image", id=str(number), name=one.file, width=str(W), height=str(H)
        )
        for order, (name, pixels) in enumerate(about.regions(one.prediction)):
            if pixels.any():
                ET.SubElement(image, "mask", _mask(name, pixels, order))
        tag = ET.SubElement(image, "tag", label=QUALITY, source="auto")
        for key, number_said in one.says().items():
            ET.SubElement(tag, "attribute", name=key).text = f"{number_said:.6f}"
    ET.indent(root)
    with atomic(out / FILE) as temp:
        ET.ElementTree(root).write(temp, encoding="utf-8", xml_declaration=True)
    write_text(out / LABELS, json.dumps(labels, indent=1))


def encode_runs(pixels: Bools) -> list[int]:
    """Encode bool [h,w] as lengths of runs along the rows, the first one of False."""
    flat = pixels.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths: list[int] = np.diff([0, *edges.tolist(), flat.size]).tolist()
    return [0, *lengths] if flat[0] else lengths


def decode_runs(lengths: Sequence[int], size: Size) -> Bools:
    """Decode what :func:`encode_runs` gave, bool [h,w].

    Raises:
        ValueError: the lengths do not fill the size.
    """
    counts = np.array(lengths, np.int64)
    if min(size) < 0 or (counts < 0).any() or counts.sum() != size[0] * size[1]:
        raise ValueError(f"runs of {counts.sum()} pixels in a mask of {size[0]} x {size[1]}")
    pixels: Bools = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(size)
    return pixels


def _labels(about: About) -> list[dict[str, Any]]:
    """Describe the labels as CVAT's raw label editor takes them."""
    colors = list(about.card.colors)
    if not colors:
        found = default_colors(len(about.card.classes)).tolist()
        colors = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in found]
    by_name = dict(zip(about.card.classes, colors, strict=True))
    shown: list[dict[str, Any]] = [
        {"name": name, "color": by_name[name], "type": "mask", "attributes": []}
        for name in about.shown
    ]
    said = [
        {
            "name": key,
            "mutable": False,
            "input_type": "text",
            "default_value": "",
            "values": [""],
        }
        for key in ("quality", "agreement", "im_share", "confidence")
    ]
    return [
        *shown,
        {"name": INCONSISTENCY, "color": GREY, "type": "mask", "attributes": []},
        {"name": QUALITY, "color": GREY, "type": "tag", "attributes": said},
    ]


def _declare(meta: ET.Element, label: dict[str, Any]) -> None:
    element = ET.SubElement(meta, "label")
    for key in ("name", "color", "type"):
        ET.SubElement(element, key).text = str(label[key])
    attributes = ET.SubElement(element, "attributes")
    for one in label["attributes"]:
        attribute = ET.SubElement(attributes, "attribute")
        for key, value in one.items():
            text = "\n".join(value) if isinstance(value, list) else str(value)
            ET.SubElement(attribute, key).text = "False" if value is False else text


def _mask(label: str, pixels: Bools, order: int) -> dict[str, str]:
    """Describe a mask by the box around it and the runs along the rows inside."""
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    return {
        "label": label,
        "source": "auto",
        "occluded": "0",
        "rle": ", ".join(map(str, encode_runs(pixels[top:bottom, left:right]))),
        "left": str(left),
        "top": str(top),
        "width": str(right - left),
        "height": str(bottom - top),
        "z_order": str(order),
    }


def _sheet(path: Path, image: ET.Element, labels: Sequence[str], left_out: Counter[str]) -> Sheet:
    shapes = []
    elements = [one for one in image if one.tag not in FLAT]
    for one in sorted(elements, key=lambda one: int(one.get("z_order", "0"))):
        label = one.attrib["label"]
        if label not in labels:
            raise UserError(
                f"{path}: {image.get('name')} holds a label that is not declared",
                value=label,
                remedy=f"Declared in its <meta> are {', '.join(labels) or 'none'}; export the "
                "task once more.",
            )
        shape = _shape(path, one, label)
        if shape is None:
            left_out[f"a {one.tag} has no area"] += 1
        else:
            shapes.append(shape)
    subset = image.get("subset", "")
    return Sheet(
        image=image.attrib["name"],
        shapes=tuple(shapes),
        split=None if subset.lower() in ("", "default") else subset,
        size=(int(image.attrib["height"]), int(image.attrib["width"])),
    )


def _shape(path: Path, one: ET.Element, label: str) -> Shape | None:
    value = one.attrib
    turn = float(value.get("rotation", "0"))
    match one.tag:
        case "polygon":
            pairs = [pair.split(",") for pair in value["points"].split(";")]
            return polygon(label, [[(float(x), float(y)) for x, y in pairs]])
        case "box":
            first = (float(value["xtl"]), float(value["ytl"]))
            return rectangle(label, first, (float(value["xbr"]), float(value["ybr"])), turn=turn)
        case "ellipse":
            center = (float(value["cx"]), float(value["cy"]))
            return ellipse(label, center, (float(value["rx"]), float(value["ry"])), turn)
        case "mask":
            runs = [int(run) for run in value["rle"].split(",")]
            corner = (int(value["left"]), int(value["top"]))
            own = (int(value["height"]), int(value["width"]))
            return Shape(label=label, paint=partial(_paint, path, runs, own, corner))
        case _:
            return None


def _paint(path: Path, runs: list[int], own: Size, corner: tuple[int, int], size: Size) -> Bools:
    try:
        if own[0] > 2 * size[0] or own[1] > 2 * size[1]:  # before memory is taken for it
            raise ValueError(f"a mask of {own[0]} x {own[1]} on an image of {size[0]} x {size[1]}")
        return place(decode_runs(runs, own), corner, size)
    except ValueError as error:
        raise UserError(
            f"{path}: a mask is damaged", value=error, remedy="Export it once more."
        ) from error
