import io
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from imasks.data.arrays import load_arrays, prepare
from imasks.data.decisions import Stale
from imasks.data.files import read_image, write_png
from imasks.data.folder import open_dataset
from imasks.data.reviewed import apply_review
from imasks.errors import UserError
from imasks.review import opening as module
from imasks.review.opening import decided, open_session
from imasks.review.session import Outdated, tag
from imasks.runs.predictor import predictor_of
from imasks.runs.run import open_run


def test_items_show_what_the_networks_say(run, session):
    assert len(session.items) == 6
    assert not session.skipped
    predictor = predictor_of(run, device="cpu")
    for item in session.items:
        said = predictor(read_image(item.path))
        np.testing.assert_array_equal(session.predicted(item), said.mask[None])
        np.testing.assert_array_equal(session.inconsistency(item), said.im)
        assert item.im_share == pytest.approx(said.im_share, abs=1e-6)
        assert item.quality is None
    assert session.picture(session.items[0]).startswith(b"\x89PNG")


def test_predictions_are_made_once_and_the_order_stays(run, session, monkeypatch):
    names = [item.name for item in session.items]
    with monkeypatch.context() as patch:
        patch.setattr(module, "predict_files", lambda *a, **k: pytest.fail("predicted again"))
        assert [item.name for item in open_session(run).items] == names
    shutil.rmtree(session.folder / "predicted")
    assert [item.name for item in open_session(run, device="cpu").items] == names


def test_a_fair_sample_is_another_order_of_the_same_images(run, session, monkeypatch):
    names = [item.name for item in session.items]
    monkeypatch.setattr(module, "predict_files", lambda *a, **k: pytest.fail("predicted again"))
    drawn = [item.name for item in open_session(run, by="random").items]
    assert sorted(drawn) == sorted(names)
    assert drawn != names
    assert [item.name for item in open_session(run, by="random").items] == drawn
    with pytest.raises(UserError, match=r"no such order \(found: best\).*unsure, random"):
        open_session(run, by="best")


def test_what_a_run_learned_from_was_decided_until_it_has_a_review_of_its_own(run, session):
    item = session.items[0]
    session.save(item, base=0, state="rejected", labels=None, seen=None)
    learned = apply_review(open_dataset(run.config.data), session.folder).review
    session.folder.rename(run.folder / "reviewed")
    assert decided(run) == []  # it learned from none, whatever lies there
    run = replace(run, config=replace(run.config, review=learned))
    assert [(state, sample.name) for state, sample in decided(run)] == [("rejected", item.name)]


def test_a_changed_image_is_predicted_again(run, session, monkeypatch):
    image = session.items[0].path
    before = image.stat()
    try:
        os.utime(image, ns=(1, 1))
        seen = []
        open_session(run, device="cpu", on_progress=lambda what, *_: seen.append(what))
        assert set(seen) == {"predicting", "ordering"}
    finally:
        os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_accepting_takes_the_mask_that_was_seen(session):
    item = session.items[0]
    decision, labels = session.shown(item)
    assert (decision.version, decision.state) == (0, None)
    with pytest.raises(Outdated):
        session.save(item, base=0, state="accepted", labels=None, seen="another")
    saved = session.save(item, base=0, state="accepted", labels=None, seen=tag(labels))
    assert (saved.version, saved.changed) == (1, 0)
    changed = labels.copy()
    changed[0, :2, :2] ^= 1
    with pytest.raises(Stale):
        session.save(item, base=0, state="rejected", labels=changed, seen=None)
    saved = session.save(item, base=1, state="accepted", labels=changed, seen=None)
    assert saved.changed == 4
    there, shown = session.shown(item)
    assert there == saved
    np.testing.assert_array_equal(shown, changed)
    session.save(session.items[1], base=0, state="to_label", labels=None, seen=None)
    assert session.counts() == {"accepted": 1, "to_label": 1, "": 4}


def test_what_was_decided_is_listed_with_its_files(run, session):
    for item, state in zip(session.items, ("rejected", "to_label", None), strict=False):
        session.save(item, base=0, state=state, labels=None, seen=None)
    found = [(state, sample.image) for state, sample in decided(run)]
    assert sorted(found) == [
        ("rejected", session.items[0].path),
        ("to_label", session.items[1].path),
    ]


