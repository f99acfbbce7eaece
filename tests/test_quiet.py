"""Library calls keep quiet of DICOM headers by what they read, not by silencing the caller."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pydicom
import pytest
from dicom_files import CANARY, write_series
from video_files import ct_volume

# What pydicom complains about, quoting it, where it converts the values.
ODD = {
    "PatientBirthDate": f"{CANARY} 1970".encode(),
    "ContentTime": f"{CANARY}.5 ".encode(),
    "AcquisitionNumber": b"1\\" + CANARY.encode() + b" ",
    "InstanceNumber": CANARY.encode(),
    "SliceThickness": f"2 {CANARY} ".encode(),
    "WindowWidth": f"80\\{CANARY} ".encode(),
    "ImageType": f"original\\{CANARY}\\axial".encode().ljust(64, b"."),
    "StudyInstanceUID": f"1.2.{CANARY}".encode(),
    "SeriesNumber": f"{CANARY}1 ".encode(),
}

CALLER = """
import json, logging, os, sys, threading, warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pydicom.pixels  # Its imports are not ours.

import ssimrdo
import ssimrdo.batch
import ssimrdo.comparison.series
import ssimrdo.encoding.encode
from ssimrdo.executors import InProcess

root, out, what = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
logging.basicConfig(filename=out.with_suffix(".log"), level=logging.DEBUG)
PACKAGE = str(Path(ssimrdo.__file__).parent)
READING = f"{PACKAGE}/dicom/"
PYDICOM = logging.getLogger("pydicom")
entered, silenced = set(), set()


def is_heard():
    for action, message, category, module, line in warnings.filters:
        if (
            issubclass(UserWarning, category)
            and (message is None or message.match("Invalid value for VR"))
            and (module is None or module.match("pydicom.valuerep"))
            and not line
        ):
            return action != "ignore" and not PYDICOM.filters and PYDICOM.propagate
    return not PYDICOM.filters and PYDICOM.propagate


def look(frame, event, argument):
    if event == "call" and frame.f_code.co_filename.startswith(READING):
        entered.add(frame.f_code.co_name)
        if not is_heard():
            silenced.add(frame.f_code.co_name)


def compare(executor=None):
    settings = ssimrdo.comparison.CompareSettings(mode="qp", metrics=("ssim",))
    with ssimrdo.comparison.compare([root], settings, executor=executor):
        pass


calls = {
    "load": lambda: ssimrdo.load_volume(root),
    "encode": lambda: ssimrdo.encode(root, out / "out.mp4"),
    "batch": lambda: ssimrdo.batch.run(root, out, executor=InProcess()),
    "batch in threads": lambda: ssimrdo.batch.run(root, out, executor=ThreadPoolExecutor(2)),
    "compare": compare,
    "compare in threads": lambda: compare(ThreadPoolExecutor(2)),
}
out.mkdir()
assert is_heard()
threading.setprofile(look)
sys.setprofile(look)
calls[what]()
sys.setprofile(None)
threading.setprofile(None)
print(json.dumps([sorted(entered), sorted(silenced)]))
"""


@pytest.fixture
def series(tmp_path):
    write_series(tmp_path / "ct", ct_volume(2, 32, 48), raw=ODD)
    return tmp_path / "ct"


def test_pydicom_would_quote_what_the_files_hold(series):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for path in series.iterdir():
            str(pydicom.dcmread(path))
    assert sum(CANARY in str(one.message) for one in caught) >= 6


@pytest.mark.parametrize(
    "what", ["load", "encode", "batch", "batch in threads", "compare", "compare in threads"]
)
def test_reading_quotes_nothing_and_silences_nothing(series, tmp_path, what):
    script = tmp_path / "caller.py"
    script.write_text(CALLER)
    done = subprocess.run(
        [sys.executable, "-W", "always", script, series, tmp_path / "out", what],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
    )
    entered, silenced = json.loads(done.stdout)
    assert {"find_series", "load_cells"} <= set(entered)
    assert silenced == []
    assert CANARY not in done.stderr
    assert CANARY not in (tmp_path / "out.log").read_text()
