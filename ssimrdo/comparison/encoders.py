"""The encoders of a comparison: from names and codecs to contenders, which all encode alike.

All get the same frames through the loop that :func:`ssimrdo.encode` has; lossy CT gets the HU that
these were made of. x265, SVT-AV1 and the decoders are those of the FFmpeg that PyAV brings, VVenC
that of an FFmpeg program; JPEG 2000 is OpenJPEG's, HTJ2K OpenJPH's and JPEG XL libjxl's. At a bit
rate x264 and x265 take two passes, SVT-AV1 one (FFmpeg offers no more), and JPEG 2000 gives every
slice the same share; HTJ2K, JPEG XL and lossy CT take none.

Each is run as somebody would who knows it and has CT: x265 at ``slow`` and tuned for SSIM, without
which it spends bits on psychovisual tricks and has no RDOQ, SVT-AV1 tuned for SSIM with a weak
variance boost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Any, Final

import av
import numpy as np

import ssimrdo
from ssimrdo import objective as objectives
from ssimrdo.codecs.base import Codec, Mode, rate_control
from ssimrdo.codecs.htj2k import Htj2k
from ssimrdo.codecs.jpeg2000 import Jpeg2000
from ssimrdo.codecs.jpegxl import EFFORT as JPEGXL_EFFORT
from ssimrdo.codecs.jpegxl import JpegXl
from ssimrdo.codecs.lavc import has_encoder, library_version
from ssimrdo.codecs.lavc_x265 import LavcX265
from ssimrdo.codecs.named import NamedCodec, codec_of, name_of, named_codec
from ssimrdo.codecs.names import AV1, CODEC
from ssimrdo.codecs.svtav1 import PRESET as SVTAV1_PRESET
from ssimrdo.codecs.svtav1 import SvtAv1
from ssimrdo.codecs.vvenc import PRESET as VVENC_PRESET
from ssimrdo.codecs.vvenc import Vvenc
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.codecs.x264.encoder import x264_build
from ssimrdo.comparison.clip import Clip
from ssimrdo.comparison.lossy_ct import LossyCT
from ssimrdo.comparison.points import own_points
from ssimrdo.comparison.results import EncoderRole
from ssimrdo.comparison.settings import Candidate, CompareSettings, Named
from ssimrdo.dicom import Window
from ssimrdo.dicom.write.lossy import lossy_codec
from ssimrdo.encoding.options import RDO, read_flag
from ssimrdo.encoding.passes import PassSettings, stream_settings
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.encoding.views import protected, views_of
from ssimrdo.errors import EncoderError, InputError
from ssimrdo.frames import FrameFormat, FrameSource
from ssimrdo.objective import OFF, Objective

CONTAINER: Final = "matroska"
"""Of what FFmpeg knows."""

X265_PRESET: Final = "slow"
"""The fastest one with rate–distortion optimised quantization, which CT needs."""

POINT: Final = "POINT"
"""Stands in settings for what differs from point to point."""

TRIED_SIDE: Final = 64
"""Of the frames that encoders are opened for to check their options."""


@dataclass(frozen=True)
class Anchor:
    """Makes codecs of the part of an anchor's name behind the colon.

    Parameters
    ----------
    make : callable
        Makes the codec of a preset.
    preset : str, optional
        Where the name carries none; None for the comparison's.
    has_presets : bool
        Whether a name may carry one.
    """

    make: Callable[[str], Codec]
    preset: str | None = None
    has_presets: bool = True


def _level(preset: str) -> Any:
    """Return a number, or a text as it is, which the codec refuses and says what it knows."""
    return int(preset) if preset.isdecimal() and preset.isascii() else preset


ANCHORS: Final[Mapping[str, Anchor]] = MappingProxyType(
    {
        "x264": Anchor(lambda preset: X264(preset=preset)),
        "x264-ssim": Anchor(lambda preset: X264(preset=preset, tune="ssim")),
        "x265": Anchor(lambda preset: LavcX265(preset, "ssim"), preset=X265_PRESET),
        "x265-ssim": Anchor(lambda preset: LavcX265(preset, "ssim")),
        "x265-tskip": Anchor(
            lambda preset: LavcX265(preset, "ssim", transform_skip=True), preset=X265_PRESET
        ),
        "x265-untuned": Anchor(lambda preset: LavcX265(preset)),
        "svtav1": Anchor(lambda preset: SvtAv1(_level(preset)), preset=f"{SVTAV1_PRESET}"),
        "svtav1-scm": Anchor(
            lambda preset: SvtAv1(_level(preset), screen_content=True), preset=f"{SVTAV1_PRESET}"
        ),
        "vvenc": Anchor(Vvenc, preset=VVENC_PRESET),
        "jpeg2000": Anchor(lambda _: Jpeg2000(), has_presets=False),
        "htj2k": Anchor(lambda _: Htj2k(), has_presets=False),
        "jpegxl": Anchor(lambda effort: JpegXl(_level(effort)), preset=f"{JPEGXL_EFFORT}"),
        "ct-htj2k": Anchor(lambda _: LossyCT("htj2k"), has_presets=False),
        "ct-j2k": Anchor(lambda _: LossyCT("j2k"), has_presets=False),
    }
)
"""Anchors by name; a preset may follow after a colon."""


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
        Name and options for legends.
    codec : Codec
        The encoder with its options.
    objective : Objective, optional
        What its bits are spent for.
    mode : {"crf", "qp", "bitrate"}
        Its rate control.
    points : tuple of float
        On the codec's own scale, or kbit/s.
    threads : int
        Its threads; 0 leaves the number to it.
    protect : tuple of Window
        Windows that its bits are spent for, where it is steered.
    """

    name: str
    role: EncoderRole
    label: str
    codec: Codec
    objective: Objective | None
    mode: Mode
    points: tuple[float, ...]
    threads: int = 0
    protect: tuple[Window, ...] = ()

    @property
    def takes_hu(self) -> bool:
        """Whether it encodes HU in place of luma."""
        return isinstance(self.codec, LossyCT)

    @property
    def container(self) -> str:
        """What its streams are kept in."""
        known = self.codec.containers
        return CONTAINER if CONTAINER in known else known[0]

    def for_clip(self, clip: Clip) -> Contender:
        """Return it with what it has to know of a clip.

        Raises
        ------
        InputError
            If the clip's own window shows nothing of those that are protected.
        """
        if isinstance(self.codec, LossyCT) and clip.stored is not None:
            codec = replace(
                self.codec,
                window=clip.facts.window,
                stored=clip.stored.scale,
                inverted=clip.inverted,
            )
            return replace(self, codec=codec)
        if self.objective is None or not self.protect:
            return self
        views = views_of(self.protect, clip.facts.window, clip.format, inverted=clip.inverted)
        return replace(self, objective=protected(self.objective, views))

    def source(self, clip: Clip, most: int | None = None) -> FrameSource:
        """Return the slices of a clip, or the first of them, as it takes them."""
        return clip.stored_source(most) if self.takes_hu else clip.source(most)

    @property
    def build(self) -> str:
        """Version of all that encodes."""
        return f"{self.codec.version}, ssimrdo {ssimrdo.__version__}"

    @property
    def strength(self) -> float | None:
        """Share of the theoretical quantizer offset, where the codec is steered and tells it."""
        if self.objective is None:
            return None
        strength = self.codec.options().get("rdo_strength")
        return strength if isinstance(strength, float) else None

    def pass_settings(self, point: float) -> PassSettings:
        """Return how it encodes at a point; nothing is measured meanwhile."""
        return PassSettings(
            self.codec, rate_control(self.mode, point), self.objective, threads=self.threads
        )

    def describe(self, frames: FrameFormat, point: float) -> str:
        """Return all settings at a point, for frames of a format."""
        stream = stream_settings(frames, self.pass_settings(point), self.container)
        steered = "" if self.objective is None else f"rdo={self.objective.name}; "
        if steered and self.protect:
            steered += f"protect={','.join(map(_window_text, self.protect))}; "
        passes = f", {stream.passes} passes" if stream.passes > 1 else ""
        return f"{steered}{self.codec.describe(stream)}{passes}"

    def settings(self, formats: Iterable[FrameFormat]) -> str:
        """Return all settings for a reader, for frames of some formats.

        What differs from point to point is called POINT; what differs from format to format, such
        as a number of threads, has all its values with a bar between them.
        """
        texts = dict.fromkeys(
            merged([self.describe(frames, point) for point in self.points], lambda _: POINT)
            for frames in formats
        )
        return merged(list(texts), "|".join)

    def makes_streams_of(self, other: Contender) -> bool:
        """Tell whether another one makes the same streams."""
        return (self.codec, self.objective, self.points, self.threads, self.protect) == (
            other.codec,
            other.objective,
            other.points,
            other.threads,
            other.protect,
        )


