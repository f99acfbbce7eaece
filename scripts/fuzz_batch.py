"""Manifests, journals, names and series that are damaged or hostile, for fuzzing and for tests.

Each function makes the input of a number, lets ssimrdo work on it, and tells what came of it: a
word for the counts, and the message that a user would see. What must not be raises.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from fuzz_dicom import EXPLICIT, Element, ct_slice, dicom, picture, text

from ssimrdo.batch import BatchSettings, state
from ssimrdo.batch.discover import discover
from ssimrdo.batch.job import without_places
from ssimrdo.batch.journal import BatchRecord, Journal, write_table
from ssimrdo.batch.manifest import COLUMNS, read_manifest
from ssimrdo.batch.names import FIELDS, check_template
from ssimrdo.batch.page import render
from ssimrdo.batch.plan import jobs_of_found, jobs_of_manifest, make_plan
from ssimrdo.batch.store import store_of
from ssimrdo.comparison.run import unique_names
from ssimrdo.dicom import Window, find_series
from ssimrdo.encoding.encode import encode
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.encoding.source import open_source
from ssimrdo.errors import InputError, SsimrdoError
from ssimrdo.executors import InProcess
from ssimrdo.text import printable, table_cell

Result = tuple[str, str]

_ODD_TEXTS: Final = (
    *(
        "",
        " ",
        "a",
        "0",
        "-1",
        "1e999",
        "nan",
        "\ud800",
        "\udcfc",
        "\0",
        "\n",
        "\r\n",
        "\t",
        "\x1b]0;x",
    ),
    *(
        "\x9b31m",
        "\u202e",
        "\u2028",
        "\x85",
        "=1+1",
        "+1",
        "@a",
        "'",
        '"',
        ",",
        ";",
        "\\",
        "{}",
        "{0}",
    ),
    *(
        "../..",
        "/etc/passwd",
        "a/b/c.mp4",
        ".mp4",
        "x.mp4",
        "x" * 300,
        "x" * 9000,
        "~",
        "null",
        "true",
    ),
    *("2001-13-45", "s3://x/y", "://", "file:///", "http://[", "<script>", "lung", "40/400", "off"),
    *(
        "1.2.3",
        "9" * 400,
        "Jürgen",
        "胸部",
        "ß" * 90,
        "\U0001f600",
        "Weiß",
        "crf",
        "series",
    ),
)
_ODD_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 23, 2**63, 10**400, 0.5, 1e308, float("nan"), float("inf")),
    *([], {}, [[]], {"a": {}}, ["x"], {"ref": 2}, [1, [2]], *_ODD_TEXTS),
)


def _deep(rng: random.Random) -> str:
    opening = rng.choice(("[", '{"a":', "- ", "{", "? ", "[{", "&a ["))
    return opening * rng.choice((10, 300, 1000, 5000, 200_000))


def _mangled(data: bytes, rng: random.Random) -> bytes:
    """Return bytes of which some are changed, lost, repeated or foreign."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5, 20))):
        place = rng.randrange(len(changed) + 1)
        match rng.randrange(7):
            case 0:
                del changed[place:]
            case 1:
                del changed[place : place + rng.randrange(1, 30)]
            case 2:
                changed[place:place] = changed[: rng.randrange(1, 200)]
            case 3:
                changed[place:place] = rng.choice(_ODD_TEXTS).encode(errors="surrogatepass")
            case 4:
                changed[place:place] = rng.randbytes(rng.randrange(1, 8))
            case 5:
                if changed:
                    changed[place % len(changed)] ^= 1 << rng.randrange(8)
            case 6:
                changed[place:place] = rng.choice(b'"{}[],:\n-&*!|>%@`#?\0\xff').to_bytes()
    return bytes(changed)


# Manifests

_GOOD_VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    "series": ("a", "b/c", "s3://x/y", "2001-01-01"),
    "output": ("x.mp4", "deep/y.mp4"),
    "series_uid": ("1.2.3",),
    "skip_bad": ("yes", "no", "on"),
    "crf": ("20", "23.5"),
    "qp": ("27",),
    "bitrate": ("500",),
    "min": ("ssim=0.95", "psnr=40"),
    "min_ssim": ("0.9",),
    "over": ("mean", "p5"),
    "effort": ("fast", "high"),
    "preset": ("slow",),
    "rdo": ("ssim", "off"),
    "rdo_strength": ("0.5",),
    "window": ("lung", "40/400"),
    "bit_depth": ("8", "10"),
    "fps": ("25", "25/2"),
    "threads": ("1", "2"),
    "x264_params": ("ref=2:me=umh",),
    "measure": ("ms_ssim",),
}


