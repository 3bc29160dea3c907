"""The scripts of bench/ run: small, and with no look at the figures."""

import csv
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench"
SMALL = "--device cpu --widths 0.25 --size 32 --batch 2 --seconds 0.02 --rounds 1"


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