def test_a_run_that_learned_from_a_review_goes_on_from_it(run, session):
    item = session.items[0]
    session.save(item, base=0, state="rejected", labels=None, seen=None)
    # as plan_run leaves it behind
    shutil.copytree(session.folder, run.folder / "reviewed")
    text = (run.folder / "run.toml").read_text()
    review = '[review]\nfolder = "x"\ndigest = "0"\naccepted = []\ncorrected = []\n'
    (run.folder / "run.toml").write_text(f'{text}\n{review}rejected = ["{item.name}"]\n')
    shutil.rmtree(session.folder)
    again = open_session(open_run(run.folder), device="cpu")
    assert again.decision(item).state == "rejected"
    assert len(again.items) == 6


def test_images_that_cannot_be_read_are_skipped_with_a_reason(run, session):
    broken = session.items[0].path.with_name("broken.png")
    try:
        broken.write_bytes(b"no image")
        for _ in range(2):  # also when the predictions are there
            again = open_session(run, device="cpu")
            assert len(again.items) == 6
            (reason,) = again.skipped
            assert "broken.png: is not an image" in reason
    finally:
        broken.unlink()


def test_pages_of_a_stack_are_images_of_their_own(run, session):
    stack = session.items[0].path.with_name("stack.ome.tif")
    pages = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    try:
        tifffile.imwrite(stack, pages, photometric="rgb", metadata={"axes": "TYXS"})
        again = open_session(run, device="cpu")
        assert len(again.items) == 8
        predictor = predictor_of(run, device="cpu")
        for number, name in enumerate(("stack_page1", "stack_page2")):
            item = again.by_name[name]
            with Image.open(io.BytesIO(again.picture(item))) as shown:
                np.testing.assert_array_equal(np.asarray(shown), pages[number])
            np.testing.assert_array_equal(again.predicted(item)[0], predictor(pages[number]).mask)
            assert again.inconsistency(item).shape == (32, 32)
        labels = np.zeros((1, 32, 32), np.uint8)
        again.save(item, base=0, state="accepted", labels=labels, seen=None)
        assert [(state, sample.page) for state, sample in decided(run)] == [("accepted", 1)]
        reviewed = apply_review(open_dataset(run.config.data), again.folder)
        assert reviewed.review.accepted == ("stack_page2",)
        arrays = prepare(reviewed, run.config.preparation, again.folder / "arrays")
        assert arrays["counts"]["labeled"] == 4 + 1
        labeled = load_arrays(again.folder / "arrays", "labeled")
        place = labeled.names.index("stack_page2")
        np.testing.assert_array_equal(labeled.images[place], pages[1])
        assert not labeled.labels[place].any()
    finally:
        stack.unlink(missing_ok=True)


def test_images_too_large_for_a_browser_are_left_out(run, session, monkeypatch):
    monkeypatch.setattr(module, "LARGE", 32 * 32 - 1)
    shutil.rmtree(session.folder / "predicted")
    with pytest.raises(UserError, match=r"none .* can be reviewed .*too many for a browser"):
        open_session(run, device="cpu")


def test_another_data_set_is_refused(run, session):
    path = Path(run.config.data) / "dataset.toml"
    before = path.read_text()
    try:
        path.write_text(before.replace('"cell"', '"wing"'))
        with pytest.raises(UserError, match="another task or other classes"):
            open_session(run)
    finally:
        path.write_text(before)


def test_a_data_folder_that_moved_is_asked_for(run, tmp_path):
    moved = replace(run, config=replace(run.config, data=str(tmp_path / "gone")))
    with pytest.raises(UserError, match="Say with --data where it is now"):
        open_session(moved)
    assert len(open_session(moved, data=Path(run.config.data), device="cpu").items) == 6


def test_masks_of_the_wrong_size_do_not_pass(session):
    item = session.items[0]
    write_png(session.folder / "predicted" / "masks" / f"{item.name}.png", np.zeros((8, 8), "u1"))
    with pytest.raises(UserError, match="differs in size"):
        session.predicted(item)