def manifest(seed: int, folder: Path) -> Result:
    """Read a manifest as a batch would."""
    rng = random.Random(seed)
    kind = rng.choice((".csv", ".jsonl", ".yaml"))
    path = folder / f"jobs{kind}"
    path.write_bytes(_manifest_text(kind, rng))
    try:
        entries = read_manifest(path, EncodeSettings(), suffix=".mp4", skip_bad=False)
        jobs = list(jobs_of_manifest(entries, str(folder / "out"), BatchSettings(), "5a" * 32))
    except InputError as error:
        message = str(error).replace(str(folder), "")
        if not message.startswith("/jobs"):
            raise AssertionError(f"no place in {message!r:.200}") from error
        return "refused", message
    outputs = [job.output for job in jobs]
    assert len(set(map(str.casefold, outputs))) == len(outputs), "an output twice"
    for job in jobs:
        _check_output(job.output)
        assert job.name.isprintable(), "a name that is not printable"
        # Paths that cannot be are told when they are looked at, and end nothing.
        state.input_stamp(store_of(job.series), job.files, job.key)
    return "read", ""


def _manifest_text(kind: str, rng: random.Random) -> bytes:
    rows = []
    for _ in range(rng.randrange(1, 5)):
        row: dict[str, Any] = {"series": rng.choice(_GOOD_VALUES["series"])}
        for name in rng.sample(tuple(_GOOD_VALUES), rng.randrange(4)):
            row[name] = rng.choice(_GOOD_VALUES[name])
        if rng.random() < 0.3:
            row[rng.choice((*COLUMNS, *_ODD_TEXTS))] = rng.choice(_ODD_VALUES)
        rows.append(row)
    match kind:
        case ".csv":
            data = _csv(rows)
        case ".jsonl":
            data = "\n".join(map(json.dumps, rows)).encode()
        case _:
            data = _yaml(rows, rng).encode(errors="surrogatepass")
    if rng.random() < 0.05:
        data += b"\n" + _deep(rng).encode()
    return _mangled(data, rng) if rng.random() < 0.4 else data


