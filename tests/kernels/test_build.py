"""Kernels are compiled once, and their absence is said."""

import platform
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


@pytest.mark.skipif(platform.machine() != "x86_64", reason="these are x86 processors")
@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")
@pytest.mark.parametrize("processor", ["x86-64", "x86-64-v3", "x86-64-v4"])
def test_can_be_loaded_whatever_the_processor_can_do(tmp_path, monkeypatch, processor):
    """Sources without instructions for a part of the kernels still make a whole library."""
    compiler = tmp_path / "cc"
    compiler.write_text(
        f'#!/bin/sh\nexec gcc $(echo "$@" | sed s/-march=native/-march={processor}/)\n'
    )
    compiler.chmod(0o755)
    assert ask(tmp_path / "cache", monkeypatch, CC=str(compiler)) == "compiled"


def test_can_be_switched_off(tmp_path, monkeypatch):
    found = ask(tmp_path, monkeypatch, IMASKS_KERNELS="off")
    assert found == "plain PyTorch (IMASKS_KERNELS is off)"
    assert not list(tmp_path.iterdir())


def test_a_compiler_that_fails_is_named(tmp_path, monkeypatch):
    found = ask(tmp_path, monkeypatch, CC="false")
    assert found.startswith("plain PyTorch (false could not build them")