def _window_text(window: Window) -> str:
    return window.preset or f"{window.center:g}/{window.width:g}"


def merged(texts: Sequence[str], merge: Callable[[Sequence[str]], str]) -> str:
    """Return several texts as one, with one word for those that differ.

    Parameters
    ----------
    texts : sequence of str
        One or more, of words such as ``crf=23``.
    merge : callable
        Makes one value of all that a word has.
    """
    rows = [text.split(" ") for text in texts]
    if len({len(row) for row in rows}) > 1:
        return "; or ".join(texts)
    return " ".join(_merged_word(words, merge) for words in zip(*rows, strict=True))


def _merged_word(words: Sequence[str], merge: Callable[[Sequence[str]], str]) -> str:
    different = list(dict.fromkeys(words))
    if len(different) == 1:
        return different[0]
    keys, values = zip(*(word.rpartition("=")[::2] for word in different), strict=True)
    if keys[0] and len(set(keys)) == 1:
        return f"{keys[0]}={merge(values)}"
    return merge(different)


def make_contenders(settings: CompareSettings) -> tuple[Contender, ...]:
    """Return all encoders of a comparison, the reference first.

    Raises
    ------
    InputError
        If a name is unknown, two mean the same, options cannot be used, or PyAV lacks an encoder.
    """
    reference, *anchors = settings.anchors
    contenders = [
        _contender(settings, reference, "reference"),
        *(_contender(settings, one, "anchor") for one in anchors),
        *(_contender(settings, one, "test") for one in settings.tested),
    ]
    for index, contender in enumerate(contenders):
        _check(contender, settings)
        for other in contenders[:index]:
            field = "tests" if contender.role == "test" else "anchors"
            if contender.name == other.name:
                raise InputError(
                    f"{contender.name} is given twice",
                    field=field,
                    remedy="name one of them by a Candidate",
                )
            # What is tested may be an anchor by another name, to show that nothing differs.
            both_anchors = "test" not in (contender.role, other.role)
            if (contender.role == other.role or both_anchors) and contender.makes_streams_of(other):
                raise InputError(
                    f"{other.name} and {contender.name} are the same encoder", field=field
                )
    return tuple(contenders)


