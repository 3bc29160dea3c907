import os
import shutil
import threading

import pytest
from rich.console import Console

from imasks.data.folder import open_dataset
from imasks.data.synthetic import write_demo_dataset
from imasks.review.server import Server
from imasks.review.session import open_session
from imasks.runs.options import Options
from imasks.runs.run import open_run, plan_run, work
from tests.browser import browser  # noqa: F401


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A run of two barely trained networks, whose predictions are there already."""
    root = tmp_path_factory.mktemp("review")
    write_demo_dataset(root / "data", labeled=4, unlabeled=6, val=2, test=1, size=(32, 32))
    options = Options(
        width=0.25,
        steps=4,
        batch=4,
        candidates=2,
        precision="float32",
        device="cpu",
        workers=os.cpu_count(),
    )
    run = plan_run(
        open_dataset(root / "data"),
        root / "run",
        approaches=["LDT"],
        seeds=[0],
        options=options,
    )
    work(run, workers=1, console=Console(quiet=True))
    open_session(run, device="cpu")
    return run


@pytest.fixture
def run(finished_run, tmp_path):
    """A copy of the run, without any decision."""
    shutil.copytree(finished_run.folder, tmp_path / "run")
    return open_run(tmp_path / "run")


@pytest.fixture
def session(run):
    return open_session(run, device="cpu")


@pytest.fixture
def server(session):
    with Server(session) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        made.shutdown()
        thread.join()
