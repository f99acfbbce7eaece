from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from browser_frames import CHROMIUM, DRIVER, STARTS_IN_S, chromium
from PIL import Image
from test_report import HOSTILE, METRICS, a_report, a_viewer, with_classes

from ssimrdo.comparison.report import write_html
from ssimrdo.comparison.report.viewer import ViewerSlice
from ssimrdo.inspection import inspect_slice, write_inspection

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="chromium or chromedriver is not installed"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with chromium() as driver:
        yield driver


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
    from selenium.webdriver.common.keys import Keys

    slider = browser.find_element("css selector", "[data-slider]")
    slider.send_keys(Keys.HOME)
    before = run(browser, SOURCES)
    assert len(before) == 8
    slider.send_keys(Keys.ARROW_RIGHT)
    after = run(browser, SOURCES)
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert browser.find_element("css selector", "[data-number]").text == "2"


def text(browser: Chrome, selector: str) -> str:
    return str(browser.find_element("css selector", f".viewer:not([hidden]) {selector}").text)


def pixels(browser: Chrome, canvas: str, drawn: str) -> Any:
    """Return the sides and samples of a canvas, once something is drawn on it."""
    from selenium.webdriver.support.ui import WebDriverWait

    selector = f".viewer:not([hidden]) [data-canvas={canvas}]"
    found = browser.find_element("css selector", selector)
    WebDriverWait(browser, STARTS_IN_S).until(lambda _: found.get_attribute("data-drawn") == drawn)
    return run(
        browser,
        "const c = arguments[0], d = c.getContext('2d').getImageData(0, 0, c.width, c.height);"
        "return [c.width, c.height, Array.from(d.data)]",
        found,
    )


def worst_of_chest() -> ViewerSlice:
    """Return the slice that the page opens with."""
    return min(a_viewer("chest", seed=0).slices, key=lambda one: one.worst)


def test_slices_can_begin_with_the_worst(browser: Chrome, report_url: str) -> None:
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.select import Select

    opened(browser, report_url)
    worst = worst_of_chest()
    # It opens there as well.
    assert text(browser, "[data-number]") == str(worst.index + 1)
    slider = browser.find_element("css selector", "[data-slider]")
    slider.send_keys(Keys.END)
    Select(browser.find_element("css selector", "[data-order]")).select_by_value("worst")
    assert text(browser, "[data-place]") == "1 of 5"
    assert text(browser, "[data-number]") == str(worst.index + 1)


def test_the_wheel_moves_through_slices(browser: Chrome, report_url: str) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
    from selenium.webdriver.common.keys import Keys

    opened(browser, report_url)
    browser.find_element("css selector", "[data-slider]").send_keys(Keys.HOME)
    pane = browser.find_element("css selector", ".pane")
    run(browser, "arguments[0].scrollIntoView({block: 'center'})", pane)
    ActionChains(browser).move_to_element(pane).move_by_offset(5, 5).perform()
    scrolled = run(browser, "return scrollY")
    origin = ScrollOrigin.from_element(pane)
    for _ in range(2):
        ActionChains(browser).scroll_from_origin(origin, 0, 100).perform()
    assert text(browser, "[data-place]") == "3 of 5"
    assert run(browser, "return scrollY") == scrolled
    pane.send_keys(Keys.PAGE_UP)
    assert text(browser, "[data-place]") == "2 of 5"


