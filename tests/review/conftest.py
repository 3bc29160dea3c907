import os
import shutil
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from rich.console import Console

from imasks.data.decisions import Decisions
from imasks.data.files import write_png
from imasks.data.folder import open_dataset
from imasks.data.prepare import Preparation
from imasks.data.synthetic import write_demo_dataset
from imasks.jobs import Job
from imasks.review.opening import open_session
from imasks.review.server import Server
from imasks.review.session import Item, Session
from imasks.runs.choice import Chosen
from imasks.runs.options import Options
from imasks.runs.run import open_run, plan_run, work
from imasks.tasks import make_task
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
    with serving(session) as made:
        yield made


@contextmanager
def serving(session):
    with Server(session) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def drawn_session(tmp_path):
    """Make sessions of any task without a run: one grey image, its predicted mask as given."""

    def make(card, *planes):
        image = tmp_path / "grey.png"
        write_png(image, np.full(planes[0].shape, 90, np.uint8))
        predicted = tmp_path / "review" / "predicted"
        folders = card.classes if card.task == "multilabel" else ["."]
        for folder, plane in zip(folders, planes, strict=True):
            (predicted / "masks" / folder).mkdir(parents=True, exist_ok=True)
            write_png(predicted / "masks" / folder / image.name, plane)
        (predicted / "inconsistency").mkdir()
        write_png(predicted / "inconsistency" / image.name, np.zeros_like(planes[0]))
        height, width = planes[0].shape
        item = Item(
            name="grey",
            path=image,
            page=None,
            result="grey",
            height=height,
            width=width,
            im_share=0.25,
            quality=0.5,
        )
        return Session(
            folder=tmp_path / "review",
            task=make_task(card.task, card.classes),
            colors=(),
            preparation=Preparation(
                size=(32, 32),
                channels=1,
                fit="resize",
                levels=None,
                native=(32, 32),
                largest=(32, 32),
            ),
            decisions=Decisions.begin(tmp_path / "review", card),
            items=(item,),
            skipped=(),
            chosen=Chosen(
                approach="IM",
                seed=0,
                generation=1,
                val=0.5,
                rank=Job(kind="rank", params={}),
                fits=(),
                done=1,
                jobs=1,
            ),
        )

    return make
