"""The model card: from a plain record to Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

UNKNOWN = "unknown"


def model_card(record: Mapping[str, Any]) -> str:
    """Write a model card.

    Args:
        record: see :func:`imasks.deploy.record.record_of`; plain dictionaries, lists, numbers and
            strings.

    Returns:
        Markdown, with the licence also in a head that programs read.
    """
    model, data = record["model"], record["data"]
    license = record["license"] or UNKNOWN
    parts = [
        f"---\nlicense: {json.dumps(license)}\npipeline_tag: image-segmentation\n---\n",
        f"# {_plain(model['approach'])} on {_plain(data['name'])}\n",
        f"`{record['file']}` segments images: {model['task']}, "
        f"{', '.join(_plain(name) for name in model['classes'])}. Several small networks vote; "
        "where they disagree, the inconsistency mask says so.\n",
        "## Model\n",
        _table(("", ""), _model(record)),
        "## Data\n",
        _table(("images", ""), _data(data)),
        "## Scores\n",
        _table(("", "mean ± deviation over seeds", "seeds"), _spreads(record["scores"])),
    ]
    if record["quality"]:
        parts.append("How well predicted quality tells the scores of single test images:\n")
        parts.append(
            _table(("", "mean ± deviation over seeds", "seeds"), _spreads(record["quality"]))
        )
    parts += ["## Limits\n", "".join(f"* {line}\n" for line in _limits(record))]
    parts += ["## Licence\n", _license(record["license"])]
    return "\n".join(parts)


def _model(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    model, training, checked = record["model"], record["training"], record["checked"]
    height, width = model["preparation"]["size"]
    yield "networks", str(model["networks"])
    yield "seed, generation", f"{model['seed']}, {model['generation']}"
    yield "parameters of a network", _numbers(training["parameters"])
    yield "optimiser steps of a network", _numbers(training["steps"])
    yield "preset", training["preset"]
    yield "images are seen at", f"{height} x {width} pixels ({model['preparation']['fit']})"
    yield "image channels, depth", "{channels}, {depth}".format(**model["preparation"])
    yield "outputs", ", ".join(model["outputs"])
    yield (
        "compared with PyTorch",
        f"on {checked['images']} validation images: probabilities and quality differ by at most "
        f"{checked['difference']:.1g} ({checked['resized']:.1g} on average where images are "
        f"resized), labels and inconsistency mask at {checked['pixels']:.2%} of the pixels at most",
    )
    yield "written by", f"imasks {model['version']}"


def _data(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for split, count in data["images"].items():
        cut = f", {data['val_cut']} of them taken from labeled" if data["val_cut"] else ""
        yield split, f"{count}{cut if split == 'val' else ''}"
    yield "checksum", data["checksum"]


def _spreads(values: Mapping[str, Mapping[str, Any] | None]) -> Iterator[tuple[str, str, str]]:
    for name, spread in values.items():
        if spread is None:
            yield name, "not known", "0"
        else:
            deviation = spread["deviation"]
            tail = "" if deviation is None else f" ± {deviation:.3f}"
            yield name, f"{spread['mean']:.3f}{tail}", str(spread["count"])


def _limits(record: Mapping[str, Any]) -> Iterator[str]:
    model, images = record["model"], record["data"]["images"]
    yield (
        f"All it knows comes from one data set of {images['labeled']} labeled and "
        f"{images['unlabeled']} unlabeled images. Images of another origin (camera, stain, place) "
        "can give wrong masks, and networks that learned from the same images can be wrong "
        "together."
    )
    if not images["test"]:
        yield "There were no test images: no score tells how good it is on images it never saw."
    if record["training"]["seeds"] == 1:
        yield "It was trained with one seed: how much scores vary by chance is not known."
    if not record["finished"]:
        yield "The run was not finished when this was written: scores may change."
    if model["preparation"]["fit"] == "tile":
        yield "It learned from tiles, and predicts no quality."
    elif "quality" in model["outputs"]:
        yield (
            "Predicted quality is an expectation over many masks, calibrated on "
            f"{images['val']} validation images; a single mask may be better or worse."
        )
    else:
        yield "It predicts no quality of its masks."
    if record["points"]:
        names = ", ".join(map(_plain, record["points"]))
        yield f"Points ({names}) come as masks: only the run itself counts them."
    yield "It is no medical device, and no substitute for looking at the masks."


def _license(license: str | None) -> str:
    if license:
        return f"{license}\n"
    return (
        "Not stated. Whoever hands this model on should state one; the licence of the images it "
        "learned from may bind it.\n"
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *(tuple(map(_plain, row)) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(f"{value:,}" for value in dict.fromkeys(values))


def _plain(text: str) -> str:
    """Keep a name of the user's from ending a cell, a line or the plain text."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
