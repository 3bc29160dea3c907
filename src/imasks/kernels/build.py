"""Compiles the kernels when they are first needed, for the processor at hand."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

_HERE = Path(__file__).parent
_SOURCES = ("stage.c", "conv.c", "tiles.c", "head.c")
_FLAGS = (
    "-O3",
    "-std=gnu11",
    "-march=native",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-mprefer-vector-width=512",
    "-fPIC",
)


@cache
def library() -> ctypes.CDLL | str:
    """Return the compiled kernels, or why there are none.

    They are kept in the user's cache folder (``IMASKS_CACHE`` names another), one file for each
    state of the sources, compiler and processor. ``IMASKS_KERNELS=off`` does without them.
    """
    if os.environ.get("IMASKS_KERNELS", "on") == "off":
        return "IMASKS_KERNELS is off"
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return "no C compiler was found"
    runtime = _openmp()
    try:
        return ctypes.CDLL(str(_compiled(compiler, threads=runtime is not None)))
    except (OSError, subprocess.SubprocessError) as error:
        return f"{compiler} could not build them ({_first_line(error)})"


def _openmp() -> ctypes.CDLL | None:
    """Load PyTorch's own OpenMP: the kernels share its threads, a second pool would fight it."""
    found = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*"))
    return ctypes.CDLL(str(found[0]), mode=ctypes.RTLD_GLOBAL) if found else None


def _compiled(compiler: str, *, threads: bool) -> Path:
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    state = hashlib.sha256()
    for part in (version, _processor(), str(threads), *_FLAGS):
        state.update(part.encode() + b"\0")
    for source in sorted(_HERE.glob("*.[ch]")):
        state.update(source.read_bytes())
    target = _cache_folder() / f"kernels-{state.hexdigest()[:16]}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = [f"{folder}/{name}.o" for name in _SOURCES]
            for name, file in zip(_SOURCES, made, strict=True):
                opened = ["-fopenmp"] if threads else []
                _run(compiler, *_FLAGS, *opened, "-c", str(_HERE / name), "-o", file)
            # OpenMP's calls stay open: they are answered by the library loaded above.
            _run(compiler, "-shared", *made, "-lm", "-o", f"{folder}/kernels.so")
            Path(folder, "kernels.so").replace(target)
    return target


def _run(*command: str) -> None:
    subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)


def _processor() -> str:
    """Name the processor and what it can do, as -march=native sees it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))


def _cache_folder() -> Path:
    given = os.environ.get("IMASKS_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "imasks"


def _first_line(error: Exception) -> str:
    text = getattr(error, "stderr", None) or str(error)
    return next(iter(str(text).splitlines()), type(error).__name__)


def kernels() -> str:
    """Say what networks on the processor are computed with, for people and records."""
    found = library()
    return f"plain PyTorch ({found})" if isinstance(found, str) else "compiled"
