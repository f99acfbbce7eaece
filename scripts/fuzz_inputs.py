"""Damaged inputs of other kinds: enhanced CT, phases, archives with DICOMDIR, and volumes.

Each function makes an input that follows from its number, works on it as an encode would, and
returns what came of it and the message; an exception that no user should see is a failure.
"""

from __future__ import annotations

import gzip
import io
import random
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from fuzz_dicom import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG_LS,
    MARKER,
    RLE,
    Element,
    ct_slice,
    damaged_value,
    dicom,
    item,
    jpeg_ls_of,
    mangled,
    picture,
    rle_of,
    sequence,
    text,
    us,
    written,
)

from ssimrdo.dicom import find_series
from ssimrdo.dicom.read.phases import rows_of
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.encoding.source import look_at_spacing, open_source
from ssimrdo.errors import SsimrdoError
from ssimrdo.record.listing import list_series

Result = tuple[str, str]

ENHANCED_CT: Final = "1.2.840.10008.5.1.4.1.1.2.1"
_SHARED: Final = 0x52009229
_PER_FRAME: Final = 0x52009230
_PIXEL_DATA: Final = 0x7FE00010
_FRAMES: Final = 0x00280008
_COUNTS: Final = ("0", "1", "2", "99", "10000", "10001", "100000", "2147483648", "-1", "x", "")


def _group(tag: int, elements: Mapping[int, Element], syntax: str, undefined: bool) -> bytes:
    content = b"".join(written(one, element, syntax) for one, element in elements.items())
    inner = sequence(item(content, undefined=undefined), undefined=undefined)
    return written(tag, inner, syntax)


def enhanced_elements(
    frames: int, syntax: str, rng: random.Random, *, damage: bool = True
) -> dict[int, Element]:
    """Return the elements of an Enhanced CT object, some of which may be damaged."""
    undefined = rng.random() < 0.5
    odd = rng.randrange(frames) if damage and rng.random() < 0.4 else -1

    def value(element: Element) -> Element:
        return damaged_value(element, rng)

    items = []
    for index in range(frames):
        groups = [
            (0x00209111, {0x00209128: Element("UL", struct.pack("<I", 1 + index % 2))}),
            (0x00209113, {0x00200032: text("DS", f"0\\0\\{2 * (index // 2)}")}),
            (0x00289132, {0x00281050: text("DS", "40"), 0x00281051: text("DS", "400")}),
            (0x00289145, {0x00281052: text("DS", "-1024"), 0x00281053: text("DS", "1")}),
        ]
        if index == odd:
            place = rng.randrange(len(groups))
            tag, elements = groups[place]
            groups[place] = tag, {one: value(element) for one, element in elements.items()}
            if rng.random() < 0.3:
                groups.pop(rng.randrange(len(groups)))
        content = b"".join(_group(tag, elements, syntax, undefined) for tag, elements in groups)
        items.append(item(content, undefined=undefined))
    shared = b"".join(
        _group(tag, elements, syntax, undefined)
        for tag, elements in (
            (0x00289110, {0x00180050: text("DS", "2"), 0x00280030: text("DS", "0.5\\0.5")}),
            (0x00209116, {0x00200037: text("DS", "1\\0\\0\\0\\1\\0")}),
            (0x00189314, {0x00181210: text("SH", MARKER)}),
        )
    )
    pixels = np.stack([np.roll(picture(16, 20), index) for index in range(frames)])
    elements = ct_slice(pixels[0])
    for tag in (0x00200032, 0x00200037, 0x00280030, 0x00281050, 0x00281051, 0x00281052, 0x00281053):
        del elements[tag]
    elements[0x00080016] = text("UI", ENHANCED_CT)
    elements[_FRAMES] = text("IS", str(frames))
    elements[_SHARED] = sequence(item(shared, undefined=undefined), undefined=undefined)
    elements[_PER_FRAME] = sequence(*items, undefined=undefined)
    if syntax in (RLE, JPEG_LS):
        encode = rle_of if syntax == RLE else jpeg_ls_of
        parts = [encode(frame) for frame in pixels]
        parts = [part + b"\0" * (len(part) % 2) for part in parts]
        elements[_PIXEL_DATA] = sequence(*map(item, [b"", *parts]), undefined=True, vr="OB")
    else:
        elements[_PIXEL_DATA] = Element("OW", pixels.astype("<u2").tobytes())
    return elements


