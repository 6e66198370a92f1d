"""A real browser without a screen: one for each worker, a window for each module of tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rig.programs import need


@pytest.fixture(scope="session")
def _chromium() -> Iterator[Any]:
    """Chromium, which keeps what pages say on the console."""
    pytest.importorskip("selenium", reason="needs selenium: pip install selenium")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    programs = [need("chromium", "chromedriver"), need("chromedriver")]
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for option in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--window-size=1280,900",
    ):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs[1]))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def browser(_chromium: Any) -> Iterator[Any]:
    """The browser with a window of its own, which knows no cookie of another module's."""
    before = _chromium.current_window_handle
    _chromium.switch_to.new_window("window")
    _chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
    yield _chromium
    _chromium.close()
    _chromium.switch_to.window(before)


def show_as(browser: Any, width: int, height: int, theme: str | None = None) -> None:
    """The size of the screen in pixels, a phone's below 600; theme: light or dark."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    if theme is not None:
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": theme}]},
        )


def texts(browser: Any, selector: str) -> list[str]:
    """What each of them says, read at one moment: a page that draws itself anew would take the
    elements away between finding and reading."""
    found: list[str] = browser.execute_script(
        f"return [...document.querySelectorAll({json.dumps(selector)})].map(e => e.innerText)"
    )
    return found
