"""Warnings in plain words, each with a remedy: what a reader of scores should know about them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from imasks.data.card import shorten
from imasks.jobs import in_order
from imasks.runs.choice import Chosen
from imasks.runs.config import changed_versions, read_asked
from imasks.runs.cost import FEW_TIMES, times_seen
from imasks.runs.figures.style import listed, score_name
from imasks.runs.html.classes import LABELED, VALIDATION, ClassCounts, pseudo_labels_of
from imasks.runs.html.gallery import image_scores
from imasks.runs.html.page import Advice
from imasks.runs.html.scores import unfinished_text
from imasks.runs.lost import REMEDY
from imasks.runs.results import Outcome, Step
from imasks.runs.run import Run
from imasks.runs.summary import LOWER, Row

UNCERTAIN, FEW = 0.02, 20  # a standard error, and a number of images, from which scores wobble
DISPUTED, KEPT = 0.5, 0.2  # shares of pixels in doubt, and of images kept, that leave little
TELLS = 0.3  # correlation below which expected quality says little
RARE = 0.1  # of its share of the labeled pixels: a class that pseudo-labels have all but lost
MOST_NAMED = 3  # places in one sentence


@dataclass(frozen=True, kw_only=True)
class Known:
    """All that warnings are made of."""

    run: Run
    found: Sequence[Outcome]
    rows: Sequence[Row]
    chosen: Chosen | None
    counts: ClassCounts | None

    @property
    def score(self) -> str:
        """The name of the score."""
        return score_name(self.run.config.make_task().primary)

    @property
    def again(self) -> str:
        """Where the command stands that goes on."""
        return "Run the same command again (under How to repeat it): it goes on where it was."


def advice_of(known: Known) -> tuple[Advice, ...]:
    """Collect all warnings, the serious ones first."""
    found = [one for rule in RULES for one in rule(known)]
    found = [replace(one, text=one.text[:1].upper() + one.text[1:]) for one in found]
    return tuple(sorted(found, key=lambda one: not one.serious))


def _ended(known: Known) -> Iterator[Advice]:
    """Approaches that had nothing to learn from in some generation."""
    ends: dict[tuple[str, str], list[str]] = {}
    for one in known.found:
        if one.ended is not None:
            who = f"{one.approach} (seed {one.seed}, generation {one.ended.generation})"
            ends.setdefault((one.ended.reason, one.ended.remedy), []).append(who)
    for (reason, remedy), names in ends.items():
        yield Advice(
            text=f"{listed(names)} ended early: {reason}. Generations before count.",
            remedy=remedy,
        )


def _failed(known: Known) -> Iterator[Advice]:
    """What stopped the run: jobs that failed, with what can be done about it."""
    store = known.run.store
    failed: dict[str, Advice] = {}
    for job in in_order(known.run.plan.targets):
        error = None if store.done(job) else store.error(job)
        if error is None:
            continue
        if "what" in error:
            value = f" ({error['value']})" if error.get("value") else ""
            text, remedy = f"{error['what']}{value}.", str(error["remedy"])
        else:
            text = f"{job.label} failed: {error['message']}."
            remedy = (
                f"{known.again} If it fails again, {store.folder(job) / 'error.json'} says why."
            )
        failed[text] = Advice(text=f"The run stopped: {text}", remedy=remedy)
    yield from failed.values()


def _unfinished(known: Known) -> Iterator[Advice]:
    if not all(row.complete for row in known.rows):
        text = f"Not finished: {unfinished_text(known.rows)}. Numbers may change."
        yield Advice(text=text, remedy=known.again)


def _brief(known: Known) -> Iterator[Advice]:
    """Trainings too short to tell what the method can do."""
    times = times_seen(known.run.config)
    if (read_asked(known.run.folder) or {}).get("quick"):
        yield Advice(
            text="This was a first look (`--quick`): networks were trained too briefly, on small "
            "images, to judge what the method can do here.",
            remedy="Train without `--quick`, into another `--out`; `--dry-run` says how long.",
        )
    elif times is not None and times < FEW_TIMES:
        yield Advice(
            text=f"Networks that learn from all images see each about {times:.1f} times, which is "
            "little: they may score below the start for that reason alone.",
            remedy="Train with more `--steps`, into another `--out`.",
        )


def _few_images(known: Known) -> Iterator[Advice]:
    """How far scores may be off because they come from few images."""
    images = known.run.config.images
    for split, what in (("val", "validation"), ("test", "test")):
        found = None if known.chosen is None else image_scores(known.run, known.chosen, split)
        scores = np.empty(0) if found is None else found[np.isfinite(found)]
        if len(scores) < 2:
            continue
        error = float(np.std(scores, ddof=1) / math.sqrt(len(scores)))
        if error < UNCERTAIN and len(scores) >= FEW:
            continue
        text = (
            f"The {what} set has {len(scores)} images: a mean {known.score} of them is uncertain "
            f"by ±{error:.2f} (standard error, of the networks that predict)."
        )
        if split == "val" and known.run.config.val_cut:
            text += " They were cut from labeled/, as there is no val/."
        purpose = "which generation is used" if split == "val" else "what is reported"
        yield Advice(
            text=text,
            remedy=f"Label more images for {split}/: they decide {purpose}. Until then, do not "
            "read much into smaller differences.",
            serious=error >= UNCERTAIN,
        )
    if not images.get("test"):
        yield Advice(
            text="There are no test images: scores are those of the validation images, which also "
            "chose the networks, so they look a little too good.",
            remedy="Set labeled images aside in test/, for example with `imasks init "
            "--test-share 0.2`.",
        )


def _start_kept(known: Known) -> Iterator[Advice]:
    kept: dict[str, list[str]] = {}
    for one in known.found:
        step = one.chosen
        if one.complete and len(one.steps) > 1 and step and step.generation == 0:
            kept.setdefault(one.approach, []).append(str(one.seed))
    if kept:
        names = listed(f"{name} (seed {listed(seeds)})" for name, seeds in kept.items())
        yield Advice(
            text=f"The start was kept by {names}: validation preferred it, so pseudo-labels did "
            "not help.",
            remedy="Predictions use the start, so nothing is lost. More `--steps`, more labeled "
            "images or another approach may change it.",
            serious=False,
        )


def _within_noise(known: Known) -> Iterator[Advice]:
    small = [
        row.approach
        for row in known.rows
        if not row.waits
        and row.to_lower is not None
        and row.to_lower.error is not None
        and abs(row.to_lower.mean) < 2 * row.to_lower.error
    ]
    if small:
        yield Advice(
            text=f"{listed(small)}: the difference to {LOWER} is smaller than two standard errors, "
            "so it may be chance.",
            remedy="Add seeds (`imasks study ... --seeds 5`), or more test images.",
        )
    if len(known.run.config.seeds) == 1:
        yield Advice(
            text="There is one seed only: nothing says how much scores change from run to run.",
            remedy="`imasks study` with `--seeds 3` shows the spread.",
            serious=False,
        )


def _classes(known: Known) -> Iterator[Advice]:
    """Classes that cannot be learned, or are much rarer in pseudo-labels."""
    counts, names = known.counts, known.run.config.classes
    if counts is None:
        return
    labeled = counts.shares[LABELED]
    taught = labeled > 0
    if not taught.all():
        yield Advice(
            text=f"No labeled image shows {_named(names, ~taught)}: it cannot be learned.",
            remedy="Label some images that show it, or take the class out.",
        )
    if (unseen := taught & (counts.shares[VALIDATION] == 0)).any():
        yield Advice(
            text=f"No validation image shows {_named(names, unseen)}: what is chosen does not "
            "depend on it, and a loss would go unnoticed.",
            remedy="Give val/ images that show it.",
        )
    pseudo = counts.shares.get(pseudo_labels_of(counts.whose))
    if pseudo is not None and (scarce := (pseudo > 0) & (pseudo < RARE * labeled)).any():
        k = int(np.argmax(scarce * labeled))
        yield Advice(
            text=f"The pseudo-labels of {counts.whose} have all but lost {_named(names, scarce)}: "
            f"of {names[k]}, {pseudo[k]:.2%} of their pixels, {labeled[k]:.2%} of labeled ones.",
            remedy=REMEDY,
        )


def _lost(known: Known) -> Iterator[Advice]:
    """Labeled classes that are never answered, or gone from the pseudo-labels."""
    steps = [(one, step) for one in known.found for step in one.steps]
    never = [(one, step, step.never_predicted) for one, step in steps if step is one.chosen]
    gone = [(one, step, step.vanished) for one, step in steps]
    for places, what in (
        (never, "Never predicted on the validation images"),
        (gone, "Gone from the pseudo-labels"),
    ):
        found = [
            f"{listed(names)} ({one.approach}, seed {one.seed}, generation {step.generation})"
            for one, step, names in places
            if names
        ]
        if found:
            more = f"; and in {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
            yield Advice(text=f"{what}: {'; '.join(found[:MOST_NAMED])}{more}.", remedy=REMEDY)


def _named(names: Sequence[str], which: np.ndarray) -> str:
    chosen = [name for name, said in zip(names, which, strict=True) if said]
    return ("class " if len(chosen) == 1 else "each of the classes ") + listed(chosen)


def _labelling(known: Known) -> Iterator[Advice]:
    """Where the networks disagree so much that hardly anything is learned."""
    steps = [(one, step) for one in known.found for step in one.steps]
    if much := [pair for pair in steps if (pair[1].im_share or 0) > DISPUTED]:
        names = _worst(much, lambda step: step.im_share or 0.0)
        yield Advice(
            text=f"Networks disagreed about most pixels, so little was learned from unlabeled "
            f"images. In doubt: {names}.",
            remedy="Train the start longer (`--steps`), or let fewer networks vote (`--models 2`).",
        )
    if few := [pair for pair in steps if pair[1].kept is not None and pair[1].kept < KEPT]:
        names = _worst(few, lambda step: step.kept or 0.0, low=True)
        yield Advice(
            text=f"Few unlabeled images passed the filter: {names}.",
            remedy="Try `--no-filter`, or train the start longer (`--steps`).",
        )


def _worst(
    pairs: Sequence[tuple[Outcome, Step]], value: Callable[[Step], float], *, low: bool = False
) -> str:
    """Name of every approach the worst generation, by the highest or else the lowest value."""
    found: dict[str, tuple[float, str]] = {}
    for one, step in pairs:
        share = value(step)
        words = f"{one.approach} {share:.0%} (seed {one.seed}, generation {step.generation})"
        known = found.get(one.approach)
        if known is None or (share < known[0] if low else share > known[0]):
            found[one.approach] = (share, words)
    return listed(words for _, words in found.values())


def _quality(known: Known) -> Iterator[Advice]:
    for row in known.rows:
        found = row.quality.get("pearson")
        if found is not None and found.mean < TELLS and not row.waits:
            yield Advice(
                text=f"{row.approach}: the expected quality of predictions hardly follows the true "
                f"one (correlation {found.mean:.2f}).",
                remedy="Do not sort predictions by it. More labeled or validation images help "
                "EvalNets.",
            )


def _no_copies(known: Known) -> Iterator[Advice]:
    """Approaches whose EvalNets gave every image one copy, as if there were none."""
    found = {(one.approach, one.seed): one for one in known.found}
    plain: dict[tuple[str, bool], list[str]] = {}
    for line in known.run.plan.lines:
        one = found.get((line.approach.name, line.seed))
        if one is None or line.approach.copies != "evalnet":
            continue
        graded = [step.copies for step in one.steps if step.copies is not None]
        if graded and max(graded) == 1:
            kind = (line.approach.name, line.how.thresholds == "auto")
            plain.setdefault(kind, []).append(str(line.seed))
    for (name, automatic), seeds in plain.items():
        if automatic:
            why = "EvalNets cannot tell good pseudo-labels from bad ones here"
            remedy = (
                "More labeled and validation images help EvalNets. Without them, the approach with "
                "one + less does the same for less."
            )
        else:
            why = "no score lies above the lower threshold"
            remedy = "Leave the thresholds to the scores: `--thresholds auto`."
        yield Advice(
            text=f"No image got a second copy in {name} (seed {listed(seeds)}): {why}.",
            remedy=remedy,
            serious=False,
        )


def _no_bounds(known: Known) -> Iterator[Advice]:
    names = known.run.config.approaches
    done = {row.approach: row for row in known.rows if row.test is not None}
    if len(names) > 1 and LOWER not in names:
        yield Advice(
            text=f"{LOWER} was not trained: there is nothing to compare with.",
            remedy=f"Add it: `imasks study ... --approaches {LOWER}`.",
            serious=False,
        )
    full, lower = done.get("FDT"), done.get(LOWER)
    if full and lower and full.test and lower.test and full.test.mean <= lower.test.mean:
        yield Advice(
            text=f"Full supervision (FDT) is not above {LOWER}: the gap between them means "
            "nothing, and trainings may be too short.",
            remedy="Train longer (`--steps`), with more seeds.",
        )


def _machine(known: Known) -> Iterator[Advice]:
    run = known.run
    if run.store.done(run.plan.prepare) and (
        skipped := run.store.result(run.plan.prepare)["skipped"]
    ):
        yield Advice(
            text=f"Files were skipped: {shorten(skipped)}.",
            remedy="`imasks check` says what is wrong with them; mended data need a new run.",
            serious=False,
        )
    if changed := changed_versions(run.folder):
        yield Advice(
            text=f"The run began with other versions: {'; '.join(changed)}. Results computed since "
            "may differ in their last digits or more.",
            remedy="For numbers to be published, train anew with one version.",
            serious=False,
        )


RULES: tuple[Callable[[Known], Iterator[Advice]], ...] = (
    _ended,
    _failed,
    _unfinished,
    _brief,
    _few_images,
    _start_kept,
    _within_noise,
    _classes,
    _lost,
    _labelling,
    _quality,
    _no_copies,
    _no_bounds,
    _machine,
)
