"""Series that several test modules share."""

import signal
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from ssimrdo.dicom import Window, apply_window, load_hu, open_series

DATA = Path(__file__).parents[1] / "data"

# How long an example takes says more of the machine than of the code.
settings.register_profile("any speed", deadline=None)
settings.load_profile("any speed")
# For scripts/mutate, which asks whether a test fails and not how little it takes.
settings.register_profile(
    "mutate",
    deadline=None,
    derandomize=True,
    phases=[phase for phase in Phase if phase not in (Phase.shrink, Phase.explain)],
)


@pytest.fixture(scope="session", autouse=True)
def interrupts():
    """Let child processes be interrupted where the shell ignores SIGINT for background jobs."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def phantom_folder():
    return DATA / "phantom"


@pytest.fixture(scope="session")
def phantom_luma(phantom_folder):
    """Eight neighbouring slices of the phantom as 8-bit luma at 40/400 HU."""
    series, _ = open_series(phantom_folder)
    window = Window(40, 400)
    return [apply_window(load_hu(header), window) for header in series.slices[8:16]]
