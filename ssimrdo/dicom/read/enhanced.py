"""Enhanced (multi-frame) CT: the header of each frame, and where its pixels are.

What a slice has in elements of its own stands here in functional groups (PS3.3 C.7.6.16), once for
all frames or once for each. Put together they are what :func:`parse_slice` takes.
"""

from __future__ import annotations

from itertools import pairwise
from struct import unpack
from typing import TYPE_CHECKING, Final

from ssimrdo.dicom.read.elements import (
    PIXEL_DATA,
    UNDEFINED,
    WINDOW_BYTES,
    DamagedError,
    DataSet,
    Element,
    Place,
    next_place,
    read_elements,
)
from ssimrdo.dicom.read.header import (
    ENHANCED_SOP_CLASSES,
    MULTI_FRAME,
    WANTED,
    BadFile,
    Extent,
    SkippedFile,
    SliceHeader,
    check_syntax,
    frames_of,
    is_native,
    parse_slice,
    read_header,
    uid_of,
)
from ssimrdo.dicom.read.items import Items, read_items
from ssimrdo.dicom.registry import DEFLATED_LITTLE_ENDIAN, EXPLICIT_BIG_ENDIAN, RLE, TAG_OF

if TYPE_CHECKING:
    from pathlib import Path

MAX_FRAMES: Final = 10_000
"""Of a file that is read; the largest CT series have some thousand slices."""

_SHARED: Final = 0x52009229
_PER_FRAME: Final = 0x52009230


def _tags(*keywords: str) -> frozenset[int]:
    return frozenset(TAG_OF[keyword] for keyword in keywords)


# Functional groups of CT (PS3.3 A.38.1.3), and what of them makes a slice.
_GROUPS: Final = {
    TAG_OF[name]: _tags(*keywords)
    for name, keywords in {
        "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
        "PlanePositionSequence": ("ImagePositionPatient",),
        "PlaneOrientationSequence": ("ImageOrientationPatient",),
        "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
        "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope"),
        "CTAcquisitionDetailsSequence": ("GantryDetectorTilt",),
        "CTXRayDetailsSequence": ("KVP",),
        "CTReconstructionSequence": ("ConvolutionKernel", "ConvolutionKernelGroup"),
        "FrameContentSequence": ("TemporalPositionIndex", "FrameAcquisitionNumber"),
        "CardiacSynchronizationSequence": ("NominalPercentageOfCardiacPhase",),
        "RespiratorySynchronizationSequence": ("NominalPercentageOfRespiratoryPhase",),
        # What legacy conversion has no other place for.
        "UnassignedPerFrameConvertedAttributesSequence": (
            *("AcquisitionNumber", "TemporalPositionIdentifier", "TriggerTime", "ContentTime"),
            *("ConvolutionKernel", "KVP", "GantryDetectorTilt"),
        ),
        "UnassignedSharedConvertedAttributesSequence": (
            *("AcquisitionNumber", "ConvolutionKernel", "KVP", "GantryDetectorTilt"),
        ),
    }.items()
}
_FRAME_ACQUISITION: Final = 0x00209156
_ACQUISITION: Final = 0x00200012
_INSTANCE_NUMBER: Final = 0x00200013

# CT frames have some 50 elements in their functional groups.
_MAX_ELEMENTS_PER_FRAME: Final = 100
_MAX_ELEMENTS: Final = 10_000
_ITEM_BYTES: Final = 8
_ITEM: Final = (0xFFFE, 0xE000)
_SEQUENCE_END: Final = (0xFFFE, 0xE0DD)
_MAX_FRAGMENTS_PER_FRAME: Final = 8


def read_slices(path: Path, name: str) -> tuple[SliceHeader, ...] | SkippedFile:
    """Read the headers of all slices of a file, one or several, or say why it is left out.

    OSError is raised if the file cannot be read.
    """
    found = read_header(path, name)
    if isinstance(found, SliceHeader):
        return (found,)
    is_several = found == SkippedFile(name, MULTI_FRAME)
    return _read_frames(path, found) if is_several else found


def _read_frames(path: Path, found: SkippedFile) -> tuple[SliceHeader, ...] | SkippedFile:
    with path.open("rb", buffering=0) as stream:
        dataset = read_elements(stream, stream.read(WINDOW_BYTES), WANTED, _SHARED)
        if uid_of(dataset.elements, "SOPClassUID") not in ENHANCED_SOP_CLASSES:
            return found
        try:
            return _frames(path, found.path, dataset)
        except DamagedError as error:
            series_uid = uid_of(dataset.elements, "SeriesInstanceUID")
            return BadFile(found.path, str(error), series_uid=series_uid)


