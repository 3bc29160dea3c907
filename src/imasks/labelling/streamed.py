"""Arrays that are written part by part, and go on where a kill stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from imasks.errors import UserError
from imasks.jobs import write_atomic

EVERY = 20.0  # seconds after which what is there is brought to the disk and counts


class Streamed:
    """Arrays `NAME.npy` in a folder, all of N rows, mapped: memory stays flat for any N.

    How many rows are done stands in `checkpoint_rows.json`, with the sums over them, and is
    written after the rows themselves. Whoever opens the folder again begins there, or at row 0 if
    the files are damaged or of another number of rows. So rows must depend on their number alone,
    not on where the work began.

    Args:
        folder: for the arrays; that of a job, which removes the checkpoint once it is done.
        rows: N.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        self._folder = folder
        self._rows = rows
        self._checkpoint = folder / "checkpoint_rows.json"
        self._arrays: dict[str, np.memmap] = {}
        self._done, self._sums, self._kinds = self._read()
        if not self._done:  # or a later start would take new, empty arrays for the old ones
            self._checkpoint.unlink(missing_ok=True)

    def array(self, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> np.memmap:
        """Map `NAME.npy`, of shape (N, *shape), for writing; known names give the same again.

        Raises:
            UserError: rows are done, and their array is another one.
        """
        if name in self._arrays:
            return self._arrays[name]
        path, whole = self._folder / f"{name}.npy", (self._rows, *shape)
        if not self._done:
            array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=whole)
        elif self._kinds.get(name) == _kind(whole, dtype):
            array = np.lib.format.open_memmap(path, mode="r+")
        else:
            raise UserError(
                f"{path} is not what {self._checkpoint.name} beside it says",
                value=f"{self._kinds.get(name)} in place of {_kind(whole, dtype)}",
                remedy=f"Delete the folder {self._folder} and run the same command again.",
            )
        self._arrays[name] = array
        return array

    def parts(self, size: int) -> Iterator[slice]:
        """Yield the rows that are not done yet, so many at a time; each is done when asked on."""
        saved = time.monotonic()
        while self._done < self._rows:
            part = slice(self._done, min(self._done + size, self._rows))
            yield part
            self._done = part.stop
            if time.monotonic() - saved >= EVERY and self._done < self._rows:
                self._save()
                saved = time.monotonic()
        self._save()

    def add(self, **values: float) -> None:
        """Add to the sums over all rows."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0) + value

    def sum(self, name: str) -> float:
        """Tell a sum over all rows so far."""
        return self._sums.get(name, 0)

    def _save(self) -> None:
        for array in self._arrays.values():
            array.flush()
        state = {
            "rows": self._rows,
            "done": self._done,
            "sums": self._sums,
            "arrays": {name: _kind(a.shape, a.dtype) for name, a in self._arrays.items()},
        }
        write_atomic(self._checkpoint, json.dumps(state).encode())

    def _read(self) -> tuple[int, dict[str, float], dict[str, Any]]:
        """Rows done, sums and arrays; nothing where they are not what they should be."""
        nothing: tuple[int, dict[str, float], dict[str, Any]] = (0, {}, {})
        try:
            state = json.loads(self._checkpoint.read_bytes())
            done, sums, kinds = int(state["done"]), dict(state["sums"]), dict(state["arrays"])
            if state["rows"] != self._rows or not 0 < done <= self._rows or not kinds:
                return nothing
            for name, kind in kinds.items():
                there = np.lib.format.open_memmap(self._folder / f"{name}.npy", mode="r")
                if _kind(there.shape, there.dtype) != kind:
                    return nothing
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return nothing
        return done, sums, kinds


def _kind(shape: tuple[int, ...], dtype: Any) -> list[Any]:
    return [list(shape), np.dtype(dtype).str]
