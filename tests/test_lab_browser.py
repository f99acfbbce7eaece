"""The page of the laboratory in a browser: it fits, loads nothing and follows the scheme."""

from __future__ import annotations

import re

import pytest
from test_report_browser import CHROMIUM, DRIVER, browser, console, opened, run

from ssimrdo.lab.experiment import LabSettings
from ssimrdo.lab.run import run_lab, write_lab

__all__ = ["browser"]

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="chromium or chromedriver is not installed"
)


@pytest.fixture(scope="module")
def page_url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab") / "out"
    settings = LabSettings(quick=True)
    write_lab(run_lab(["terms", "lung", "blocks"], settings), folder, settings)
    return (folder / "lab.html").as_uri()


@pytest.mark.parametrize("width", [390, 1440])
def test_page_fits_and_says_nothing_to_the_console(browser, page_url, width):
    opened(browser, page_url, width)
    assert run(browser, "return document.documentElement.scrollWidth") <= width
    widths = run(
        browser,
        "return [...document.querySelectorAll('figure > svg')].map(s => "
        "[s.getBoundingClientRect().width, s.parentElement.getBoundingClientRect().width])",
    )
    assert len(widths) == 9
    assert all(300 < picture <= figure + 1 for picture, figure in widths)
    assert console(browser) == []


def test_text_of_pictures_can_be_read_on_a_telephone(browser, page_url):
    opened(browser, page_url, 390)
    heights = run(
        browser,
        "return [...document.querySelectorAll('figure:not(.wide) svg text')].map(t => "
        "t.getBoundingClientRect()).map(b => Math.min(b.height, b.width || 99)).filter(h => h > 1)",
    )
    assert len(heights) > 50
    assert sorted(heights)[len(heights) // 2] > 8


def test_pictures_follow_the_colour_scheme(browser, page_url):
    colours = []
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        opened(browser, page_url)
        found = run(
            browser,
            "const of = q => getComputedStyle(document.querySelector(q));"
            "return [of('#terms-luminance-patch_1 path').fill, of('body').backgroundColor,"
            "of('#terms-luminance-legend_1 text').fill, of('body').color]",
        )
        paper, background, ink, text = found
        assert paper == background
        assert ink == text
        colours.append([int(re.findall(r"\d+", one)[0]) for one in (background, text)])
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    (light, dark_ink), (dark, light_ink) = colours
    assert light > dark_ink + 150
    assert light_ink > dark + 150
