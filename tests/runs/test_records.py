import csv
import io
from dataclasses import replace

import pytest

from imasks.runs.records import markdown_table, results_csv, results_markdown
from imasks.runs.results import Ending
from imasks.runs.run import open_run


def test_the_wide_table_holds_every_number(tiny_study):
    head, _, *lines = markdown_table(tiny_study.rows()).splitlines()
    names = [name.strip() for name in head.strip("|").split("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    ldt, fdt, im = (dict(zip(names, row, strict=True)) for row in cells)
    assert (ldt["approach"], fdt["approach"], im["approach"]) == ("LDT", "FDT", "IM")
    assert (ldt["to LDT"], ldt["steps"], ldt["images seen"]) == ("-", "4", "16")
    difference = float(fdt["test"]) - float(ldt["test"])
    assert float(fdt["to LDT"]) == pytest.approx(difference, abs=0.0011)
    assert fdt["jobs"] == "3/3"
    assert fdt["s.e."] == "-"  # one seed has none


def test_an_unfinished_approach_says_so(tiny_study):
    rows = [replace(row, complete=False, progress="1/8") for row in tiny_study.rows()]
    assert "IM (not finished) |" in markdown_table(rows)


NOTES = {
    "**mask**": "of the table of generations",
    "EvalNets judge": "of quality",
    "**empty is 0**": "of conventions",
    "**(ended)**": "of approaches that ended",
    "**(not finished)**": "of those that are not finished",
    "asked for": "of seeds that are not there yet",
}


def noted(run, monkeypatch, **changes):
    """Notes in the text about IM alone, with some changes."""
    one = run.outcomes()[2]
    more = changes.pop("steps", {})
    steps = tuple(replace(step, **more) for step in one.steps)
    with monkeypatch.context() as patched:
        patched.setattr(type(run), "outcomes", lambda _: [replace(one, steps=steps, **changes)])
        text = results_markdown([run])
    return {note for note in NOTES if note in text}


def test_notes_are_on_what_there_is(tiny_study, monkeypatch):
    assert noted(tiny_study, monkeypatch) == {"**mask**"}
    unfinished = {"**mask**", "**(not finished)**", "asked for"}
    assert noted(tiny_study, monkeypatch, complete=False) == unfinished
    ended = Ending(generation=2, reason="no image is kept", remedy="Use --no-filter.")
    assert noted(tiny_study, monkeypatch, ended=ended) == {"**mask**", "**(ended)**"}
    judged = noted(tiny_study, monkeypatch, steps={"quality": {"pearson": 0.5}})
    assert judged == {"**mask**", "EvalNets judge"}
    empty = {"val_iou_empty_is_one": 2.0, "val_iou_without_empty": 2.0}
    found = noted(tiny_study, monkeypatch, steps={"conventions": empty})
    assert found == {"**mask**", "**empty is 0**"}


def test_a_start_is_marked_nowhere_as_chosen_by_an_approach_that_goes_on(tiny_study, monkeypatch):
    one = tiny_study.outcomes()[2]
    waiting = replace(one, steps=one.steps[:1], complete=False, waits=True)
    monkeypatch.setattr(type(tiny_study), "outcomes", lambda _: [waiting])
    (row,) = csv.DictReader(io.StringIO(results_csv([tiny_study])))
    assert (row["generation"], row["chosen"]) == ("0", "")


def test_several_runs_stand_in_one_csv(tiny_study):
    run = open_run(tiny_study.folder)
    found = list(csv.DictReader(io.StringIO(results_csv([run, run]))))
    assert [row["approach"] for row in found] == ["LDT", "FDT", "IM", "IM"] * 2
    labelled = found[3]
    assert 0 <= float(labelled["im_share"]) <= 1
    assert (labelled["steps"], labelled["images_seen"]) == ("4", "48")
    assert float(labelled["seconds"]) > float(found[2]["seconds"]) > 0
    assert [row["chosen"] for row in found[2:4]].count("yes") == 1


def test_the_table_names_its_conditions(tiny_study):
    text = results_markdown([tiny_study])
    assert "## cells" in text
    assert (
        "Score: iou. 32 x 32 pixels, width 0.25, preset default, 4 steps a network, 1 seed, cpu, "
        "float32, threads of a process: 1." in text
    )
