import csv
import io
import shutil
from dataclasses import replace

import pytest

import imasks
from imasks.errors import UserError
from imasks.runs.records import results_csv, results_markdown, titles_of
from imasks.runs.report import write_report
from imasks.runs.run import open_run


@pytest.fixture
def two(tiny_study, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(tiny_study.folder, tmp_path / name, ignore=shutil.ignore_patterns("report"))
    return [open_run(tmp_path / name) for name in ("a", "b")]


def test_one_run_keeps_its_report(two):
    files = write_report(two[:1])
    report = two[0].folder / "report"
    assert files == [
        report / "index.html",
        report / "results.md",
        report / "results.csv",
        report / "figures" / "index.md",
    ]
    assert all(file.stat().st_size for file in files)


def test_several_runs_need_a_folder_in_common(two, tmp_path):
    with pytest.raises(UserError, match="Say with --out"):
        write_report(two)
    published = tmp_path / "p.csv"
    published.write_text("dataset,metric,approach,generation,test_score\nx,IoU,IM,1,0.5\n")
    imasks.report([run.folder for run in two], out=tmp_path / "both", published=published)
    assert not (two[0].folder / "report").exists()
    text = (tmp_path / "both" / "results.md").read_text()
    assert text.count("\n## cells") == 2
    index = (tmp_path / "both" / "figures" / "index.md").read_text()
    assert "x (published), highest first: IM 0.500" in index
    assert all(file.exists() for file in linked(index, tmp_path / "both" / "figures"))


def linked(index, folder):
    return [folder / part.split(")")[0] for part in index.split("](")[1:]]


def test_a_run_given_twice_is_one(two):
    for path in two[0].folder.glob("jobs/*/done.json"):
        path.unlink()
    files = write_report([two[0], two[0]])  # nothing is left to draw
    assert [file.name for file in files] == ["index.html", "results.md", "results.csv"]


def test_runs_of_one_data_set_are_told_apart(two):
    assert titles_of(two[:1]) == ["cells"]
    assert titles_of(two) == [f"cells ({run.folder})" for run in two]


def with_budget(run, recipe=None, **how):
    old = run.config.how
    new = replace(old, recipe=replace(old.recipe, **recipe or {}), **how)
    return replace(run, config=replace(run.config, how=new))


def test_two_budgets_on_one_data_set_are_named(two):
    epochs = with_budget(two[0], {"steps": None, "epochs": 3, "min_steps": 1})
    equal = with_budget(two[1], {"steps": 2000}, budget="equal-steps")
    names = ["3 epochs a network", "equal steps an approach, 2,000 a generation"]
    assert titles_of([epochs, equal]) == [f"cells ({name})" for name in names]
    text = results_markdown([epochs, equal])
    for name in names:
        assert f"## cells ({name})" in text
        assert f"preset default, {name}, 1 seed" in text
    found = csv.DictReader(io.StringIO(results_csv([epochs, equal])))
    assert list(dict.fromkeys(row["budget"] for row in found)) == names
    other = with_budget(two[0], {"steps": 2000}, budget="equal-steps")
    _, *alike = titles_of([epochs, equal, other])
    assert alike == [f"cells ({names[1]}) ({run.folder})" for run in (equal, other)]
    paper = with_budget(two[0], {"steps": None, "epochs": 50, "min_steps": 1500})
    assert paper.config.budget == "50 epochs a network, at least 1,500 steps"
