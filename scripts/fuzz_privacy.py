"""Markers in all text of DICOM files, and the search for them in every byte of the outputs.

A marker stands in every element of the dictionary that may hold text, in private elements, nested
ones, the preamble, the File Meta Information, and in names of files and of folders below the one
that is given. Damaged files are among them, so that errors are told. What commands write is
searched as it is and in all that can be decoded or decompressed from it.
"""

from __future__ import annotations

import base64
import binascii
import html
import io
import json
import os
import random
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import numpy as np
from fuzz_dicom import (
    EXPLICIT,
    JPEG_LS,
    MARKER,
    Element,
    ct_slice,
    dicom,
    encapsulated,
    file_start,
    item,
    jpeg_ls_of,
    picture,
    sequence,
    text,
    written,
)
from fuzz_inputs import enhanced_elements
from PIL import Image
from pydicom._dicom_dict import DicomDictionary

SSIMRDO: Final = (sys.executable, "-m", "ssimrdo")
MARK: Final = re.compile(rb"QZX[0-9]{6}YWQ", re.IGNORECASE)
UID_ROOT: Final = "1.2.777.31337"
_TEXT_VRS: Final = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT", "UN")
_STRUCTURE: Final = frozenset(
    (
        *(0x00080005, 0x00080008, 0x00080016, 0x00080018, 0x00080060, 0x0020000D, 0x0020000E),
        *(0x00280004, 0x00281056, 0x7FE00010),
    )
)
"""Elements without which there is no slice; damaged files have markers in them."""

_MAX_DEPTH: Final = 6


@dataclass
class Planted:
    """What has been planted.

    Parameters
    ----------
    where : dict of str to str
        Place by marker.
    in_names : set of str
        Markers of folders and files.
    """

    where: dict[str, str] = field(default_factory=dict)
    in_names: set[str] = field(default_factory=set)

    def mark(self, place: str, *, is_name: bool = False) -> str:
        """Return a new marker for a place."""
        marker = f"QZX{len(self.where):06d}YWQ"
        self.where[marker] = place
        if is_name:
            self.in_names.add(marker)
        return marker


def main(seed: int) -> int:
    """Plant markers, run the commands, search what they write; print what was found."""
    with tempfile.TemporaryDirectory() as folder:
        planted = Planted()
        root = Path(folder, "given")
        series = plant(root, planted, random.Random(seed))
        others = plant_others(Path(folder, "others"), planted, random.Random(seed))
        files = count_files(root) + len(others)
        print(f"seed {seed}: {len(planted.where)} markers in {files} files", flush=True)
        leaks: list[str] = []
        searched = parts = commands = 0
        every = chain(
            commands_of(root, series, Path(folder)),
            commands_on_others(root, others, Path(folder)),
        )
        for command in every:
            result = searched_for(command, planted, UID_ROOT.encode())
            commands += 1
            searched += result.bytes
            parts += result.parts
            leaks += [f"{' '.join(command.arguments[:2])}: {leak}" for leak in result.leaks]
        for leak in leaks:
            print(leak)
        print(
            f"{commands} commands: {parts} parts, {searched} bytes searched; "
            f"{len(leaks)} markers found"
        )
    return int(bool(leaks))


def count_files(root: Path) -> int:
    """Return the number of files below a folder."""
    return sum(path.is_file() for path in root.rglob("*"))


# Planting


KINDS: Final = ("whole", "compressed", "truncated", "corrupt", "elements", "mixed", "all bad")


