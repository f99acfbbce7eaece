"""What is written goes over the network: DCMTK's receiver, and an archive (Orthanc) with REST."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager

import pydicom
import pytest
from test_decode import datasets_of, tilted_series
from video_files import SOFT_TISSUE, ct_volume

from ssimrdo import Window, encode
from ssimrdo.decoding import decode

STORESCU, STORESCP = shutil.which("storescu"), shutil.which("storescp")
ORTHANC = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
PATIENCE_S = 20.0
PROPOSED = {"explicit": "-xe", "jpegls": "-xt", "rle": "-xr", "video": "-xn"}

pytestmark = pytest.mark.skipif(STORESCU is None, reason="DCMTK is not installed")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return files by transfer syntax."""
    folder = tmp_path_factory.mktemp("written")
    series = tilted_series(folder / "in", ct_volume(3, 64, 64))
    encode(series, folder / "a.mkv", window=Window(*SOFT_TISSUE), effort="fast")
    files = {}
    for syntax in ("explicit", "jpegls", "rle"):
        decode(folder / "a.mkv", folder / syntax, syntax=syntax, template=series)
        files[syntax] = sorted((folder / syntax).iterdir())
    encode(series, folder / "b.dcm", window=Window(*SOFT_TISSUE), effort="fast", template=series)
    files["video"] = [folder / "b.dcm"]
    return files


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def running(command, port):
    """Run a server on the loopback interface until it answers, and end it afterwards."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def send(files, port, *options):
    command = [str(STORESCU), *options, "-R", "127.0.0.1", str(port), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.skipif(STORESCP is None, reason="DCMTK is not installed")
def test_dcmtk_receives_every_object(written, tmp_path):
    port = free_port()
    with running([str(STORESCP), "-od", str(tmp_path), "+xa", "+B", str(port)], port):
        for syntax, files in written.items():
            send(files, port, PROPOSED[syntax])
    received = {one.SOPInstanceUID: one for one in datasets_of(tmp_path)}
    for files in written.values():
        for path in files:
            one = pydicom.dcmread(path)
            assert received.pop(one.SOPInstanceUID) == one
    assert not received


@pytest.mark.skipif(ORTHANC is None, reason="Orthanc is not installed")
def test_orthanc_stores_and_returns_every_object(written, tmp_path):
    store, http = free_port(), free_port()
    settings = {
        "StorageDirectory": str(tmp_path / "db"),
        "IndexDirectory": str(tmp_path / "db"),
        "DicomPort": store,
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": True,
        "Plugins": [],
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))

    def get(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{http}{path}") as answer:
            return answer.read()

    with running([str(ORTHANC), str(tmp_path / "orthanc.json")], http):
        for syntax, files in written.items():
            send(files, store, PROPOSED[syntax])
        instances = json.loads(get("/instances"))
        assert len(instances) == sum(map(len, written.values()))
        # One study, as the template says; a series for each call.
        assert len(json.loads(get("/studies"))) == 1
        assert len(json.loads(get("/series"))) == len(written)
        returned = {}
        for instance in instances:
            data = get(f"/instances/{instance}/file")
            (tmp_path / "back.dcm").write_bytes(data)
            one = pydicom.dcmread(tmp_path / "back.dcm")
            returned[one.SOPInstanceUID] = hashlib.sha256(one.PixelData).digest(), instance
        for syntax, files in written.items():
            for path in files:
                one = pydicom.dcmread(path)
                pixels, instance = returned[one.SOPInstanceUID]
                assert pixels == hashlib.sha256(one.PixelData).digest()
                if syntax != "video":
                    # It decodes them itself.
                    assert get(f"/instances/{instance}/preview")[:4] == b"\x89PNG"