def enhanced_file(rng: random.Random) -> bytes:
    """Return a damaged Enhanced CT file."""
    syntaxes = (EXPLICIT, IMPLICIT, RLE, JPEG_LS, BIG_ENDIAN, DEFLATED)
    syntax = rng.choices(syntaxes, (6, 4, 2, 2, 1, 1))[0]
    inner = EXPLICIT if syntax in (RLE, JPEG_LS, DEFLATED) else syntax
    # Items are written little endian, so a big endian file is damaged from the start.
    elements = enhanced_elements(rng.randrange(1, 7), inner if syntax != RLE else syntax, rng)
    if syntax == JPEG_LS:
        elements = enhanced_elements(rng.randrange(1, 7), JPEG_LS, rng)
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        tag = rng.choice(tuple(elements))
        match rng.randrange(4):
            case 0:
                del elements[tag]
            case 1:
                elements[_FRAMES] = text("IS", rng.choice(_COUNTS))
            case 2:
                elements[rng.choice((0x00280010, 0x00280011))] = us(rng.choice((0, 1, 99, 65535)))
            case 3:
                elements[tag] = damaged_value(elements[tag], rng)
    data = dicom(elements, syntax)
    return mangled(data, rng) if rng.random() < 0.4 else data


def _worked(path: Path, rng: random.Random) -> Result:
    """Do with a path what commands do."""
    try:
        listing = list_series(path, identity=False).as_dict()
        numbers = [None, *(str(row["number"]) for row in listing["series"])]
    except SsimrdoError as error:
        return "refused", _message(error, path)
    chosen = numbers[-1] if rng.random() < 0.8 else rng.choice((*numbers, "0", "99999", "1.2.3.4"))
    return _opened(path, chosen, rng)


def _opened(path: Path, number: str | None, rng: random.Random) -> Result:
    settings = EncodeSettings()
    skip_bad = rng.random() < 0.5
    try:
        opened = open_source(
            path,
            window=None,
            bit_depth=8,
            fps=settings.fps,
            series_uid=number,
            skip_bad=skip_bad,
        )
        look_at_spacing(opened, strict=rng.random() < 0.1)
        frames = 0
        for frame in opened.frames.frames():
            opened.frames.format.check(frame)
            frames += 1
    except SsimrdoError as error:
        return "refused", _message(error, path)
    assert frames == len(opened.notes.used) > 0
    return "read", ""


def _message(error: SsimrdoError, path: Path) -> str:
    return str(error).replace(str(path), "").replace(str(path.parent), "")


def enhanced(seed: int, folder: Path) -> Result:
    """Read damaged files of several frames."""
    rng = random.Random(seed)
    for number in range(rng.choice((1, 1, 2))):
        (folder / f"{MARKER[:3]}{number}.dcm").write_bytes(enhanced_file(rng))
    return _worked(folder, rng)


_PHASE_TAGS: Final = (
    *((0x00200012, "IS"), (0x00200100, "IS"), (0x00181060, "DS"), (0x00180060, "DS")),
    *((0x00209241, "FD"), (0x00080033, "TM")),
)


