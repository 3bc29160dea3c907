import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from imasks.cli import main
from imasks.cli.screen import console
from imasks.errors import UserError
from imasks.models.optional import torchvision

# torchmetrics, a referee of some tests, imports torchvision where it is installed
with suppress(UserError):
    torchvision()
settings.register_profile("imasks", deadline=None)  # shared machines are slow at times
settings.load_profile("imasks")
# Tests run side by side; several threads each would wait for one another most of the time.
torch.set_num_threads(1)

needs_encoders = pytest.mark.skipif(
    find_spec("segmentation_models_pytorch") is None, reason="the extra 'encoders' is not installed"
)
SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def golden():
    """Load one file of recorded outputs of the published implementation by its stem."""

    def load(stem: str) -> dict[str, np.ndarray]:
        path = SHARED / "golden" / f"{stem}.npz"
        if not path.exists():
            pytest.skip(f"golden outputs are not at {path.parent}")
        with np.load(path, allow_pickle=False) as file:
            return dict(file)

    return load


@pytest.fixture(scope="session")
def real_data():
    """Return the folder of one real data set by name."""

    def folder(name: str) -> Path:
        path = SHARED / "data" / name
        if not path.exists():
            pytest.skip(f"real data set is not at {path}")
        return path

    return folder


@pytest.fixture
def imasks(monkeypatch, capsys):
    """Run a command line as a user does; give its exit status and what it printed."""

    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["imasks", *map(str, words)])
        monkeypatch.setattr(console, "width", 400)  # paths on one line
        monkeypatch.setenv("COLUMNS", "400")  # of other consoles
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out + err

    return run
