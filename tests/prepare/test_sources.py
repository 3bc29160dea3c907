"""What holds for every published data set: sources stay as they are, stops do no harm."""

import pytest

from imasks.data.folder import open_dataset
from imasks.prepare.registry import PREPARERS
from tests.prepare.layouts import snapshot

NAMES = ("isic2018", "hela", "suim", "cityscapes")


class Stopped(BaseException):
    pass


@pytest.fixture(params=NAMES)
def named(request):
    name = request.param
    return name, request.getfixturevalue("isic" if name == "isic2018" else name)


def test_all_are_named_here():
    assert {name for name, one in PREPARERS.items() if one.about is not None} == set(NAMES)


def test_a_read_only_source_serves_and_stays_as_it_is(named, prepare, tmp_path):
    name, source = named
    inside = sorted(source.rglob("*"))
    for path in (source, *inside):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = snapshot(source)
    try:
        prepare(name, source)
        assert snapshot(source) == before
        assert sorted(source.rglob("*")) == inside
    finally:
        for path in (source, *inside):
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert all(open_dataset(tmp_path / "out").splits[split] for split in ("labeled", "unlabeled"))


def test_what_was_stopped_ends_like_what_was_not(named, prepare, tmp_path):
    name, source = named
    out = tmp_path / "out"
    prepare(name, source, out=tmp_path / "whole")

    def stop(done, total):
        if done == 2:
            raise Stopped

    with pytest.raises(Stopped):
        prepare(name, source, on_progress=stop)
    assert not out.exists()
    prepare(name, source)
    found, wanted = snapshot(out), snapshot(tmp_path / "whole")
    assert found.keys() == wanted.keys()
    for path in wanted:
        assert (out / path).read_bytes() == (tmp_path / "whole" / path).read_bytes(), path
