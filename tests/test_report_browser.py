from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from test_report import HOSTILE, METRICS, a_report, a_viewer, with_classes

from ssimrdo.comparison.report import write_html
from ssimrdo.inspection import inspect_slice, write_inspection

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="chromium or chromedriver is not installed"
)

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


STARTS_IN_S = 30
"""Seconds within which Chromium shows an empty page."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    from selenium import webdriver
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        assert CHROMIUM is not None
        options.binary_location = CHROMIUM
        for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        driver.set_page_load_timeout(STARTS_IN_S)
        try:
            driver.get("about:blank")
        except TimeoutException:
            # Now and then it hangs before it shows anything.
            driver.quit()
            driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        driver.set_page_load_timeout(300)
        yield driver
        driver.quit()


@pytest.fixture(scope="module")
def report_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    names = ("chest", HOSTILE)
    report = with_classes(a_report(*names))
    *others, ours = report.encoders
    ours = replace(ours, settings="a=very-long-" * 40)
    report = replace(report, encoders=(*others, ours))
    viewers = {name: a_viewer(name, seed=seed) for seed, name in enumerate(names)}
    write_html(report, path, viewers)
    return path.as_uri()


@pytest.fixture(scope="module")
def inspect_url(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("inspect") / "maps.html"
    write_inspection(inspect_slice(phantom_folder), path)
    return path.as_uri()


def opened(browser: Chrome, url: str, width: int = 1440) -> Chrome:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(url)
    return browser


def run(browser: Chrome, script: str, *values: object) -> Any:
    return browser.execute_script(script, *values)


SOURCES = (
    "return [...document.querySelectorAll('.viewer:not([hidden]) [data-image]')].map(i=>i.src)"
)


def console(browser: Any) -> list[Any]:
    """Return what was logged since the last call."""
    messages: list[Any] = browser.get_log("browser")
    return messages


def wait_for_images(browser: Chrome) -> None:
    browser.execute_async_script(
        "const done = arguments[0];"
        "Promise.all([...document.images].filter(i => i.src).map(i => i.decode())).then(done)"
    )


def test_slider_changes_all_images(browser: Chrome, report_url: str) -> None:
    opened(browser, report_url)
    before = run(browser, SOURCES)
    assert len(before) == 8
    from selenium.webdriver.common.keys import Keys

    browser.find_element("css selector", "[data-slider]").send_keys(Keys.ARROW_RIGHT)
    after = run(browser, SOURCES)
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert browser.find_element("css selector", "[data-number]").text == "4"


def test_images_load_at_full_resolution(browser: Chrome, report_url: str) -> None:
    opened(browser, report_url)
    wait_for_images(browser)
    shown = "document.querySelectorAll('.viewer:not([hidden]) img')"
    widths = run(browser, f"return [...{shown}].map(i => i.naturalWidth)")
    assert len(widths) == 12
    assert all(width > 0 for width in widths)
    source = "return document.querySelector('[data-image=source]').naturalWidth"
    assert run(browser, source) == 96


def test_panes_zoom_and_move_together(browser: Chrome, report_url: str) -> None:
    opened(browser, report_url)
    from selenium.webdriver.common.keys import Keys

    pane = browser.find_element("css selector", ".pane")
    pane.send_keys("+", "+", Keys.ARROW_RIGHT)
    transforms = run(
        browser,
        "return [...document.querySelectorAll('.viewer:not([hidden]) .pane img')]"
        ".map(i => i.style.transform)",
    )
    assert len(set(transforms)) == 1
    assert transforms[0].startswith("scale(2.25)")
    assert browser.find_element("css selector", "[data-zoom-text]").text == "2.3×"


def test_one_view_and_the_other_map_can_be_chosen(browser: Chrome, report_url: str) -> None:
    opened(browser, report_url)
    boxes = browser.find_elements("css selector", ".viewer:not([hidden]) .pane-box")
    assert sum(box.is_displayed() for box in boxes) == 6
    browser.find_element("css selector", "[data-offsets][value=ratio]").click()
    assert browser.find_element("css selector", "img[data-image=ratio]").is_displayed()
    assert not browser.find_element("css selector", "img[data-image=offset]").is_displayed()
    browser.find_element("css selector", "[data-layout][value=ours]").click()
    assert [box.get_attribute("data-pane") for box in boxes if box.is_displayed()] == ["ours"]


def test_curves_of_the_chosen_series_and_metric_are_shown(browser: Chrome, report_url: str) -> None:
    from selenium.webdriver.support.select import Select

    opened(browser, report_url)
    figures = browser.find_elements("css selector", "figure[data-choice]")
    assert len(figures) == 2 * len(METRICS) * (1 + 4)
    for name, value in (("series", "1"), ("metric", "psnr"), ("point", "2")):
        Select(browser.find_element("css selector", f"[data-chooses={name}]")).select_by_value(
            value
        )
    shown = [figure for figure in figures if figure.is_displayed()]
    assert len(shown) == 2
    for figure in shown:
        assert figure.get_attribute("data-series") == "1"
        assert figure.get_attribute("data-metric") == "psnr"


def test_the_other_series_has_its_own_viewer(browser: Chrome, report_url: str) -> None:
    from selenium.webdriver.support.select import Select

    opened(browser, report_url)
    before = run(browser, SOURCES)
    Select(browser.find_element("css selector", "[data-viewer-chooser]")).select_by_index(1)
    after = run(browser, SOURCES)
    assert len(before) == len(after) == 8
    assert before != after


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("page", ["report", "inspect"])
def test_nothing_is_wider_than_the_screen(
    browser: Chrome, report_url: str, inspect_url: str, page: str, width: int
) -> None:
    opened(browser, report_url if page == "report" else inspect_url, width)
    run(browser, "for (const d of document.querySelectorAll('details')) d.open = true")
    assert run(browser, "return document.documentElement.scrollWidth") <= width
    assert run(browser, "return innerWidth") == width


@pytest.mark.parametrize("page", ["report", "inspect"])
def test_console_stays_empty_and_nothing_is_fetched(
    browser: Chrome, report_url: str, inspect_url: str, page: str
) -> None:
    console(browser)
    opened(browser, report_url if page == "report" else inspect_url)
    wait_for_images(browser)
    assert console(browser) == []
    fetched = run(browser, "return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in fetched if not name.startswith("data:")] == []


def test_hostile_names_stay_text(browser: Chrome, report_url: str) -> None:
    opened(browser, report_url)
    assert run(browser, "return document.querySelectorAll('[onerror]').length") == 0
    assert HOSTILE in run(browser, "return document.body.textContent")
    assert run(browser, "return [...document.images].every(i => !i.src.endsWith('/x'))")


def test_inspect_shows_the_block_pointed_at(browser: Chrome, inspect_url: str) -> None:
    from selenium.webdriver.common.keys import Keys

    opened(browser, inspect_url)
    values = "return [...document.querySelectorAll('[data-value]')].map(e => e.textContent)"
    before = run(browser, values)
    assert before[:2] == ["15", "15"]
    browser.find_element("css selector", ".probe").send_keys(Keys.ARROW_UP)
    after = run(browser, values)
    assert after[:2] == ["14", "15"]
    assert before[2:] != after[2:]


def test_it_prints(browser: Chrome, report_url: str) -> None:
    opened(browser, report_url)
    pdf = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"]
    assert len(pdf) > 10_000
