"""What the documentation says is so: examples run, tables and numbers agree with the code."""

import csv
import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

import imasks
from imasks.approaches.presets import PRESETS
from tests.conftest import SHARED

DOCS = Path(__file__).parents[1] / "docs"


def rows(page):
    """The cells of all table rows of a page."""
    lines = (DOCS / page).read_text().splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"
    ]


def flat(values, prefix=""):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def test_table_of_differences_is_that_of_the_presets():
    paper, default = (dict(flat(asdict(PRESETS[name]))) for name in ("paper", "default"))
    differing = {
        name: (value, default[name]) for name, value in paper.items() if value != default[name]
    }
    said = {
        row[0].strip("`"): tuple(eval(cell.strip("`"), {}) for cell in row[1:3])
        for row in rows("method.md")
        if row[0].startswith("`")
    }
    assert said == differing


def test_public_names_stand_in_the_reference():
    page = (DOCS / "reference" / "index.md").read_text()
    listed = set(re.findall(r"^::: imasks\.(\w+)$", page, flags=re.MULTILINE))
    assert listed == set(imasks.__all__)


@pytest.mark.parametrize(
    ("page", "width", "columns"),
    [("howto/choose.md", 5, (2, 3, 4)), ("published.md", 6, (2, 4, 5))],
)
def test_own_results_are_those_of_the_results_page(page, width, columns):
    measured = (DOCS / "results.md").read_text()
    numbers = [
        number
        for row in rows(page)
        for column in columns
        if len(row) == width
        for number in re.findall(r"0\.\d{3}", row[column])
    ]
    assert len(numbers) >= 8
    assert [number for number in numbers if number not in measured] == []


def test_published_results_are_those_that_were_published():
    path = SHARED / "spec" / "published_results.csv"
    if not path.exists():
        pytest.skip(f"published results are not at {path}")
    with path.open() as file:
        published = {
            (row["dataset"], row["approach"], row["generation"]): float(row["test_score"])
            for row in csv.DictReader(file)
        }
    compared = 0
    for row in rows("published.md"):
        if len(row) == 6:
            places = {"ISIC 2018": row[1], "SUIM": row[3]}
        else:
            places = {"HeLa": row[1], "Cityscapes": row[2]}
        generation = "0" if row[0].endswith("DT") else "5"
        for dataset, cell in places.items():
            score = published.get((dataset, row[0], generation))
            if score is not None:
                assert float(cell) == pytest.approx(score, abs=0.0011), (dataset, row[0])
                compared += 1
    assert compared >= 40


def test_own_loop_runs(capsys):
    page = (DOCS / "howto" / "own-loop.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    assert "generation 2" in capsys.readouterr().out
    label, im, pseudo = names["label"], names["im"], names["pseudo"]
    assert label.shape == im.shape == (16, 1, 32, 32)
    assert ((pseudo == 255) == im).all()


def notebook_cells():
    notebook = json.loads((DOCS / "first_model.ipynb").read_text())
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]


def test_notebook_is_kept_without_results():
    notebook = json.loads((DOCS / "first_model.ipynb").read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert not any(cell.get("outputs") for cell in notebook["cells"])


@pytest.mark.slow
def test_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(notebook_cells())
    fast = 'quick=True, steps=4, batch=4, width=0.25, precision="float32", device="cpu"'
    assert "quick=True" in code
    names: dict[str, object] = {}
    exec(code.replace("quick=True", f"{fast}, workers=1, progress=False"), names)
    assert [mask.shape for mask in names["masks"]] == [(64, 64)] * 4
    assert isinstance(names["picture"], Image.Image)
    assert Path("runs/notebook/report/index.html").exists()
