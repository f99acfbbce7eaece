"""The encoders of a comparison: one table from names to functions that encode a clip.

All get the same samples: full-range 4:2:0 with neutral chroma, JPEG 2000 grey alone. x264 runs
in-process through :mod:`ssimrdo.codecs.x264`, with and without our quantizer offsets; x265, SVT-AV1 and
the containers are those of the FFmpeg that PyAV brings; JPEG 2000 is OpenJPEG's.

Points are given on x264's scale. Other scales are mapped so that the curves cover about the same
qualities (measured as SSIM on chest, head and phantom series):

* x265: the same number.
* SVT-AV1, scale 1 to 63: ``2.1 p - 14.5`` for CRF and ``2.3 p - 32`` for QP, rounded: CRF 18, 23,
  28, 33 become 23, 34, 44, 55 and QP 22, 27, 32, 37 become 19, 30, 42, 53.
* JPEG 2000: the PSNR in dB that every slice gets, ``56.2 - 0.72 p`` for CRF and ``65 - 0.85 p``
  for QP: 43.2, 39.6, 36, 32.4 dB and 46.3, 42.1, 37.8, 33.6 dB.

At a bit rate the points are kbit/s for all: x264 and x265 in two passes, SVT-AV1 in one (FFmpeg
offers no more), and JPEG 2000 gives every slice the same share.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import av
import numpy as np
from av.codec.context import CodecContext
from av.container import OutputContainer
from numpy.typing import NDArray

import ssimrdo
from ssimrdo import defaults
from ssimrdo.codecs.x264 import Encoder, EncoderParameters, Packet, x264_build
from ssimrdo.codecs.x264.parameters import FrameControls, encoder_parameters, frame_controls
from ssimrdo.compare.cache import code_digest
from ssimrdo.compare.clip import Clip
from ssimrdo.encoding.ahead import ahead
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.errors import EncoderError, InputError
from ssimrdo.video import packet_writer

Mode: TypeAlias = Literal["crf", "qp", "bitrate"]
Role: TypeAlias = Literal["reference", "anchor", "test"]
Encode: TypeAlias = Callable[[Clip, float, Path], None]
"""Encode a clip at a point of the encoder's own scale into a Matroska file."""

CONTAINER = "matroska"
KEYFRAME_INTERVAL = 250
"""x264's and x265's default; SVT-AV1's own follows from the frame rate."""

X265_MIN_SIDE = 64
"""x265 4.2 corrupts memory at frames 40 or 48 samples wide; at 64 it has never been seen to."""

_REORDERING = 64
"""More frames than any of the encoders decodes ahead of their presentation."""

_OWN_CODE = ("codecs", "encoding", "metrics", "objective", "video")
"""What decides about our bits, beside x264."""

SVTAV1_PRESET = "6"
_SVTAV1_PRESETS = tuple(str(number) for number in range(14))
_OPENJPEG_LOCK = threading.Lock()
"""pylibjpeg-openjpeg 2.6 corrupts memory when two threads encode at a time."""

_SVTAV1_RANGE = (1, 63)
_SVTAV1_SCALE: dict[Mode, tuple[float, float]] = {"crf": (2.1, -14.5), "qp": (2.3, -32.0)}
_JPEG2000_SCALE: dict[Mode, tuple[float, float]] = {"crf": (-0.72, 56.2), "qp": (-0.85, 65.0)}
"""Slope and offset over x264's scale."""

RANGES: dict[Mode, tuple[float, float]] = {
    "crf": (1, 51),
    "qp": (1, 51),
    "bitrate": (1, 2_000_000),
}
"""Lowest and highest point."""


@dataclass(frozen=True)
class Rate:
    """What all encoders of a comparison have in common.

    Parameters
    ----------
    mode : {"crf", "qp", "bitrate"}
        Which rate control.
    points : tuple of float
        On x264's scale, or kbit/s.
    preset : str
        x264's and x265's, where an encoder's name carries none.
    bit_depth : int
        8 or 10.
    threads : int
        Threads of every encoder; 0 leaves the number to each.
    """

    mode: Mode
    points: tuple[float, ...]
    preset: str = defaults.PRESET
    bit_depth: int = 8
    threads: int = 0


