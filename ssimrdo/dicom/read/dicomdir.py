"""A DICOMDIR as SERIES: the files that it names (PS3.3 F, PS3.10 8)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ssimrdo.dicom.read.elements import (
    MEDIA_STORAGE_SOP_CLASS,
    WINDOW_BYTES,
    DamagedError,
    may_be_dicom,
    read_elements,
)
from ssimrdo.dicom.read.header import BadFile
from ssimrdo.dicom.read.items import ITSELF, read_items
from ssimrdo.dicom.read.values import text_of
from ssimrdo.errors import InputError, cause_of
from ssimrdo.text import printable, shortened

MAX_FILES: Final = 100_000

_STORAGE: Final = "1.2.840.10008.1.3.10"
_RECORDS: Final = 0x00041220
_FILE_ID: Final = 0x00041500
# An image's record has some 30 elements.
_MAX_ELEMENTS: Final = 3_000_000
_MAX_COMPONENTS: Final = 32
_MAX_NAME: Final = 150


def is_dicomdir(path: Path) -> bool:
    """Tell whether a file is a DICOMDIR, by its File Meta Information."""
    try:
        # Opening a named pipe would wait for a writer.
        if not path.is_file():
            return False
        with path.open("rb", buffering=0) as stream:
            head = stream.read(WINDOW_BYTES)
            if not may_be_dicom(head):
                return False
            meta = read_elements(stream, head, (), 0).meta
    except (DamagedError, OSError, ValueError):
        return False
    return text_of(MEDIA_STORAGE_SOP_CLASS, meta.get(MEDIA_STORAGE_SOP_CLASS)) == _STORAGE


def named_files(path: Path) -> tuple[tuple[tuple[Path, str], ...], tuple[BadFile, ...]]:
    """Return the files that a DICOMDIR names, with their printed names, and those that are missing.

    None lies outside the folder of the DICOMDIR.

    Raises
    ------
    InputError
        If the DICOMDIR is damaged or cannot be read.
    """
    try:
        names = _names(path)
    except DamagedError as error:
        raise InputError(f"{printable(path)}: {error}", remedy="give the folder instead") from None
    except OSError as error:
        raise InputError(f"{printable(path)}: cannot be read ({cause_of(error)})") from None
    found, bad = [], []
    for parts in sorted(names):
        file = _place(path.parent, parts)
        if file is None:
            # What it is called stands in the header of the DICOMDIR alone.
            bad.append(BadFile(printable(path.name), "a file that it names is missing"))
        else:
            name = file.relative_to(path.parent).as_posix()
            found.append((file, shortened(name, _MAX_NAME)))
    return tuple(found), tuple(bad)


def _names(path: Path) -> set[tuple[str, ...]]:
    with path.open("rb", buffering=0) as stream:
        dataset = read_elements(stream, stream.read(WINDOW_BYTES), (), _RECORDS)
        if dataset.stop is None or dataset.stop.tag != _RECORDS:
            raise DamagedError("the DICOMDIR has no records")
        items, _ = read_items(dataset, dataset.stop, {ITSELF: (_FILE_ID,)}, _MAX_ELEMENTS)
    names = set()
    for item in items:
        text = text_of(_FILE_ID, item.get(_FILE_ID))
        if text:
            names.add(tuple(part.strip(" \0") for part in text.split("\\")))
    if len(names) > MAX_FILES:
        raise DamagedError(f"the DICOMDIR names more than {MAX_FILES} files")
    return names


def _place(folder: Path, parts: tuple[str, ...]) -> Path | None:
    """Return a named file, None if there is none below the folder."""
    if len(parts) > _MAX_COMPONENTS or not all(map(_is_component, parts)):
        return None
    # Names are in capitals, and media are often mounted in small letters.
    for names in (parts, tuple(part.lower() for part in parts)):
        try:
            file = folder.joinpath(*names).resolve(strict=True)
            is_inside = file.is_relative_to(folder.resolve())
        except (OSError, ValueError, RuntimeError):
            continue
        if is_inside and file.is_file():
            return folder.joinpath(*names)
    return None


def _is_component(part: str) -> bool:
    return bool(part) and part not in (".", "..") and "/" not in part and "\0" not in part