def phases(seed: int, folder: Path) -> Result:
    """Separate series of several phases, whose keys may be damaged."""
    rng = random.Random(seed)
    tag, vr = rng.choice(_PHASE_TAGS)
    count, slices = rng.randrange(1, 4), rng.randrange(1, 5)
    number = 0
    for phase in range(count):
        for index in range(slices):
            number += 1
            elements = ct_slice(picture(16, 16), number)
            elements[0x00200032] = text("DS", f"0\\0\\{2 * index}")
            value = Element(vr, struct.pack("<d", phase)) if vr == "FD" else text(vr, f"{phase}")
            elements[tag] = damaged_value(value, rng) if rng.random() < 0.1 else value
            if rng.random() < 0.1:
                elements[0x00200032] = text("DS", f"0\\0\\{rng.choice((0, 1, 3, 50, -7))}")
            (folder / f"{number:03d}.dcm").write_bytes(dicom(elements))
    result = find_series(folder)
    rows = rows_of(result.series)
    # A phase is a part of its series, and each slice is in one of them.
    for one in result.series:
        parts = [header.slice_uid for row in rows if row.uid == one.uid for header in row.slices]
        assert sorted(parts) == sorted(header.slice_uid for header in one.slices), "slices are lost"
    return _worked(folder, rng)


_NAMES: Final = (
    *(
        "a.dcm",
        "b",
        "d/e.dcm",
        "../up.dcm",
        "/abs.dcm",
        ".hidden",
        "n\x1b.dcm",
        "x" * 300,
        "DICOMDIR",
    ),
    *("a/../b.dcm", "C:\\y.dcm", "\udcff.dcm", "con", "é.dcm"),
)


def _members(rng: random.Random) -> list[tuple[str, bytes]]:
    members = []
    for number in range(rng.randrange(1, 6)):
        kind = rng.randrange(6)
        if kind < 4:
            data = dicom(ct_slice(picture(16, 16), number + 1))
        elif kind == 4:
            data = enhanced_file(rng)
        else:
            data = rng.choice((b"", b"text", gzip.compress(b"x"), b"PK\3\4" + bytes(30)))
        members.append((rng.choice(_NAMES), data))
    return members


def _zip(rng: random.Random) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, 14))
        with zipfile.ZipFile(stream, "w", method) as out:
            for name, data in _members(rng):
                info = zipfile.ZipInfo(name.encode("utf-8", "replace").decode())
                info.compress_type = method
                info.external_attr = rng.choice((0, 0, 0o100644, 0o120777, 0o040755)) << 16
                out.writestr(info, data)
    return stream.getvalue()


_TAR_KINDS: Final = (
    *(tarfile.REGTYPE,) * 6,
    *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE),
    *(tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, b"Z"),
)


def _tar(rng: random.Random) -> bytes:
    stream = io.BytesIO()
    form: Any = rng.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT))
    for name, data in _members(rng):
        info = tarfile.TarInfo(name[:90])
        info.type = rng.choice(_TAR_KINDS)
        info.linkname = rng.choice(("", "/etc/passwd", "../x"))
        info.size = len(data) if rng.random() < 0.9 else rng.choice((0, 1, 1 << 20, 1 << 32))
        try:
            head = info.tobuf(form, errors="replace")
        except ValueError:
            continue
        stream.write(head + data + bytes(-len(data) % 512))
    return stream.getvalue() + bytes(1024)


def _dicomdir(rng: random.Random, folder: Path) -> bytes:
    for number in range(3):
        data = dicom(ct_slice(picture(16, 16), number + 1))
        (folder / f"F{number}").write_bytes(data)
    names = ("F0", "F1", "F2", "f2", "..\\F0", "/etc\\passwd", "", MARKER, "F0\\F1", "\x1b")
    items = [
        item(
            written(0x00041430, text("CS", "IMAGE"))
            + written(0x00041500, damaged_value(text("CS", rng.choice(names)), rng))
            if rng.random() < 0.1
            else written(0x00041500, text("CS", rng.choice(names))),
            undefined=rng.random() < 0.3,
        )
        for _ in range(rng.randrange(1, 6))
    ]
    data = dicom({0x00041220: sequence(*items, undefined=rng.random() < 0.5)})
    return data.replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.1.3.10\0\0\0\0\0\0", 1)