@dataclass(frozen=True)
class Contender:
    """One encoder of a comparison.

    Parameters
    ----------
    name : str
        As the user wrote it.
    role : {"reference", "anchor", "test"}
        What it is compared as.
    label : str
        Name and preset for legends.
    settings : str
        All settings for a reader; with build, point and clip they determine the encode.
    build : str
        Version of the encoder.
    points : tuple of float
        On the encoder's own scale.
    encode : callable
        See :data:`Encode`.
    strength : float, optional
        Share of the theoretical QP offset, where offsets are given.
    """

    name: str
    role: Role
    label: str
    settings: str
    build: str
    points: tuple[float, ...]
    encode: Encode
    strength: float | None = None


class Family(Protocol):
    """Makes a contender out of the part of its name behind the colon, if there is one."""

    def __call__(self, name: str, preset: str | None, rate: Rate, role: Role, /) -> Contender:
        """Make the contender."""
        ...


def check_points(rate: Rate) -> None:
    """Check that points lie on x264's scale and differ.

    Raises
    ------
    InputError
        If one does not.
    """
    low, high = RANGES[rate.mode]
    for index, point in enumerate(rate.points):
        if not low <= point <= high:
            raise InputError(
                f"--points: {point:g} is out of range for {rate.mode}: {low:g} to {high:g}"
            )
        if rate.mode == "qp" and point != int(point):
            raise InputError(f"--points: {point:g} is no whole number, as a QP is")
        if point in rate.points[:index]:
            raise InputError(f"--points: {point:g} is given twice")


def make_anchor(name: str, rate: Rate, role: Role = "anchor") -> Contender:
    """Return the anchor of a name such as ``x264`` or ``svtav1:6``.

    Raises
    ------
    InputError
        If the name or its preset is unknown, or PyAV lacks the encoder.
    """
    family, colon, preset = name.partition(":")
    if family not in FAMILIES:
        raise InputError(f"--anchor {name!r} is unknown: use one of {', '.join(FAMILIES)}")
    return FAMILIES[family](name, preset if colon else None, rate, role)


def make_test(text: str, rate: Rate) -> Contender:
    """Return the variant of ssimrdo that ``ssim``, ``off`` or ``ssim,effort=max`` describes.

    ``effort``, ``preset`` and ``strength`` mean what they do in an encode, and any parameter of
    x264 may follow. ``ssim`` is an encode's default and ``off`` takes the comparison's preset.

    Raises
    ------
    InputError
        If a part is unknown or out of range.
    """
    rdo, *parts = text.split(",")
    pairs = [part.partition("=") for part in parts]
    values = {name.strip(): value.strip() for name, _, value in pairs}
    if rdo not in ("ssim", "off") or not all(name.strip() and sep for name, sep, _ in pairs):
        raise InputError(
            f"--test {text!r} is unknown: use ssim or off, then name=value after commas, "
            "such as ssim,effort=max"
        )
    if len(values) < len(pairs):
        raise InputError(f"--test {text!r} gives a name twice")
    strength = defaults.RDO_STRENGTH
    if "strength" in values:
        if rdo == "off":
            raise InputError(f"--test {text!r}: off has no strength")
        try:
            strength = float(values.pop("strength"))
        except ValueError:
            raise InputError(f"--test {text!r}: the strength is no number") from None
    effort, preset = values.pop("effort", None), values.pop("preset", None)
    if rdo == "off" and effort is None and preset is None:
        preset = rate.preset
    make = partial(
        _x264_settings,
        rate,
        effort=effort,
        preset=preset,
        rdo=rdo,
        rdo_strength=strength,
        x264_params=tuple(values.items()),
    )
    try:
        settings = make(rate.points[0])
    except InputError as error:
        raise InputError(f"--test {text!r}: {error}") from None
    search = f"effort={settings.effort}" if settings.effort else f"preset={settings.preset}"
    steer = f"rdo={rdo} rdo-strength={strength:g}" if rdo == "ssim" else "rdo=off"
    extra = "".join(f" {name}={value}" for name, value in values.items())
    shown = f" strength {strength:g}" if strength != defaults.RDO_STRENGTH else ""
    label = f"ssimrdo {'' if rdo == 'ssim' else 'off '}{search}{shown}{extra}"
    words = f"ssimrdo {steer} {search}"
    contender = _x264_contender(text, "test", rate, make, label, f"{words}; ")
    return replace(contender, strength=strength if rdo == "ssim" else None)