def plant(
    root: Path, planted: Planted, rng: random.Random, kinds: Sequence[str] = KINDS
) -> Mapping[str, Path]:
    """Write series with markers; return the folders by what is wrong with them."""
    folders: dict[str, Path] = {}
    for number, kind in enumerate(kinds):
        folder = root / planted.mark(f"folder of {kind}", is_name=True)
        folder.mkdir(parents=True)
        folders[kind] = folder
        uid = f"{UID_ROOT}.{number}"
        for index in range(4):
            place = f"{kind} {index}"
            data = marked_slice(planted, place, index, uid, compressed=kind == "compressed")
            if (kind == "truncated" and index == 1) or kind == "all bad":
                data = data[:-300]
            elif kind == "corrupt" and index == 1:
                cut = rng.randrange(400, len(data) - 400)
                data = data[:cut] + planted.mark(f"{place} foreign").encode() + data[cut + 14 :]
            name = planted.mark(f"file of {place}", is_name=True)
            (folder / f"{name}.dcm").write_bytes(data)
        if kind == "mixed":
            (folder / f"{planted.mark('no slice', is_name=True)}.txt").write_bytes(
                planted.mark("text file").encode()
            )
            other = marked_slice(planted, "modality", 9, f"{uid}.1")
            (folder / f"{planted.mark('a file', is_name=True)}.dcm").write_bytes(
                other.replace(b"CS\x02\0CT", b"CS\x02\0MR")
            )
    for number, (tag, element) in enumerate(_needed(planted) if "elements" in kinds else ()):
        folder = folders["elements"] / planted.mark("a folder", is_name=True)
        folder.mkdir()
        for index in range(2):
            data = marked_slice(planted, f"{tag:08X}", index, f"{UID_ROOT}.{100 + number}")
            if index:
                elements = {**ct_slice(picture(64, 64), index, f"{UID_ROOT}.{100 + number}")}
                data = dicom({**elements, tag: element})
            name = planted.mark("a file", is_name=True)
            (folder / f"{name}.dcm").write_bytes(data)
    return folders


def _needed(planted: Planted) -> Iterator[tuple[int, Element]]:
    """Yield elements that a reader needs, with a marker for a value."""
    slice_ = ct_slice(picture(16, 16))
    for tag in sorted(slice_):
        if tag != 0x7FE00010 and tag >> 16 not in (0x0010,):
            vr = slice_[tag].vr
            yield tag, text("LO" if vr == "US" else vr, planted.mark(f"value of {tag:08X}"))
    yield 0x00280008, text("IS", planted.mark("Number of Frames"))
    yield 0x7FE00001, text("OB", planted.mark("Extended Offset Table"))


def marked_slice(
    planted: Planted, place: str, index: int, uid: str, *, compressed: bool = False
) -> bytes:
    """Return a CT slice with a marker in every element that may hold text."""
    pixels = np.roll(picture(64, 64), index)
    elements = ct_slice(pixels, index + 1, uid)
    elements[0x0020000D] = text("UI", f"{UID_ROOT}.9")
    if index == 0:
        # All of the dictionary once; that takes 100 kB and more.
        for tag, (vr, *_, keyword) in DicomDictionary.items():
            if tag in _STRUCTURE or tag >> 16 in (0x0002, 0x7FE0, 0xFFFE) or vr not in _TEXT_VRS:
                continue
            elements[tag] = text(vr, planted.mark(f"{keyword}, {place}"))
    inner = b"".join(
        written(tag, text("LO", planted.mark(f"nested {tag:08X}, {place}")))
        for tag in (0x00080050, 0x00081030, 0x00100020)
    )
    elements[0x00081140] = sequence(item(inner), item(inner, undefined=True), undefined=True)
    elements[0x00091001] = Element("UN", planted.mark(f"private, {place}").encode())
    elements[0x00090010] = text("LO", planted.mark(f"private creator, {place}"))
    elements[0xFFFCFFFC] = Element("OB", planted.mark(f"padding, {place}").encode() * 2)
    for tag in (0x00100010, 0x00100020, 0x00081030, 0x0008103E, 0x00204000):
        elements[tag] = text("LO", planted.mark(f"{tag:08X}, {place}"))
    syntax = JPEG_LS if compressed else EXPLICIT
    if compressed:
        stream = jpeg_ls_of(pixels)
        note = planted.mark(f"comment in a codestream, {place}").encode()
        comment = b"\xff\xfe" + (len(note) + 2).to_bytes(2, "big") + note
        elements[0x7FE00010] = encapsulated(stream[:2] + comment + stream[2:])
    data = dicom(elements, EXPLICIT)
    start = len(file_start(EXPLICIT))
    meta = bytearray(file_start(syntax))
    note = planted.mark(f"preamble, {place}").encode()
    meta[: len(note)] = note
    # Source Application Entity Title stands behind the Transfer Syntax UID.
    extra = written(0x00020016, text("AE", planted.mark(f"meta, {place}")[:16]))
    length = int.from_bytes(meta[140:144], "little") + len(extra)
    meta[140:144] = length.to_bytes(4, "little")
    return bytes(meta) + extra + data[start:]