def test_values_under_the_pointer_are_those_of_the_slice(browser: Chrome, report_url: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    opened(browser, report_url)
    wait_for_images(browser)
    one = worst_of_chest()
    event = "new PointerEvent('pointermove', {bubbles: true, clientX: %s, clientY: %s})"
    at = "b.left + b.width * (40 + .5) / 96", "b.top + b.height * (50 + .5) / 64"
    run(
        browser,
        "const p = document.querySelector('.pane'), b = p.getBoundingClientRect();"
        f"p.dispatchEvent({event % at});",
    )
    WebDriverWait(browser, STARTS_IN_S).until(
        lambda _: text(browser, "[data-readout]").startswith("Row")
    )
    source, *shown = (int(luma[50, 40]) for luma in (one.source, *(e.luma for e in one.encodes)))

    def hu(levels: float) -> int:
        return round(400 * levels / 255)

    parts = text(browser, "[data-readout]").replace("\u2212", "-").replace("\u00a0", " ")
    assert parts.split(" · ") == [
        "Row 50, column 40",
        f"source {hu(source) - 160} HU",
        f"errors: reference {hu(shown[0] - source):+d} HU, ours {hu(shown[1] - source):+d} HU",
        f"ΔQP {one.qp_offset[3, 2]:+.1f}",
        "QP of reference 30",
        "QP of ours 28",
    ]
    assert len(browser.find_elements("css selector", ".viewer:not([hidden]) .cursor")) == 7


def test_errors_are_drawn_in_the_colours_of_their_bar(browser: Chrome, report_url: str) -> None:
    opened(browser, report_url)
    one = worst_of_chest()
    width, height, samples = pixels(browser, "error-reference", f"{one.index + 1}")
    assert (width, height) == (96, 64)
    shown = np.array(samples, int).reshape(64, 96, 4)[:, :, :3]
    table = np.array(a_viewer("chest").hu)
    errors = table[one.encodes[0].luma] - table[one.source]
    bar = run(
        browser,
        "return document.querySelector('[data-maps-part=error] .colourbar img').src",
    )
    ends = run(
        browser,
        "return JSON.parse(document.querySelector('.viewer script').textContent).ends.error",
    )
    assert ends[0] == -ends[1]
    with Image.open(io.BytesIO(base64.b64decode(bar.partition(",")[2]))) as image:
        palette = np.asarray(image.convert("RGB"))
    level = np.clip(np.floor((errors - ends[0]) / (ends[1] - ends[0]) * 64), 0, 63).astype(int)
    assert (shown == palette[0][level]).all(axis=2).mean() > 0.999


def test_clipped_and_skipped_macroblocks_are_hatched(browser: Chrome, report_url: str) -> None:
    from selenium.webdriver.support.select import Select

    def hatched(drawn: str) -> list[int]:
        width, height, samples = pixels(browser, "blocks", f"{drawn} {worst_of_chest().index + 1}")
        blocks = np.array(samples).reshape(height // 16, 16, width // 16, 16, 4)
        # Hatching leaves a block transparent in part.
        return [*np.flatnonzero((blocks[..., 3] == 0).any(axis=(1, 3)))]

    opened(browser, report_url)
    # The window clips two, of which the encode skips the first.
    assert hatched("offset") == [0, 1]
    Select(browser.find_element("css selector", "[data-blocks]")).select_by_value("qp-ours")
    assert hatched("qp-ours") == [0]


def test_keys_choose_what_is_seen(browser: Chrome, report_url: str) -> None:
    opened(browser, report_url)
    boxes = browser.find_elements("css selector", ".viewer:not([hidden]) .pane-box")

    def seen() -> list[str | None]:
        return [box.get_attribute("data-pane") for box in boxes if box.is_displayed()]

    def press(key: str) -> list[str | None]:
        browser.switch_to.active_element.send_keys(key)
        return seen()

    browser.find_element("css selector", ".pane").send_keys("r")
    assert seen() == ["reference"]
    assert press("f") == ["ours"]
    assert press("f") == ["reference"]
    assert press("w") == ["wipe"]
    edge = "return getComputedStyle(document.querySelector('.right')).clipPath"
    before = run(browser, edge)
    press("]")
    assert run(browser, edge) != before
    assert press("s") == ["source"]
    assert len(press("a")) == 6
    ours = run(browser, "return document.querySelector('[data-image=ours]').src")
    press("e")
    assert run(browser, "return document.querySelector('[data-image=ours]').src") != ours
    assert "ours, CRF 25" in text(browser, "[data-compared]")


def test_two_fingers_zoom(browser: Chrome, report_url: str) -> None:
    opened(browser, report_url)
    fingers = (
        "const p = document.querySelector('.pane'), b = p.getBoundingClientRect();"
        "p.setPointerCapture = () => {};"
        "const at = (kind, id, x) => p.dispatchEvent(new PointerEvent(kind, {pointerId: id,"
        " bubbles: true, clientX: b.left + x * b.width, clientY: b.top + b.height / 2}));"
        "at('pointerdown', 1, .45); at('pointerdown', 2, .55); at('pointermove', 1, .35);"
        "at('pointermove', 2, .65); at('pointerup', 1, .35); at('pointerup', 2, .65);"
    )
    run(browser, fingers)
    assert text(browser, "[data-zoom-text]") == "3×"


def test_encoders_are_switched_in_the_legend(browser: Chrome, report_url: str) -> None:
    opened(browser, report_url)
    button = browser.find_element("css selector", "[data-shows='1']")
    curves = (
        "return [...document.querySelectorAll('figure:not([hidden]) .plot > g')]"
        ".map(g => g.getBoundingClientRect().width > 0)"
    )
    assert all(run(browser, curves))
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert run(browser, curves) == [True, True, False, True, False]
    button.click()
    assert all(run(browser, curves))


def test_images_load_at_full_resolution(browser: Chrome, report_url: str) -> None:
    opened(browser, report_url)
    wait_for_images(browser)
    shown = "document.querySelectorAll('.viewer:not([hidden]) img')"
    widths = run(browser, f"return [...{shown}].map(i => i.naturalWidth)")
    assert len(widths) == 14
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
        "return [...document.querySelectorAll('.viewer:not([hidden]) .layer')]"
        ".map(i => i.style.transform)",
    )
    assert len(set(transforms)) == 1
    assert transforms[0].startswith("scale(2.25)")
    assert browser.find_element("css selector", "[data-zoom-text]").text == "2.3×"


def test_one_view_and_the_other_maps_can_be_chosen(browser: Chrome, report_url: str) -> None:
    opened(browser, report_url)
    boxes = browser.find_elements("css selector", ".viewer:not([hidden]) .pane-box")
    assert sum(box.is_displayed() for box in boxes) == 6
    browser.find_element("css selector", "[data-maps][value=ssim]").click()
    assert browser.find_element("css selector", "img[data-image=map-ours]").is_displayed()
    assert not browser.find_element("css selector", "[data-canvas=error-ours]").is_displayed()
    browser.find_element("css selector", "[data-layout][value=ours]").click()
    assert [box.get_attribute("data-pane") for box in boxes if box.is_displayed()] == ["ours"]


def test_curves_of_the_chosen_series_and_metric_are_shown(browser: Chrome, report_url: str) -> None:
    from selenium.webdriver.support.select import Select

    opened(browser, report_url)
    figures = browser.find_elements("css selector", "figure[data-choice]")
    # Over the rate three kinds of charts; over slices two kinds for each point that ours reaches.
    assert len(figures) == 2 * len(METRICS) * (3 + 4 + 3)
    for name, value in (("series", "1"), ("metric", "psnr"), ("point", "2"), ("view", "saved")):
        Select(browser.find_element("css selector", f"[data-chooses={name}]")).select_by_value(
            value
        )
    shown = [figure for figure in figures if figure.is_displayed()]
    assert len(shown) == 2
    for figure in shown:
        assert figure.get_attribute("data-series") == "1"
        assert figure.get_attribute("data-metric") == "psnr"
    assert [figure.get_attribute("data-view") for figure in shown] == ["saved", None]
    assert shown[1].get_attribute("data-slices") == "difference"


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
