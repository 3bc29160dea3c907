"""What the options for rare classes are worth: the rare class's IoU, generation by generation.

Three cases, made of real data folders that have the true masks of all images:

    kind   a rare kind of image: of 2018 Data Science Bowl, nuclei in stained tissue are a class of
           their own, and most of the images that show it are left out (0.5 % of the pixels)
    small  small things in most images: CamVid as it is (pole, pedestrian and bicyclist)
    empty  half of the images show nothing: crops of ISIC 2018 with and without lesion

For each, the start (LDT) and IM+ are trained with every option:

    python bench/imbalance.py dsb2018 out kind --seeds 3 --option steps=500
    python bench/imbalance.py isic2018 out empty --ways plain,weights

The same command again goes on where it was. OUT/CASE/imbalance.csv has a row a network, and is
written anew after each training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
from rich.table import Table
from scripts import arguments, console, options_of, run_script, spread, write_rows

from imasks import api
from imasks.data.arrays import load_arrays
from imasks.data.card import Card, write_card
from imasks.data.files import read_image, read_mask, write_png
from imasks.data.folder import Dataset, Sample, open_dataset
from imasks.jobs import Job
from imasks.labelling.labellers import load_pseudo_labels
from imasks.runs.line import Generation
from imasks.runs.run import Run

WAYS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "sampling": {"sampling": "balanced"},
    "weights": {"class_weights": "balanced"},
    "both": {"sampling": "balanced", "class_weights": "balanced"},
    "rare": {"im_label": "rare"},
}
BASE = {"candidates": 2, "generations": 1, "width": 0.5, "batch": 16, "precision": "bfloat16"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One data set with rare classes.

    Args:
        make: writes the data folder; None: it is taken as it is.
        size: height and width at which networks see it.
        rare: the classes that are measured.
        ways: the options that can help.
    """

    make: Callable[[Dataset, Path], None] | None
    size: tuple[int, int]
    rare: tuple[str, ...]
    ways: tuple[str, ...]


def main() -> None:
    """Make the case, measure, write and show."""
    parser = arguments("What the options for rare classes are worth.")
    parser.add_argument("case", choices=CASES)
    parser.add_argument(
        "--ways", help=f"of {', '.join(WAYS)}, with commas; by default all that fit"
    )
    given = parser.parse_args()
    case = CASES[given.case]
    ways = given.ways.split(",") if given.ways else list(case.ways)
    options = {**BASE, "size": case.size, **options_of(given)}
    folder = given.out / given.case
    data = given.data
    if case.make is not None:
        data = folder / "data"
        if not data.exists():
            case.make(open_dataset(given.data), data)
    for seeds in range(1, given.seeds + 1):
        for way in ways:
            console.print(f"{given.case}, {way}: {seeds} of {given.seeds} seeds", highlight=False)
            if way == "rare" and "plain" in ways:  # they share their starts, by the same keys
                copytree(folder / "plain" / "jobs", folder / way / "jobs", dirs_exist_ok=True)
            api.study(
                data,
                out=folder / way,
                approaches=["LDT", "IM+"],
                seeds=seeds,
                progress=False,
                **{**options, **WAYS[way]},
            )
            rows = [row for each in ways for row in _rows(folder / each, each, case)]
            write_rows(folder / "imbalance.csv", rows)
    console.print(_table(rows, case))


def rare_kind(source: Dataset, folder: Path) -> None:
    """Make nuclei in stained tissue a class of their own, and rare but in the test images."""
    card = Card(
        name="rare kind",
        task="multiclass",
        classes=("background", "nucleus", "stained"),
        ignore=255,
    )
    _begin(folder, card)
    for split, samples in source.splits.items():
        masks = {s: (read_mask(s.masks[0]) > 0).astype(np.uint8) for s in samples}
        stained = {s for s in samples if _colourful(read_image(s.image))}
        shares = {s: float(masks[s].mean()) for s in stained}
        kept = set(stained)
        while split != "test" and _share(shares, kept, len(samples) - len(stained)) > 0.005:
            kept.remove(max(kept, key=lambda s: (shares[s], s.name)))
        for sample in samples:
            if sample not in stained or sample in kept:
                mask = masks[sample] * (2 if sample in stained else 1)
                _add(folder, split, sample, read_image(sample.image), mask)


def half_empty(source: Dataset, folder: Path) -> None:
    """Cut a small window out of each image: at the lesion's border, or of skin; half and half."""
    _begin(folder, Card(name="half empty", task="binary", classes=("lesion",), free_rotation=True))
    each = {"labeled": 40, "unlabeled": 250, "val": 40, "test": 150}
    for split, samples in source.splits.items():
        wanted = {"empty": each[split], "lesion": each[split]}
        for sample in samples:
            image, mask = read_image(sample.image), read_mask(sample.masks[0]) > 0
            H, W = mask.shape[0] // 3, mask.shape[1] // 3
            clean = [c for c in _corners(mask.shape, (H, W)) if not mask[c].any()]
            kind = "empty" if clean and wanted["empty"] else "lesion"
            if not wanted[kind] or not mask.any():
                continue
            wanted[kind] -= 1
            window = clean[0] if kind == "empty" else _at_border(mask, (H, W))
            _add(folder, split, sample, image[window], mask[window].astype(np.uint8) * 255)