def plant_others(folder: Path, planted: Planted, rng: random.Random) -> Mapping[str, Path]:
    """Write inputs of other kinds with markers: enhanced CT, archives, NIfTI; return them by kind.

    What is given is named by their kind.
    """
    names = ("enhanced", "zip", "tar.gz", "media", "phases")
    places = {name: folder / name for name in names}
    for name in ("enhanced", "media", "phases"):
        places[name].mkdir(parents=True)
    elements = enhanced_elements(4, EXPLICIT, rng, damage=False)
    elements[0x0020000E] = text("UI", f"{UID_ROOT}.50")
    for tag in (0x00100010, 0x00100020, 0x00081030, 0x0008103E, 0x00204000):
        elements[tag] = text("LO", planted.mark(f"{tag:08X}, enhanced"))
    marker = planted.mark("kernel in a functional group").encode()
    name = planted.mark("an enhanced file", is_name=True)
    data = dicom(elements).replace(MARKER.encode(), marker)
    (places["enhanced"] / f"{name}.dcm").write_bytes(data)
    slices = {}
    for index in range(3):
        inner = planted.mark("in an archive", is_name=True)
        name = f"{inner}/{planted.mark('a member', is_name=True)}.dcm"
        slices[name] = marked_slice(planted, f"archive {index}", index, f"{UID_ROOT}.51")
    bad = f"{planted.mark('a bad member', is_name=True)}.dcm"
    with zipfile.ZipFile(places["zip"], "w") as out:
        out.comment = planted.mark("comment of a zip").encode()
        for name, data in slices.items():
            out.writestr(name, data)
    with tarfile.open(places["tar.gz"], "w:gz") as tar:
        for name, data in {**slices, bad: next(iter(slices.values()))[:-500]}.items():
            info = tarfile.TarInfo(name)
            info.size, info.uname = len(data), planted.mark("owner of a member")
            tar.addfile(info, io.BytesIO(data))
    for index, data in enumerate(slices.values()):
        (places["media"] / f"IM{index}").write_bytes(data)
        other = data.replace(f"{UID_ROOT}.51.9".encode(), f"{UID_ROOT}.52.9".encode())
        (places["phases"] / f"0{index}.dcm").write_bytes(data)
        later = other.replace(b"\x20\0\x12\0IS\x02\0001 ", b"\x20\0\x12\0IS\x02\0002 ")
        (places["phases"] / f"1{index}.dcm").write_bytes(later)
    records = [
        item(
            written(0x00041500, text("CS", f"IM{index}"))
            + written(0x00041511, text("UI", planted.mark("in a DICOMDIR")))
            + written(0x00100010, text("PN", planted.mark("in a DICOMDIR")))
        )
        for index in range(3)
    ]
    lost = item(written(0x00041500, text("CS", planted.mark("a name in a DICOMDIR"))))
    for name, items in (("DICOMDIR", records), ("LOST", [*records, lost])):
        data = dicom(
            {0x00041130: text("CS", planted.mark("a file set")), 0x00041220: sequence(*items)}
        )
        storage = b"1.2.840.10008.1.3.10\0\0\0\0\0\0"
        data = data.replace(b"1.2.840.10008.5.1.4.1.1.2\0", storage, 1)
        (places["media"] / name).write_bytes(data)
    return {
        **{name: places[name] for name in ("enhanced", "zip", "tar.gz", "phases")},
        "DICOMDIR": places["media"] / "DICOMDIR",
        "a damaged DICOMDIR": places["media"] / "LOST",
        **_plant_volumes(folder, planted),
    }


