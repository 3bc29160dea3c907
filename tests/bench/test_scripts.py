"""The scripts of bench/ run: small, and with no look at the figures."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from imasks.data.files import read_image, read_mask
from imasks.data.folder import open_dataset
from imasks.data.synthetic import write_demo_dataset
from tests.conftest import needs_encoders

BENCH = Path(__file__).parents[2] / "bench"
SIZE = ("--option", "size=[32,32]")
SMALL = "--device cpu --widths 0.25 --size 32 --batch 2 --seconds 0.02 --rounds 1"
FAST = [
    word
    for option in ("steps=2", "batch=4", "candidates=2", "workers=1", 'precision="float32"')
    for word in ("--option", option)
]


def test_a_gpu_is_measured_in_every_way_where_a_processor_stands_for_it(tmp_path):
    out = tmp_path / "gpu.csv"
    command = [sys.executable, str(BENCH / "gpu.py"), *SMALL.split(), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["what"] for row in rows] == ["training", "labelling by 2"]
    for row in rows:
        for way in ("plain float32", "plain bfloat16", "imasks"):
            assert float(row[way]) > 0


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Drawn cells with all true masks, made smaller, with few labeled ones."""
    whole, out = (tmp_path_factory.mktemp("drawn") / name for name in ("whole", "small"))
    write_demo_dataset(whole, labeled=5, unlabeled=6, val=3, test=3, size=(48, 48))
    for _ in range(2):  # the second finds it made
        script("smaller.py", whole, out, "--size", 32, 32, "--labeled", 4)
    return out


def test_a_smaller_copy_has_the_same_images(small):
    dataset = open_dataset(small)
    counts = {split: len(samples) for split, samples in dataset.splits.items()}
    assert counts == {"labeled": 4, "unlabeled": 7, "val": 3, "test": 3}
    for samples in dataset.splits.values():
        for sample in samples:
            assert read_image(sample.image).shape == (32, 32, 3)
            assert read_mask(sample.masks[0]).shape == (32, 32)


def test_orders_of_a_review_are_measured(small, tmp_path):
    script("review.py", small, tmp_path, "--approach", "LDT", "--counts", 2, "--seeds", 1, *FAST)
    rows = read(tmp_path / "review.csv")
    assert [(row["way"], row["reviewed"]) for row in rows] == [
        ("none", "0"),
        ("unsure", "2"),
        ("random", "2"),
    ]
    assert all(0 <= float(row["test"]) <= 1 for row in rows)
    assert all(0 < float(row["corrected"]) <= 1 for row in rows[1:])


@needs_encoders
def test_mixed_architectures_are_measured_beside_equal_ones(small, tmp_path):
    script("mixed.py", small, tmp_path, "--encoder", "mobilenet_v2", "--seeds", 1, *FAST, *SIZE)
    rows = {row["pair"]: row for row in read(tmp_path / "mixed.csv")}
    assert list(rows) == ["two U-Nets", "mixed", "two mobilenet_v2"]
    for name, lacks in (("two U-Nets", "encoder"), ("two mobilenet_v2", "unet"), ("mixed", "")):
        for kind in ("unet", "encoder"):
            assert bool(rows[name][f"{kind}_student"]) == bool(rows[name][f"{kind}_test"])
            assert bool(rows[name][f"{kind}_test"]) == (kind != lacks)
    # the first network of a start is the same whoever stands beside it
    shared = {path.name for path in (tmp_path / "mixed" / "jobs").iterdir()}
    assert len(shared & {path.name for path in (tmp_path / "two_u-nets" / "jobs").iterdir()}) == 2
    for row in rows.values():
        caught = float(row["caught"]) * float(row["wrong"])
        assert caught == pytest.approx(float(row["right_to_cut"]) * float(row["im_share"]))


def script(name, *words):
    command = [sys.executable, str(BENCH / name), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
