"""The list of all figures of a run, and their files."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imasks.approaches.presets import Policy
from imasks.jobs import write_atomic
from imasks.labelling.agree import cut_region, inconsistency
from imasks.runs.colors import class_colors
from imasks.runs.figures import sources
from imasks.runs.figures.effort import describe_effort, effort_figure
from imasks.runs.figures.lines import Panel, describe, lines_figure, spread_note
from imasks.runs.figures.masks import creation_figure, generations_figure, rivals_figure
from imasks.runs.figures.published import beside
from imasks.runs.figures.ranking import describe_ranking, ranking_figure
from imasks.runs.figures.scatter import agreement, scatter_figure
from imasks.runs.figures.style import listed
from imasks.runs.run import Run
from imasks.tasks import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 160


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A figure with what is said about it.

    Args:
        name: of its file, without ending.
        figure: as drawn.
        caption: for those who see it.
        alt: for those who do not.
        vector: whether it is written as SVG too.
    """

    name: str
    figure: Figure
    caption: str
    alt: str
    vector: bool = False


def figures_of(
    runs: Sequence[Run], titles: Sequence[str], published: Sequence[Panel] = ()
) -> Iterator[Drawn]:
    """Draw what several runs show together, then each of them; figures without data are left out.

    Args:
        runs: finished or not.
        titles: of their panels.
        published: panels to draw beside.
    """
    if (scores := _scores(runs, titles, published)) is not None:
        yield scores
    for together in (_ranking, _effort, _sizes):
        if (drawn := together(runs, titles)) is not None:
            yield drawn
    for run, title in zip(runs, titles, strict=True):
        prefix = f"{slug(title)}/" if len(runs) > 1 else ""
        for draw in OF_ONE_RUN:
            for one in draw(run):
                yield Drawn(**{**vars(one), "name": prefix + one.name})


def write_figures(drawn: Iterator[Drawn], folder: Path) -> Path | None:
    """Write figures as PNG, charts of all approaches as SVG too, and ``index.md`` with captions and
    alternative texts.

    Returns:
        The index; None if there was nothing to draw.
    """
    parts = ["# Figures\n"]
    for one in drawn:
        path = folder / f"{one.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        for ending in ("png", "svg") if one.vector else ("png",):
            write_atomic(path.with_suffix(f".{ending}"), rendered(one, ending))
        text = one.alt.replace("[", "(").replace("]", ")")
        parts.append(f"![{text}]({one.name}.png)\n\n{one.caption}\n")
    if len(parts) == 1:
        return None
    index = folder / "index.md"
    write_atomic(index, "\n".join(parts).encode())
    return index


def rendered(drawn: Drawn, ending: str) -> bytes:
    """Render a figure; its alternative text goes with the file. The same figure, the same bytes."""
    from matplotlib import rc_context

    about = {"Title": drawn.caption.split(".")[0], "Description": drawn.alt}
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "imasks"}):
        undated = about | ({"Date": None} if ending == "svg" else {})
        drawn.figure.savefig(buffer, format=ending, dpi=DPI, metadata=undated)
    return buffer.getvalue()