def _x264(tune: str | None, name: str, preset: str | None, rate: Rate, role: Role) -> Contender:
    preset = rate.preset if preset is None else preset
    _check_preset(name, preset, defaults.PRESETS)
    make = partial(_x264_settings, rate, preset=preset, rdo="off")
    label = f"x264 {preset}" + (f" --tune {tune}" if tune else "")
    return _x264_contender(name, role, rate, make, label, "", tune)


def _x264_settings(rate: Rate, point: float, **values: Any) -> EncodeSettings:
    rates: dict[Mode, dict[str, float]] = {
        "crf": {"crf": point},
        "qp": {"qp": int(point)},
        "bitrate": {"bitrate_kbps": point},
    }
    common = {"bit_depth": rate.bit_depth, "threads": rate.threads}
    return EncodeSettings(**rates[rate.mode], **common, **values)  # type: ignore[arg-type]


def _x264_contender(
    name: str,
    role: Role,
    rate: Rate,
    make: Callable[[float], EncodeSettings],
    label: str,
    prefix: str,
    tune: str | None = None,
) -> Contender:
    parameters = _x264_parameters(make(rate.points[0]), tune, (64, 64))
    try:
        Encoder(parameters).close()
    except (EncoderError, InputError) as error:
        raise InputError(f"{name}: {error}") from error
    words = [f"preset={parameters.preset}", *([f"tune={tune}"] if tune else [])]
    for option, value in parameters.options:
        if option != "fps":
            words.append(f"{option}={'POINT' if option == rate.mode else value}")
    if rate.mode == "qp" and ("qp", str(int(rate.points[0]))) not in parameters.options:
        # With quantizer offsets a constant QP is asked for as a CRF.
        words = ["crf=POINT" if word.startswith("crf=") else word for word in words]
    for kind, variant in zip(("BREF", "B"), parameters.variants, strict=False):
        words.append(f"({kind}: {' '.join(f'{option}={value}' for option, value in variant)})")
    passes = ", two passes" if rate.mode == "bitrate" else ""
    build = f"x264 {x264_build()}, ssimrdo {ssimrdo.__version__} ({code_digest(*_OWN_CODE)})"
    return Contender(
        name=name,
        role=role,
        label=label,
        settings=f"{prefix}x264 {' '.join(words)}{passes}",
        build=build,
        points=rate.points,
        encode=partial(_encode_x264, make, tune),
    )


def _x264_parameters(
    settings: EncodeSettings,
    tune: str | None,
    size: tuple[int, int],
    stats: Path | None = None,
    first_pass: bool = False,
) -> EncoderParameters:
    parameters = encoder_parameters(
        settings,
        height=size[0],
        width=size[1],
        sample_aspect_ratio=Fraction(1),
        raw_stream=False,
        stats=stats,
        first_pass=first_pass,
    )
    return replace(parameters, tune=tune)


def _encode_x264(
    make: Callable[[float], EncodeSettings], tune: str | None, clip: Clip, point: float, path: Path
) -> None:
    settings = replace(make(point), fps=clip.fps)
    size = (clip.samples.shape[1], clip.samples.shape[2])
    if settings.bitrate_kbps is None:
        _run_x264(settings, _x264_parameters(settings, tune, size), clip, path)
        return
    with tempfile.TemporaryDirectory(prefix="ssimrdo-") as folder:
        stats = Path(folder) / "x264_2pass.log"
        for target in (None, path):
            parameters = _x264_parameters(settings, tune, size, stats, first_pass=target is None)
            _run_x264(settings, parameters, clip, target)


def _run_x264(
    settings: EncodeSettings, parameters: EncoderParameters, clip: Clip, path: Path | None
) -> None:
    with Encoder(parameters) as encoder:
        packets = _x264_packets(encoder, settings, clip)
        if path is None:
            for _ in packets:
                pass
            return
        headers = encoder.headers()
        with packet_writer(path, CONTAINER, headers=headers, fps=clip.fps) as write:
            for packet in packets:
                write(packet)