CASES: Mapping[str, Case] = {
    "kind": Case(make=rare_kind, size=(48, 48), rare=("stained",), ways=tuple(WAYS)),
    "small": Case(
        make=None, size=(48, 64), rare=("pole", "pedestrian", "bicyclist"), ways=tuple(WAYS)
    ),
    "empty": Case(
        make=half_empty,
        size=(48, 64),
        rare=("lesion",),
        ways=("plain", "sampling", "weights", "both"),
    ),
}


def _begin(folder: Path, card: Card) -> None:
    folder.mkdir(parents=True)
    write_card(card, folder / "dataset.toml")


def _add(folder: Path, split: str, sample: Sample, image: np.ndarray, mask: np.ndarray) -> None:
    for kind, pixels in (("images", image), ("masks", mask)):
        place = folder / split / kind
        place.mkdir(parents=True, exist_ok=True)
        write_png(place / f"{sample.name}.png", pixels)


def _colourful(image: np.ndarray) -> bool:
    levels = image.astype(np.int64)
    return image.shape[2] == 3 and float((levels.max(2) - levels.min(2)).mean()) > 15


def _share(shares: Mapping[Sample, float], kept: set[Sample], others: int) -> float:
    return sum(shares[s] for s in kept) / (others + len(kept))


def _corners(shape: Sequence[int], size: tuple[int, int]) -> list[tuple[slice, slice]]:
    tops, lefts = ((0, whole - part) for whole, part in zip(shape, size, strict=True))
    return [(slice(y, y + size[0]), slice(x, x + size[1])) for y in tops for x in lefts]


def _at_border(mask: np.ndarray, size: tuple[int, int]) -> tuple[slice, slice]:
    rows, columns = np.nonzero(mask)
    parts = zip((rows.min(), columns.mean()), size, mask.shape, strict=True)
    y, x = (min(max(0, int(at) - part // 2), whole - part) for at, part, whole in parts)
    return slice(y, y + size[0]), slice(x, x + size[1])


def _rows(folder: Path, way: str, case: Case) -> Iterator[dict[str, Any]]:
    """Read what a study has finished: one row an approach, seed and generation."""
    if not (folder / "run.toml").exists():
        return
    run = api.load(folder).run
    for line in run.plan.lines:
        for generation in line.generations:
            if run.store.done(generation.rank):
                yield {
                    "way": way,
                    "approach": line.approach.name,
                    "seed": line.seed,
                    "generation": generation.number,
                    **_scores(run, generation, case),
                }


def _scores(run: Run, generation: Generation, case: Case) -> dict[str, float]:
    ranked = run.store.result(generation.rank)
    test, ensemble = ranked["best"]["test"], ranked["ensemble"]["test"]
    names = [run.config.make_task().primary, "mean_class_iou"]
    names += [name for name in ("iou_without_empty", "iou_empty_is_one") if name in test]
    names += [f"class_iou/{name}" for name in case.rare]
    scores = {name: test[name] for name in names}
    scores |= {f"ensemble {name}": ensemble[name] for name in names}
    if generation.label is not None:
        scores |= _pseudo(run, generation.label, case)
    return scores


def _pseudo(run: Run, label: Job, case: Case) -> dict[str, float]:
    """Say how much of a rare class is still learned as such, and how much of that is right."""
    truth = load_arrays(run.store.folder(run.plan.prepare), "unlabeled").labels
    assert truth is not None
    pseudo = load_pseudo_labels(run.store.folder(label))
    found = {}
    for name in case.rare:
        value = 1 + run.config.classes.index(name)  # of multiclass labels; 1 for a binary task
        there = truth == value
        said = (pseudo.labels == value) & ~pseudo.im & pseudo.keep[:, None, None, None]
        hit = int((there & said).sum())
        found[f"learned/{name}"] = hit / max(1, int(there.sum()))
        found[f"right/{name}"] = hit / int(said.sum()) if said.any() else math.nan
    return found


def _table(rows: Sequence[Mapping[str, Any]], case: Case) -> Table:
    """Show the best networks' scores; the file has the ensembles' too."""
    names = [name for name in rows[0] if name.startswith("iou") or name == "miou"]
    names += [f"{what}/{name}" for name in case.rare for what in ("class_iou", "learned", "right")]
    table = Table("way", "generation", *names, title="mean±deviation over seeds")
    for way, generation in dict.fromkeys((row["way"], row["generation"]) for row in rows):
        same = [
            row
            for row in rows
            if (row["way"], row["generation"], row["approach"]) == (way, generation, "IM+")
        ]
        cells = (spread([row[name] for row in same if name in row]) for name in names)
        table.add_row(way, str(generation), *cells)
    return table


if __name__ == "__main__":
    run_script(main)