def _csv(rows: Iterable[Mapping[str, Any]]) -> bytes:
    rows = list(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [",".join(map(_quoted, columns))]
    lines += [",".join(_quoted(row.get(name, "")) for name in columns) for row in rows]
    return "\n".join(lines).encode(errors="surrogatepass")


def _quoted(value: Any) -> str:
    shown = str(value)[:20000]
    return '"' + shown.replace('"', '""') + '"' if any(c in shown for c in ',"\n\r') else shown


def _yaml(rows: Iterable[Mapping[str, Any]], rng: random.Random) -> str:
    lines = []
    for number, row in enumerate(rows):
        start = "- "
        if rng.random() < 0.2:
            start = f"- &a{number} "
            lines.append(f"{start}{{series: a}}")
            start = "- "
        for name, value in row.items():
            tag = rng.choice(
                (*[""] * 20, "!!binary ", "!!timestamp ", "!!int ", "!!set ", "!x ", "*a0 ")
            )
            shown = json.dumps(value) if rng.random() < 0.5 else str(value)[:20000]
            lines.append(f"{start}{name}: {tag}{shown}")
            start = "  "
        if rng.random() < 0.1:
            lines.append(f"{start}<<: {rng.choice(('*a0', '[*a0, *a0]', '1', '{crf: 20}'))}")
    return "\n".join(lines)


# Journals and sidecars

_RECORD: Final = BatchRecord(
    output="a.mp4",
    series="a",
    status="encoded",
    slices=2,
    width=64,
    height=32,
    bit_depth=8,
    window_center=40.0,
    window_width=400.0,
    input_bytes=1000,
    output_bytes=100,
    kbps=10.0,
    quality={"ssim_mean": 0.9, "ssim_min": 0.8, "psnr_mean": 40.0},
    worst_slice=1,
    threads=1,
    seconds=1.5,
    worker="00112233",
    options="ab" * 16,
    inputs="cd" * 16,
)
_SIDECAR: Final = {
    "schema": 2,
    "model": 1,
    "output": "a.mp4",
    "frames": 2,
    "width": 64,
    "height": 32,
    "bit_depth": 8,
    "window": {"center": 40.0, "width": 400.0},
    "bytes": 3,
    "kbps": 10.0,
    "ssim": {"mean": 0.9, "min": 0.8},
    "psnr": {"mean": 40.0, "min": 30.0},
    "worst_slice": 1,
    "seconds": {"total": 1.5},
    "settings": {"threads": 1},
    "batch": {
        "options": "ab" * 16,
        "inputs": "cd" * 16,
        "content": "ef" * 16,
        "input_files": 2,
        "input_bytes": 1000,
        "started": "2026-01-01T00:00:00+00:00",
    },
}


def journal(seed: int, folder: Path) -> Result:
    """Go on with a damaged journal and a damaged sidecar as a batch would."""
    rng = random.Random(seed)
    out = store_of(folder)
    path = folder / "results.jsonl"
    first = BatchRecord("good.mp4", "good", "failed", "why").as_line()
    bad = _damaged_json(_RECORD.as_dict(), rng).replace(b"\n", b" ")
    ends = rng.random() < 0.9
    path.write_bytes(first + bad + (b"\n" if ends else b""))
    (folder / "a.mp4").write_bytes(b"abc")
    (folder / "a.json").write_bytes(_damaged_json(_SIDECAR, rng))
    with Journal(path) as found:
        for name in ("good.mp4", "a.mp4"):
            found.last(name)
        assert found.last("good.mp4") is not None, "a good line is lost"
        found.append(BatchRecord("later.mp4", "later", "failed", "why"))
        assert found.flush()
        outputs = [record.output for record in found.records()]
        assert {"good.mp4", "later.mp4"} <= {*outputs}, "a good line is lost"
        for output in outputs:
            _check_output(output)
        write_table(found, folder / "results.csv")
        page = render(found, out)
    assert path.read_bytes().startswith(first), "a good line has changed"
    page.encode()
    _check_table(folder / "results.csv")
    sidecar = state.read_sidecar(out, "a.mp4")
    if sidecar is not None:
        state.change_since(sidecar, "ab" * 16, state.Digests.of("x", "5a"))
        BatchRecord.of_sidecar("a.mp4", "a", sidecar).as_line()
    shown = "line kept" if "a.mp4" in outputs or len(outputs) > 2 else "line set aside"
    return f"{shown}, sidecar {'read' if sidecar else 'as none'}", ""


def _damaged_json(value: Mapping[str, Any], rng: random.Random) -> bytes:
    match rng.randrange(10):
        case 0:
            return _deep(rng).encode()
        case 1:
            return rng.choice((b"", b"null", b"[]", b"{}", b"1" * 5000, b"\xff", b'"x"', b"NaN"))
        case 2 | 3 | 4:
            return _mangled(json.dumps(value).encode(), rng)
    changed: Any = json.loads(json.dumps(value))
    for _ in range(rng.choice((0, 1, 1, 1, 3))):
        place = changed
        while isinstance(place, dict) and place:
            name = rng.choice(tuple(place))
            if isinstance(place[name], dict) and rng.random() < 0.7:
                place = place[name]
                continue
            if rng.random() < 0.15:
                del place[name]
            else:
                place[name] = rng.choice(_ODD_VALUES)
            break
    return json.dumps(changed).encode()


def _check_table(path: Path) -> None:
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.reader(stream):
            for cell in row:
                assert cell.isprintable(), f"a cell that is not printable: {cell!r:.60}"
                if cell.startswith(("=", "+", "-", "@")):
                    float(cell)


def _check_output(output: str) -> None:
    parts = Path(output).parts
    assert output.isprintable(), f"an output that is not printable: {output!r:.60}"
    is_below = output and not output.startswith("/") and ".." not in parts
    assert is_below, f"an output elsewhere: {output!r:.60}"
    output.encode()


# Names

_PIXELS: Final = picture(16, 16)


def name(seed: int, folder: Path) -> Result:
    """Find, name and plan series in folders and files of any name."""
    rng = random.Random(seed)
    root = folder / "in"
    made = 0
    for number in range(3):
        place = root.joinpath(*(_any_name(rng) for _ in range(rng.randrange(1, 3))))
        try:
            place.mkdir(parents=True, exist_ok=True)
            for index in range(2):
                data = dicom(ct_slice(_PIXELS, index + 1, f"1.2.{number}"))
                path = place / (_any_name(rng) + rng.choice(("", ".dcm")))
                path.write_bytes(data[: rng.choice((None, None, None, 0, 700, 1500))])
                made += 1
        except OSError:
            # Too long for the file system, or a file where a folder was to be.
            continue
    if not made:
        return "nothing made", ""
    template = rng.choice((None, None, "{folder}", "{relative_path}-{index}", "{uid_hash}"))
    settings = BatchSettings(name_template=template)
    founds = discover(store_of(root), InProcess())
    jobs = list(jobs_of_found(founds, str(root), str(folder / "out"), settings, "5a" * 32))
    outputs = [job.output for job in jobs]
    assert len(set(map(str.casefold, outputs))) == len(outputs), "an output twice"
    for job in jobs:
        _check_output(job.output)
        assert max(len(part.encode()) for part in Path(job.output).parts) <= 255 - 40
        assert job.told_name.isprintable()
        message = without_places(f"{printable(job.series)}/x.dcm: cut off", job)
        assert message.isprintable()
        assert str(folder) not in message
    plan = make_plan(jobs, store_of(folder / "out"), None, retry_failed=False)
    assert plan.jobs == len(jobs)
    for file in find_series(root).bad:
        assert file.path.isprintable()
    names = unique_names([job.series for job in jobs])
    assert len(set(names)) == len(names)
    assert all(map(str.isprintable, names))
    assert all(str(table_cell(one))[:1] not in "=+-@" for one in names if one)
    _try_template(rng)
    return "named", ""


def _try_template(rng: random.Random) -> None:
    parts = rng.choices(
        (*(f"{{{field}}}" for field in FIELDS), *_ODD_TEXTS, "{x}", "{index:9999d}"), k=3
    )
    try:
        check_template("".join(parts))
    except InputError as error:
        message = str(error)
        if not message.isprintable() or len(message) > 500:
            raise AssertionError(f"{message!r:.200}") from error


def _any_name(rng: random.Random) -> str:
    match rng.randrange(4):
        case 0:
            raw = rng.randbytes(rng.choice((1, 3, 10, 60, 200, 255)))
        case 1:
            raw = rng.choice(_ODD_TEXTS).encode(errors="replace")
        case 2:
            raw = "".join(
                chr(rng.choice((0x1B, 0x7F, 0x85, 0x9B, 0x202E, 0x2066, 65, 0x301)))
                for _ in range(6)
            ).encode()
        case _:
            raw = rng.choice(
                (b"ct", b"CT", b"a b", b"-x", b".h", b"=1", b"J\xfcrgen", b"J\xe4rgen", b"c:d")
            )
    raw = raw.replace(b"/", b"_").replace(b"\0", b"_")[:255]
    return os.fsdecode(raw if raw not in (b"", b".", b"..") else b"x")


# Series

_NUMBERS: Final = (
    *(
        "0",
        "1",
        "-1",
        "2.5",
        "1e-5",
        "1e5",
        "1e9",
        "-1e9",
        "1e308",
        "1e-320",
        "nan",
        "0.0001",
        "999999",
    ),
)


def series(seed: int, folder: Path) -> Result:
    """Order, window and at times encode slices of any geometry."""
    rng = random.Random(seed)
    shapes = rng.choice((((16, 16),), ((16, 24),), ((16, 16), (24, 16)), ((33, 40),)))
    slices = [_slice(index, rng, rng.choice(shapes)) for index in range(rng.randrange(1, 9))]
    names = [f"{number:02d}.dcm" for number in range(len(slices))]
    for path, data in zip(names, slices, strict=True):
        (folder / path).write_bytes(data)
    skip_bad = rng.random() < 0.5
    window = rng.choice((None, None, Window(40, 400), Window(-600, 1500)))
    depth = rng.choice((8, 8, 10))
    try:
        opened = open_source(
            folder, window=window, bit_depth=depth, fps=EncodeSettings().fps, skip_bad=skip_bad
        )
        _check_positions(folder, opened.geometry.along_mm or ())
        frames = list(opened.frames.frames())
    except SsimrdoError as error:
        return "refused", str(error).replace(str(folder), "")
    assert 0 < len(frames) <= len(slices)
    for frame in frames:
        opened.frames.format.check(frame)
    _check_order(folder, names, slices, rng, opened.geometry.positions_mm)
    if rng.random() > 0.03:
        return "ordered", ""
    try:
        result = encode(
            folder,
            folder / "a.mp4",
            preset="ultrafast",
            threads=1,
            bit_depth=depth,
            skip_bad=skip_bad,
            window=window,
        )
    except SsimrdoError as error:
        return "refused", str(error).replace(str(folder), "")
    assert result.frames == len(frames)
    json.loads((folder / "a.json").read_text(encoding="utf-8"), parse_constant=_no_constant)
    return "encoded", ""


def _check_positions(folder: Path, along_mm: tuple[float, ...]) -> None:
    """Check that positions grow, but from volume to volume and within the jitter of headers."""
    (found,) = (one for one in find_series(folder).series if len(one) == len(along_mm))
    volumes = {header.volume_keys for header in found.slices}
    assert (np.diff(along_mm) > -_JITTER_MM).all() or len(volumes) > 1, "slices out of order"


def _check_order(
    folder: Path, names: list[str], slices: list[bytes], rng: random.Random, positions: Any
) -> None:
    """Check that the order of slices does not depend on the names of their files."""
    result = find_series(folder)
    if result.bad or result.skipped:
        # Of two that clash, the first by name counts.
        return
    other = folder / "renamed"
    other.mkdir()
    for path, data in zip(rng.sample(names, len(names)), slices, strict=True):
        (other / path).write_bytes(data)
    (found,) = find_series(other).series
    by_name = find_series(folder, names).series
    shutil.rmtree(other)
    if len(by_name) == 1 and len(by_name[0]) == len(found):
        assert [s.position for s in found.slices] == list(positions), "order depends on names"


_JITTER_MM: Final = 0.02


def _no_constant(text: str) -> None:
    raise AssertionError(f"{text} in JSON")


def _slice(index: int, rng: random.Random, shape: tuple[int, int]) -> bytes:
    pixels = np.roll(picture(*shape, seed=index % 8), index)
    elements = ct_slice(pixels, index + 1)
    position = [0.0, 0.0, index * rng.choice((2.0, 2.0, 2.0, 0.0, -1.5, 0.5))]
    if rng.random() < 0.1:
        position[rng.randrange(3)] = rng.uniform(-500, 500)
    elements[0x00200032] = text("DS", "\\".join(f"{value:.6g}" for value in position))
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        tag = rng.choice(tuple(_GEOMETRY))
        count = rng.choice(_GEOMETRY[tag])
        elements[tag] = text("DS", "\\".join(rng.choice(_NUMBERS) for _ in range(count)))
    if rng.random() < 0.1:
        elements[0x00200037] = text("DS", _orientation(rng))
    if rng.random() < 0.1:
        elements[0x00200012] = text("IS", rng.choice(("1", "2", "x", "")))
    if rng.random() < 0.05:
        elements[0x00280004] = text("CS", "MONOCHROME1")
    if rng.random() < 0.05:
        elements[0x00280120] = Element("US", struct.pack("<H", rng.randrange(65536)))
    if rng.random() < 0.03:
        elements[0x00080018] = text("UI", "1.2.3.4.9.1")
    return dicom(elements, EXPLICIT)


_GEOMETRY: Final[Mapping[int, tuple[int, ...]]] = {
    0x00200032: (3, 3, 3, 2, 4),
    0x00280030: (2, 2, 1, 3),
    0x00180050: (1, 1, 2),
    0x00281050: (1, 2, 0),
    0x00281051: (1, 2, 0),
    0x00281052: (1, 1, 2),
    0x00281053: (1, 1, 2),
    0x00200013: (1,),
}


def _orientation(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return "\\".join(rng.choice(_NUMBERS) for _ in range(6))
    axes = np.linalg.qr(np.random.default_rng(rng.randrange(2**32)).normal(size=(3, 3)))[0]
    return "\\".join(f"{value:.6f}" for value in (*axes[0], *axes[1]))


KINDS: Final[Mapping[str, Callable[[int, Path], Result]]] = {
    "series": series,
    "manifests": manifest,
    "journals": journal,
    "names": name,
}
