"""Kernels are compiled once, and their absence is said."""

import shutil
import subprocess
import sys

import pytest

ASK = "from imasks.kernels import kernels; print(kernels())"


def ask(tmp_path, monkeypatch, **variables):
    monkeypatch.setenv("IMASKS_CACHE", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.skipif(not (shutil.which("gcc") or shutil.which("cc")), reason="no C compiler")
def test_are_compiled_once_into_the_cache(tmp_path, monkeypatch):
    assert ask(tmp_path, monkeypatch) == "compiled"
    (file,) = tmp_path.glob("*.so")
    made = file.stat().st_mtime_ns
    assert ask(tmp_path, monkeypatch) == "compiled"
    assert [p.stat().st_mtime_ns for p in tmp_path.glob("*")] == [made]


def test_can_be_switched_off(tmp_path, monkeypatch):
    found = ask(tmp_path, monkeypatch, IMASKS_KERNELS="off")
    assert found == "plain PyTorch (IMASKS_KERNELS is off)"
    assert not list(tmp_path.iterdir())


def test_a_compiler_that_fails_is_named(tmp_path, monkeypatch):
    found = ask(tmp_path, monkeypatch, CC="false")
    assert found.startswith("plain PyTorch (false could not build them")
