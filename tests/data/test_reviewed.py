import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from imasks.data.checksum import checksum, digest_of
from imasks.data.decisions import Decisions
from imasks.data.files import write_png
from imasks.data.folder import open_dataset
from imasks.data.reviewed import apply_review, keep_review
from imasks.errors import UserError

MASK = np.zeros((1, 4, 4), np.uint8)


@pytest.fixture
def data(tmp_path):
    root = tmp_path / "data"
    for split, count in (("labeled", 5), ("unlabeled", 4), ("test", 1)):
        for kind in ("images", "masks") if split != "unlabeled" else ("images",):
            (root / split / kind).mkdir(parents=True)
            for i in range(count):
                pixels = np.full((4, 4), 16 * i + len(split), np.uint8)
                write_png(root / split / kind / f"{split[0]}{i}.png", pixels)
    (root / "dataset.toml").write_text('task = "binary"\nclasses = ["x"]\n')
    return open_dataset(root)


def decide(data, folder, **states):
    decisions = Decisions.begin(folder, data.card)
    samples = {sample.name: sample for sample in data.splits["unlabeled"]}
    for name, state in states.items():
        there = decisions.read(name)
        decisions.save(
            name,
            image=digest_of(samples[name].image),
            base=there.version if there else 0,
            state=state,
            labels=MASK,
            changed=int(name == "u1"),
        )
    return folder


def names(data):
    return {split: [sample.name for sample in found] for split, found in data.splits.items()}


def test_accepted_pairs_become_labeled_and_rejected_images_go(data, tmp_path):
    folder = decide(
        data, tmp_path / "review", u0="accepted", u1="accepted", u2="rejected", u3="to_label"
    )
    found = apply_review(data, folder)
    before, after = names(data), names(found)
    assert after["labeled"] == sorted([*before["labeled"], "u0", "u1"])
    assert after["unlabeled"] == ["u3"]
    assert (after["val"], after["test"]) == (before["val"], before["test"])
    review = found.review
    assert (review.accepted, review.corrected, review.rejected) == (("u0", "u1"), ("u1",), ("u2",))
    assert str(review) == "2 accepted (1 of them corrected), 1 rejected"
    (mask,) = found.splits["labeled"][-1].masks
    assert mask == folder / "masks" / "u1.v1.png"


def test_checksum_and_digest_follow_content_only(data, tmp_path):
    first = apply_review(data, decide(data, tmp_path / "a", u0="accepted", u2="rejected"))
    decide(data, tmp_path / "b", u0="rejected", u2="rejected")
    second = apply_review(data, decide(data, tmp_path / "b", u0="accepted"))
    assert second.review.digest == first.review.digest
    assert checksum(second, None) == checksum(first, None) != checksum(data, None)
    # a mask of another content counts, whoever wrote it
    write_png(tmp_path / "b" / "masks" / "u0.v2.png", np.full((4, 4), 255, np.uint8))
    third = apply_review(data, tmp_path / "b")
    assert third.review.digest != first.review.digest
    assert checksum(third, None) != checksum(first, None)


def test_a_kept_copy_stands_for_the_original(data, tmp_path):
    folder = decide(data, tmp_path / "review", u0="accepted", u2="rejected", u3="to_label")
    found = apply_review(data, folder)
    (tmp_path / "run").mkdir()
    keep_review(found, tmp_path / "run" / "reviewed")  # left by a start that was killed
    keep_review(found, tmp_path / "run" / "reviewed")
    shutil.rmtree(folder)
    again = apply_review(data, tmp_path / "run" / "reviewed")
    assert again.review.digest == found.review.digest
    assert names(again) == names(found)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["reviewed"]


def test_a_copy_of_decisions_that_move_is_refused(data, tmp_path):
    folder = decide(data, tmp_path / "review", u0="accepted")
    found = apply_review(data, folder)
    decide(data, folder, u0="rejected")
    with pytest.raises(UserError, match="changed while they were read"):
        keep_review(found, tmp_path / "reviewed")
    assert not (tmp_path / "reviewed").exists()


def test_what_cannot_be_used_is_named(data, tmp_path):
    folder = decide(data, tmp_path / "review", u3="to_label")
    with pytest.raises(UserError, match="no accepted and no rejected image"):
        apply_review(data, folder)
    decide(data, folder, u0="accepted", u1="rejected")
    Path(data.splits["unlabeled"][1].image).unlink()
    less = open_dataset(data.folder)
    assert "no longer in unlabeled/: u1" in str(apply_review(less, folder).review)
    (folder / "masks" / "u0.v1.png").unlink()
    with pytest.raises(UserError, match=r"u0\.v1\.png, the mask of an accepted image, is missing"):
        apply_review(less, folder)
    write_png(data.splits["unlabeled"][0].image, np.ones((4, 4), np.uint8))
    with pytest.raises(UserError, match=r"u0\.png is not the image that was reviewed"):
        apply_review(less, folder)


def test_a_review_is_told_from_its_run(data, tmp_path):
    decide(data, tmp_path / "run" / "review", u0="accepted")
    with pytest.raises(UserError, match=r"Give .*run/review\."):
        apply_review(data, tmp_path / "run")
    head = tmp_path / "run" / "review" / "review.json"
    head.write_text(json.dumps({**json.loads(head.read_text()), "task": "multilabel"}))
    with pytest.raises(UserError, match="task: multilabel -> binary"):
        apply_review(data, tmp_path / "run" / "review")
