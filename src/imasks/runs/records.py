"""Results as files: a wide table in Markdown and a tidy CSV, of one run or of several."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from imasks.jobs import write_atomic
from imasks.runs.lost import REMEDY, lost_notes
from imasks.runs.progress import duration
from imasks.runs.results import Outcome
from imasks.runs.run import Run
from imasks.runs.summary import LOWER, QUALITY, UPPER, Row, Spread, Stage, rows, stages
from imasks.runs.tables import (
    CONVENTIONS,
    MISSING,
    computed_on,
    convention_lines,
    networks_text,
    span,
    text,
)
from imasks.tasks import Binary

COLUMNS = (
    *("val", "test", "ensemble_val", "ensemble_test", "val_deviation"),
    *("im_share", "kept", "copies", "pseudo_label_score"),
    *("parameters", "steps", "images_seen", "evalnet_share", "seconds"),
)
_CONVENTIONS = tuple(f"{split}_{name}" for split in ("val", "test") for name in Binary.conventions)
_LOST = ("never_predicted", "vanished")
_QUALITY = tuple(f"quality_{name}" for name in QUALITY.values())

_SCORES_NOTE = f"""\
One network a seed: the best candidate by validation score of the generation whose best networks
together score best on the validation images, and which predictions use (columns generation,
validation, test). Test images choose nothing.

* **test**: mean ± deviation over seeds; **s.e.**: standard error of that mean.
* **ensemble**: test score of the best networks of that generation together.
* **to {LOWER}**: test score less that of {LOWER} with the same seed, mean ± standard error.
* **gap**: closed from {LOWER} to {UPPER}, (x - {LOWER}) / ({UPPER} - {LOWER}) of the mean test
  scores over the seeds that all three have.
* **steps**: optimiser steps of the network itself.
* **images seen**: optimiser steps times batch, summed over the network and all networks that had a
  part in its pseudo-labels, EvalNets and their teachers included, back to the start. Candidates
  that were not used are not counted.
* **by EvalNets**: the share of these that EvalNets saw. They learn beside any budget of steps or
  epochs.
* **time**: of computing, all seeds, candidates and shared starts counted in.
* **jobs**: done of all, those that approaches share counted at each, the preparation of the data
  not at all.
"""
_UNFINISHED_NOTE = """\
* **(not finished)**: jobs are left, so numbers may change. Seeds without a generation of the
  approach's own are left out, unless all are: then **(start only)**, as approaches share starts.
"""
_ENDED_NOTE = """\
* An approach of which some seed had nothing to learn from in some generation is listed below the
  table; its generations before count. It is marked **(ended)** if nothing else is left to do.
"""
_STAGES_NOTE = """\
In the table of generations a start stands once, at the first approach that has it:

* **seeds**: that have come so far. Where they differ, means are not over the same seeds.
* **labels**: score of the pseudo-labels of all unlabeled images, those not kept included, outside
  their inconsistency masks, against true masks, which training never sees; - where there are none.
* **mask**: mean share of the pixels in the inconsistency masks.
* **kept**: share of the unlabeled images learned with.
* **time**: of computing up to there, one seed (mean), all candidates and the start counted in.
"""
_CONVENTIONS_NOTE = """\
Images without foreground (binary tasks) have no overlap to measure. **empty is 0**: where there is
nothing to find and nothing is found, the image scores 0, as published; this score chooses epochs,
candidates and generations. **empty is 1**: it scores 1, as is usual elsewhere. **without empty**:
images with nothing to find have no part in the mean, whatever is found in them.
"""
_QUALITY_NOTE = """\
Quality is the score that a single prediction may be expected to reach: EvalNets judge what the
ensemble of the chosen generation says of an image, and their scores are calibrated on the
validation images. Its table compares it with the true scores of the test images.

