import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from imasks.runs.html.gather import page_of
from imasks.runs.html.pictures import BUDGET, LONGEST, photo
from imasks.runs.html.render import render, write_page

VOID = {"meta", "link", "img", "input", "path", "circle", "br"}


class Checker(HTMLParser):
    """Collects what a page refers to and complains about tags that are not closed."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.refers, self.images = [], [], [], []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        self.refers += [given[name] for name in ("src", "href") if name in given]
        if tag == "img":
            self.images.append(given)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(tiny_study):
    return page_of([tiny_study], ["cells"])


@pytest.fixture(scope="module")
def checked(page):
    checker = Checker()
    checker.feed(render(page))
    return checker


def test_every_tag_is_closed_and_every_name_is_given_once(checked):
    assert checked.open == []
    assert len(set(checked.ids)) == len(checked.ids)


def test_nothing_is_loaded_from_elsewhere(checked, page):
    assert all(one.startswith(("data:", "#")) for one in checked.refers)
    assert {one[1:] for one in checked.refers if one.startswith("#")} <= set(checked.ids)
    assert not re.search(r"https?://", render(page))


def test_every_picture_has_an_alternative_text(checked):
    assert checked.images
    assert all("alt" in image for image in checked.images)
    assert all(image["alt"] for image in checked.images if "src" in image)


def test_what_users_named_is_escaped(page):
    run = page.runs[0]
    evil = "</script><script>alert(1)</script>"
    assert run.viewer is not None
    images = (replace(run.viewer.images[0], name=evil), *run.viewer.images[1:])
    named = replace(run, title=evil, viewer=replace(run.viewer, images=images))
    assert "alert(1)</script>" not in render(replace(page, runs=(named,)))


def test_the_file_replaces_an_older_one(page, tmp_path):
    (tmp_path / "index.html").write_text("old")
    path = write_page(page, tmp_path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_budget_holds_a_full_gallery_of_the_largest_noise():
    import numpy as np

    noise = np.random.default_rng(0).integers(0, 256, (LONGEST, LONGEST, 3), np.uint8)
    assert 3 * 6 * 3 * len(photo(noise)) < BUDGET
