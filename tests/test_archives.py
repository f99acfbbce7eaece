"""DICOMDIR, zip and tar archives as SERIES; archives that are made to harm."""

from __future__ import annotations

import bz2
import gc
import gzip
import io
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from dicom_files import CANARY, SERIES_UID, write_series
from enhanced_files import enhanced_dataset, save
from fuzz_dicom import EXPLICIT, Element, dicom, item, picture, sequence, text
from test_hostile_dicom import bounded
from video_files import ct_volume

import ssimrdo
from ssimrdo.dicom import find_series, load_hu, open_series
from ssimrdo.dicom.read import archive
from ssimrdo.dicom.read.archive import is_archive, unpack
from ssimrdo.errors import BadSliceError, InputError

HU = ct_volume(4, 32, 32)
TAR_SUFFIXES = {"tar": "w", "tar.gz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Have temporary files in a folder of their own."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def series(tmp_path):
    write_series(tmp_path / "ct" / "a", HU)
    (tmp_path / "ct" / "notes.txt").write_text("notes")
    (tmp_path / "ct" / ".hidden").write_bytes(b"x")
    return tmp_path / "ct"


def packed(folder: Path, path: Path) -> Path:
    """Pack a folder with a tool that is not ours."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
            for file in sorted(folder.rglob("*")):
                out.write(file, file.relative_to(folder))
    else:
        with tarfile.open(path, TAR_SUFFIXES[path.name.partition(".")[2]]) as out:
            out.add(folder, ".")
    return path


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in members.items():
            out.writestr(name, data)
    return path


def tarred(path: Path, *infos: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode, format=tarfile.GNU_FORMAT) as out:
        for info, data in infos:
            info.size = info.size or len(data)
            out.addfile(info, io.BytesIO(data))
    return path


def a_slice(number: int = 1) -> bytes:
    from fuzz_dicom import ct_slice

    return dicom(ct_slice(picture(16, 16), number))


@pytest.mark.parametrize("suffix", ["zip", *TAR_SUFFIXES])
def test_an_archive_gives_what_its_folder_gives(tmp_path, scratch, series, suffix):
    path = packed(series, tmp_path / f"x.{suffix}")
    expected, left_out = open_series(series)
    found, skipped = open_series(path)
    assert found.uid == expected.uid
    assert [one.name for one in found.slices] == [one.name for one in expected.slices]
    assert skipped == left_out
    for one, other in zip(found.slices, expected.slices, strict=True):
        np.testing.assert_array_equal(load_hu(one), load_hu(other))
    assert found.slices[0].shown == f"{path}/{expected.slices[0].name}"
    (folder,) = scratch.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    # The folder goes with the last slice.
    del found, one, expected, other
    gc.collect()
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_an_archive_encodes_to_the_same_bytes(tmp_path, scratch, series, suffix):
    path = packed(series, tmp_path / f"x.{suffix}")
    for name, source in (("a", series), ("b", path)):
        ssimrdo.encode(source, tmp_path / f"{name}.h264", effort="fast", threads=1)
    assert (tmp_path / "a.h264").read_bytes() == (tmp_path / "b.h264").read_bytes()
    assert str(scratch) not in (tmp_path / "b.json").read_text()
    gc.collect()
    assert not list(scratch.iterdir())


def test_an_archive_is_not_overwritten(tmp_path, series):
    path = packed(series, tmp_path / "x.zip").rename(tmp_path / "x.mp4")
    with pytest.raises(InputError):
        ssimrdo.encode(path, tmp_path / "x.mp4", overwrite=True)
    assert zipfile.is_zipfile(path)


def test_enhanced_files_in_archives_are_named_with_their_frame(tmp_path):
    stored = (HU + 1024).astype(np.uint16)
    positions = np.array([(0, 0, 2.0 * index) for index in range(4)])
    save(tmp_path / "ct" / "e.dcm", enhanced_dataset(stored, positions))
    found, _ = open_series(packed(tmp_path / "ct", tmp_path / "x.zip"))
    assert found.slices[1].shown == f"{tmp_path}/x.zip/e.dcm, frame 2"


def test_damaged_slices_are_named_by_their_place_in_the_archive(tmp_path, series):
    file = series / "a" / "0002.dcm"
    file.write_bytes(file.read_bytes()[:-40])
    path = packed(series, tmp_path / "x.zip")
    with pytest.raises(BadSliceError) as caught:
        open_series(path)
    assert str(caught.value).startswith(f"{path}/a/0002.dcm: the pixel data is cut off")
    assert len(open_series(path, skip_bad=True)[0]) == 3


def test_names_lead_nowhere(tmp_path, scratch):
    names = ("../up.dcm", "/etc/abs.dcm", "a/../../b.dcm", "C:\\x\\..\\y.dcm", "n\x1b[31m.dcm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = zipped(tmp_path / "x.zip", **{name: a_slice(at) for at, name in enumerate(names)})
    infos = [(tarfile.TarInfo(name), a_slice(at)) for at, name in enumerate(names)]
    for one in (path, tarred(tmp_path / "x.tar", *infos)):
        before = sorted(tmp_path.iterdir())
        found = unpack(one)
        assert len(found.members) == len(names)
        assert all(file.parent.parent == scratch for file, _ in found.members)
        assert all(name.isprintable() for _, name in found.members)
        assert sorted(tmp_path.iterdir()) == before
        assert not (scratch / "up.dcm").exists()


def test_links_and_devices_are_left_out(tmp_path):
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
    infos = []
    for kind in kinds:
        info = tarfile.TarInfo(f"k{kind.decode()}.dcm")
        info.type, info.linkname = kind, "/etc/passwd"
        infos.append((info, b""))
    path = tarred(tmp_path / "x.tar", (tarfile.TarInfo("s.dcm"), a_slice()), *infos)
    found = unpack(path)
    assert [name for _, name in found.members] == ["s.dcm"]
    reasons = {one.path: one.reason for one in found.left_out}
    assert reasons == {
        **dict.fromkeys(("k2.dcm", "k1.dcm"), "a link in an archive"),
        **dict.fromkeys(("k3.dcm", "k4.dcm", "k6.dcm"), "not a regular file"),
    }
    link = zipfile.ZipInfo("l.dcm")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as out:
        out.writestr(link, "/etc/passwd")
    found = unpack(tmp_path / "x.zip")
    assert [one.reason for one in found.left_out] == ["a link in an archive"]
    assert all(file.is_file() and not file.is_symlink() for file, _ in found.members)


def test_encrypted_zips_are_told(tmp_path):
    path = zipped(tmp_path / "x.zip", **{"a.dcm": a_slice()})
    data = bytearray(path.read_bytes())
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + place] |= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"x\.zip: is encrypted: extract it first"):
        open_series(path)


def test_methods_that_are_not_read_and_damage_are_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_LZMA) as out:
        out.writestr("a.dcm", a_slice())
    with pytest.raises(BadSliceError, match=r"x\.zip/a\.dcm: is compressed by a method"):
        open_series(tmp_path / "x.zip")
    path = zipped(tmp_path / "y.zip", **{"a.dcm": a_slice(1), "b.dcm": a_slice(2)})
    data = bytearray(path.read_bytes())
    data[200] ^= 255
    path.write_bytes(data)
    with pytest.raises(BadSliceError, match=r"y\.zip/a\.dcm: is damaged in the archive"):
        open_series(path)
    assert len(open_series(path, skip_bad=True)[0]) == 1


def test_archives_in_archives_are_not_opened(tmp_path, series):
    inner = packed(series, tmp_path / "inner.zip").read_bytes()
    path = zipped(tmp_path / "x.zip", **{"inner.zip": inner, "a.dcm": a_slice()})
    _, skipped = open_series(path)
    assert [(one.path, one.reason) for one in skipped] == [
        ("inner.zip", "an archive in an archive")
    ]


@pytest.mark.parametrize("kept", [0.3, 0.6])
@pytest.mark.parametrize("suffix", ["zip", *TAR_SUFFIXES])
def test_archives_that_are_cut_off_are_told(tmp_path, scratch, series, suffix, kept):
    path = packed(series, tmp_path / f"x.{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError) as caught:
        open_series(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    del caught
    gc.collect()
    assert not list(scratch.iterdir())


@pytest.mark.parametrize(
    "data",
    [
        b"PK\x05\x06" + bytes(18),
        b"PK\x03\x04" + bytes(90),
        gzip.compress(b"x" * 999, mtime=0),
        b"BZh9",
    ],
)
def test_what_only_begins_like_an_archive_is_told(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    assert is_archive(tmp_path / "x")
    with pytest.raises(InputError, match=r"x: (is not a zip or tar archive|no files here)"):
        open_series(tmp_path / "x")


# Made to harm


def head_of_slice() -> bytes:
    return bytes(128) + b"DICM"


def bombs(folder: Path) -> list[Path]:
    """Return archives that give some thousand times their size."""
    zeros = head_of_slice() + bytes(90 << 20)
    with zipfile.ZipFile(folder / "z.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        out.writestr("a.dcm", zeros)
    info = tarfile.TarInfo("a.dcm")
    info.size = len(zeros)
    plain = info.tobuf() + zeros + bytes(-len(zeros) % 512 + 1024)
    (folder / "g.tar.gz").write_bytes(gzip.compress(plain, 9))
    (folder / "b.tar.bz2").write_bytes(bz2.compress(plain))
    (folder / "x.tar.xz").write_bytes(lzma.compress(plain, preset=1))
    # What is passed over costs time as well.
    info.name = "a.txt"
    hidden = info.tobuf() + bytes(len(zeros) + -len(zeros) % 512 + 1024)
    (folder / "h.tar.gz").write_bytes(gzip.compress(hidden, 9))
    return sorted(folder.iterdir())


def test_bombs_are_refused_before_they_go_off(tmp_path, scratch):
    folder = tmp_path / "bombs"
    folder.mkdir()
    for path in bombs(folder):
        with pytest.raises(InputError, match="holds more than 100 times its own size"):
            unpack(path)
        assert not list(scratch.iterdir())


def long_header(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def test_headers_of_any_size_take_little(tmp_path):
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE):
        for size in (1 << 20, 1 << 33):
            data = long_header(kind, size) + bytes(1 << 20)
            (tmp_path / "x.tar.gz").write_bytes(gzip.compress(data))
            with pytest.raises(InputError):
                unpack(tmp_path / "x.tar.gz")


def test_long_numbers_in_headers_are_refused(tmp_path):
    # Python's own search of such headers takes the square of the digits in a row.
    for digits, is_read in ((60, True), (70, False)):
        comment = f" comment={'1' * digits}\n"
        record = f"{len(comment) + 2}{comment}".encode()
        data = long_header(tarfile.XHDTYPE, len(record)) + record + bytes(-len(record) % 512)
        member = tarfile.TarInfo("a.dcm")
        member.size = len(a_slice())
        data += member.tobuf() + a_slice() + bytes(-member.size % 512 + 1024)
        (tmp_path / "x.tar").write_bytes(data)
        with tarfile.open(tmp_path / "x.tar") as found:
            assert found.getnames() == ["a.dcm"]
        if is_read:
            assert len(unpack(tmp_path / "x.tar").members) == 1
        else:
            with pytest.raises(InputError):
                unpack(tmp_path / "x.tar")


def test_offsets_that_lead_back_end(tmp_path):
    # A size that is negative leads to the header itself again.
    info = tarfile.TarInfo("x")
    raw = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    raw[124:136] = b"\xff" * 10 + b"\xfe\x00"
    raw[148:156] = b"        "
    raw[148:156] = f"{sum(raw):06o}\0 ".encode()
    (tmp_path / "x.tar").write_bytes(bytes(raw) * 20)
    with pytest.raises(InputError):
        open_series(tmp_path / "x.tar")


def test_members_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_MEMBERS", 3)
    members = {f"{number}.txt": b"x" for number in range(4)}
    path = zipped(tmp_path / "x.zip", **members)
    with pytest.raises(InputError, match="holds more than 3 files"):
        unpack(path)
    infos = [(tarfile.TarInfo(name), data) for name, data in members.items()]
    with pytest.raises(InputError, match="holds more than 3 files"):
        unpack(tarred(tmp_path / "x.tar", *infos))


def test_a_disk_that_has_no_room_is_left_alone(tmp_path, scratch, monkeypatch, series):
    path = packed(series, tmp_path / "x.zip")
    usage = shutil.disk_usage(tmp_path)._replace(free=(1 << 30) + 3000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match="more than the disk has room for"):
        unpack(path)
    assert not list(scratch.iterdir())


def test_a_large_directory_is_refused(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("a", b"")
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x05\x06") + 12
    # 100 MB of directory before the end record, as sparse as can be.
    with path.open("wb") as stream:
        stream.truncate(100 << 20)
        stream.seek(0, os.SEEK_END)
        data[at : at + 4] = (100 << 20).to_bytes(4, "little")
        data[at + 4 : at + 8] = bytes(4)
        stream.write(data[at - 12 :])
    with path.open("r+b") as stream:
        stream.write(b"PK\x01\x02")
    with pytest.raises(InputError, match="has too large a directory"):
        unpack(path)


# DICOMDIR


FILE_SET = """
import sys
from pathlib import Path
from pydicom.fileset import FileSet
found = FileSet()
for path in sorted(Path(sys.argv[1]).rglob("*.dcm")):
    found.add(path)
found.write(sys.argv[2])
"""


def file_set(folder: Path, source: Path) -> Path:
    """Write a file set with pydicom, in a process of its own: it leaves folders behind."""
    command = [sys.executable, "-W", "ignore", "-c", FILE_SET, str(source), str(folder)]
    subprocess.run(command, check=True)
    return folder / "DICOMDIR"


@pytest.fixture
def media(tmp_path):
    write_series(
        tmp_path / "ct", HU, StudyID="1", SeriesNumber=1, StudyDate="20200101", StudyTime="101010",
        AccessionNumber="", StudyDescription="", SeriesDate="20200101",
    )  # fmt: skip
    return file_set(tmp_path / "media", tmp_path / "ct")


def test_a_dicomdir_gives_the_files_that_it_names(tmp_path, media):
    expected, _ = open_series(tmp_path / "ct")
    (media.parent / "other.dcm").write_bytes(a_slice())
    found, skipped = open_series(media)
    assert (found.uid, len(found), skipped) == (SERIES_UID, 4, ())
    for one, other in zip(found.slices, expected.slices, strict=True):
        np.testing.assert_array_equal(load_hu(one), load_hu(other))
    assert len(find_series(media.parent).series) == 2
    assert all(one.path.is_relative_to(media.parent) for one in found.slices)


def test_names_in_small_letters_and_missing_files(media):
    first, *_ = sorted(path for path in media.parent.rglob("*") if path.is_file() and path != media)
    small = Path(*(part.lower() for part in first.relative_to(media.parent).parts))
    target = media.parent / small
    target.parent.mkdir(parents=True, exist_ok=True)
    first.rename(target)
    assert len(open_series(media)[0]) == 4
    target.unlink()
    with pytest.raises(BadSliceError) as caught:
        open_series(media)
    assert str(caught.value).startswith(f"{media}: a file that it names is missing")
    assert len(open_series(media, skip_bad=True)[0]) == 3


def directory(*names: str, records: bytes = b"") -> bytes:
    from fuzz_dicom import written

    items = [item(written(0x00041500, text("CS", name))) for name in names]
    data = dicom({0x00041220: Element("SQ", b"".join(items) + records)}, EXPLICIT)
    return data.replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.1.3.10\0\0\0\0\0\0", 1)


def test_a_dicomdir_leads_nowhere_else(tmp_path):
    folder = tmp_path / "media"
    folder.mkdir()
    (tmp_path / "secret.dcm").write_bytes(a_slice())
    (folder / "link.dcm").symlink_to(tmp_path / "secret.dcm")
    (folder / "good.dcm").write_bytes(a_slice())
    path = folder / "DICOMDIR"
    path.write_bytes(
        directory("..\\SECRET.DCM", "/etc\\passwd", "link.dcm", "a/../../secret.dcm", "good.dcm")
    )
    result = find_series(path)
    assert len(result.bad) == 4
    ((header,),) = (one.slices for one in result.series)
    assert header.path == folder / "good.dcm"


def test_damaged_dicomdirs_are_told(media):
    data = media.read_bytes()
    for size in (300, len(data) // 2, len(data) - 5):
        media.write_bytes(data[:size])
        with pytest.raises(InputError) as caught:
            open_series(media)
        assert str(caught.value).startswith(f"{media}: ")
        assert CANARY not in str(caught.value)
    deep = b""
    for _ in range(300):
        deep = item(sequence_bytes(deep))
    media.write_bytes(directory(records=deep))
    with pytest.raises(InputError):
        open_series(media)


def sequence_bytes(content: bytes) -> bytes:
    from fuzz_dicom import written

    return written(0x00041220, sequence(content, undefined=True))


def test_claims_take_no_memory(tmp_path):
    huge = directory(*["A"] * 2).replace(b"SQ\0\0", b"SQ\0\0")
    outcomes = bounded(tmp_path, zlib.compress(huge), a_slice())
    assert [one.result for one in outcomes] == ["bad header", "slice"]