def _x264_packets(encoder: Encoder, settings: EncodeSettings, clip: Clip) -> Iterator[Packet]:
    def frames() -> Iterator[tuple[NDArray[Any], FrameControls]]:
        for index, luma in enumerate(clip.luma()):
            yield luma, frame_controls(settings, luma, index)

    with closing(ahead(frames())) as ready:
        for index, (luma, controls) in enumerate(ready):
            packet = encoder.encode(luma, pts=index, **controls._asdict())
            if packet is not None:
                yield packet
    yield from encoder.flush()


def _x265(tune: str | None, name: str, preset: str | None, rate: Rate, role: Role) -> Contender:
    preset = rate.preset if preset is None else preset
    _check_preset(name, preset, defaults.PRESETS)
    _check_codec(name, "libx265")
    options = {"preset": preset, **({"tune": tune} if tune else {})}
    parameters = {"log-level": "error"}
    if rate.threads:
        parameters["pools"] = str(rate.threads)
    words = [f"{key}={value}" for key, value in options.items()]
    words += [
        f"{rate.mode}=POINT" + (", two passes" if rate.mode == "bitrate" else ""),
        f"threads={rate.threads or 'auto'}",
        "range=full",
    ]
    return Contender(
        name=name,
        role=role,
        label=f"x265 {preset}" + (f" --tune {tune}" if tune else ""),
        settings=f"x265 {' '.join(words)}",
        build=f"x265 {library_version('x265')}, {_ffmpeg()}",
        points=rate.points,
        encode=partial(_encode_x265, rate.mode, _Codec("libx265", options, parameters)),
    )


def _encode_x265(mode: Mode, codec: _Codec, clip: Clip, point: float, path: Path) -> None:
    if min(clip.rows, clip.columns) < X265_MIN_SIDE:
        raise EncoderError(
            f"x265 takes no slices below {X265_MIN_SIDE}x{X265_MIN_SIDE}: leave it out"
        )
    if mode != "bitrate":
        _run_av(codec.with_options(**{mode: f"{point:g}"}), clip, path)
        return
    with tempfile.TemporaryDirectory(prefix="ssimrdo-") as folder:
        stats = str(Path(folder) / "x265_2pass.log")
        codec = codec.with_parameters(bitrate=f"{round(point)}", stats=stats)
        _run_av(codec.with_parameters(**{"pass": "1"}), clip, None)
        _run_av(codec.with_parameters(**{"pass": "2"}), clip, path)


def _svtav1(name: str, preset: str | None, rate: Rate, role: Role) -> Contender:
    preset = SVTAV1_PRESET if preset is None else preset
    _check_preset(name, preset, _SVTAV1_PRESETS)
    _check_codec(name, "libsvtav1")
    points = rate.points
    if rate.mode != "bitrate":
        points = _svtav1_points(name, rate)
    # Tuned for SSIM, which SVT-AV1 refuses at a bit rate: there it keeps its default, PSNR.
    parameters = {"tune": "1" if rate.mode == "bitrate" else "2"}
    if rate.mode == "qp":
        parameters["aq-mode"] = "0"
    if rate.threads:
        parameters["lp"] = str(rate.threads)
    options = {"preset": preset, "g": str(KEYFRAME_INTERVAL)}
    words = [f"{key}={value}" for key, value in {**options, **parameters}.items()]
    control = {"crf": "crf=POINT", "qp": "rc=0 qp=POINT", "bitrate": "rc=1 bitrate=POINT, one pass"}
    return Contender(
        name=name,
        role=role,
        label=f"SVT-AV1 {preset}",
        settings=f"SVT-AV1 {' '.join(words)} range=full {control[rate.mode]}",
        build=f"SVT-AV1 {library_version('SvtAv1Enc')}, {_ffmpeg()}",
        points=points,
        encode=partial(_encode_svtav1, rate.mode, _Codec("libsvtav1", options, parameters)),
    )