def archives(seed: int, folder: Path) -> Result:
    """Read damaged archives, and DICOMDIRs, whose names lead anywhere."""
    rng = random.Random(seed)
    place = folder / "in"
    place.mkdir()
    kind = rng.choice(("zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "DICOMDIR"))
    if kind == "DICOMDIR":
        data = _dicomdir(rng, place)
    else:
        data = _zip(rng) if kind == "zip" else _packed(_tar(rng), kind)
    if rng.random() < 0.6:
        data = mangled(data, rng)
    path = place / f"x{rng.choice(('', '.zip', '.tar'))}"
    path.write_bytes(data)
    before = sorted(folder.rglob("*"))
    result = _worked(path, rng)
    assert sorted(folder.rglob("*")) == before, "something was written"
    return result


def _packed(data: bytes, kind: str) -> bytes:
    import bz2
    import lzma

    compress: Mapping[str, Callable[[bytes], bytes]] = {
        "tar.gz": gzip.compress,
        "tar.bz2": bz2.compress,
        "tar.xz": lzma.compress,
    }
    return compress[kind](data) if kind in compress else data


def volumes(seed: int, folder: Path) -> Result:
    """Read damaged files of NIfTI and NumPy."""
    rng = random.Random(seed)
    kind = rng.choice((".nii", ".nii", ".nii.gz", ".npy", ".npz"))
    hu = np.stack([picture(16, 20)] * 3).astype(rng.choice(("i2", "f4", "u1", ">i2", "f8")))
    if kind.startswith(".nii"):
        data = _nifti(hu, rng)
    elif kind == ".npy":
        data = _npy(hu, rng)
    else:
        stream = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as out:
                for name in rng.sample(("hu", "positions_mm", "pixel_spacing_mm", "x"), k=2):
                    array = hu if name in ("hu", "x") else np.arange(rng.choice((2, 3)))
                    out.writestr(f"{name}.npy", _npy(array, rng))
        data = stream.getvalue()
    if rng.random() < 0.5:
        data = mangled(data, rng)
    if kind == ".nii.gz":
        data = gzip.compress(data)
        data = mangled(data, rng) if rng.random() < 0.3 else data
    path = folder / f"a{kind}"
    path.write_bytes(data)
    return _opened(path, rng.choice((None, None, "1", "2")), rng)


def _nifti(hu: Any, rng: random.Random) -> bytes:
    import nibabel

    values = hu.transpose(2, 1, 0)
    if rng.random() < 0.2:
        values = np.stack([values, values], axis=3)
    affine = np.diag([*rng.choices((-1.0, 1.0, 0.5, 2.5), k=3), 1.0])
    kind: Any = rng.choice((nibabel.Nifti1Image, nibabel.Nifti2Image))
    data = bytearray(kind(values, affine).to_bytes())
    size = 348 if kind is nibabel.Nifti1Image else 540
    for _ in range(rng.choice((0, 0, 1, 2, 4))):
        at = rng.randrange(0, size - 8, 2)
        odd = (b"\xff\xff", b"\0\0", b"\xff\x7f", b"\0\x80", b"\x80\x7f\0\0", b"\0\0\xc0\x7f")
        word = rng.choice(odd)
        data[at : at + len(word)] = word
    return bytes(data)


def _npy(array: Any, rng: random.Random) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    data = stream.getvalue()
    if rng.random() < 0.3:
        old = str(array.shape).encode()
        odd = (b"(99999, 65535, 65535)", b"(-1, 2, 3)", b"(1,)", b"()", b"'x'", b"(1e9, 2, 3)")
        data = data.replace(old, rng.choice(odd), 1)
    return data


KINDS: Final[Mapping[str, Callable[[int, Path], Result]]] = MappingProxyType(
    {"enhanced": enhanced, "phases": phases, "archives": archives, "volumes": volumes}
)
