import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imasks.errors import UserError
from imasks.labelling import streamed
from imasks.labelling.streamed import Streamed


def squares(folder, count, *, size, until=None):
    """Write squares of row numbers; "killed" before row ``until``; return the parts done."""
    out, worked = Streamed(folder, count), []
    for rows in out.parts(size):
        if until is not None and rows.stop > until:
            return worked
        numbers = np.arange(rows.start, rows.stop)
        out.array("squares", (2,), np.int64)[rows] = numbers[:, None] ** 2
        out.add(sum=int((numbers**2).sum()))
        worked.append((rows.start, rows.stop))
    assert out.sum("sum") == sum(i**2 for i in range(count))
    return worked


@given(
    count=st.integers(1, 40),
    size=st.integers(1, 9),
    every=st.sampled_from([0.0, 1e9]),
    kills=st.lists(st.integers(0, 40), max_size=3),
)
def test_kills_at_any_row_change_nothing(tmp_path_factory, count, size, every, kills):
    folder = tmp_path_factory.mktemp("rows")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streamed, "EVERY", every)
        for kill in kills:
            squares(folder, count, size=size, until=kill)
        squares(folder, count, size=size)
    found = np.load(folder / "squares.npy")
    np.testing.assert_array_equal(found, np.arange(count)[:, None] ** 2 * np.ones(2, np.int64))


def test_what_is_saved_is_not_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr(streamed, "EVERY", 0)
    assert squares(tmp_path, 10, size=2, until=7) == [(0, 2), (2, 4), (4, 6)]
    assert squares(tmp_path, 10, size=3) == [(6, 9), (9, 10)]
    assert squares(tmp_path, 10, size=3) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "squares.npy").unlink(),
        lambda folder: (folder / "squares.npy").write_bytes(b"no array"),
        lambda folder: (folder / "squares.npy").write_bytes(b""),
        lambda folder: (folder / "squares.npy").write_bytes(b"PK\x03\x04"),
        lambda folder: np.save(folder / "squares.npy", np.zeros((9, 2))),
        lambda folder: (folder / "checkpoint_rows.json").write_text("{"),
        lambda folder: (folder / "checkpoint_rows.json").write_text("[]"),
        lambda folder: rewrite(folder, done=None),
        lambda folder: rewrite(folder, done=99),
        lambda folder: rewrite(folder, arrays={}),
        lambda folder: (folder / "checkpoint_rows.json").unlink(),
    ],
)
def test_what_does_not_fit_is_begun_anew(damage, tmp_path, monkeypatch):
    monkeypatch.setattr(streamed, "EVERY", 0)
    squares(tmp_path, 10, size=2, until=7)
    damage(tmp_path)
    monkeypatch.setattr(streamed, "EVERY", 1e9)
    assert squares(tmp_path, 10, size=5, until=7) == [(0, 5)]
    # nothing of this was saved, and what the first start had saved counts no more
    assert squares(tmp_path, 10, size=5) == [(0, 5), (5, 10)]
    found = np.load(tmp_path / "squares.npy")
    np.testing.assert_array_equal(found[:, 0], np.arange(10) ** 2)


def rewrite(folder, **values):
    path = folder / "checkpoint_rows.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_another_number_of_rows_is_begun_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(streamed, "EVERY", 0)
    squares(tmp_path, 10, size=2, until=7)
    assert squares(tmp_path, 12, size=6) == [(0, 6), (6, 12)]


def test_an_array_that_came_later_is_no_silent_gap(tmp_path, monkeypatch):
    monkeypatch.setattr(streamed, "EVERY", 0)
    squares(tmp_path, 10, size=2, until=7)
    out = Streamed(tmp_path, 10)
    with pytest.raises(UserError, match=r"cubes\.npy is not what checkpoint_rows\.json"):
        out.array("cubes", (), np.int64)
    assert json.loads((tmp_path / "checkpoint_rows.json").read_text())["done"] == 6
