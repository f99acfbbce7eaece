"""The page of a measurement in a browser, on a telephone and on a desk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from test_report_browser import browser, console, opened, pytestmark, run, wait_for_images
from video_files import ct_volume

from ssimrdo import Volume, Window
from ssimrdo.measurement.output import measure_to_files

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

__all__ = ["browser", "pytestmark"]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "out.html"
    hu = ct_volume(14, 64, 84)
    noise = np.random.default_rng(0).normal(0, 9, hu.shape)
    measure_to_files(Volume(hu), Volume(hu + noise), "all", outputs=[path], window=Window(40, 400))
    return path.as_uri()


@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_fits(browser: Chrome, url: str, width: int) -> None:
    opened(browser, url, width)
    wait_for_images(browser)
    assert run(browser, "return document.documentElement.scrollWidth") <= width
    pictures = run(browser, "return [...document.images].map(i => i.naturalWidth)")
    assert len(pictures) == 4
    assert min(pictures) > 0
    # Wide tables scroll in place.
    for table in browser.find_elements("css selector", "table"):
        box = run(browser, "return arguments[0].closest('.scroll').clientWidth", table)
        assert box <= width
    assert console(browser) == []


def test_all_values_unfold(browser: Chrome, url: str) -> None:
    opened(browser, url)
    rows = browser.find_elements("css selector", "details tbody tr")
    assert len(rows) == 14
    assert not rows[0].is_displayed()
    browser.find_element("css selector", "summary").click()
    assert rows[0].is_displayed()
    assert Path(url).name == "out.html"
