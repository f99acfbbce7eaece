"""What Chromium shows of a video: its frames, drawn to a canvas and read back."""

from __future__ import annotations

import base64
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER: Final = shutil.which("chromedriver")

MIME_TYPES: Final = {".mp4": "video/mp4", ".mkv": "video/x-matroska"}
"""By suffix; browsers look into files of other ones themselves."""

ARGUMENTS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

STARTS_IN_S: Final = 30
"""Seconds within which Chromium shows an empty page."""

PLAYS_IN_S: Final = 60

TRIES: Final = 3
"""Now and then Chromium never presents a frame that it was asked for."""

# A frame is asked for by its middle. Its time is known only where it is presented, which is not
# done anew where it is there already: so each is another one than that before.
_DRAW = """
const [data, type, times, half, done] = arguments;
const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
const video = document.createElement("video");
const canvas = document.createElement("canvas");
const found = [];
function ask() {
  const wanted = times[found.length];
  video.requestVideoFrameCallback((now, shown) => {
    if (Math.abs(shown.mediaTime + half - wanted) > half) {
      ask();
      return;
    }
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    const samples = context.getImageData(0, 0, canvas.width, canvas.height).data;
    let text = "";
    for (let at = 0; at < samples.length; at += 4) text += String.fromCharCode(samples[at]);
    found.push(btoa(text));
    if (found.length < times.length) {
      ask();
      video.currentTime = times[found.length];
    } else {
      done({ frames: found, width: canvas.width, height: canvas.height });
    }
  });
}
video.muted = true;
video.onerror = () => done(null);
video.onloadeddata = () => (video.currentTime = times[0]);
ask();
video.src = URL.createObjectURL(new Blob([bytes], { type }));
"""


@contextmanager
def chromium() -> Iterator[Chrome]:
    """Yield a browser without a window."""
    from selenium import webdriver
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        assert CHROMIUM is not None, "it is installed"
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
        try:
            yield driver
        finally:
            driver.quit()


def frames_shown(
    browser: Chrome, video: Path, fps: Fraction, numbers: Sequence[int]
) -> list[NDArray[np.uint8]] | None:
    """Return the grey levels of frames as the browser shows them, None where it plays none.

    Parameters
    ----------
    browser : Chrome
        At any page.
    video : Path
        The file; the browser is told what its suffix stands for.
    fps : Fraction
        Frames per second.
    numbers : sequence of int
        Which frames, from 0, each another one than that before, and the first another than 0.
    """
    from selenium.common.exceptions import TimeoutException

    browser.set_script_timeout(PLAYS_IN_S)
    arguments = (
        base64.b64encode(video.read_bytes()).decode(),
        MIME_TYPES.get(video.suffix, ""),
        [float((number + Fraction(1, 2)) / fps) for number in numbers],
        float(Fraction(1, 2) / fps),
    )
    shown: dict[str, Any] | None = None
    for left in reversed(range(TRIES)):
        try:
            shown = browser.execute_async_script(_DRAW, *arguments)
            break
        except TimeoutException:
            if not left:
                raise
            browser.get("about:blank")
    if shown is None:
        return None
    shape = shown["height"], shown["width"]
    return [
        np.frombuffer(base64.b64decode(text), np.uint8).reshape(shape) for text in shown["frames"]
    ]
