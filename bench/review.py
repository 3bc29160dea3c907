"""What the order of `imasks review` is worth: test score after so many reviewed images.

A run is trained; then the first 20, 50 and 100 unlabeled images, the unsure ones first and in
a random order, get their true masks, as a person would give them, and the run is trained anew with
them. The data folder needs masks of all unlabeled images, and test images:

    python bench/review.py my_data out --seeds 3 --option generations=2
    python bench/review.py my_data out --counts 20,50,100 --option quick=true

The same command again goes on where it was. OUT/review.csv has a row a training, and is written
anew after each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import numpy as np
from rich.table import Table
from scripts import arguments, check_truth, console, options_of, run_script, spread, write_rows

from imasks.api import finish, make_options
from imasks.data.card import read_labels
from imasks.data.checksum import digest_of
from imasks.data.decisions import Decisions
from imasks.data.folder import Dataset, open_dataset
from imasks.errors import UserError
from imasks.review.opening import open_session
from imasks.review.session import Session
from imasks.runs.options import Options
from imasks.runs.run import Run, default_workers, plan_run

WAYS = ("unsure", "random")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One training.

    Args:
        seed: of everything.
        way: "unsure", as `imasks review` orders; "random", another one for each seed; "none" for
            the run that nothing was reviewed for.
        reviewed: images that got their true masks.
        val: validation score of the network that a user is given.
        test: its test score.
        ensemble_test: of the mean probability of the best networks of its generation.
        corrected: mean share of an image's pixels that the person changed in the predicted mask.
    """

    seed: int
    way: str
    reviewed: int
    val: float
    test: float
    ensemble_test: float
    corrected: float | None


def main() -> None:
    """Measure, write and show."""
    parser = arguments("What the order of a review is worth.")
    parser.add_argument("--approach", default="IM+")
    parser.add_argument("--counts", default="20,50,100", help="reviewed images, with commas")
    given = parser.parse_args()
    counts = [int(count) for count in given.counts.split(",")]
    options = make_options(**options_of(given))
    dataset = open_dataset(given.data)
    _check(dataset, counts)
    rows: list[Measured] = []
    for row in _measure(dataset, given.out, given.approach, range(given.seeds), counts, options):
        rows.append(row)
        write_rows(given.out / "review.csv", [vars(row) for row in rows])
    console.print(_table(rows))


def _check(dataset: Dataset, counts: Sequence[int]) -> None:
    check_truth(dataset)
    unlabeled = dataset.splits["unlabeled"]
    if not counts or min(counts) < 1 or max(counts) >= len(unlabeled):
        raise UserError(
            "--counts must lie between 1 and the number of unlabeled images, which remain",
            value=", ".join(map(str, counts)),
            remedy=f"There are {len(unlabeled)}.",
        )


def _measure(
    dataset: Dataset,
    out: Path,
    approach: str,
    seeds: Sequence[int],
    counts: Sequence[int],
    options: Options,
) -> Iterator[Measured]:
    for seed in seeds:
        folder = out / f"seed_{seed}"
        base = _train(dataset, folder / "base", approach, seed, options)
        yield _row(base, seed, "none", 0, None)
        session = open_session(base, seed=seed, by="unsure", device=options.device)
        names = [item.name for item in session.items]
        shuffled = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
        for way, order in zip(WAYS, (names, shuffled), strict=True):
            for count in counts:
                console.print(f"seed {seed}, {way}, {count} reviewed", highlight=False)
                place = folder / f"{way}_{count}"
                corrected = _review(session, dataset, order[:count], place / "review")
                reviewed = replace(options, review=str(place / "review"), quality=None)
                run = _train(dataset, place / "run", approach, seed, reviewed)
                yield _row(run, seed, way, count, corrected)


def _train(dataset: Dataset, folder: Path, approach: str, seed: int, options: Options) -> Run:
    run = plan_run(dataset, folder, approaches=[approach], seeds=[seed], options=options)
    finish(run, workers=default_workers(run, options), console=console)
    return run


def _review(session: Session, dataset: Dataset, names: Sequence[str], folder: Path) -> float:
    """Accept images with their true masks; return the mean share of pixels that this changes."""
    decisions = Decisions.begin(folder, dataset.card)
    samples = {sample.name: sample for sample in dataset.splits["unlabeled"]}
    shares = []
    for name in names:
        item, sample = session.by_name[name], samples[name]
        decision = decisions.read(name)
        truth = read_labels(
            sample.masks, dataset.card, (item.height, item.width), page=sample.mask_page
        )
        if decision is None:
            decision = decisions.save(
                name,
                image=digest_of(sample.image),
                base=0,
                state="accepted",
                labels=truth,
                changed=int((truth != session.predicted(item)).sum()),
            )
        shares.append(decision.changed / truth.size)
    return mean(shares)


def _row(run: Run, seed: int, way: str, reviewed: int, corrected: float | None) -> Measured:
    (outcome,) = run.outcomes()
    step = outcome.chosen
    assert step is not None
    assert step.test is not None
    assert step.ensemble_test is not None
    return Measured(
        seed=seed,
        way=way,
        reviewed=reviewed,
        val=step.val,
        test=step.test,
        ensemble_test=step.ensemble_test,
        corrected=corrected,
    )


def _table(rows: Sequence[Measured]) -> Table:
    table = Table(
        "reviewed",
        "unsure first",
        "random",
        "difference, paired",
        "corrected, unsure first",
        "corrected, random",
        title="test score of the best networks together, "
        f"mean±deviation over {len({row.seed for row in rows})} seeds",
    )
    for count in sorted({row.reviewed for row in rows}):
        found = {way: _of(rows, way, count) for way in (*WAYS, "none")}
        if not count:
            table.add_row("0", spread([row.ensemble_test for row in found["none"]]), *[""] * 4)
            continue
        ours, random = (found[way] for way in WAYS)
        table.add_row(
            str(count),
            spread([row.ensemble_test for row in ours]),
            spread([row.ensemble_test for row in random]),
            spread(
                [a.ensemble_test - b.ensemble_test for a, b in zip(ours, random, strict=True)],
                sign="+",
            ),
            *(f"{mean(row.corrected or 0 for row in each):.1%}" for each in (ours, random)),
        )
    return table


def _of(rows: Sequence[Measured], way: str, count: int) -> list[Measured]:
    return [row for row in rows if (row.way, row.reviewed) == (way, count)]


if __name__ == "__main__":
    run_script(main)
