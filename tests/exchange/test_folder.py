"""Writing a data folder: splits, stops, and what is in the way."""

import numpy as np
import pytest

from imasks.data.folder import open_dataset
from imasks.errors import UserError
from imasks.exchange.folder import Shares, assign, write_folder
from imasks.exchange.instances import read_instances
from imasks.exchange.source import Entry, ReadOptions
from imasks.prepare.staged import MARK
from tests.prepare.layouts import snapshot


@pytest.fixture
def source(pictures):
    """Ten images with one object each, and two without masks."""
    root = pictures(*(f"{i:02}/images/{i:02}.png" for i in range(12)), folder="stage1")
    from imasks.data.files import write_png

    for i in range(10):
        (root / f"{i:02}" / "masks").mkdir()
        write_png(root / f"{i:02}" / "masks" / "1.png", np.eye(8, 10, dtype=np.uint8))
    return read_instances(root, ReadOptions())


def names(folder):
    return {k: tuple(s.name for s in v) for k, v in open_dataset(folder).splits.items()}


def test_splits_are_drawn_by_the_seed(source, tmp_path):
    shares = Shares(val_share=0.2, test_share=0.3, seed=5)
    splits = assign(source.entries, shares)
    counts = {split: list(splits.values()).count(split) for split in set(splits.values())}
    assert counts == {"labeled": 5, "val": 2, "test": 3, "unlabeled": 2}
    assert assign(tuple(reversed(source.entries)), shares) == splits
    assert assign(source.entries, Shares(val_share=0.2, test_share=0.3, seed=6)) != splits
    report = write_folder(tmp_path / "out", source, shares)
    assert report.counts == {"labeled": 5, "unlabeled": 2, "val": 2, "test": 3}
    found = names(tmp_path / "out")
    assert {name: split for split in found for name in found[split]} == splits


def test_splits_are_given_by_a_file(source, tmp_path):
    path = tmp_path / "splits.csv"
    path.write_text("name,split\n00,test\n01.png,Validation\n02,unlabeled\n11,test\n")
    splits = assign(source.entries, Shares(given=path, test_share=0.5))
    assert (splits["00"], splits["01"], splits["02"]) == ("test", "val", "unlabeled")
    assert splits["11"] == "unlabeled"  # it has no mask
    assert list(splits.values()).count("test") == 1 + 4  # half of the seven that are left
    write_folder(tmp_path / "out", source, Shares(given=path))
    # true masks of unlabeled images: full supervision may learn from them
    assert (tmp_path / "out" / "unlabeled" / "masks" / "02.png").exists()
    path.write_text("name,split\n77,test\n")
    with pytest.raises(UserError, match=r"images that are not there.*77"):
        assign(source.entries, Shares(given=path))
    path.write_text("file,split\n00,test\n")
    with pytest.raises(UserError, match="lacks a column"):
        assign(source.entries, Shares(given=path))


@pytest.mark.parametrize("shares", [{"val_share": 1.0}, {"val_share": 0.5, "test_share": 0.5}])
def test_shares_out_of_range(shares):
    with pytest.raises(UserError, match="val_share"):
        Shares(**shares)


def test_a_stop_is_gone_on_from_and_never_looks_finished(source, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def stop(done, total):
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(out, source, Shares(), on_progress=stop)
    assert not out.exists()
    temp = tmp_path / ".out.importing"
    assert not (temp / "dataset.toml").exists()
    written = {path: path.stat().st_mtime_ns for path in temp.rglob("*.png")}
    assert len(written) >= 6
    report = write_folder(out, source, Shares())
    assert report.counts == {"labeled": 10, "unlabeled": 2}
    kept = {out / path.relative_to(temp): time for path, time in written.items()}
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert sorted(path.name for path in out.iterdir()) == [
        *("dataset.toml", "labeled", MARK, "unlabeled")
    ]
    assert not temp.exists()


def test_a_stop_before_other_options_is_forgotten(source, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "out", source, Shares(), on_progress=stop)
    write_folder(tmp_path / "out", source, Shares(test_share=0.7, seed=1))
    found = names(tmp_path / "out")
    assert len(found["test"]) == 7
    files = list((tmp_path / "out").rglob("*.png"))
    assert len(files) == 10 + 10 + 2  # none is left over from the first try


def test_the_same_again_changes_nothing_and_other_wishes_are_told(source, tmp_path):
    out, shares = tmp_path / "out", Shares(val_share=0.2)
    first = write_folder(out, source, shares)
    before = snapshot(out)
    again = write_folder(out, source, shares)
    assert again.notes == (f"{out} is prepared already: nothing to do.", *first.notes)
    assert (again.counts, again.skipped) == (first.counts, first.skipped)
    with pytest.raises(UserError, match=r"other options .*images or splits"):
        write_folder(out, source, Shares(val_share=0.3))
    source.entries[0].sources[0].touch()
    with pytest.raises(UserError, match=r"other options .*images or masks"):
        write_folder(out, source, shares)
    assert snapshot(out) == before
    assert not (tmp_path / ".out.importing").exists()


def test_what_is_in_the_way(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(UserError, match="not empty"):
        write_folder(tmp_path / "out", source, Shares())
    with pytest.raises(UserError, match=r"mine\.txt/new cannot be made .* may write to"):
        write_folder(tmp_path / "out" / "mine.txt" / "new", source, Shares())
    none = tuple(Entry(name=one.name, image=one.image) for one in source.entries)
    from dataclasses import replace

    with pytest.raises(UserError, match=r"no labeled image is left for training\. Annotate more"):
        write_folder(tmp_path / "new", replace(source, entries=none), Shares())

    def refuse(size):
        raise UserError("holds strange colours", remedy="Add them.")

    bad = tuple(replace(one, draw=refuse, copies=()) for one in source.entries)
    with pytest.raises(UserError, match=r"left out, the first: .*strange colours.* Correct what"):
        write_folder(tmp_path / "new", replace(source, entries=bad), Shares())
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / ".new.importing").exists()
