"""Luma through a session of x264, packet by packet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ssimrdo import objective
from ssimrdo.codecs.base import Packet, Steering, StreamSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ssimrdo.codecs.x264.codec import X264


def run(
    codec: X264, settings: StreamSettings, frames: Sequence[NDArray[Any]]
) -> tuple[dict[int, Packet], set[str]]:
    """Return packets in presentation order by their frame, and the settings that x264 records."""
    packets: list[Packet] = []
    with codec.open(settings) as session:
        for index, luma in enumerate(frames):
            ratio = None
            if settings.steered:
                ratio = objective.SSIM.lagrange_ratio(luma, settings.format)
            packets += session.encode(luma, Steering(ratio, codec.role(index)), index)
        packets += session.flush()
        recorded = set(session.settings.split())
    return {packet.pts: packet for packet in sorted(packets, key=lambda one: one.pts)}, recorded