def _plant_volumes(folder: Path, planted: Planted) -> Mapping[str, Path]:
    nibabel: Any = import_module("nibabel")
    hu = np.stack([picture(64, 64).astype(np.int16) - 1024] * 3)
    image = nibabel.Nifti1Image(hu.transpose(2, 1, 0), np.diag([-1.0, -1.0, 2.0, 1.0]))
    for name in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[name] = planted.mark(f"{name} of a NIfTI file").encode()
    note = planted.mark("extension of a NIfTI file").encode()
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", note))
    nibabel.save(image, folder / "volume.nii.gz")
    data = (folder / "volume.nii.gz").read_bytes()
    (folder / "cut.nii.gz").write_bytes(data[:-900])
    marked: dict[str, Any] = {"hu": hu, planted.mark("an array", is_name=True): hu}
    np.savez(folder / "arrays.npz", **marked)
    return {name: folder / name for name in ("volume.nii.gz", "cut.nii.gz", "arrays.npz")}


def commands_on_others(root: Path, others: Mapping[str, Path], work: Path) -> Iterator[Command]:
    """Yield commands on inputs of other kinds, and lists of all."""
    number = 0

    def command(*arguments: object, suffix: str = "", statuses: tuple[int, ...] = (0,)) -> Command:
        nonlocal number
        number += 1
        folder = work / f"more{number}"
        folder.mkdir()
        shown = tuple(f"{folder / 'a'}{suffix}" if one is _OUT else str(one) for one in arguments)
        return Command(shown, folder, False, statuses)

    for form in ([], ["--json"]):
        yield command("list", root, *form)
    for kind, path in others.items():
        is_volume = path.suffix in (".gz", ".npz") and kind != "tar.gz"
        bad = kind in ("enhanced", "tar.gz", "a damaged DICOMDIR", "cut.nii.gz", "phases")
        yield command("encode", path, "-o", _OUT, suffix=".mkv", statuses=(2,) if bad else (0,))
        if is_volume:
            continue
        yield command("list", path, statuses=(0,))
        more = ("--skip-bad", "--series", "1", "--effort", "fast", "--json", "-v")
        yield command("encode", path, "-o", _OUT, *more, suffix=".mp4")
        yield command("inspect", path, "-o", _OUT, "--skip-bad", "--series", "1", suffix=".html")
    yield command(
        *("compare", others["zip"], others["volume.nii.gz"], "-o", _OUT, "--no-cache"),
        *("--preset", "ultrafast"),
    )


# Commands


@dataclass(frozen=True)
class Command:
    """A command, where it writes, whether that may tell folders below the given, how it may end."""

    arguments: tuple[str, ...]
    output: Path
    folders_are_told: bool = False
    statuses: tuple[int, ...] = (0, 2, 3)


