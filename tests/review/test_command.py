import shutil

import pytest

from imasks.review.opening import open_session


def test_decisions_are_listed_one_image_a_line(imasks, run, session):
    item = session.items[0]
    session.save(item, base=0, state="to_label", labels=None, seen=None)
    assert imasks("review", run.folder, "--list") == (0, f"to_label\t{item.path}\n")


def test_without_decisions_the_list_is_empty(imasks, run, session):
    shutil.rmtree(run.folder / "review")
    code, text = imasks("review", run.folder, "--list")
    assert code == 0
    assert "Nothing was decided" in text


def test_errors_name_the_remedy(imasks, run, session, tmp_path):
    code, text = imasks("review", tmp_path / "nothing")
    assert code == 2
    assert "is no run folder" in text
    code, text = imasks("review", run.folder, "--port", "70000")
    assert code == 2
    assert "port 70000 cannot be listened at" in text


@pytest.mark.parametrize("order", ["unsure", "random"])
def test_the_page_has_the_order_asked_for(order, imasks, run, monkeypatch):
    served = []
    monkeypatch.setattr(
        "imasks.review.server.serve", lambda session, **more: served.append(session)
    )
    code, text = imasks("review", run.folder, "--order", order, "--device", "cpu")
    assert code == 0, text
    names = [item.name for item in open_session(run, by=order, device="cpu").items]
    assert [item.name for item in served[0].items] == names
    assert "Next:" not in text  # nothing was decided that training could use
    code, text = imasks("review", run.folder, "--order", "best")
    assert (code, "unsure, random" in text) == (2, True)


def test_training_says_what_it_takes_from_a_review(imasks, run, session, tmp_path):
    for item, state in zip(session.items, ("rejected", "rejected"), strict=False):
        session.save(item, base=0, state=state, labels=None, seen=None)
    data = run.config.data
    words = ("train", data, "--approach", "LDT", "--steps", "4", "--precision", "float32")
    out = tmp_path / "next"
    code, text = imasks(*words, "--review", session.folder, "--out", out, "--dry-run")
    assert code == 0, text
    assert "Review: 0 accepted, 2 rejected" in text
    code, text = imasks(*words, "--review", run.folder, "--out", out)
    assert code == 2
    assert f"Give {session.folder}." in text
