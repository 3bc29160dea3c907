import os

import pytest
from rich.console import Console

from imasks.data.folder import open_dataset
from imasks.data.synthetic import write_demo_dataset
from imasks.runs.options import Options
from imasks.runs.run import plan_run, work

TINY = Options(
    width=0.25,
    steps=4,
    batch=4,
    candidates=2,
    generations=1,
    precision="float32",
    device="cpu",
    workers=os.cpu_count(),  # one thread each; the tests work in their own process
)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """A data folder of small synthetic images, all with true masks."""
    folder = tmp_path_factory.mktemp("data") / "cells"
    write_demo_dataset(folder, labeled=6, unlabeled=8, val=3, test=4, size=(32, 32))
    return folder


@pytest.fixture
def tiny_dataset(tiny_data):
    return open_dataset(tiny_data)


@pytest.fixture(scope="session")
def tiny():
    """Options that train in seconds."""
    return TINY


@pytest.fixture(scope="session")
def tiny_study(tiny_data, tiny, tmp_path_factory):
    """A finished run of both bounds and IM, one seed."""
    run = plan_run(
        open_dataset(tiny_data),
        tmp_path_factory.mktemp("study"),
        approaches=["LDT", "FDT", "IM"],
        seeds=[0],
        options=tiny,
    )
    work(run, workers=1, console=Console(quiet=True))
    return run
