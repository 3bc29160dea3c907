"""The page in a real browser: what it shows, how keys and the themes change it."""

from dataclasses import replace

import pytest

from imasks.runs.html.gather import page_of
from imasks.runs.html.render import write_page
from tests.browser import console_errors

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tiny_study):
    """The study's page, with a second generation that shows the first one's frames backwards."""
    found = page_of([tiny_study], ["cells"])
    run = found.runs[0]
    (strand,) = run.viewer.strands
    (frames,) = strand.frames
    longer = replace(strand, generations=(1, 2), frames=(frames, frames[::-1]))
    return replace(found, runs=(replace(run, viewer=replace(run.viewer, strands=(longer,))),))


@pytest.fixture(scope="module")
def path(page, tmp_path_factory):
    return write_page(page, tmp_path_factory.mktemp("page"))


@pytest.fixture
def shown(browser, path):
    """Open the page as a light desktop sees it; the browser is left as it was found."""
    console_errors(browser)  # of other pages
    prefer(browser, "light")
    resize(browser, 1280)
    browser.get(path.as_uri())
    browser.execute_script("localStorage.clear()")
    browser.refresh()
    yield browser
    assert console_errors(browser) == []
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get("about:blank")


def prefer(browser, theme):
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def resize(browser, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def press(browser, selector, *keys):
    from selenium.webdriver.common.by import By

    browser.find_element(By.CSS_SELECTOR, selector).send_keys(*keys)


def text(browser, selector):
    return browser.execute_script(
        "return document.querySelector(arguments[0]).textContent", selector
    )


def brightness(browser):
    color = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in color.strip("rgb()").split(",")) / 3


def test_it_opens_without_a_complaint_and_all_pictures_are_there(shown):
    widths = shown.execute_script(
        "return [...document.querySelectorAll('article img[src]')].map(i => i.naturalWidth)"
    )
    assert len(widths) > 10
    assert min(widths) > 0


def test_keys_move_the_sliders(shown):
    from selenium.webdriver.common.keys import Keys

    live = "return document.querySelector('[data-output=said]').getAttribute('aria-live')"
    assert shown.execute_script(live) == "polite"
    press(shown, "[data-control=opacity]", Keys.HOME)
    assert text(shown, "[data-output=opacity]") == "0 %"
    opacity = "return getComputedStyle(document.querySelector('[data-panel=label] "
    opacity += "[data-layer=over]')).opacity"
    assert shown.execute_script(opacity) == "0"
    press(shown, "[data-control=zoom]", Keys.END)
    assert text(shown, "[data-output=zoom]") == "600 %"
    wider = "const p = document.querySelector('.pane'); return p.scrollWidth / p.clientWidth"
    assert shown.execute_script(wider) == pytest.approx(6, abs=0.1)


def test_another_image_shows_other_pictures(shown):
    from selenium.webdriver.common.keys import Keys

    source = "return document.querySelector('[data-panel=input] img').src"
    before = shown.execute_script(source)
    press(shown, "[data-control=image]", Keys.ARROW_DOWN)
    assert shown.execute_script(source) != before


def test_the_generation_slider_shows_the_next_generation(shown, page):
    from selenium.webdriver.common.keys import Keys

    label = "return document.querySelector('[data-panel=label] [data-layer=over]').src"
    slider = "[data-control=step]"
    frames = page.runs[0].viewer.strands[0].frames
    for key, step in ((Keys.ARROW_RIGHT, 1), (Keys.ARROW_LEFT, 0)):
        press(shown, slider, key)
        frame = frames[step][0]
        assert text(shown, "[data-output=generation]") == f"{step + 1} of 2"
        assert text(shown, "[data-output=said]") == f"Generation {step + 1} of 2: {frame.text}."
        assert shown.execute_script(label) == page.pictures[frame.label]
        spoken = f"return document.querySelector('{slider}').getAttribute('aria-valuetext')"
        assert shown.execute_script(spoken) == f"generation {step + 1} of 2"


def test_both_themes(shown):
    assert brightness(shown) > 230
    prefer(shown, "dark")
    assert brightness(shown) < 40
    press(shown, "#theme", "\n")
    assert brightness(shown) > 230
    shown.refresh()  # what was chosen is remembered
    assert brightness(shown) > 230


def test_a_still_is_enlarged_and_escape_closes_it(shown):
    from selenium.webdriver.common.keys import Keys

    is_open = "return document.getElementById('large').open"
    press(shown, ".still", "\n")
    assert shown.execute_script(is_open)
    press(shown, "#close", Keys.ESCAPE)
    assert not shown.execute_script(is_open)


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_nothing_sticks_out_at_any_width(shown, width):
    resize(shown, width)
    wide = shown.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width
