"""From runs to the report's page."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imasks.approaches.recipes import find_approach
from imasks.data.card import shorten
from imasks.runs.choice import Chosen, choose
from imasks.runs.colors import class_colors
from imasks.runs.command import commands_of
from imasks.runs.config import read_asked, read_versions
from imasks.runs.figures.lines import Panel
from imasks.runs.figures.published import beside
from imasks.runs.figures.style import score_name
from imasks.runs.html.advice import Known, advice_of
from imasks.runs.html.classes import class_table, count_classes
from imasks.runs.html.curves import learning_charts
from imasks.runs.html.gallery import galleries_of
from imasks.runs.html.page import Gallery, Page, RunPage, Swatch, Viewer
from imasks.runs.html.pictures import BUDGET, Album, hex_colors
from imasks.runs.html.scores import (
    empty_table,
    quality_charts,
    score_charts,
    score_table,
    summary_of,
)
from imasks.runs.html.viewer import Thread, threads_of, viewer_of
from imasks.runs.results import sortable
from imasks.runs.run import Run
from imasks.runs.summary import Row
from imasks.runs.summary import rows as rows_of
from imasks.runs.tables import computed_on

VIEWED = 0.6  # share of the pictures' bytes that the viewer may take


def page_of(
    runs: Sequence[Run],
    titles: Sequence[str],
    published: Sequence[Panel] = (),
    *,
    budget: int = BUDGET,
) -> Page:
    """Read all that the report says.

    Args:
        runs: at least one, finished or not.
        titles: what they are called.
        published: panels of published scores to draw beside.
        budget: bytes that all pictures together may take.
    """
    album = Album(budget=0)
    panels = _published_of(runs, titles, published)
    found = []
    for number, (run, title) in enumerate(zip(runs, titles, strict=True), start=1):
        album.budget = budget * number // len(runs)  # what one run leaves, the next may use
        found.append(_run_page(run, title, panels[number - 1], album))
    return Page(
        runs=tuple(found),
        pictures=tuple(album.uris),
        version=importlib.metadata.version("imasks"),
    )


def _run_page(run: Run, title: str, published: Sequence[Panel | None], album: Album) -> RunPage:
    task = run.config.make_task()
    colors = class_colors(task, run.config.colors)
    legend = tuple(
        Swatch(name=name, color=color)
        for name, color in zip(task.classes, hex_colors(colors), strict=True)
    )
    outcomes = run.outcomes()
    rows = rows_of(outcomes)
    chosen = best_of(run, rows)
    threads = threads_of(run)
    counts = count_classes(run, chosen, threads)
    classes, iou_of = class_table(counts, legend)
    known = Known(run=run, found=outcomes, rows=rows, chosen=chosen, counts=counts)
    viewer, galleries = _pictured(run, chosen, threads, album, colors)
    return RunPage(
        title=title,
        summary=summary_of(run, rows, chosen.approach if chosen else None),
        facts=_facts(run),
        advice=advice_of(known),
        scores=score_table(rows, score=score_name(task.primary)),
        empty=empty_table(rows, score=score_name(task.primary)),
        charts=score_charts(run, title, published),
        learning=learning_charts(run),
        quality=quality_charts(run),
        viewer=viewer,
        galleries=galleries,
        legend=legend,
        classes=classes,
        iou_of=iou_of,
        commands=_commands(run),
        configuration=_configuration(run),
        folder=str(run.folder),
    )


def best_of(run: Run, rows: Sequence[Row]) -> Chosen | None:
    """Choose the approach whose ensembles are best on validation, and of it the best seed.

    Approaches that learn from the true masks of unlabeled images are yardsticks: they are chosen
    only where there are no others. So are those with fewer seeds than others, whose means are not
    over the same seeds, and those of which only the start is finished. None before any generation
    is finished.
    """
    scored = [(row, row.ensemble_val) for row in rows if row.ensemble_val is not None]
    usable = [one for one in scored if not find_approach(one[0].approach).needs_truth] or scored
    own = [one for one in usable if not one[0].waits] or usable
    most = max((val.count for _, val in own), default=0)
    full = [(row, val) for row, val in own if val.count == most]
    best, _ = max(full, key=lambda one: sortable(one[1].mean), default=(None, None))
    return None if best is None else choose(run, approach=best.approach)


def _pictured(
    run: Run,
    chosen: Chosen | None,
    threads: Sequence[Thread],
    album: Album,
    colors: np.ndarray,
) -> tuple[Viewer | None, tuple[Gallery, ...]]:
    """Fill the album: the viewer must leave room for the galleries."""
    whole = album.budget
    album.budget = album.size + int(VIEWED * (whole - album.size))
    viewer = viewer_of(run, threads, album, colors)
    album.budget = whole
    return viewer, galleries_of(run, chosen, threads, album, colors)


def _published_of(
    runs: Sequence[Run], titles: Sequence[str], published: Sequence[Panel]
) -> list[list[Panel | None]]:
    """Give every run the published panels that are of its data set; the first one all others."""
    if not published:
        return [[] for _ in runs]
    own = [
        Panel(title=title, data=Path(run.config.data).name, ylabel="", curves=())
        for run, title in zip(runs, titles, strict=True)
    ]
    _, below = beside(own, published)
    same = [[panel] for panel in below[: len(runs)]]
    return [same[0] + list(below[len(runs) :]), *same[1:]]


def _facts(run: Run) -> tuple[tuple[str, str], ...]:
    config = run.config
    H, W = config.preparation.size
    images = ", ".join(f"{count} {split}" for split, count in config.images.items())
    reviewed = () if config.review is None else (("Review", str(config.review)),)
    return (
        ("Data", config.data),
        ("Task", f"{config.task}: {', '.join(config.classes)}"),
        ("Images", images),
        ("Networks see", f"{H} x {W} pixels, {_FITS[config.preparation.fit]}"),
        ("Training", f"preset {config.preset}, {config.budget}"),
        ("Repeated", f"{_count(config.seeds, 'seed')}, {computed_on(config)}"),
        *reviewed,
        *_levels(config.preparation.levels),
    )


def _levels(levels: Sequence[tuple[float, float]] | None) -> tuple[tuple[str, str], ...]:
    """Which values became 0 and 255, channel by channel; nothing for images of 8 bits."""
    if levels is None:
        return ()
    return (("Brought to 8 bits from", shorten(f"{a:g} to {b:g}" for a, b in levels) or ""),)


_FITS = {"resize": "whole images", "tile": "in tiles"}


def _count(values: Sequence[object], what: str) -> str:
    return f"{len(values)} {what}" + ("" if len(values) == 1 else "s")


def _commands(run: Run) -> tuple[str, ...]:
    """The commands that give the run again; none where its options were not noted."""
    asked, config = read_asked(run.folder), run.config
    if asked is None:
        return ()
    # what was found by measuring may be found otherwise another time
    asked = {**asked, "precision": config.how.recipe.precision}
    if config.device == "cpu":
        asked["threads"] = config.threads
    folder = str(run.folder)
    return commands_of(config.data, folder, config.approaches, config.seeds, asked)


def _configuration(run: Run) -> tuple[tuple[str, str], ...]:
    """Everything in ``run.toml``, flat, with what the numbers were computed with."""
    versions = {f"versions.{k}": v for k, v in read_versions(run.folder).items()}
    return tuple(_flat({**run.config.to_json(), **versions}))


def _flat(values: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{at}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for place, each in enumerate(value, start=1):
                yield from _flat(each, f"{name}.{place}.")
        elif isinstance(value, list):
            yield name, ", ".join(map(str, value))
        else:
            yield name, str(value)