def _frames(path: Path, name: str, dataset: DataSet) -> tuple[SliceHeader, ...]:
    """Return the headers of all frames."""
    if dataset.syntax == DEFLATED_LITTLE_ENDIAN:
        raise DamagedError("deflated objects of several frames are not read")
    elements = dict(dataset.elements)
    # Of the object; that of a slice is the number of its frame.
    elements.pop(_INSTANCE_NUMBER, None)
    count, frame_bytes, bits = frames_of(elements, MAX_FRAMES)
    if bits == 8 and dataset.syntax == EXPLICIT_BIG_ENDIAN:
        raise DamagedError("frames of 8 bits in big endian words are not read")
    size = path.stat().st_size
    if count * max(frame_bytes if is_native(dataset) else 0, _ITEM_BYTES) > size:
        raise DamagedError(_CUT_OFF)
    shared, own, pixels = _groups(dataset, count)
    if len(own) != count:
        raise DamagedError("there are functional groups for another number of frames")
    if check_syntax(dataset, pixels):
        parts = _native_parts(pixels, count, frame_bytes, size)
    else:
        parts = _fragments(dataset, pixels, count, size)
    headers = []
    for number, group in enumerate(own, start=1):
        try:
            header = parse_slice(
                path,
                f"{name} frame {number}",
                {**elements, **shared, **group},
                dataset.syntax,
                Extent(number, parts[number - 1]),
            )
        except DamagedError as error:
            raise DamagedError(f"frame {number}: {error}") from None
        headers.append(header)
    return tuple(headers)


def _groups(dataset: DataSet, count: int) -> tuple[dict[int, Element], Items, Place]:
    """Return the elements that all frames share, those of each, and where the pixel data is."""
    limit = _MAX_ELEMENTS + _MAX_ELEMENTS_PER_FRAME * count
    found: dict[int, Items] = {_SHARED: [], _PER_FRAME: []}
    place = dataset.stop
    while place is not None and place.tag in found:
        items, end = read_items(dataset, place, _GROUPS, limit)
        found[place.tag] = [_renamed(item) for item in items]
        place = next_place(dataset, end, place.tag + 1)
    if place is not None and place.tag < PIXEL_DATA:
        place = next_place(dataset, place.at, PIXEL_DATA)
    if place is None or place.tag != PIXEL_DATA:
        raise DamagedError("there is no pixel data")
    return next(iter(found[_SHARED]), {}), found[_PER_FRAME], place


def _renamed(item: dict[int, Element]) -> dict[int, Element]:
    acquisition = item.pop(_FRAME_ACQUISITION, None)
    return item if acquisition is None else {_ACQUISITION: acquisition, **item}


Parts = tuple[tuple[int, int], ...]


def _native_parts(pixels: Place, count: int, frame_bytes: int, size: int) -> list[Parts]:
    if min(pixels.length, size - pixels.start) < count * frame_bytes:
        raise DamagedError(_CUT_OFF)
    starts = (pixels.start + index * frame_bytes for index in range(count))
    return [((start, frame_bytes),) for start in starts]


def _fragments(dataset: DataSet, pixels: Place, count: int, size: int) -> list[Parts]:
    """Return the fragments of each frame (PS3.5 A.4)."""
    source, at = dataset.source, pixels.start
    end = size if pixels.length == UNDEFINED else pixels.start + pixels.length
    found: list[tuple[int, int]] = []
    for _ in range(_MAX_FRAGMENTS_PER_FRAME * count + 2):
        head = source.read(at, _ITEM_BYTES)
        if at == end and pixels.length != UNDEFINED:
            break
        if len(head) < _ITEM_BYTES:
            raise DamagedError(_CUT_OFF)
        *tag, length = unpack("<HHI", head)
        if tuple(tag) == _SEQUENCE_END:
            break
        if tuple(tag) != _ITEM or length == UNDEFINED:
            raise DamagedError("the fragments of the pixel data are corrupt")
        found.append((at + _ITEM_BYTES, length))
        at += _ITEM_BYTES + length
        if at > end:
            raise DamagedError(_CUT_OFF)
    else:
        raise DamagedError("the pixel data has too many fragments")
    if not found:
        raise DamagedError(_CUT_OFF)
    (table, table_bytes), *fragments = found
    if len(fragments) == count:
        return [(fragment,) for fragment in fragments]
    if table_bytes != 4 * count or dataset.syntax == RLE:
        raise DamagedError("it is not told which fragments make a frame")
    offsets = unpack(f"<{count}I", source.read(table, table_bytes))
    return _by_offset(fragments, offsets)


def _by_offset(fragments: list[tuple[int, int]], offsets: tuple[int, ...]) -> list[Parts]:
    """Return the fragments of each frame by the Basic Offset Table."""
    begin = fragments[0][0] if fragments else 0
    place = {start - begin: index for index, (start, _) in enumerate(fragments)}
    firsts = [place.get(offset, -1) for offset in offsets]
    if firsts[:1] != [0] or any(b <= a for a, b in pairwise(firsts)):
        raise DamagedError("the offset table is corrupt")
    ends = [*firsts[1:], len(fragments)]
    return [tuple(fragments[a:b]) for a, b in zip(firsts, ends, strict=True)]


_CUT_OFF: Final = "the pixel data is cut off; copy the file again"
