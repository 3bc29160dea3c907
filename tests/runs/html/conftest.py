import shutil

import pytest

from imasks.runs.run import open_run
from tests.browser import browser  # noqa: F401


@pytest.fixture
def study(tiny_study, tmp_path):
    """A copy of the finished run that a test may damage."""
    shutil.copytree(
        tiny_study.folder, tmp_path / "run", ignore=shutil.ignore_patterns("report", ".lock")
    )
    return open_run(tmp_path / "run")