def commands_of(root: Path, series: Mapping[str, Path], work: Path) -> Iterator[Command]:
    """Yield commands on what was planted; of single series their folder is what is given."""
    names = iter(f"out{number}" for number in range(1000))

    def command(
        *arguments: object,
        told: bool = False,
        suffix: str = "",
        statuses: tuple[int, ...] = (0, 2, 3),
    ) -> Command:
        folder = work / next(names)
        folder.mkdir()
        output = folder / f"a{suffix}" if suffix else folder / "o"
        shown = tuple(str(output) if one is _OUT else str(one) for one in arguments)
        return Command(shown, folder, told, statuses)

    for kind, folder in series.items():
        given = work / f"given-{kind.replace(' ', '-')}"
        given.symlink_to(folder)
        for more in ([], ["--skip-bad", "-v", "--json"]):
            is_good = kind in ("whole", "compressed") or (more and kind == "truncated")
            statuses = (0,) if is_good else (0, 2)
            yield command("encode", given, "-o", _OUT, *more, suffix=".mp4", statuses=statuses)
        yield command("inspect", given, "-o", _OUT, "--skip-bad", suffix=".html")
    whole, compressed = work / "given-whole", work / "given-compressed"
    yield command("encode", whole, "-o", _OUT, "--bitrate", "200", suffix=".mkv", statuses=(0,))
    yield command("encode", compressed, "-o", _OUT, "--over", "mean", suffix=".h264", statuses=(0,))
    video = command("encode", whole, "-o", _OUT, "--effort", "fast", suffix=".mkv", statuses=(0,))
    yield video
    for syntax in ("explicit", "rle", "jpegls", "htj2k"):
        decoded = (video.output / "a.mkv", "-o", _OUT, "--syntax", syntax, "--json")
        yield command("decode", *decoded, statuses=(0,))
    yield command("encode", whole, "-o", _OUT, "--effort", "fast", suffix=".dcm", statuses=(0,))
    for syntax in ("htj2k", "j2k"):
        lossy = (whole, "-o", _OUT, "--as", "ct", "--syntax", syntax, "--json")
        yield command("encode", *lossy, statuses=(0,))
    yield command("inspect", whole, "-o", _OUT, suffix=".png", statuses=(0,))
    yield command("metrics", whole, compressed, "-o", _OUT, "--json", suffix=".html")
    yield command("metrics", whole, compressed, "-o", _OUT, "--roi", "body", suffix=".csv")
    truncated = work / "given-truncated"
    yield command("metrics", whole, truncated, "--map", _OUT, "--skip-bad", "--index", "ssim")
    yield command("encode", root, "-o", _OUT, suffix=".mp4", statuses=(2,))
    yield command(
        *("compare", whole, compressed, work / "given-truncated", "-o", _OUT, "--no-cache"),
        *("--preset", "ultrafast", "--anchor", "x264", "--anchor", "x265:ultrafast"),
        statuses=(0, 3),
    )
    hidden = ("--name-template", "{study_hash}/{uid_hash}")
    yield command("batch", root, "-o", _OUT, "--jobs", "2", told=True, statuses=(0, 3))
    yield command(
        "batch", root, "-o", _OUT, *hidden, "--jobs", "2", "--json-log", "--json", statuses=(0, 3)
    )
    yield command("batch", root, "-o", _OUT, *hidden, "--jobs", "2", "--skip-bad", statuses=(0, 3))


_OUT: Final = object()


# Searching


@dataclass(frozen=True)
class Searched:
    """What came of a search: leaks, parts that were looked at, and their bytes."""

    leaks: tuple[str, ...]
    parts: int
    bytes: int


def searched_for(command: Command, planted: Planted, uid_root: bytes) -> Searched:
    """Run a command and search its outputs, its messages and the names of its files."""
    done = subprocess.run([*SSIMRDO, *command.arguments], capture_output=True, check=False)
    written_: dict[str, bytes] = {"stdout": done.stdout, "stderr": done.stderr}
    for path in command.output.rglob("*"):
        name = str(path.relative_to(command.output))
        written_[f"name {len(written_)}"] = os.fsencode(name)
        if path.is_file():
            written_[name] = path.read_bytes()
    leaks: list[str] = []
    if done.returncode not in command.statuses:
        leaks.append(f"exit status {done.returncode}: {done.stderr[-200:]!r}")
    parts = size = 0
    for name, data in written_.items():
        is_message = name in ("stdout", "stderr")
        for part in parts_of(data):
            parts += 1
            size += len(part)
            for marker in marks_in(part):
                # A message names a file or folder below what was given: that is how it is found.
                may_be = marker in planted.in_names and (is_message or command.folders_are_told)
                if not may_be:
                    leaks.append(f"{name}: {marker}, {planted.where.get(marker, 'unknown')}")
            # The message about several series lists their UIDs to choose from.
            if uid_root in part and not is_message:
                leaks.append(f"{name}: a UID")
    return Searched(tuple(dict.fromkeys(leaks)), parts, size)


def marks_in(data: bytes) -> set[str]:
    """Return the markers in bytes, in any of the encodings of text."""
    found = set(MARK.findall(data))
    # UTF-16 and UTF-32, of either order, are the same with zeros between.
    found |= set(MARK.findall(data.replace(b"\0", b"")))
    found |= set(MARK.findall(data[::-1]))
    return {mark.decode().upper() for mark in found}


