"""Complete or absent; and nothing twice. ISIC's layout stands for all."""

import json

import pytest
from filelock import FileLock

from imasks.data.folder import open_dataset
from imasks.errors import UserError
from imasks.prepare import isic2018
from imasks.prepare.source import tree
from imasks.prepare.staged import MARK
from tests.prepare.layouts import noise, save, snapshot


class Killed(BaseException):
    pass


@pytest.fixture
def counted(monkeypatch):
    """Count what is made."""
    made = []
    real = isic2018._make

    def make(pair, folder, **more):
        made.append(pair.name)
        return real(pair, folder, **more)

    monkeypatch.setattr(isic2018, "_make", make)
    return made


def stop_at(count):
    def on_progress(done, total):
        if done == count:
            raise Killed

    return on_progress


def partial(out):
    return out.with_name(f".{out.name}.preparing")


def test_the_same_command_again_does_nothing(isic, prepare, tmp_path, counted):
    told = prepare("isic2018", isic)
    before, made = snapshot(tmp_path / "out"), len(counted)
    again = prepare("isic2018", isic)
    assert again == (f"{tmp_path / 'out'} is prepared already: nothing to do.", *told)
    assert snapshot(tmp_path / "out") == before
    assert len(counted) == made == 11
    assert not partial(tmp_path / "out").exists()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("dataset.toml", "labeled", MARK, "test", "unlabeled", "val")
    ]


def test_what_was_stopped_goes_on_and_ends_alike(isic, prepare, tmp_path, counted):
    prepare("isic2018", isic, out=tmp_path / "whole")
    counted.clear()
    with pytest.raises(Killed):
        prepare("isic2018", isic, on_progress=stop_at(5))
    assert not (tmp_path / "out").exists()
    journal = partial(tmp_path / "out") / ".journal.jsonl"
    done = [json.loads(line)["item"] for line in journal.read_text().splitlines()[1:]]
    assert len(done) == 5
    with journal.open("a") as file:
        file.write('{"item": "half a li')  # killed while it was written
    counted.clear()
    steps = []
    prepare("isic2018", isic, on_progress=lambda *at: steps.append(at))
    assert steps[0] == (5, 11)
    assert steps[-1] == (11, 11)
    assert len(counted) == 6
    first, second = tmp_path / "whole", tmp_path / "out"
    assert snapshot(first).keys() == snapshot(second).keys()
    for name in snapshot(first):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_what_was_stopped_with_other_options_begins_anew(isic, prepare, tmp_path):
    with pytest.raises(Killed):
        prepare("isic2018", isic, labeled_share=1.0, on_progress=stop_at(6))
    prepare("isic2018", isic, labeled_share=0.2)
    counts = {k: len(v) for k, v in open_dataset(tmp_path / "out").splits.items()}
    assert counts == {"labeled": 1, "unlabeled": 5, "val": 2, "test": 3}


def test_a_file_that_was_mended_is_read_again(isic, prepare, tmp_path):
    mask = isic / "ISIC2018_Task1_Test_GroundTruth" / "ISIC_0000032_segmentation.png"
    good = mask.read_bytes()
    mask.write_bytes(good[:40])
    with pytest.raises(UserError, match=r"ISIC_0000032_segmentation\.png"):
        prepare("isic2018", isic)
    assert not (tmp_path / "out").exists()
    mask.write_bytes(good)
    prepare("isic2018", isic)
    assert len(open_dataset(tmp_path / "out").splits["test"]) == 3


def test_a_finished_folder_of_other_options_or_files_is_left_alone(isic, prepare, tmp_path):
    prepare("isic2018", isic)
    before = snapshot(tmp_path / "out")
    with pytest.raises(UserError, match=r"other options .*seed was 42, is 1") as caught:
        prepare("isic2018", isic, seed=1)
    assert "labeled_share" not in str(caught.value)
    save(isic / "ISIC2018_Task1-2_Test_Input" / "ISIC_0000030.jpg", noise(99, 60, 90))
    with pytest.raises(UserError, match=r"other options .*other files"):
        prepare("isic2018", isic)
    assert snapshot(tmp_path / "out") == before


def test_a_strange_folder_is_left_alone(isic, prepare, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and is not empty"):
        prepare("isic2018", isic)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_place_where_no_folder_can_be_is_named(isic, prepare, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="file is a file"):
        prepare("isic2018", isic, out=tmp_path / "file")
    with pytest.raises(UserError, match=r"file/out cannot be made .* may write to"):
        prepare("isic2018", isic, out=tmp_path / "file" / "out")


def test_an_empty_folder_may_be_filled(isic, prepare, tmp_path):
    (tmp_path / "out").mkdir()
    prepare("isic2018", isic)
    assert (tmp_path / "out" / "dataset.toml").is_file()


@pytest.mark.parametrize("inside", [".", "out", "ISIC2018_Task1-2_Test_Input/out"])
def test_a_source_is_only_read(isic, prepare, inside):
    before = snapshot(isic)
    with pytest.raises(UserError, match="lies in the source"):
        prepare("isic2018", isic, out=isic / inside)
    assert snapshot(isic) == before


def test_two_processes_do_not_write_one_folder(isic, prepare, tmp_path):
    hidden = partial(tmp_path / "out")
    hidden.mkdir()
    with (
        FileLock(hidden / ".lock"),
        pytest.raises(UserError, match="is being prepared by another process"),
    ):
        prepare("isic2018", isic)


def test_a_source_that_is_no_folder(prepare, tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        prepare("isic2018", tmp_path / "nowhere")


def test_a_tree_is_short(tmp_path):
    for number in range(9):
        save(tmp_path / f"folder {number}" / "a.png", noise(0, 4, 4))
    save(tmp_path / "b.jpg", noise(0, 4, 4))
    save(tmp_path / "c.jpg", noise(0, 4, 4))
    lines = tree(tmp_path)
    assert lines[0] == "b.jpg ... (2 .jpg)"
    assert lines[1:3] == ["folder 0/", "  a.png"]
    assert lines[-1] == "... (3 more folders)"
    assert tree(tmp_path / "folder 0" / "a.png") == ["(nothing)"]
