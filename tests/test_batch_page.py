"""The report of a batch in a browser: its table is sorted and searched, and nothing is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
from test_report_browser import CHROMIUM, DRIVER, browser  # noqa: F401

from ssimrdo.batch.journal import BatchRecord, Journal
from ssimrdo.batch.page import render
from ssimrdo.batch.store import store_of

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

NAMES = {
    "b.mp4": (0.99, 0.90, 300, ""),
    "a/javascript:alert(1).mp4": (0.95, 0.94, 2_000_000, "large_error"),
    "a/2 <b>.mp4": (0.97, 0.80, 40_000, ""),
    "a/10.ct": (0.96, 0.93, 5_000, ""),
}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    with Journal(tmp_path / "results.jsonl") as journal:
        for output, (mean, worst, size, warnings) in NAMES.items():
            quality = {"ssim_mean": mean, "ssim_min": worst}
            journal.append(
                BatchRecord(output, "x", "encoded", slices=9, width=8, height=8, bit_depth=8,
                            input_bytes=10 * size, output_bytes=size, quality=quality, seconds=3.0,
                            worst_slice=4, warnings=warnings)
            )  # fmt: skip
        journal.append(BatchRecord("c.mp4", "c", "failed", reason="cut off", seconds=9.0))
        journal.append(BatchRecord("gone.mp4", "g", "orphaned", slices=5000, seconds=5000.0))
        path = tmp_path / "report.html"
        path.write_text(render(journal, store_of(tmp_path)))
    return path


def test_links_lead_to_outputs_and_nowhere_else(page: Path) -> None:
    text = page.read_text()
    links = [part.partition('"')[0] for part in text.split('<a href="')[1:]]
    folders = {name: f"{name}/" if name.endswith(".ct") else name for name in NAMES}
    assert {unquote(link) for link in links} == {f"./{folders[name]}" for name in NAMES}
    assert not any(":" in link or "<" in link for link in links)


def test_figures_are_of_what_was_encoded(page: Path) -> None:
    text = page.read_text()
    assert "<b>36</b><span>slices encoded</span>" in text
    assert "<b>3.0</b><span>slices per second and job" in text
    assert "The outputs have 10.0&#8239;% of the size of the input." in text
    assert "CT images keep all HU, both with loss" in text
    assert "<b>1</b><span>output whose series is gone</span>" in text


@pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="chromium is not installed")
def test_the_table_is_sorted_and_searched(browser: Chrome, page: Path) -> None:  # noqa: F811
    browser.get(page.as_uri())

    def shown() -> list[str]:
        rows = browser.find_elements("css selector", "#all-series tbody tr")
        return [row.find_element("tag name", "th").text for row in rows if row.is_displayed()]

    def click(title: str) -> str | None:
        for button in browser.find_elements("css selector", "#all-series thead button"):
            if button.text.startswith(title):
                button.click()
                return button.find_element("xpath", "..").get_attribute("aria-sort")
        raise AssertionError(title)

    a, b, small, folder = "a/javascript:alert(1).mp4", "b.mp4", "a/2 <b>.mp4", "a/10.ct"
    assert click("SSIM, worst slice") == "ascending"
    assert shown() == [small, b, folder, a, "c.mp4"]
    assert click("SSIM, worst slice") == "descending"
    assert shown() == [a, folder, b, small, "c.mp4"]
    assert click("Size") == "descending"
    assert shown() == [a, small, folder, b, "c.mp4"]
    assert click("Output") == "ascending"
    # As people count: 2 comes before 10.
    assert shown() == [small, folder, a, b, "c.mp4"]
    browser.find_element("id", "filter").send_keys("A/")
    assert shown() == [small, folder, a]
    assert browser.find_element("id", "shown").text == "3 of 5"
    browser.find_element("id", "filter").clear()
    browser.find_element("id", "filter").send_keys(" ")
    browser.find_element("id", "troubled").click()
    assert shown() == [a, "c.mp4"]
    assert browser.get_log("browser") == []


def test_one_series_makes_no_distribution(tmp_path: Path) -> None:
    with Journal(tmp_path / "results.jsonl") as journal:
        journal.append(
            BatchRecord("a.mp4", "a", "encoded", quality={"ssim_min": 0.9}, worst_slice=0)
        )
        page = render(journal, store_of(tmp_path))
        assert 'class="histogram"' not in page
        assert "Worst slices" in page
        journal.append(
            BatchRecord("b.mp4", "b", "encoded", quality={"ssim_min": 0.8}, worst_slice=0)
        )
        assert 'class="histogram"' in render(journal, store_of(tmp_path))
