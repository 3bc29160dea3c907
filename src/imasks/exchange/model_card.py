"""A model card: what a model is, what it learned from, how good it is, and where it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from imasks.exchange.labelled import About
from imasks.runs.choice import Chosen
from imasks.runs.config import read_versions
from imasks.runs.run import Run
from imasks.runs.summary import QUALITY, Row

FILE = "MODEL_CARD.md"
UNSTATED = "not stated"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export holds.

    Args:
        format: its name.
        says: the numbers of every image, see `imasks.exchange.labelled.Labelled.says`.
        skipped: images that could not be predicted, each with the reason.
    """

    format: str
    says: Sequence[Mapping[str, float]]
    skipped: Sequence[tuple[str, str]]


def model_card(
    run: Run, chosen: Chosen, about: About, exported: Exported, *, licence: str | None = None
) -> str:
    """Write the card as Markdown, with a head that model hubs read.

    Args:
        run: whose networks predicted.
        chosen: which of them.
        about: what the predictions are about.
        exported: what they are.
        licence: of the model, as its owner says; None: it is not stated.
    """
    config = run.config
    score = config.make_task().primary
    sections = [
        _head(licence),
        f"# Model card: {about.card.name}",
        f"{chosen}. Written by imasks {about.version}.",
        _section("What it is", _what(run, chosen)),
        _section("Data", _data(run, about)),
        f"## Scores\n\n{_scores(run.rows(), chosen, score)}",
        _section("Limits", _limits(run, chosen)),
        _section("This export", _export(exported)),
        f"## Licence\n\n{_licence(licence)}",
    ]
    return "\n\n".join(sections) + "\n"


def _head(licence: str | None) -> str:
    name = "unknown" if licence is None else licence
    lines = (f"license: {name}", "library_name: imasks", "pipeline_tag: image-segmentation")
    return "\n".join(("---", *lines, "---"))


def _section(title: str, lines: Sequence[str]) -> str:
    return f"## {title}\n\n" + "\n".join(f"* {line}" for line in lines)


def _what(run: Run, chosen: Chosen) -> list[str]:
    config = run.config
    own = next(row for row in run.rows() if row.approach == chosen.approach)
    sizes = sorted({f"{count:,}" for count in own.parameters})
    versions = ", ".join(f"{name} {version}" for name, version in read_versions(run.folder).items())
    return [
        f"Task: {config.task}; classes: {', '.join(config.classes)}.",
        f"Approach {chosen.approach} (preset {config.preset}), seed {chosen.seed}, generation "
        f"{chosen.generation}; the mean of {_count(len(chosen.fits), 'network')}"
        f" of {' or '.join(sizes)} parameters.",
        "Made for: proposing masks of images like those it learned from, to be checked by a "
        "person, or to be trained on.",
        f"Trained with {versions}.",
    ]


def _data(run: Run, about: About) -> list[str]:
    config, prep = run.config, run.config.preparation
    H, W = prep.size
    counts = ", ".join(f"{count} {split}" for split, count in config.images.items() if count)
    cut = f" ({len(config.val_cut)} of the labeled ones validate)" if config.val_cut else ""
    shown = {"tile": "cut into tiles of"}.get(prep.fit, "resized to")
    return [
        f"Name: {about.card.name}; checksum {config.checksum}.",
        f"Images when training began: {counts}{cut}.",
        f"Networks see them with {_count(prep.channels, 'channel')}, {shown} {H} x {W} pixels "
        f"(height x width); files have the depth {prep.depth}.",
    ]


def _scores(rows: Sequence[Row], chosen: Chosen, score: str) -> str:
    lines = [
        f"| approach | generations | {score}, validation | {score}, test | together, test |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        name = f"**{row.approach}**" if row.approach == chosen.approach else row.approach
        generations = ", ".join(map(str, row.generation)) or "-"
        cells = [str(one) if one else "-" for one in (row.val, row.test, row.ensemble_test)]
        state = "" if row.complete else f" ({row.progress} jobs)"
        lines.append(f"| {name}{state} | {generations} | {' | '.join(cells)} |")
    seeds = max((row.val.count for row in rows if row.val), default=0)
    spread = (
        f"Mean±deviation over {_count(seeds, 'seed')}"
        if seeds > 1
        else "One seed, so nothing is known of the spread"
    )
    note = (
        f"{spread}, of the best single network by validation score, and of the best networks "
        "together, which predicted here. Scores are means over whole images at the training size."
    )
    own = next(row for row in rows if row.approach == chosen.approach)
    if own.quality:
        told = ", ".join(f"{n} {own.quality[k]}" for n, k in QUALITY.items() if k in own.quality)
        note += f"\n\nPredicted quality against true scores of test images: {told}."
    return "\n".join((*lines, "", note))


def _limits(run: Run, chosen: Chosen) -> list[str]:
    config = run.config
    labeled = config.images.get("labeled", 0)
    lines = [
        f"It learned from {_count(labeled, 'labeled image')}; on images from elsewhere (another "
        "device, staining, season or place) nothing is known.",
        "The inconsistency masks show where its networks disagree. Where all are wrong alike, "
        "they show nothing.",
    ]
    if not config.images.get("test"):
        lines.append(
            "There were no test images: validation scores chose the networks, so they are too good."
        )
    if chosen.quality is None:
        lines.append("It does not say how good a single mask is: no EvalNets were trained.")
    else:
        lines.append(
            "Predicted quality is an expectation over many images, calibrated on the validation "
            "images; a single one may be far off."
        )
    if chosen.done < chosen.jobs:
        lines.append(
            f"The training is not finished ({chosen.done} of {chosen.jobs} jobs): what is best "
            "may change."
        )
    return lines


def _export(exported: Exported) -> list[str]:
    says = exported.says
    lines = [f"Format: {exported.format}; {_count(len(says), 'image')}, not checked by anyone."]
    for key, name in (
        ("agreement", "Agreement of the networks (share of pixels)"),
        ("im_share", "Share of pixels in the inconsistency masks"),
        ("quality", "Predicted quality"),
    ):
        numbers = [one[key] for one in says if key in one]
        if numbers:
            low, high = min(numbers), max(numbers)
            lines.append(f"{name}: mean {fmean(numbers):.3f}, from {low:.3f} to {high:.3f}.")
    if exported.skipped:
        lines.append(f"Left out: {_count(len(exported.skipped), 'image')}:")
        lines += [f"  {name}: {reason}" for name, reason in exported.skipped]
    return lines


def _licence(licence: str | None) -> str:
    if licence is None:
        return (
            f"Licence: {UNSTATED}. Whoever passes the model or its masks on should say it here; "
            "the terms of the images hold for masks made of them."
        )
    return f"Licence: {licence}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
