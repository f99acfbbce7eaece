"""Damaged videos and records for ``decode`` and ``view``, and templates that do not match.

A video is made once, in each container; an input is what a damaged copy of it, of its record or of
its template is. Decoding has to give a whole folder of slices, or one line and nothing.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from fuzz_dicom import MARKER, ct_slice, dicom, mangled, picture, text, us

from ssimrdo.decoding import decode, view
from ssimrdo.encoding.encode import encode
from ssimrdo.errors import SsimrdoError

Result = tuple[str, str]

_SLICES: Final = 3
_SUFFIXES: Final = (".mkv", ".mp4", ".dcm")
_ODD: Final[tuple[Any, ...]] = (
    *(None, True, -1, 0, 1, 5, 1e308, 10**30, float("nan"), "", "0", MARKER, "1e400", [], {}),
    *([None], [0, 0, 0, 7], {"1": {}}, {"masks": ["eJwDAAAAAAE="], "slices": [0] * _SLICES}),
)


def _write_series(folder: Path, rng: random.Random, *, shift: int = 0, moved: str = "") -> None:
    folder.mkdir()
    odd = rng.randrange(_SLICES)
    for number in range(_SLICES):
        pixels = np.roll(picture(32, 48), shift + number)
        pixels[:, :5] = 0
        elements = ct_slice(pixels, number + 1)
        elements[0x00280120] = us(0)
        if moved and number == odd:
            elements[0x00200032] = text("DS", moved)
        (folder / f"{number}").write_bytes(dicom(elements))


@cache
def _made(suffix: str) -> tuple[bytes, bytes]:
    """Return an intact video, and its sidecar."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _write_series(folder / "ct", random.Random(0))
        video = folder / f"a{suffix}"
        encode(folder / "ct", video, window="lung", effort="fast", threads=1)
        return video.read_bytes(), video.with_suffix(".json").read_bytes()


def _odd_record(data: bytes, rng: random.Random) -> bytes:
    """Return a sidecar some of whose values are others."""
    record = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        place: Any = record["ct"]
        while isinstance(place, dict | list) and place:
            key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
            if rng.random() < 0.5 or not isinstance(place[key], dict | list):
                place[key] = rng.choice(_ODD)
                break
            place = place[key]
    return json.dumps(record).encode()


def videos(seed: int, folder: Path) -> Result:
    """Decode a video that is damaged, has a damaged record, or gets another's template."""
    rng = random.Random(seed)
    suffix = rng.choice(_SUFFIXES)
    data, sidecar = _made(suffix)
    place = folder / "in"
    place.mkdir()
    what = rng.choice(("video", "record", "odd record", "template", "nothing"))
    if what == "video":
        data = mangled(data, rng)
    elif what == "record":
        sidecar = mangled(sidecar, rng)
    elif what == "odd record":
        sidecar = _odd_record(sidecar, rng)
    video = place / f"a{suffix}"
    video.write_bytes(data)
    video.with_suffix(".json").write_bytes(sidecar)
    given: dict[str, Any] = {}
    if what.endswith("record"):
        given["record"] = video.with_suffix(".json")
    is_wrong = False
    if what == "template" or rng.random() < 0.3:
        is_wrong = what == "template" and rng.random() < 0.7
        kind = rng.choice(({"shift": 3}, {"moved": "0\\0\\0.5"})) if is_wrong else {}
        _write_series(place / "ct", rng, **kind)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    out, shown = folder / "out", folder / "shown.mkv"
    try:
        if what != "template" and rng.random() < 0.2:
            view(video, shown, window="lung", effort="fast", threads=1, **given)
        else:
            if (place / "ct").exists():
                given["template"] = place / "ct"
            decode(video, out, **given)
    except SsimrdoError as error:
        left = [path.name for path in folder.iterdir() if path != place]
        assert not left, f"something is left: {left}"
        result = "refused", str(error)
    else:
        assert shown.exists() or len(list(out.iterdir())) == _SLICES, "slices are missing"
        assert not (is_wrong and out.exists()), "another's template was taken"
        result = what, ""
    after = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert before == after, "an input was changed"
    return result


KINDS: Final[Mapping[str, Callable[[int, Path], Result]]] = MappingProxyType({"videos": videos})