def _svtav1_points(name: str, rate: Rate) -> tuple[float, ...]:
    low, high = _SVTAV1_RANGE
    slope, offset = _SVTAV1_SCALE[rate.mode]
    points = tuple(
        float(min(max(math.floor(slope * point + offset + 0.5), low), high))
        for point in rate.points
    )
    if len(set(points)) < len(points):
        ends = (math.ceil((low - offset) / slope), math.floor((high - offset) / slope))
        raise InputError(
            f"--points: {name} cannot tell them apart on its scale of {low} to {high}: "
            f"give points farther apart, from {ends[0]} to {ends[1]}"
        )
    return points


def _encode_svtav1(mode: Mode, codec: _Codec, clip: Clip, point: float, path: Path) -> None:
    # Else SVT-AV1 writes its settings to stderr; there is no other switch.
    os.environ.setdefault("SVT_LOG", "1")
    value = f"{point:g}" if mode != "bitrate" else f"{round(point * 1000)}"
    name = {"crf": "crf", "qp": "qp", "bitrate": "b"}[mode]
    _run_av(codec.with_options(**{name: value}), clip, path)


@dataclass(frozen=True)
class _Codec:
    """One of FFmpeg's encoders with FFmpeg's options and the encoder's own parameters."""

    name: str
    options: dict[str, str]
    parameters: dict[str, str]

    def with_options(self, **more: str) -> _Codec:
        return replace(self, options={**self.options, **more})

    def with_parameters(self, **more: str) -> _Codec:
        return replace(self, parameters={**self.parameters, **more})


def _run_av(codec: _Codec, clip: Clip, path: Path | None) -> None:
    """Encode with one of FFmpeg's encoders; without a path the packets are dropped."""
    _, rows, columns = clip.samples.shape
    pixel_format = "yuv420p" if clip.bit_depth == 8 else "yuv420p10le"
    packed = ":".join(f"{key}={value}" for key, value in codec.parameters.items())
    try:
        with av.open(
            os.devnull if path is None else str(path),
            "w",
            format="null" if path is None else CONTAINER,
        ) as output:
            stream = output.add_stream(
                codec.name,
                rate=clip.fps,
                options={**codec.options, f"{codec.name.removeprefix('lib')}-params": packed},
            )
            assert isinstance(stream, av.VideoStream)
            packets = 0
            stream.width, stream.height, stream.pix_fmt = columns, rows, pixel_format
            stream.codec_context.color_range = 2  # Full.
            stream.codec_context.thread_count = 0
            for index, luma in enumerate(clip.luma()):
                frame = _frame(luma, pixel_format)
                frame.pts, frame.time_base = index, 1 / clip.fps
                packets += _mux(output, stream.encode(frame), packets)
            _mux(output, stream.encode(None), packets)
    except av.error.FFmpegError as error:
        raise EncoderError(f"{codec.name} failed to encode: {error.strerror or error}") from error


def _mux(output: OutputContainer, packets: list[av.Packet[av.VideoStream]], before: int) -> int:
    """Write packets with decoding times of our own and return their number.

    Those of x265 are random numbers where a clip ends before the first B-frames are decided.
    """
    for index, packet in enumerate(packets, start=before):
        packet.dts = index - _REORDERING
        output.mux(packet)
    return len(packets)


