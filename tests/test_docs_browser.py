"""The page of docs/share.md shows the slices of a video, each for itself."""

from __future__ import annotations

import io

import numpy as np
import pytest
from docs_pages import ROOT, blocks_of
from PIL import Image
from test_report_browser import browser, console, pytestmark
from video_files import ct_volume, frames_of, plane

from ssimrdo import Volume, encode

__all__ = ["browser", "pytestmark"]

SLICES, ROWS, COLUMNS = 6, 128, 160

SHOW = """
const [number, done] = arguments;
const video = document.querySelector("video"), slider = document.querySelector("input");
video.addEventListener("seeked", () => requestAnimationFrame(() => done()), { once: true });
slider.value = number;
slider.dispatchEvent(new Event("input"));
"""

WHEEL = """
const [step, done] = arguments;
const video = document.querySelector("video");
video.addEventListener("seeked", () => requestAnimationFrame(() => done()), { once: true });
dispatchEvent(new WheelEvent("wheel", { deltaY: step }));
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page and a video, side by side; quantized finely, so that slices differ clearly."""
    folder = tmp_path_factory.mktemp("share")
    volume = Volume(ct_volume(SLICES, ROWS, COLUMNS), pixel_spacing_mm=(1, 1))
    encode(volume, folder / "chest.mp4", window="40/400", crf=10)
    (page,) = blocks_of(ROOT / "docs/share.md", "html")
    assert 'max="24"' in page
    (folder / "chest.html").write_text(page.replace('max="24"', f'max="{SLICES}"'))
    return folder


def shown(browser, frames):
    """Return which of the frames is on the screen, from 1."""
    picture = browser.find_element("css selector", "video").screenshot_as_png
    grey = np.asarray(Image.open(io.BytesIO(picture)).convert("L"), float)
    assert grey.shape == (ROWS, COLUMNS)
    errors = [np.abs(grey - frame).mean() for frame in frames]
    assert min(errors) < 3
    return errors.index(min(errors)) + 1


def test_the_slider_and_the_wheel_step_through_the_slices(browser, folder):
    frames = [plane(frame).astype(float) for frame in frames_of(folder / "chest.mp4")]
    browser.set_script_timeout(60)
    browser.get((folder / "chest.html").as_uri())
    for number in (1, 4, SLICES, 2):
        browser.execute_async_script(SHOW, number)
        assert shown(browser, frames) == number
        assert browser.find_element("css selector", "output").text == f"{number}"
    browser.execute_async_script(WHEEL, 100)
    assert shown(browser, frames) == 3
    browser.execute_async_script(WHEEL, -100)
    assert shown(browser, frames) == 2
    assert console(browser) == []
