"""The Python face of ``native/encoder.c``: one x264 encoder object for luma frames."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo.codecs.base import Closing, Packet, check_offsets, check_samples
from ssimrdo.codecs.x264._shim import ffi, lib
from ssimrdo.codecs.x264.choices import PRESETS, Options
from ssimrdo.errors import EncoderError, InputError

logger = logging.getLogger(__name__)

MAX_SIDE = int(lib.SSIMRDO_MAX_SIDE)
"""Of a frame, in luma samples."""

_LOG_LEVELS = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
_OPTIONS = re.compile(rb"options: ([\x20-\x7e]+)")
_VERSION = re.compile(rb"x264 - core \d+ r(\d+ [0-9a-f]+M?)")
_LOG_TEXT_BYTES = 1024
_FRAME_TYPES = {1: "IDR", 2: "I", 3: "P", 4: "BREF", 5: "B", 6: "KEYFRAME"}


@dataclass(frozen=True)
class EncoderParameters:
    """Everything an encoder is opened with.

    Parameters
    ----------
    width, height : int
        Size in luma samples; both even, as 4:2:0 needs.
    bit_depth : int
        8 (High profile) or 10 (High 10 profile).
    preset : str
        One of :data:`ssimrdo.codecs.x264.choices.PRESETS`.
    tune : str, optional
        One of x264's tunings.
    options : tuple of (str, str)
        x264's options, applied in order after the preset; see :data:`Options`.
    variants : tuple of options
        Options on top of those, for single frames; see :meth:`Encoder.encode`. x264 takes new
        values of search, decision and deblocking options only.
    repeat_headers : bool
        Write the parameter sets before every keyframe, as a raw ``.h264`` stream needs;
        a container keeps them apart.
    repeatable : bool
        Keep off x264's AVX-512 code where it makes encodes differ from run to run; the stock
        program does not, so on such processors its streams may differ at some widths.
    fast_first_pass : bool
        Take x264's cheap settings where ``options`` has ``pass=1``.
    """

    width: int
    height: int
    bit_depth: int = 8
    preset: str = "medium"
    tune: str | None = None
    options: Options = ()
    variants: tuple[Options, ...] = ()
    repeat_headers: bool = True
    repeatable: bool = True
    fast_first_pass: bool = False


@cache
def x264_build() -> str:
    """Return the API number and version of the x264 library that is loaded."""
    with Encoder(EncoderParameters(width=16, height=16, preset="ultrafast")) as encoder:
        found = _VERSION.search(encoder.headers())
    api = lib.ssimrdo_x264_build()
    return f"{api} (0.{api}.{found[1].decode()})" if found else f"{api}"


def x264_settings(headers: bytes) -> str:
    """Return the settings that x264 records in its SEI, as ``name=value`` words."""
    match = _OPTIONS.search(headers)
    return match.group(1).decode("ascii") if match else ""


class Encoder(Closing):
    """An x264 encoder, open from construction until :meth:`close`.

    The interpreter lock is free while x264 works; several encoders may run in several threads.

    Parameters
    ----------
    parameters : EncoderParameters
        What to open it with.

    Raises
    ------
    InputError
        If x264 does not know a preset, a tuning, an option or an option's value, or if the
        frame size is out of range.
    EncoderError
        If x264 refuses the parameters together; the message is x264's own.
    """

    def __init__(self, parameters: EncoderParameters) -> None:
        handle = lib.ssimrdo_encoder_new()
        if handle == ffi.NULL:
            raise MemoryError("x264 encoder")
        self._handle = ffi.gc(handle, lib.ssimrdo_encoder_free)
        self._lock = threading.Lock()
        self._dtype = np.dtype(np.uint8 if parameters.bit_depth == 8 else np.uint16)
        self._shape = (parameters.height, parameters.width)
        self._bit_depth = parameters.bit_depth
        self._open(parameters)

    def _open(self, parameters: EncoderParameters) -> None:
        names, values = _c_strings(parameters.options)
        of_variants = tuple(option for options in parameters.variants for option in options)
        variant_names, variant_values = _c_strings(of_variants)
        texts = {
            "preset": ffi.new("char[]", parameters.preset.encode()),
            "profile": ffi.new("char[]", b"high" if parameters.bit_depth == 8 else b"high10"),
        }
        if parameters.tune is not None:
            texts["tune"] = ffi.new("char[]", parameters.tune.encode())
        arrays = {
            "names": ffi.new("const char *[]", names),
            "values": ffi.new("const char *[]", values),
            "variant_names": ffi.new("const char *[]", variant_names),
            "variant_values": ffi.new("const char *[]", variant_values),
            "variant_lengths": ffi.new("size_t[]", [len(each) for each in parameters.variants]),
        }
        config = ffi.new(
            "ssimrdo_config *",
            {
                "width": parameters.width,
                "height": parameters.height,
                "bit_depth": parameters.bit_depth,
                "repeat_headers": parameters.repeat_headers,
                "repeatable": parameters.repeatable,
                "fast_first_pass": parameters.fast_first_pass,
                "n_options": len(names),
                "n_variants": len(parameters.variants),
                **arrays,
                **texts,
            },
        )
        bad_option = ffi.new("size_t *")
        status = lib.ssimrdo_encoder_open(self._handle, config, bad_option)
        messages = self._take_messages()
        if status == lib.SSIMRDO_OK:
            _log(messages)
            return
        ffi.release(self._handle)
        if status == lib.SSIMRDO_OUT_OF_MEMORY:
            raise MemoryError("x264 encoder")
        if status in (lib.SSIMRDO_OPEN_FAILED, lib.SSIMRDO_BAD_PROFILE):
            reason = _errors(messages) or f"it does not say why (status {status})"
            raise EncoderError(f"x264 cannot open an encoder: {reason}")
        raise _refusal(status, parameters, bad_option[0])

    def headers(self) -> bytes:
        """Return the SPS, PPS and SEI NAL units in Annex B form.

        Raises
        ------
        EncoderError
            If x264 fails or the encoder is closed.
        """
        packet = ffi.new("ssimrdo_packet *")
        with self._lock:
            status = lib.ssimrdo_encoder_headers(self._checked_handle(), packet)
            self._check(status)
            return bytes(ffi.buffer(packet.data, packet.size))

    def encode(
        self,
        luma: NDArray[Any],
        offsets: NDArray[np.float32] | None = None,
        *,
        pts: int,
        frame_type: str | None = None,
        variant: int = 0,
    ) -> Packet | None:
        """Hand one frame to x264 and return the packet that comes out, if one does.

        Parameters
        ----------
        luma : ndarray of shape (height, width)
            uint8 at 8 bit, uint16 with values up to 1023 at 10 bit.
        offsets : ndarray of shape (macroblock rows, macroblock columns), float32, optional
            Quantizer offset per macroblock, in QP steps.
        pts : int
            Presentation time in frames, larger than the one before.
        frame_type : str, optional
            ``IDR``, ``I``, ``P``, ``BREF`` or ``B``; x264's own choice when None. The last frame
            is never a B.
        variant : int
            Which of the encoder's variants holds for this frame, from 1 on; 0 for none.

        Raises
        ------
        ValueError
            If an array has another shape or dtype, or luma is above 1023 at 10 bit.
        EncoderError
            If x264 fails or the encoder is closed.
        """
        check_samples(luma, self._shape, self._bit_depth)
        luma_buffer = ffi.from_buffer("uint8_t[]", np.ascontiguousarray(luma))
        if offsets is None:
            return self._encode(
                luma_buffer, len(luma_buffer), ffi.NULL, 0, pts, frame_type, variant
            )
        check_offsets(offsets, self._shape)
        offset_buffer = ffi.from_buffer("float[]", np.ascontiguousarray(offsets))
        return self._encode(
            luma_buffer,
            len(luma_buffer),
            offset_buffer,
            len(offset_buffer),
            pts,
            frame_type,
            variant,
        )

    def flush(self) -> Iterator[Packet]:
        """Yield the packets that x264 still holds, in decoding order.

        Raises
        ------
        EncoderError
            If x264 fails or the encoder is closed.
        """
        while self._delayed() > 0:
            packet = self._encode(ffi.NULL, 0, ffi.NULL, 0, 0)
            if packet is not None:
                yield packet

    def close(self) -> None:
        """Close the encoder; more calls of this method do nothing."""
        with self._lock:
            if self._handle is not None:
                lib.ssimrdo_encoder_close(self._handle)
                _log(self._take_messages())
                ffi.release(self._handle)
                self._handle = None

    def _delayed(self) -> int:
        with self._lock:
            return int(lib.ssimrdo_encoder_delayed(self._checked_handle()))

    def _encode(
        self,
        luma: Any,
        luma_bytes: int,
        offsets: Any,
        n_offsets: int,
        pts: int,
        frame_type: str | None = None,
        variant: int = 0,
    ) -> Packet | None:
        reconstruction = np.empty(self._shape, self._dtype)
        packet = ffi.new("ssimrdo_packet *")
        with self._lock:
            status = lib.ssimrdo_encoder_encode(
                self._checked_handle(),
                luma,
                luma_bytes,
                offsets,
                n_offsets,
                pts,
                _type_number(frame_type),
                variant,
                ffi.from_buffer("uint8_t[]", reconstruction, require_writable=True),
                reconstruction.nbytes,
                packet,
            )
            self._check(status)
            if packet.data == ffi.NULL:
                return None
            return Packet(
                data=bytes(ffi.buffer(packet.data, packet.size)),
                pts=packet.pts,
                dts=packet.dts,
                keyframe=bool(packet.keyframe),
                frame_type=_FRAME_TYPES[packet.type],
                reconstruction=reconstruction,
            )

    def _checked_handle(self) -> Any:
        if self._handle is None:
            raise EncoderError("the x264 encoder is closed")
        return self._handle

    def _check(self, status: int) -> None:
        messages = self._take_messages()
        if status != lib.SSIMRDO_OK:
            reason = _errors(messages) or f"status {status}"
            raise EncoderError(f"x264 failed to encode: {reason}")
        _log(messages)

    def _take_messages(self) -> list[tuple[int, str]]:
        """Return levels and texts of the messages that x264 has queued since the last call."""
        messages = []
        text = ffi.new("char[]", _LOG_TEXT_BYTES)
        level = ffi.new("int *")
        while lib.ssimrdo_encoder_take_log(self._handle, text, _LOG_TEXT_BYTES, level) >= 0:
            message = ffi.string(text).decode(errors="replace").strip()
            messages.append((_LOG_LEVELS[min(max(level[0], 0), 3)], message))
        return messages


def _c_strings(options: Options) -> tuple[list[Any], list[Any]]:
    names = [ffi.new("char[]", name.encode()) for name, _ in options]
    values = [ffi.new("char[]", value.encode()) for _, value in options]
    return names, values


def _type_number(frame_type: str | None) -> int:
    for number, name in _FRAME_TYPES.items():
        if name == frame_type:
            return number
    if frame_type is not None:
        raise ValueError(f"unknown frame type {frame_type!r}")
    return 0


def _log(messages: list[tuple[int, str]]) -> None:
    for level, message in messages:
        # The end of a series cuts the last mini-GOP short, which is as it should be.
        expected = message.startswith(("forced frame type", "specified frame type"))
        logger.log(logging.DEBUG if expected else level, "%s", message)


def _errors(messages: list[tuple[int, str]]) -> str:
    return "; ".join(message for level, message in messages if level == logging.ERROR)


def _refusal(status: int, parameters: EncoderParameters, bad_option: int) -> InputError:
    if status == lib.SSIMRDO_BAD_SIZE:
        return InputError(
            f"x264 cannot encode {parameters.width}x{parameters.height} at {parameters.bit_depth} "
            f"bit: sides must be even and at most {MAX_SIDE}, the depth 8 or 10"
        )
    if status == lib.SSIMRDO_BAD_PRESET:
        return InputError(
            f"unknown x264 preset {parameters.preset!r}", remedy=f"use one of {', '.join(PRESETS)}"
        )
    if status == lib.SSIMRDO_BAD_TUNE:
        return InputError(f"unknown x264 tuning {parameters.tune!r}")
    every = sum(parameters.variants, parameters.options)
    name, value = every[bad_option]
    if status == lib.SSIMRDO_SHARED_OPTION:
        return InputError(f"{name!r} cannot differ from frame to frame: x264 keeps one text of it")
    if status == lib.SSIMRDO_BAD_OPTION_NAME:
        return InputError(f"x264 has no parameter {name!r}", remedy="x264's own help lists them")
    return InputError(f"x264 cannot read {value!r} as the value of {name!r}")
