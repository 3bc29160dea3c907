"""A model card: what a model is, what it learned from, how good it is, and where it ends."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable, Iterator, Sequence

from imasks.runs.choice import Chosen
from imasks.runs.config import read_versions
from imasks.runs.run import Run
from imasks.runs.summary import QUALITY, Row
from imasks.runs.tables import spread_text

FILE = "MODEL_CARD.md"
PURPOSE = (
    "proposing masks of images like those it learned from, to be checked by a person, or to be "
    "trained on"
)


def model_card(run: Run, chosen: Chosen, *, export: Sequence[str], licence: str | None) -> str:
    """Write a card as Markdown, with a head that model hubs read.

    Args:
        run: that the model is of.
        chosen: which of its ensembles.
        export: lines of Markdown about what the card lies beside.
        licence: of the model, as its owner says; None: it is not stated.
    """
    rows = run.rows()
    own = next(row for row in rows if row.approach == chosen.approach)
    sections = [
        _head(licence),
        f"# {plain(chosen.approach)} on {plain(run.config.title)}",
        _section("Model", _model(run, chosen, own)),
        _section("Data", _data(run)),
        f"## Scores\n\n{_scores(run, rows, chosen)}",
        _section("Limits", _limits(run, chosen)),
        _section("This export", export),
        f"## Licence\n\n{_licence(licence)}",
    ]
    return "\n\n".join(sections) + "\n"


def count(number: int, what: str) -> str:
    """Write a number of things; the plural is that with an s."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def plain(text: str) -> str:
    """Keep a name of the user's from ending a cell, a line or the plain text."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _head(licence: str | None) -> str:
    name = json.dumps("unknown" if licence is None else licence)  # a string of JSON is one of YAML
    lines = (f"license: {name}", "library_name: imasks", "pipeline_tag: image-segmentation")
    return "\n".join(("---", *lines, "---"))


def _section(title: str, lines: Iterable[str]) -> str:
    return f"## {title}\n\n" + "\n".join(f"* {line}" for line in lines)


def _model(run: Run, chosen: Chosen, own: Row) -> list[str]:
    config = run.config
    versions = ", ".join(f"{name} {version}" for name, version in read_versions(run.folder).items())
    return [
        f"Task: {config.task}; classes: {', '.join(map(plain, config.classes))}.",
        f"Approach {chosen.approach} (preset {config.preset}), seed {chosen.seed}, generation "
        f"{chosen.generation}: {count(len(chosen.fits), 'network')} of "
        f"{_numbers(own.parameters)} parameters, each trained for {_numbers(own.steps)} steps. "
        "Where several disagree, the inconsistency mask says so.",
        f"Made for: {PURPOSE}.",
        f"Trained with {versions}; card written by imasks {importlib.metadata.version('imasks')}.",
    ]


def _data(run: Run) -> list[str]:
    config, prep = run.config, run.config.preparation
    H, W = prep.size
    counts = ", ".join(f"{number} {split}" for split, number in config.images.items() if number)
    cut = f" ({len(config.val_cut)} of the labeled ones validate)" if config.val_cut else ""
    shown = {"tile": "cut into tiles of"}.get(prep.fit, "resized to")
    return [
        f"Name: {plain(config.title)}; checksum {config.checksum}.",
        f"Images when training began: {counts}{cut}.",
        f"Networks see them with {count(prep.channels, 'channel')}, {shown} {H} x {W} pixels "
        f"(height x width); files have the depth {prep.depth}.",
    ]


def _scores(run: Run, rows: Sequence[Row], chosen: Chosen) -> str:
    score = run.config.make_task().primary
    lines = [
        f"| approach | generations | {score}, validation | {score}, test | together, test |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        name = f"**{row.named}**" if row.approach == chosen.approach else row.named
        generations = ", ".join(map(str, row.generation)) or "-"
        cells = [str(one) if one else "-" for one in (row.val, row.test, row.ensemble_test)]
        lines.append(f"| {name} | {generations} | {' | '.join(cells)} |")
    spread = f"{spread_text(rows)}.".capitalize()
    lines += [
        "",
        f"{spread} Validation and test are of the best single network by validation score, "
        "together is of the best networks together, which the model is. Scores are means over "
        "whole images at the training size.",
    ]
    own = next(row for row in rows if row.approach == chosen.approach)
    if own.quality:
        told = ", ".join(f"{n} {own.quality[k]}" for n, k in QUALITY.items() if k in own.quality)
        lines += ["", f"Predicted quality against true scores of test images: {told}."]
    return "\n".join(lines)


def _limits(run: Run, chosen: Chosen) -> Iterator[str]:
    images = run.config.images
    yield (
        f"It learned from {count(images.get('labeled', 0), 'labeled image')}; on images from "
        "elsewhere (another device, staining, season or place) nothing is known."
    )
    yield (
        "The inconsistency masks show where its networks disagree. Where all are wrong alike, they "
        "show nothing."
    )
    if not images.get("test"):
        yield (
            "There were no test images: validation scores chose the networks, so they are too good."
        )
    if run.config.preparation.fit == "tile":
        yield "It learned from tiles, and says of no mask how good it is."
    elif chosen.quality is None:
        yield "It does not say how good a single mask is: no EvalNets were trained."
    else:
        yield (
            "Predicted quality is an expectation over many images, calibrated on "
            f"{count(images.get('val', 0), 'validation image')}; a single one may be far off."
        )
    if chosen.done < chosen.jobs:
        yield (
            f"The training is not finished ({chosen.done} of {chosen.jobs} jobs): what is best may "
            "change."
        )
    yield "It is no medical device, and no substitute for looking at the masks."


def _licence(licence: str | None) -> str:
    if licence is None:
        return (
            "Licence: not stated. Whoever passes the model or its masks on should say it here; the "
            "terms of the images may hold for what is made of them."
        )
    return f"Licence: {licence}"


def _numbers(values: Sequence[int]) -> str:
    return " or ".join(f"{value:,}" for value in sorted(set(values)))