* **correlation**, **rank correlation**: of expected and true scores (Pearson, Spearman).
* **mean error**: mean absolute difference of the two.
* **bad**: share of predictions with a true score below 0.5.
* **bad in lowest tenth**: share of these that stands in the tenth with the lowest expected scores;
  0.1 where scores know nothing, and at most 0.1 / bad, but for few images, of which a tenth is
  rounded up.
"""


def write_results(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write ``results.md`` and ``results.csv`` of what is finished; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"results.md": results_markdown(runs), "results.csv": results_csv(runs)}
    for name, content in files.items():
        write_atomic(folder / name, content.encode())
    return [folder / name for name in files]


def results_csv(runs: Sequence[Run]) -> str:
    """Write one row for every approach, seed and finished generation."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    tasks = [run.config.make_task() for run in runs]
    beside = tuple(dict.fromkeys(name for task in tasks for name in task.beside))
    writer.writerow(
        (
            *("data", "score", "approach", "seed", "generation"),
            *(*COLUMNS, *_QUALITY, *_CONVENTIONS, *(f"test_{name}" for name in beside), *_LOST),
            *("chosen", "ended", "budget"),
        )
    )
    for run, task in zip(runs, tasks, strict=True):
        head, budget = (run.config.title, task.primary), run.config.budget
        for one in run.outcomes():
            writer.writerows((*head, *record, budget) for record in _records(one, beside))
    return out.getvalue()


def results_markdown(runs: Sequence[Run]) -> str:
    """Write the tables of every run, and below what their columns mean."""
    parts = ["# Results\n"]
    told = {_SCORES_NOTE}
    for run, title in zip(runs, titles_of(runs), strict=True):
        config, found = run.config, run.outcomes()
        summed = rows(found)
        H, W = config.preparation.size
        score = config.make_task().primary
        seeds = "1 seed" if len(config.seeds) == 1 else f"{len(config.seeds)} seeds"
        if not all(row.complete for row in summed):
            seeds += " asked for"
            told.add(_UNFINISHED_NOTE)
        parts.append(
            f"## {title}\n\nScore: {score}. {H} x {W} pixels, {networks_text(config)}, preset "
            f"{config.preset}, {config.budget}, {seeds}, {computed_on(config)}.\n"
        )
        parts.append(markdown_table(summed))
        if endings := endings_list(summed):
            parts.append(endings)
            told.add(_ENDED_NOTE)
        for title_, table, note in (
            (
                "Every generation, whether or not validation chose it",
                stages_table(stages(found)),
                _STAGES_NOTE,
            ),
            ("Other test scores of the same networks", beside_table(summed), None),
            ("Predicted quality of single predictions", quality_table(summed), _QUALITY_NOTE),
            ("Images without foreground", conventions_table(summed), _CONVENTIONS_NOTE),
        ):
            if table:
                parts.append(f"{title_}:\n\n{table}")
                told |= {note} if note else set()
        if notes := lost_notes(found):
            listed = "".join(f"* {note}\n" for note in notes)
            parts.append(f"Classes that got lost. {REMEDY}\n\n{listed}")
    list_ = "".join(one for one in (_SCORES_NOTE, _UNFINISHED_NOTE, _ENDED_NOTE) if one in told)
    others = (_STAGES_NOTE, _CONVENTIONS_NOTE, _QUALITY_NOTE)
    return "\n".join([*parts, list_, *(one for one in others if one in told)])


def titles_of(runs: Sequence[Run]) -> list[str]:
    """Call each run by its data set; where that is not enough by its budget too, and its folder."""
    titles = [run.config.title for run in runs]
    for words in ([run.config.budget for run in runs], [str(run.folder) for run in runs]):
        each = list(zip(titles, words, strict=True))
        differ = {title for title, word in each if any(t == title and w != word for t, w in each)}
        titles = [f"{title} ({word})" if title in differ else title for title, word in each]
    return titles