def parts_of(data: bytes, depth: int = 0) -> Iterator[bytes]:
    """Yield bytes and all that can be decoded or decompressed from them."""
    yield data
    if depth < _MAX_DEPTH:
        for part in _decoded(data):
            if part and part != data:
                yield from parts_of(part, depth + 1)


def _decoded(data: bytes) -> Iterator[bytes]:
    yield from _deflated(data)
    yield from _pictures(data)
    if b"\\u" in data or b"\\x" in data:
        yield _unescaped(data)
    if b"%" in data:
        yield unquote_to_bytes(data)
    if b"&" in data and b";" in data:
        yield html.unescape(data.decode("utf-8", "replace")).encode("utf-8", "replace")
    for run in re.findall(rb"[A-Za-z0-9+/_-]{16,}={0,2}", data):
        for start in range(4) if len(run) < 4000 else (0,):
            with_both = run[start:].translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
            if len(with_both) % 4 == 1:
                with_both = with_both[:-1]
            try:
                yield base64.b64decode(with_both + b"=" * (-len(with_both) % 4), validate=True)
            except binascii.Error:
                continue
    for run in re.findall(rb"(?:[0-9a-fA-F]{2}){12,}", data):
        yield bytes.fromhex(run.decode())


def _deflated(data: bytes) -> Iterator[bytes]:
    for start in re.finditer(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08", data):
        is_gzip = start[0][0] == 0x1F
        inflater = zlib.decompressobj(zlib.MAX_WBITS + 16 if is_gzip else zlib.MAX_WBITS)
        try:
            yield inflater.decompress(data[start.start() :], 1 << 26)
        except zlib.error:
            continue


def _pictures(data: bytes) -> Iterator[bytes]:
    for start in re.finditer(rb"\x89PNG\r\n\x1a\n|\A(?:\xff\xd8|RIFF|GIF8)", data):
        try:
            with Image.open(io.BytesIO(data[start.start() :])) as image:
                yield repr(image.info).encode()
                yield image.tobytes()
        except (OSError, ValueError, SyntaxError):
            continue


def _unescaped(data: bytes) -> bytes:
    def char(match: re.Match[bytes]) -> bytes:
        return chr(int(match[1], 16)).encode("utf-8", "replace")

    return re.sub(rb"\\(?:u|x)([0-9a-fA-F]{4}|[0-9a-fA-F]{2})", char, data)


def hidden_ways(marker: str) -> Mapping[str, bytes]:
    """Return a marker in all the ways in which the search has to find it."""
    raw = marker.encode()
    picture_ = io.BytesIO()
    Image.fromarray(np.frombuffer(raw * 8, np.uint8).reshape(8, -1)).save(picture_, "PNG")
    page = json.dumps({"a": base64.b64encode(zlib.compress(raw * 3)).decode()})
    return {
        "plain": b"x" + raw,
        "lower case": raw.lower(),
        "UTF-16": marker.encode("utf-16-le"),
        "UTF-16, other order": marker.encode("utf-16-be"),
        "UTF-32": marker.encode("utf-32"),
        "backwards": raw[::-1],
        "base64": base64.b64encode(b"ab" + raw * 2),
        "base64 for URLs": base64.urlsafe_b64encode(b"\xff\xfe\xfb" + raw * 2),
        "hexadecimal": raw.hex().encode(),
        "JSON escapes": b"".join(b"\\u%04x" % byte for byte in raw),
        "per cent": b"".join(b"%%%02X" % byte for byte in raw),
        "entities": b"".join(b"&#%d;" % byte for byte in raw),
        "zlib": b"prefix" + zlib.compress(raw * 3),
        "gzip": zlib.compress(raw, wbits=31),
        "base64 of zlib in JSON": page.encode(),
        "pixels of a PNG": picture_.getvalue(),
        "PNG in a page": b"<img src='data:image/png;base64,"
        + base64.b64encode(picture_.getvalue())
        + b"'>",
    }


def all_marks(data: bytes) -> Iterable[str]:
    """Return the markers in bytes and in all that can be made of them."""
    return sorted({mark for part in parts_of(data) for mark in marks_in(part)})