def _contender(settings: CompareSettings, given: Named, role: EncoderRole) -> Contender:
    if isinstance(given, Candidate):
        name = given.name or "+".join(
            [given.codec.name, *([given.objective.name] if given.objective else [])]
        )
        codec, objective, label = given.codec, given.objective, _label(given)
    elif not isinstance(given, str):
        return _contender(settings, Candidate(given), role)
    elif role == "test":
        name, (codec, objective, label) = given, _test(given, settings)
    else:
        name, codec, objective = given, _anchor(given, settings.preset), None
        label = codec.label
    mode, points = own_points(
        codec, settings.mode, settings.points, bit_depth=settings.bit_depth, name=name
    )
    protect = () if objective is None else settings.protected
    return Contender(name, role, label, codec, objective, mode, points, settings.threads, protect)


def _label(candidate: Candidate) -> str:
    if candidate.objective is None:
        return candidate.codec.label
    return f"{candidate.codec.label} for {candidate.objective.title}"


def _anchor(name: str, preset: str) -> Codec:
    """Return the codec of a name such as ``x264`` or ``svtav1:6``."""
    family, colon, own_preset = name.partition(":")
    anchor = ANCHORS.get(family)
    if anchor is None:
        raise InputError(
            f"{name!r} is unknown", field="anchors", remedy=f"use one of {', '.join(ANCHORS)}"
        )
    if colon and not anchor.has_presets:
        raise InputError(f"{name!r}: {family} has no presets", field="anchors")
    try:
        return anchor.make(own_preset if colon else anchor.preset or preset)
    except InputError as error:
        raise _about(name, error, "anchors") from None


def _test(text: str, settings: CompareSettings) -> tuple[Codec, Objective | None, str]:
    """Return codec, objective and label of ``ssim``, ``off`` or such as ``ssim,effort=max``.

    ``codec``, ``effort``, ``preset``, ``strength`` and ``even`` mean what they do in an encode, and
    any parameter of the library behind the codec may follow. An objective's name alone is an
    encode's default, and ``off`` takes the comparison's preset.
    """
    rdo, *parts = text.split(",")
    pairs = [part.partition("=") for part in parts]
    values: dict[str, Any] = {name.strip(): value.strip() for name, _, value in pairs}
    known = (*objectives.names(), OFF)
    if rdo not in known or not all(name.strip() and sep for name, sep, _ in pairs):
        raise InputError(
            f"{text!r} is unknown",
            field="tests",
            remedy=f"use one of {', '.join(known)}, then name=value after commas, such as "
            "ssim,effort=max",
        )
    if len(values) < len(pairs):
        raise InputError(f"{text!r} gives a name twice", field="tests")
    objective = None if rdo == OFF else objectives.get(rdo)
    name = values.pop("codec", settings.codec)
    steered = objective is not None
    try:
        named = named_codec(name)
    except InputError as error:
        raise _about(repr(text), error, "tests") from None
    options = _test_options(text, values, named, steered=steered)
    # SVT-AV1's is a number.
    if not steered and not options.keys() & {"effort", "preset"} and name != AV1:
        options["preset"] = settings.preset
    try:
        codec = codec_of(name, options, steered=steered)
    except InputError as error:
        raise _about(repr(text), error, "tests") from None
    return codec, objective, _test_label(codec, rdo)