def _frame(luma: NDArray[Any], pixel_format: str) -> av.VideoFrame:
    frame = av.VideoFrame(luma.shape[1], luma.shape[0], pixel_format)
    for index, plane in enumerate(frame.planes):
        samples: NDArray[Any] = np.frombuffer(memoryview(plane), luma.dtype)
        rows = samples.reshape(plane.height, plane.line_size // luma.itemsize)
        rows[:, : plane.width] = luma if index == 0 else (128 if luma.itemsize == 1 else 512)
    frame.color_range = 2
    return frame


def _jpeg2000(name: str, preset: str | None, rate: Rate, role: Role) -> Contender:
    if preset is not None:
        raise InputError(f"--anchor {name!r}: jpeg2000 has no presets")
    from importlib.metadata import version

    points, control = rate.points, "equal bytes per slice for POINT kbit/s"
    if rate.mode != "bitrate":
        slope, offset = _JPEG2000_SCALE[rate.mode]
        points = tuple(round(slope * point + offset, 3) for point in rate.points)
        control = "POINT dB PSNR per slice"
    return Contender(
        name=name,
        role=role,
        label="JPEG 2000",
        settings=f"OpenJPEG irreversible 9-7, grey, 1 tile, 1 layer, {control}",
        build=f"pylibjpeg-openjpeg {version('pylibjpeg-openjpeg')}, {_ffmpeg()}",
        points=points,
        encode=partial(_encode_jpeg2000, rate.mode),
    )


def _encode_jpeg2000(mode: Mode, clip: Clip, point: float, path: Path) -> None:
    raw_kbps = clip.samples[0].size * clip.bit_depth * float(clip.fps) / 1000
    quality: dict[str, Any] = {"signal_noise_ratios": [point]}
    if mode == "bitrate":
        quality = {"compression_ratios": [max(raw_kbps / point, 1.0)]}
    with av.open(str(path), "w", format=CONTAINER) as output:
        stream: av.VideoStream | None = None
        for index, luma in enumerate(clip.luma()):
            data = _openjpeg(luma, clip.bit_depth, quality)
            if stream is None:
                with av.open(BytesIO(data), format="j2k_pipe") as template:
                    stream = output.add_stream_from_template(template.streams.video[0])
                stream.time_base = 1 / clip.fps
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, 1 / clip.fps
            packet.pts, packet.dts, packet.duration = index, index, 1
            packet.is_keyframe = True
            output.mux(packet)


def _openjpeg(luma: NDArray[Any], bit_depth: int, quality: dict[str, Any]) -> bytes:
    from openjpeg.utils import encode_array

    try:
        with _OPENJPEG_LOCK:
            data: bytes = encode_array(
                np.ascontiguousarray(luma), bit_depth, photometric_interpretation=2, **quality
            )
    except (RuntimeError, ValueError) as error:
        raise EncoderError(f"OpenJPEG failed to encode: {error}") from error
    return data


FAMILIES: dict[str, Family] = {
    "x264": partial(_x264, None),
    "x264-ssim": partial(_x264, "ssim"),
    "x265": partial(_x265, None),
    "x265-ssim": partial(_x265, "ssim"),
    "svtav1": _svtav1,
    "jpeg2000": _jpeg2000,
}
"""Anchors by name; a preset may follow after a colon."""


def versions() -> dict[str, str]:
    """Return the versions of all that a comparison's numbers may depend on."""
    found = {
        "ssimrdo": ssimrdo.__version__,
        "x264": x264_build(),
        "pyav": av.__version__,
        "ffmpeg": av.ffmpeg_version_info,
        "numpy": np.__version__,
    }
    for name, codec, library in (("x265", "libx265", "x265"), ("svtav1", "libsvtav1", "SvtAv1Enc")):
        if codec in av.codecs_available:
            found[name] = library_version(library)
    return found


@cache
def library_version(library: str) -> str:
    """Return what a codec library that FFmpeg is linked to says about its version."""
    import ctypes

    for path in set(re.findall(r"/\S+\.so\S*", Path("/proc/self/maps").read_text())):
        if library not in Path(path).name:
            continue
        loaded = ctypes.CDLL(path)
        try:
            if library == "x265":
                text = ctypes.c_char_p.in_dll(loaded, "x265_version_str").value
            else:
                function = loaded.svt_av1_get_version
                function.restype = ctypes.c_char_p
                text = function()
        except (AttributeError, ValueError):
            break
        return (text or b"").decode(errors="replace") or "unknown"
    return "unknown"


def _check_preset(name: str, preset: str, presets: tuple[str, ...]) -> None:
    if preset not in presets:
        raise InputError(f"{name}: preset {preset!r} is unknown: use one of {', '.join(presets)}")


def _check_codec(name: str, codec: str) -> None:
    try:
        CodecContext.create(codec, "w")
    except ValueError:
        raise InputError(
            f"{name}: the installed PyAV has no {codec}: install a PyAV that has, "
            "or leave this anchor out"
        ) from None


def _ffmpeg() -> str:
    return f"FFmpeg {av.ffmpeg_version_info}, PyAV {av.__version__}"
