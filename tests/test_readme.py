"""The commands and the code that the README and the tutorial show, as they show them."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from imasks import demo
from imasks.approaches.recipes import find_approach
from imasks.cli import app
from imasks.data.synthetic import draw_cells
from imasks.runs.configure import ALL

ROOT = Path(__file__).parents[1]
README, DOCS = ROOT / "README.md", ROOT / "docs"
TUTORIAL = DOCS / "tutorial.md"
PAGES = (README, TUTORIAL, *sorted((DOCS / "howto").glob("*.md")))
FAST = ["--steps", "4", "--batch", "4", "--width", "0.25", "--generations", "1"]
FAST += ["--candidates", "2", "--precision", "float32"]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), flags=re.DOTALL)


def commands_of(page):
    """All commands in the fenced blocks of a page, as they are shown."""
    fenced, found = False, []
    for line in map(str.strip, page.read_text().splitlines()):
        if line.startswith("```"):
            fenced = not fenced
        elif fenced and line.startswith("imasks "):
            found.append(line.split("#")[0].strip())
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    root = tmp_path_factory.mktemp("home")
    images, masks = draw_cells(16, size=(32, 32), seed=0)
    for folder in ("photos", "masks", "more_photos", "new_photos"):
        (root / folder).mkdir()
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        folder = "photos" if i < 6 else "more_photos" if i < 12 else "new_photos"
        Image.fromarray(image).save(root / folder / f"{i}.png")
        if i < 6:
            Image.fromarray(mask * 255).save(root / "masks" / f"{i}.png")
    for name in ("a.png", "b.png"):
        Image.fromarray(images[0]).save(root / name)
    return root


def review_one(process):
    """Reject the first image, as a person does on the page, and stop."""
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("Open "):
            break
    assert said, "it said nothing"
    assert said[-1].startswith("Open "), "".join(said)
    root, token = said[-1].split()[1].split("/?token=")

    def ask(path, **more):
        request = urllib.request.Request(f"{root}/api/{path}", headers={"X-Token": token}, **more)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    first = ask("review")["items"][0]["url"]
    ask(f"items/{first}?base=0&state=rejected", method="POST", data=b"")
    process.send_signal(signal.SIGINT)


def run_all(commands, home):
    for command in commands:
        words = shlex.split(command)
        if words[1] in ("train", "study"):
            words += FAST
        process = subprocess.Popen(
            [sys.executable, "-m", "imasks", *words[1:]],
            cwd=home,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if words[1] == "review":
            review_one(process)
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, f"{command}\n{said}"


@pytest.mark.slow
def test_commands(home):
    commands = commands_of(README)
    assert len(commands) >= 9
    run_all(commands, home)
    assert (home / "predicted" / "predictions.csv").exists()


@pytest.mark.slow
def test_commands_of_the_tutorial(tmp_path, monkeypatch):
    first, *commands = commands_of(TUTORIAL)
    assert first == "imasks demo"
    assert f"{demo.LABELED} with masks to learn from, {demo.UNLABELED}" in TUTORIAL.read_text()
    for name, few in (("LABELED", 6), ("UNLABELED", 4), ("SIDE", 32)):
        monkeypatch.setattr(demo, name, few)
    fast = {"steps": 4, "batch": 4, "width": 0.25, "precision": "float32", "workers": 1}
    monkeypatch.setattr(demo, "OPTIONS", replace(demo.OPTIONS, **fast))
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(app, shlex.split(first)[1:])
    assert said.exit_code == 0, said.output
    assert Path("imasks-demo/run/report/index.html").exists()
    run_all(commands, tmp_path)
    assert Path("predicted/scores.json").exists()
    assert Path("runs/study/report/index.html").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_options_that_are_shown(page):
    group = typer.main.get_command(app)
    for command in commands_of(page):
        words = shlex.split(command)[1:]
        context = group.make_context("imasks", list(words))
        name, verb, rest = group.resolve_command(context, list(words))
        given = verb.make_context(name, rest, parent=context).params
        named = given.get("approach") or given.get("approaches")
        for approach in (named or "").split(","):
            if approach not in ("", ALL):
                find_approach(approach)


@pytest.mark.slow
def test_python(home, monkeypatch):
    first, core = blocks("python")
    monkeypatch.chdir(home)
    if not (home / "my_data").exists():
        from imasks.data.scaffold import init_folder

        init_folder(Path("my_data"), images=Path("photos"), masks=Path("masks"))
    fast = 'quick=True, steps=4, width=0.25, batch=4, device="cpu", progress=False'
    names: dict[str, object] = {}
    code = first.replace("quick=True", fast).replace("runs/first", "runs/python")
    exec(code.replace('"IM+"', '"ALDT"'), names)  # the folder may have no unlabeled images
    masks = names["masks"]
    assert [mask.shape for mask in masks] == [(32, 32)] * 2

    votes = np.random.default_rng(0).integers(0, 2, (3, 2, 1, 8, 8), np.uint8)
    exec(core.replace("votes = ...", "votes = given"), names := {"given": votes, **names})
    target = names["target"]
    assert set(np.unique(target)) <= {0, 1, 255}
    assert ((target == 255) == names["region"]).all()


def test_make_targets_named_in_the_readme_exist():
    targets = re.findall(r"^make (\w+)", README.read_text(), flags=re.MULTILINE)
    makefile = (README.parent / "Makefile").read_text()
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