def markdown_table(rows: Sequence[Row]) -> str:
    """Write the rows as a Markdown table with everything that is known of them."""
    names = (
        *("approach", "generation", "validation", "test", "s.e.", "ensemble", f"to {LOWER}"),
        *("gap", "parameters", "steps", "images seen", "by EvalNets", "time", "jobs"),
    )
    lines = [names, ("---", *["---:"] * (len(names) - 1))]
    lines += [_cells(row) for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def endings_list(rows: Sequence[Row]) -> str:
    """Write which approaches and seeds ended early, and why, as a Markdown list; may be empty."""
    return "".join(f"* {row.approach}, {one}\n" for row in rows for one in row.ended)


def stages_table(found: Sequence[Stage]) -> str:
    """Write every generation as a Markdown table; empty where no approach has any."""
    if not any(one.generation for one in found):
        return ""
    names = (
        *("approach", "generation", "seeds", "validation", "test", "ensemble", f"to {LOWER}"),
        *("gap", "labels", "mask", "kept", "time"),
    )
    lines = [names, ("---", *["---:"] * (len(names) - 1))]
    lines += [
        (
            one.approach,
            str(one.generation),
            str(len(one.networks)),
            *(text(score) for score in (one.val, one.test, one.ensemble_test)),
            MISSING if one.to_lower is None else one.to_lower.as_difference(),
            MISSING if one.gap is None else f"{one.gap:.0%}",
            *(text(share) for share in (one.pseudo_label_score, one.im_share, one.kept)),
            duration(one.seconds),
        )
        for one in found
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def beside_table(rows: Sequence[Row]) -> str:
    """Write the test scores beside the primary one as a Markdown table; empty without any."""
    names = tuple(dict.fromkeys(name for row in rows for name in row.beside))
    if not names:
        return ""
    lines = [("approach", *names), ("---", *["---:"] * len(names))]
    lines += [(row.named, *(text(row.beside.get(name)) for name in names)) for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def quality_table(rows: Sequence[Row]) -> str:
    """Write how well EvalNets judge predictions as a Markdown table; empty if none does."""
    judged = [row for row in rows if row.quality]
    if not judged:
        return ""
    lines = [("approach", *QUALITY), ("---", *["---:"] * len(QUALITY))]
    lines += [
        (row.named, *(text(row.quality.get(name)) for name in QUALITY.values())) for row in judged
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def conventions_table(rows: Sequence[Row]) -> str:
    """Write scores by all conventions about images without foreground; empty if none is."""
    found = convention_lines(rows)
    if not found:
        return ""
    lines = [("approach", *CONVENTIONS), ("---", "---", "---:", "---:", "---:"), *found]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.named,
        span(row.generation),
        text(row.val),
        text(row.test),
        _error(row.test),
        text(row.ensemble_test),
        MISSING if row.to_lower is None else row.to_lower.as_difference(),
        MISSING if row.gap is None else f"{row.gap:.0%}",
        span(row.parameters, _thousands),
        span(row.steps, _thousands),
        span(row.images_seen, _thousands),
        MISSING if row.evalnet_share is None else f"{row.evalnet_share:.0%}",
        duration(row.seconds),
        row.progress,
    )


def _records(one: Outcome, beside: Sequence[str]) -> Iterator[tuple[object, ...]]:
    for step in one.steps:
        values = ("" if (v := getattr(step, name)) is None else v for name in COLUMNS)
        judged = (step.quality.get(name) for name in QUALITY.values())
        quality = ("" if v is None else v for v in judged)
        further = (step.beside.get(name, "") for name in beside)
        chosen = step is one.chosen and not one.waits
        marked = "yes" if chosen else ""
        ended = "" if one.ended is None else str(one.ended)
        others = (step.conventions.get(name, "") for name in _CONVENTIONS)
        lost = ("; ".join(getattr(step, name)) for name in _LOST)
        numbers = (*values, *quality, *others, *further)
        yield (one.approach, one.seed, step.generation, *numbers, *lost, marked, ended)


def _error(spread: Spread | None) -> str:
    return MISSING if spread is None or spread.error is None else f"{spread.error:.3f}"


def _thousands(number: int) -> str:
    return f"{number:,}"