def _test_options(
    text: str, values: dict[str, Any], named: NamedCodec, *, steered: bool
) -> dict[str, Any]:
    """Return the options of an encode that a test's values are, which are taken out."""
    names = ("effort", "preset")
    options: dict[str, Any] = {name: values.pop(name) for name in names if name in values}
    if "rdo_strength" in values:
        values["strength"] = values.pop("rdo_strength")
    if "strength" in values:
        if not steered:
            raise InputError(f"{text!r}: {OFF} has no strength", field="tests")
        options["rdo_strength"] = _number(values.pop("strength"), text)
    if "even" in values:
        try:
            options["even"] = read_flag(values.pop("even"))
        except ValueError as error:
            raise InputError(f"{text!r}: even: {error}", field="tests") from None
    if values and not named.params:
        raise InputError(f"{text!r}: {named.title} takes no {next(iter(values))}", field="tests")
    return {**options, named.params: tuple(values.items())} if values else options


def _number(text: str, test: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{test!r}: the strength is not a number", field="tests") from None


def _test_label(codec: Codec, rdo: str) -> str:
    options, name = codec.options(), name_of(codec)
    effort, preset = options.get("effort"), options.get("preset")
    words = ["ssimrdo", *([] if name in (None, CODEC) else [f"{name}"])]
    words += [] if rdo == RDO else [rdo]
    words.append(f"effort={effort}" if effort else f"preset={preset}")
    # The class has the default.
    if options.get("rdo_strength") != getattr(type(codec), "strength", None):
        words.append(f"strength {options['rdo_strength']:g}")
    if not options.get("even", True):
        words.append("uneven")
    return " ".join([*words, *(f"{name}={value}" for name, value in getattr(codec, "params", ()))])


def _check(contender: Contender, settings: CompareSettings) -> None:
    """Check all options of a contender as for an encode, and open its encoder once."""
    field = "tests" if contender.role == "test" else "anchors"
    codec = contender.codec
    try:
        for point in contender.points:
            encode = EncodeSettings(
                rate_control(contender.mode, point),
                contender.objective,
                codec,
                bit_depth=settings.bit_depth,
                fps=settings.fps,
                threads=settings.threads,
            )
        low, high = codec.sides
        side = min(max(TRIED_SIDE, low), high)
        frames = FrameFormat(side, side, encode.bit_depth, encode.fps)
        if isinstance(codec, LossyCT):
            lossy_codec(codec.method)
            return
        stream = stream_settings(frames, contender.pass_settings(point), contender.container)
        with codec.open(stream):
            pass
    except (InputError, EncoderError) as error:
        raise _about(contender.name, error, field) from error


_OPTIONS: Final = {"rdo_strength": "strength", "x264_params": "x264", "x265_params": "x265"}
"""What a test calls options of an encode."""


def _about(name: str, error: InputError | EncoderError, field: str) -> InputError:
    """Return an error that says which encoder it is about, with options as tests call them."""

    def called(option: str) -> str:
        return _OPTIONS.get(option, option)

    what, hint = error.what(called), error.hint(called)
    return InputError(f"{name}: {what}", field=field, remedy=hint or None)


def versions() -> dict[str, str]:
    """Return the versions of all that a comparison's numbers may depend on."""
    found = {
        "ssimrdo": ssimrdo.__version__,
        "x264": x264_build(),
        "pyav": av.__version__,
        "ffmpeg": av.ffmpeg_version_info,
        "numpy": np.__version__,
    }
    for name, encoder, library in (
        ("x265", "libx265", "x265"),
        ("svtav1", "libsvtav1", "SvtAv1Enc"),
    ):
        if has_encoder(encoder):
            found[name] = library_version(library)
    for package in ("pylibjpeg-openjpeg", "imagecodecs"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
