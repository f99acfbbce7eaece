"""What is written goes over the network: to DCMTK, and to Orthanc, an archive with DICOMweb."""

from __future__ import annotations

import email
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pydicom
import pytest
from pydicom.encaps import generate_fragments
from test_decode import datasets_of, tilted_series
from video_files import SOFT_TISSUE, ct_volume

from ssimrdo import Window, encode
from ssimrdo.decoding import decode
from ssimrdo.encoding.ct_series import encode_ct

STORESCU, STORESCP = shutil.which("storescu"), shutil.which("storescp")
# Where scripts/unpack_orthanc puts it, else where Debian's packages do.
UNPACKED = Path(sys.prefix) / "orthanc"
PLACES = (f"{UNPACKED}/usr/sbin", os.environ.get("PATH", ""), "/usr/sbin")
ORTHANC = shutil.which("Orthanc", path=":".join(PLACES))
PATIENCE_S = 20.0
PROPOSED = {"explicit": "-xe", "jpegls": "-xt", "rle": "-xr", "video": "-xn", "j2k": "-xw"}

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
    encode_ct(series, folder / "j2k", syntax="j2k", template=series)
    files["j2k"] = sorted((folder / "j2k").iterdir())
    return files


@pytest.fixture(scope="module")
def htj2k(written, tmp_path_factory):
    """Return lossy CT in a transfer syntax that DCMTK's sender does not know."""
    folder = tmp_path_factory.mktemp("htj2k")
    series = written["video"][0].parent / "in"
    encode_ct(series, folder / "ct", syntax="htj2k", template=series)
    return sorted((folder / "ct").iterdir())


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def running(command, port, **environment):
    """Run a server on the loopback interface until it answers, and end it afterwards."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
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


class Archive(NamedTuple):
    """An archive that runs."""

    store: int
    http: int

    def get(self, path, accept="*/*", data=None):
        """Return what it answers, of several parts the last."""
        url = f"http://127.0.0.1:{self.http}{path}"
        request = urllib.request.Request(url, data, {"Accept": accept})
        with urllib.request.urlopen(request) as answer:
            kind, body = answer.headers["Content-Type"], answer.read()
        if not kind.startswith("multipart"):
            return body
        message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
        *_, last = message.walk()
        return last.get_payload(decode=True)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    if ORTHANC is None:
        pytest.skip("Orthanc is not there: scripts/unpack_orthanc gets it")
    folder, root = tmp_path_factory.mktemp("archive"), Path(ORTHANC).parents[2]
    plugins = sorted(root.glob("usr/lib/orthanc/libOrthancDicomWeb.so*"))
    if not plugins:
        pytest.skip("the DICOMweb plugin of Orthanc is not installed")
    found = Archive(free_port(), free_port())
    settings = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "DicomPort": found.store,
        "HttpPort": found.http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": True,
        "Plugins": [str(plugins[0])],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    libraries = {"LD_LIBRARY_PATH": f"{root}/usr/lib/x86_64-linux-gnu"} if root == UNPACKED else {}
    with running([ORTHANC, str(folder / "orthanc.json")], found.http, **libraries):
        yield found


@pytest.fixture(scope="module")
def stored(archive, written, htj2k):
    """Send all objects, by C-STORE as far as the sender can."""
    for syntax, files in written.items():
        send(files, archive.store, PROPOSED[syntax])
    for path in htj2k:
        answer = json.loads(archive.get("/instances", data=path.read_bytes()))
        assert answer["Status"] == "Success"
    return {**written, "htj2k": htj2k}


def test_orthanc_stores_and_returns_every_object(archive, stored, tmp_path):
    instances = json.loads(archive.get("/instances"))
    assert len(instances) == sum(map(len, stored.values()))
    # One study, as the template says; a series for each call.
    assert len(json.loads(archive.get("/studies"))) == 1
    assert len(json.loads(archive.get("/series"))) == len(stored)
    returned = {}
    for instance in instances:
        (tmp_path / "back.dcm").write_bytes(archive.get(f"/instances/{instance}/file"))
        one = pydicom.dcmread(tmp_path / "back.dcm")
        returned[one.SOPInstanceUID] = hashlib.sha256(one.PixelData).digest(), instance
    for syntax, files in stored.items():
        for path in files:
            one = pydicom.dcmread(path)
            pixels, instance = returned[one.SOPInstanceUID]
            assert pixels == hashlib.sha256(one.PixelData).digest()
            # It decodes these itself.
            if syntax in ("explicit", "jpegls", "rle"):
                assert archive.get(f"/instances/{instance}/preview")[:4] == b"\x89PNG"


def dicomweb_path(one):
    study, series = one.StudyInstanceUID, one.SeriesInstanceUID
    return f"/dicom-web/studies/{study}/series/{series}/instances/{one.SOPInstanceUID}"


def test_wado_rs_returns_metadata_objects_and_pixel_data(archive, stored):
    for syntax, files in stored.items():
        one = pydicom.dcmread(files[-1])
        path = dicomweb_path(one)
        (found,) = json.loads(archive.get(f"{path}/metadata", "application/dicom+json"))
        told = pydicom.Dataset.from_json(found, bulk_data_uri_handler=lambda *_: b"")
        for keyword in ("SOPClassUID", "NumberOfFrames", "Rows", "ImagePositionPatient"):
            assert told.get(keyword) == one.get(keyword)
        whole = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        again = pydicom.dcmread(io.BytesIO(archive.get(path, whole)))
        assert again == one
        assert again.file_meta.TransferSyntaxUID == one.file_meta.TransferSyntaxUID
        if not one.file_meta.TransferSyntaxUID.is_encapsulated:
            continue
        # What its BulkDataURI would lead to: a video as players take it, behind an item's head.
        *_, payload = generate_fragments(one.PixelData)
        assert payload in archive.get(f"{path}/bulk/7fe00010")
        if syntax == "j2k":
            frame = 'multipart/related; type="image/jp2"; transfer-syntax=1.2.840.10008.1.2.4.91'
            assert archive.get(f"{path}/frames/1", frame).rstrip(b"\0") == payload.rstrip(b"\0")


def test_this_orthanc_renders_no_video(archive, stored):
    # docs/dicom.md says so; other archives may.
    path = dicomweb_path(pydicom.dcmread(stored["video"][0]))
    kind = 'multipart/related; type="video/mp4"; transfer-syntax=1.2.840.10008.1.2.4.102'
    with pytest.raises(urllib.error.HTTPError) as found:
        archive.get(f"{path}/frames/1", kind)
    found.value.close()
    assert found.value.code == 400
