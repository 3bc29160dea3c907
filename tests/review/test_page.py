"""The page in a real browser: keys, brush, conflict; what it does is read from the disk."""

import time
from contextlib import contextmanager

import numpy as np
import pytest

from imasks.data.card import Card
from tests.browser import console_errors
from tests.review.conftest import serving

pytestmark = pytest.mark.slow


@contextmanager
def opened(browser, server):
    console_errors(browser)  # of other pages
    browser.get(server.url)
    wait(lambda: shown(browser))
    yield browser
    assert console_errors(browser) == []
    browser.get("about:blank")


@pytest.fixture
def page(browser, server):
    with opened(browser, server) as found:
        yield found


def wait(happened, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := happened():
            return found
        time.sleep(0.05)
    raise AssertionError("nothing happened in time")


def shown(page):
    return page.find_element("id", "name").text


def press(page, *keys):
    from selenium.webdriver import ActionChains

    actions = ActionChains(page, duration=10)
    for key in keys:
        actions.send_keys(key)
    actions.perform()


def click(page, item, x, y):
    """Click one pixel of the image."""
    from selenium.webdriver import ActionChains

    sheet = page.find_element("id", "sheet")
    scale = sheet.size["width"] / item.width
    move = ((x + 0.5 - item.width / 2) * scale, (y + 0.5 - item.height / 2) * scale)
    actions = ActionChains(page, duration=10)
    actions.move_to_element_with_offset(sheet, *map(round, move)).click().perform()


def saved(session, place, version):
    item = session.items[place]
    wait(lambda: session.decision(item).version == version)
    return session.shown(item)


def test_keys_decide_and_move_on(page, session):
    names = [item.name for item in session.items]
    assert shown(page) == names[0]
    for place, (key, state) in enumerate((("a", "accepted"), ("r", "rejected"), ("l", "to_label"))):
        wait(lambda place=place: shown(page) == names[place])
        press(page, key)
        decision, labels = saved(session, place, 1)
        assert decision.state == state
        np.testing.assert_array_equal(labels, session.predicted(session.items[place]))
    wait(lambda: shown(page) == names[3])
    press(page, "j")
    wait(lambda: shown(page) == names[4])
    press(page, "k", "k")
    wait(lambda: shown(page) == names[2])
    assert page.find_element("id", "state").text == "to label"
    press(page, "u")
    assert saved(session, 2, 2)[0].state is None
    press(page, "n")
    wait(lambda: shown(page) == names[3])
    tally = page.find_element("id", "tally").text
    assert tally == "1 accepted · 1 rejected · 0 to label · 4 open"


def test_the_mouse_paints_erases_and_undoes(page, session):
    item = session.items[0]
    before = session.predicted(item)
    page.execute_script("document.getElementById('size').value = 1")
    value = int(before[0, 5, 9])
    press(page, "e" if value else "1")
    click(page, item, 9, 5)
    decision, labels = saved(session, 0, 1)
    assert (decision.state, decision.changed) == (None, 1)
    assert np.argwhere(labels != before).tolist() == [[0, 5, 9]]
    press(page, "1" if value else "e")
    click(page, item, 9, 5)
    np.testing.assert_array_equal(saved(session, 0, 2)[1], before)
    press(page, "z")
    np.testing.assert_array_equal(saved(session, 0, 3)[1], labels)
    press(page, "z")
    np.testing.assert_array_equal(saved(session, 0, 4)[1], before)
    press(page, "Z")
    np.testing.assert_array_equal(saved(session, 0, 5)[1], labels)
    press(page, "a")
    decision, labels = saved(session, 0, 6)
    assert (decision.state, decision.changed) == ("accepted", 1)


def test_the_keyboard_paints_too(page, session):
    from selenium.webdriver.common.keys import Keys

    item = session.items[0]
    before = session.predicted(item)
    page.execute_script("document.getElementById('size').value = 3")
    middle = before[0, 15:18, 15:18]
    press(page, "1" if not middle.all() else "e", Keys.ARROW_RIGHT, Keys.ARROW_LEFT, Keys.SPACE)
    _, labels = saved(session, 0, 1)
    painted = np.argwhere(labels[0] != before[0])
    assert len(painted)
    assert np.abs(painted - 16).max() <= 1  # the brush began in the middle
    press(page, "e", Keys.ARROW_DOWN)
    assert page.switch_to.active_element.get_attribute("id") == "stage"
    pressed = page.find_elements("css selector", "#tools [aria-pressed=true]")
    assert [button.text.split("\n")[0] for button in pressed] == ["EraserE"]


@pytest.mark.parametrize(
    ("card", "keys", "values"),
    [
        (
            Card(name="", task="multiclass", classes=("a", "b", "c"), ignore=7),
            "3ve1",
            [[3], [255], [2], [1]],  # the eraser brings back what is predicted: b
        ),
        (
            Card(name="", task="multilabel", classes=("a", "b"), ignore=255),
            "2v1e",
            [[0, 1], [255, 255], [1, 255], [0, 255]],  # it erases the class that was painted
        ),
    ],
)
def test_every_task_is_painted_in_its_own_way(browser, drawn_session, card, keys, values):
    plane = np.zeros((24, 40), np.uint8)
    planes = [plane + 1] if card.task == "multiclass" else [plane, plane]
    session = drawn_session(card, *planes)
    (item,) = session.items
    with serving(session) as server, opened(browser, server) as page:
        page.execute_script("document.getElementById('size').value = 1")
        for version, (key, value) in enumerate(zip(keys, values, strict=True), start=1):
            press(page, key)
            click(page, item, 30, 20)
            _, labels = saved(session, 0, version)
            assert labels[:, 20, 30].tolist() == value
            assert (labels != session.predicted(item)).any(0).sum() <= 1
        facts = page.find_element("id", "facts").text
        assert "Expected miou\n0.50" in facts
        assert "25.0 %" in facts


@pytest.mark.parametrize("mine", [True, False])
def test_a_conflict_is_shown_and_settled(page, session, mine):
    session.save(session.items[0], base=0, state="rejected", labels=None, seen=None)
    press(page, "a")
    dialog = page.find_element("id", "conflict")
    wait(dialog.is_displayed)
    assert "rejected" in dialog.text
    assert session.decision(session.items[0]).version == 1
    page.find_element("id", "mine" if mine else "theirs").click()
    if mine:
        assert saved(session, 0, 2)[0].state == "accepted"
        wait(lambda: shown(page) == session.items[1].name)
    else:
        wait(lambda: page.find_element("id", "state").text == "rejected")
        assert session.decision(session.items[0]).version == 1
    # the browser itself reports the refused request
    messages = console_errors(page)
    assert len(messages) == 1
    assert "409" in messages[0]


def test_a_screen_reader_hears_what_things_are(page, session):
    unnamed = page.execute_script(
        "return [...document.querySelectorAll('button, input, [role]')].filter((one) => "
        "!(one.textContent.trim() || one.labels?.length || one.ariaLabel || one.hidden || "
        "one.id === 'say')).map((one) => one.outerHTML)"
    )
    assert unnamed == []
    said = page.find_element("id", "say").get_attribute("textContent")
    assert said == f"Image 1 of 6, {session.items[0].name}, open"
