"""A real browser for tests of pages; they are skipped with the reason where there is none."""

import shutil

import pytest


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium, driven by Selenium; `console_errors` tells what its console said."""
    reason = "Selenium is not installed (pip install selenium)"
    webdriver = pytest.importorskip("selenium.webdriver", reason=reason)
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("Chromium is not installed (on Debian: chromium and chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    # as root, as in containers, there is no sandbox; /dev/shm is small there
    for word in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1280,860"):
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


def console_errors(browser):
    """What the console of the browser complained about since it was last asked."""
    return [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
