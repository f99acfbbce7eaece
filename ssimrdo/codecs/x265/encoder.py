"""The Python face of ``native/x265_encoder.c``: one x265 encoder object for luma frames."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.codecs.base import Closing, Packet, check_offsets, check_samples
from ssimrdo.codecs.x264.choices import Options
from ssimrdo.errors import EncoderError, InputError

SHIM: Final = "ssimrdo.codecs.x265._shim"

DEPTHS: Final = (8, 10)

MIN_SIDE: Final = 64
MAX_SIDE: Final = 8192
"""Of a frame, in luma samples; ``native/x265_encoder.h`` says why."""

REORDERING: Final = 2
"""Frames that a pyramid of B-frames decodes ahead."""

FRAME_TYPES: Final = MappingProxyType({1: "IDR", 2: "I", 3: "P", 4: "BREF", 5: "B"})
"""What x265 calls frames, by its numbers."""

_INSTALL: Final = (
    "install libx265-dev and build ssimrdo anew: apt-get install libx265-dev, then scripts/setup "
    "in a checkout of ssimrdo"
)


def lacking() -> tuple[str, str] | None:
    """Return what stands in the way of using libx265 and what to do, None where nothing does."""
    if find_spec(SHIM) is None:
        return "ssimrdo was built without libx265", _INSTALL
    try:
        _shim()
    except ImportError as error:
        reason = " ".join(str(error).split())
        return f"the libx265 that it was built with is not there ({reason})", _INSTALL
    for bit_depth in DEPTHS:
        problem = _problem(bit_depth)
        if problem is not None:
            return problem, _INSTALL
    return None


def _shim() -> Any:
    return import_module(SHIM)


def _problem(bit_depth: int) -> str | None:
    """Return why the library that is loaded cannot be used for a bit depth."""
    shim = _shim()
    found = shim.ffi.new("ssimrdo_x265_library *")
    status = shim.lib.ssimrdo_x265_look(bit_depth, found)
    if status == shim.lib.SSIMRDO_X265_NO_DEPTH:
        return f"the libx265 on this machine has no {bit_depth} bit"
    if status == shim.lib.SSIMRDO_X265_OTHER_BUILD:
        return (
            f"the libx265 on this machine is build {found.build} with pictures of "
            f"{found.picture_bytes} bytes, ssimrdo was built with {found.compiled_build} and "
            f"{found.compiled_picture_bytes}"
        )
    return None


@cache
def x265_version() -> str:
    """Return build number and version of the x265 library that is loaded."""
    shim = _shim()
    found = shim.ffi.new("ssimrdo_x265_library *")
    shim.lib.ssimrdo_x265_look(DEPTHS[0], found)
    version = "" if found.version == shim.ffi.NULL else shim.ffi.string(found.version).decode()
    return f"{found.build} ({version})"


@dataclass(frozen=True)
class EncoderParameters:
    """Everything an encoder is opened with.

    Parameters
    ----------
    width, height : int
        Size in luma samples; both even, as 4:2:0 needs.
    bit_depth : int
        8 (Main) or 10 (Main 10).
    preset : str
        One of x265's presets.
    tune : str, optional
        One of its tunings.
    options : tuple of (str, str)
        x265's options, applied in order after the preset.
    repeat_headers : bool
        Write the parameter sets before every keyframe, as a raw ``.hevc`` stream needs; a container
        keeps them apart.
    slow_first_pass : bool
        Keep the full search in the first of two passes.
    """

    width: int
    height: int
    bit_depth: int = 8
    preset: str = "medium"
    tune: str | None = None
    options: Options = ()
    repeat_headers: bool = True
    slow_first_pass: bool = False


class Encoder(Closing):
    """An x265 encoder, open from construction until :meth:`close`.

    The interpreter lock is free while x265 works; several encoders may run in several threads. x265
    logs to stderr alone, so it is kept silent.

    Parameters
    ----------
    parameters : EncoderParameters
        What to open it with.

    Raises
    ------
    InputError
        If x265 does not know a preset, a tuning, an option or an option's value, or if the frame
        size is out of range.
    EncoderError
        If x265 refuses the parameters together, or the library is not the one that this was built
        for.
    """

    def __init__(self, parameters: EncoderParameters) -> None:
        shim = _shim()
        self._ffi, self._lib = shim.ffi, shim.lib
        handle = self._lib.ssimrdo_x265_new()
        if handle == self._ffi.NULL:
            raise MemoryError("x265 encoder")
        self._handle = self._ffi.gc(handle, self._lib.ssimrdo_x265_free)
        self._lock = threading.Lock()
        self._dtype = np.dtype(np.uint8 if parameters.bit_depth == 8 else np.uint16)
        self._bit_depth = parameters.bit_depth
        self._shape = (parameters.height, parameters.width)
        self._packets = 0
        self._open(parameters)

    def _open(self, parameters: EncoderParameters) -> None:
        ffi = self._ffi
        names = [ffi.new("char[]", name.encode()) for name, _ in parameters.options]
        values = [ffi.new("char[]", value.encode()) for _, value in parameters.options]
        kept: dict[str, Any] = {
            "preset": ffi.new("char[]", parameters.preset.encode()),
            "names": ffi.new("const char *[]", names),
            "values": ffi.new("const char *[]", values),
        }
        if parameters.tune is not None:
            kept["tune"] = ffi.new("char[]", parameters.tune.encode())
        config = ffi.new(
            "ssimrdo_x265_config *",
            {
                "width": parameters.width,
                "height": parameters.height,
                "bit_depth": parameters.bit_depth,
                "repeat_headers": parameters.repeat_headers,
                "slow_first_pass": parameters.slow_first_pass,
                "n_options": len(names),
                **kept,
            },
        )
        bad_option = ffi.new("size_t *")
        status = self._lib.ssimrdo_x265_open(self._handle, config, bad_option)
        if status == self._lib.SSIMRDO_X265_OK:
            return
        ffi.release(self._handle)
        self._handle = None
        self._refuse(status, parameters, bad_option[0])

    def _refuse(self, status: int, parameters: EncoderParameters, bad_option: int) -> None:
        lib = self._lib
        if status == lib.SSIMRDO_X265_OUT_OF_MEMORY:
            raise MemoryError("x265 encoder")
        if status in (lib.SSIMRDO_X265_NO_DEPTH, lib.SSIMRDO_X265_OTHER_BUILD):
            raise EncoderError(f"{_problem(parameters.bit_depth)}: {_INSTALL}")
        if status == lib.SSIMRDO_X265_BAD_SIZE:
            raise InputError(
                f"x265 cannot encode {parameters.width}x{parameters.height} at "
                f"{parameters.bit_depth} bit: sides must be even and {MIN_SIDE} to {MAX_SIDE}, the "
                "depth 8 or 10"
            )
        if status == lib.SSIMRDO_X265_BAD_PRESET:
            tune = "" if parameters.tune is None else f" with the tuning {parameters.tune!r}"
            raise InputError(f"x265 has no preset {parameters.preset!r}{tune}")
        if status in (lib.SSIMRDO_X265_BAD_OPTION_NAME, lib.SSIMRDO_X265_BAD_OPTION_VALUE):
            name, value = parameters.options[bad_option]
            if status == lib.SSIMRDO_X265_BAD_OPTION_NAME:
                raise InputError(
                    f"x265 has no parameter {name!r}", remedy="x265's own help lists them"
                )
            raise InputError(f"x265 cannot read {value!r} as the value of {name!r}")
        raise EncoderError("x265 cannot open an encoder with these parameters")

    def headers(self) -> bytes:
        """Return the VPS, SPS and PPS NAL units in Annex B form.

        Raises
        ------
        EncoderError
            If x265 fails or the encoder is closed.
        """
        packet = self._ffi.new("ssimrdo_x265_packet *")
        with self._lock:
            self._check(self._lib.ssimrdo_x265_headers(self._checked_handle(), packet))
            return bytes(self._ffi.buffer(packet.data, packet.size))

    def encode(
        self, luma: NDArray[Any], offsets: NDArray[np.float32] | None = None, *, pts: int
    ) -> Packet | None:
        """Hand one frame to x265 and return the packet that comes out, if one does.

        Parameters
        ----------
        luma : ndarray of shape (height, width)
            uint8 at 8 bit, uint16 with values up to 1023 at 10 bit.
        offsets : ndarray of shape (block rows, block columns), float32, optional
            Quantizer offset per block of 16x16 samples, in QP steps; for all frames or for none.
        pts : int
            Presentation time in frames, larger than the one before.

        Raises
        ------
        ValueError
            If an array has another shape or dtype, or luma is above the peak.
        EncoderError
            If x265 fails or the encoder is closed.
        """
        check_samples(luma, self._shape, self._bit_depth)
        if offsets is None:
            return self._encode(np.ascontiguousarray(luma), None, pts)
        check_offsets(offsets, self._shape)
        return self._encode(np.ascontiguousarray(luma), np.ascontiguousarray(offsets), pts)

    def flush(self) -> Iterator[Packet]:
        """Yield the packets that x265 still holds, in decoding order.

        Raises
        ------
        EncoderError
            If x265 fails or the encoder is closed.
        """
        while (packet := self._encode(None, None, 0)) is not None:
            yield packet

    def close(self) -> None:
        """Close the encoder; more calls of this method do nothing."""
        with self._lock:
            if self._handle is not None:
                self._ffi.release(self._handle)
                self._handle = None

    def _encode(
        self, luma: NDArray[Any] | None, offsets: NDArray[np.float32] | None, pts: int
    ) -> Packet | None:
        ffi = self._ffi
        reconstruction = np.empty(self._shape, self._dtype)
        packet = ffi.new("ssimrdo_x265_packet *")
        with self._lock:
            status = self._lib.ssimrdo_x265_encode(
                self._checked_handle(),
                ffi.NULL if luma is None else ffi.from_buffer("uint8_t[]", luma),
                0 if luma is None else luma.nbytes,
                ffi.NULL if offsets is None else ffi.from_buffer("float[]", offsets),
                0 if offsets is None else offsets.size,
                pts,
                0,
                ffi.from_buffer("uint8_t[]", reconstruction, require_writable=True),
                reconstruction.nbytes,
                packet,
            )
            self._check(status)
            if packet.data == ffi.NULL:
                return None
            # Those of x265 are random numbers where a clip ends before the first B-frames are
            # decided.
            dts = self._packets - REORDERING
            self._packets += 1
            return Packet(
                data=bytes(ffi.buffer(packet.data, packet.size)),
                pts=packet.pts,
                dts=dts,
                keyframe=FRAME_TYPES[packet.type] == "IDR",
                frame_type=FRAME_TYPES[packet.type],
                reconstruction=reconstruction,
            )

    def _checked_handle(self) -> Any:
        if self._handle is None:
            raise EncoderError("the x265 encoder is closed")
        return self._handle

    def _check(self, status: int) -> None:
        if status != self._lib.SSIMRDO_X265_OK:
            raise EncoderError(f"x265 failed to encode (status {status})")