def slug(name: str) -> str:
    """Write a name as a file's."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower().replace("+", "_plus")).strip("_")


def _scores(runs: Sequence[Run], titles: Sequence[str], published: Sequence[Panel]) -> Drawn | None:
    found = (sources.score_panel(run, title) for run, title in zip(runs, titles, strict=True))
    own = [panel for panel in found if panel is not None]
    if not own:
        return None
    grid = beside(own, published)
    shown = [panel for row in grid for panel in row if panel is not None]
    below = " Below: published scores." if len(grid) > 1 else ""
    return Drawn(
        name="scores",
        figure=lines_figure(grid),
        caption="Test score over generations. One network a seed, the best candidate on the "
        f"validation images; horizontal lines: approaches without generations. {spread_note(own)}"
        f"{below}{_not_to_the_end(runs)}",
        alt=describe(shown, "test scores"),
        vector=True,
    )


def _ranking(runs: Sequence[Run], titles: Sequence[str]) -> Drawn | None:
    found = (sources.ranking(run, title) for run, title in zip(runs, titles, strict=True))
    own = [one for one in found if one is not None]
    if not own:
        return None
    bars = "bars: mean and standard error"
    if max(one.seeds for one in own) == 1:
        bars = "one seed, so no spread"
    bounds = list(dict.fromkeys(name for one in own for name in one.shown_bounds()))
    dashed = f"; diamonds and dashed lines: {listed(bounds)}" if bounds else ""
    return Drawn(
        name="ranking",
        figure=ranking_figure(own),
        caption="Test scores of all approaches, best first; of those with generations the last "
        f"one, whether or not validation chose it. Dots: seeds; {bars}{dashed}. Seeds that are not "
        f"finished are left out.{_not_to_the_end(runs)}",
        alt=describe_ranking(own),
        vector=True,
    )


def _effort(runs: Sequence[Run], titles: Sequence[str]) -> Drawn | None:
    found = sources.races(runs, titles)
    if not found:
        return None
    several = any(score.error for race in found for one in race.efforts for _, score in one.points)
    bars = "bars: standard error over seeds" if several else "one seed, so no spread"
    return Drawn(
        name="score_over_time",
        figure=effort_figure(found),
        caption="Test score over computing time, the mean of the finished seeds: a marker a "
        "generation, from the supervised start on. All candidates, labelling and EvalNets are "
        f"counted, and so is a start that approaches share, at each; {bars}."
        f"{_not_to_the_end(runs)}",
        alt=describe_effort(found),
        vector=True,
    )


def _not_to_the_end(runs: Sequence[Run]) -> str:
    """Say which seeds ended early, as a sentence to be added; empty if none did."""
    ended = "; ".join(
        f"{row.approach}, {one}" for run in runs for row in run.rows() for one in row.ended
    )
    return f" Not all seeds came to the end: {ended}." if ended else ""


def _sizes(runs: Sequence[Run], titles: Sequence[str]) -> Drawn | None:
    found = (sources.size_panel(run, title) for run, title in zip(runs, titles, strict=True))
    own = [panel for panel in found if panel is not None]
    if not own:
        return None
    return Drawn(
        name="im_size",
        figure=lines_figure([own]),
        caption="Size of the inconsistency masks over generations: mean share of the pixels of all "
        f"unlabeled images that the networks of a generation learned without. {spread_note(own)}",
        alt=describe(own, "the inconsistency masks' share of pixels"),
    )


def _creation(run: Run) -> Iterator[Drawn]:
    found = sources.creation(run)
    if found is None:
        return
    task, colors = _task_and_colors(run)
    count = len(found.shown[0].votes)
    shares = [
        cut_region(inconsistency(one.votes[:, None])[1], found.morphology).mean()
        for one in found.shown
    ]
    name = found.line.approach.name
    yield Drawn(
        name="mask_creation",
        figure=creation_figure(found.shown, task, colors, morphology=found.morphology),
        caption=f"Creation of an inconsistency mask: {count} networks of the start vote, and where "
        f"they differ, nothing is learned. {name}, seed {found.line.seed}, generation 1; a typical "
        "and a much disputed image.",
        alt=f"Rows of pictures: an unlabeled image, the predictions of {count} networks, their "
        "sum, the inconsistency mask in white on black, and the pseudo-label with the mask in "
        f"grey. The masks cover {listed(f'{share:.1%}' for share in shares)} of the pixels.",
    )


def _unlike(policy: Policy) -> str:
    """Say what networks are shown and learn where this is not what the figure shows."""
    if policy.input == "black":
        return ""
    ignored = "masked pixels are ignored in the loss"
    learned = ignored if policy.label == "ignore" else f"learn there by im-label {policy.label}"
    return f" These networks are shown the whole image, and {learned}."


def _generations(run: Run) -> Iterator[Drawn]:
    task, colors = _task_and_colors(run)
    for line, shown in sources.courses(run):
        name = line.approach.name
        shares = [
            f"generation {steps[0].generation}: {listed(f'{s.region.mean():.1%}' for s in steps)}"
            for steps in zip(*(one.labelled for one in shown), strict=True)
        ]
        yield Drawn(
            name=f"generations_{slug(name)}",
            figure=generations_figure(
                shown, task, colors, title=f"Pseudo-labels of {name}, seed {line.seed}"
            ),
            caption=f"Pseudo-labels of {name} over the generations: above, the image with its "
            "inconsistency mask blacked out; below, the pseudo-label with the mask in grey."
            f"{_unlike(line.how.policy)}",
            alt=f"{len(shown)} unlabeled images, from little to much disputed, each with its "
            "blacked-out input above its pseudo-label in every generation. Pixels in the mask: "
            f"{'; '.join(shares)}.",
        )


def _contest(run: Run) -> Iterator[Drawn]:
    found = sources.contest(run)
    if found is None:
        return
    task, colors = _task_and_colors(run)
    full, other = found.names
    pairs = listed(
        f"{one.scores[1]:.2f} against {one.scores[0]:.2f}" for one in (*found.better, *found.worse)
    )
    yield Drawn(
        name="against_full_supervision",
        figure=rivals_figure(found.better, found.worse, task, colors, names=found.names),
        caption=f"Where {other} beats full supervision ({full}), and where it does not: the test "
        f"images with the largest differences both ways, seed {found.seed}. {other} is better on "
        f"{found.wins} of {found.images} images.",
        alt=f"Test images with their true mask, the prediction of {full} and that of {other}. "
        f"Scores of {other} against {full}: {pairs}.",
    )


def _predicted_scores(run: Run) -> Iterator[Drawn]:
    for title, predicted, true in sources.predicted_scores(run):
        found = agreement(predicted, true)
        yield Drawn(
            name=f"predicted_score_{slug(title)}",
            figure=scatter_figure(predicted, true, title=title),
            caption=f"Predicted against true score of {len(true)} predictions "
            f"({title}{_first(run)}): {found}. Dashed: where both are equal.",
            alt=f"Scatter plot of predicted against true score, {len(true)} points; {found}.",
        )


def _first(run: Run) -> str:
    return f", the first of {len(run.config.seeds)} with any" if len(run.config.seeds) > 1 else ""


def _task_and_colors(run: Run) -> tuple[Task, np.ndarray]:
    task = run.config.make_task()
    return task, class_colors(task, run.config.colors)


OF_ONE_RUN: tuple[Callable[[Run], Iterator[Drawn]], ...] = (
    _creation,
    _generations,
    _contest,
    _predicted_scores,
)
