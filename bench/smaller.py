"""A smaller copy of a data folder: images of one small size, and few labeled ones.

    python bench/smaller.py isic2018 small/isic2018 --size 32 48 --labeled 20

Labeled images that are left over join the unlabeled ones, with their masks, which only measuring
reads. Resizing is imasks' own.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from scripts import run_script

from imasks.data.card import CARD_NAME
from imasks.data.files import read_image, read_mask, write_png
from imasks.data.folder import Sample, open_dataset
from imasks.data.prepare import resize_image, resize_mask
from imasks.errors import UserError
from imasks.prepare.staged import check_same, read_mark, staged, write_mark


def main() -> None:
    """Copy."""
    parser = argparse.ArgumentParser(description="A smaller copy of a data folder.")
    parser.add_argument("data", type=Path, help="a data folder of single 8-bit images")
    parser.add_argument("out", type=Path, help="the folder to write")
    parser.add_argument("--size", type=int, nargs=2, required=True, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--labeled", type=int, help="keep so many, chosen by chance; all if left")
    parser.add_argument("--seed", type=int, default=0, help="of that choice")
    given = parser.parse_args()
    mark = {
        "data": str(given.data.resolve()),
        "size": given.size,
        "labeled": given.labeled,
        "seed": given.seed,
    }
    there = read_mark(given.out)
    if there is not None:
        check_same(given.out, [name for name in mark if mark[name] != there.get(name)])
        return
    dataset = open_dataset(given.data)
    splits = {name: list(samples) for name, samples in dataset.splits.items()}
    labeled = splits["labeled"]
    count = len(labeled) if given.labeled is None else given.labeled
    if not 0 < count <= len(labeled):
        raise UserError(
            "--labeled must be a number of labeled images that are there",
            value=count,
            remedy=f"Use 1 to {len(labeled)}.",
        )
    order = np.random.default_rng(given.seed).permutation(len(labeled))
    splits["labeled"] = [labeled[i] for i in order[:count]]
    taken = {sample.name for sample in splits["unlabeled"]}
    for sample in (labeled[i] for i in order[count:]):
        name = f"labeled_{sample.name}" if sample.name in taken else sample.name
        splits["unlabeled"].append(replace(sample, name=name))
    with staged(given.out, word="smaller") as folder:
        for path in folder.iterdir():  # of a copy that was killed, perhaps of other images
            if path.is_dir():
                shutil.rmtree(path)
        for split, samples in splits.items():
            for sample in samples:
                _copy(sample, folder / split, (given.size[0], given.size[1]))
        shutil.copy(given.data / CARD_NAME, folder)
        write_mark(folder, mark)


def _copy(sample: Sample, folder: Path, size: tuple[int, int]) -> None:
    image = resize_image(read_image(sample.image), size)
    _write(folder / "images" / f"{sample.name}.png", image)
    for path in sample.masks:  # of multilabel tasks: in a folder a class
        below = path.parent.relative_to(next(p for p in path.parents if p.name == "masks"))
        mask = resize_mask(read_mask(path), size)
        _write(folder / "masks" / below / f"{sample.name}.png", mask)


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, pixels)


if __name__ == "__main__":
    run_script(main)
