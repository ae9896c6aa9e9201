"""Known names of values in WAVE's ``metrics``, ``connection`` and ``quality``.

WAVE does not document the contents of these objects, so common names are recognised in any spelling: case, ``_``, ``-``
and spaces are ignored. ``docs/platforms/wave.md`` has the table for users.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum

import msgspec

from exporter.platforms.api import (
    BITS_PER_SECOND,
    BYTES_PER_SECOND,
    KILOBITS_PER_SECOND,
    LARGEST,
    MEGABITS_PER_SECOND,
    MICROSECONDS,
    MILLISECONDS,
    PERCENT,
    SECONDS,
)

_TIME_UNITS = {
    **dict.fromkeys(("", "ms", "millis", "milliseconds"), MILLISECONDS),
    **dict.fromkeys(("s", "sec", "secs", "seconds"), SECONDS),
    **dict.fromkeys(("us", "micros", "microseconds"), MICROSECONDS),
}
"""Unit of a time by the suffix of its name; milliseconds without a suffix."""
_BITRATE_UNITS = {
    **dict.fromkeys(("", "kbps", "kbits", "kilobits"), KILOBITS_PER_SECOND),
    **dict.fromkeys(("bps", "bits"), BITS_PER_SECOND),
    **dict.fromkeys(("mbps", "mbits"), MEGABITS_PER_SECOND),
    **dict.fromkeys(("bytes", "bytespersecond"), BYTES_PER_SECOND),
}
"""Unit of a bitrate by the suffix of its name; kbit/s without a suffix."""

_TIMES = {
    "round_trip_time_seconds": ("rtt", "roundtriptime", "roundtrip"),
    "latency_seconds": ("latency", "endtoendlatency", "e2elatency", "glasstoglasslatency"),
    "jitter_seconds": ("jitter",),
}
_BITRATES = {
    "ingest_bitrate_bytes_per_second": (
        "bitrate", "ingestbitrate", "inputbitrate", "inboundbitrate", "incomingbitrate", "receivebitrate",
        "receivedbitrate", "totalbitrate", "currentbitrate",
    ),
    "egress_bitrate_bytes_per_second": (
        "egressbitrate", "outputbitrate", "outboundbitrate", "outgoingbitrate", "sendbitrate", "sentbitrate",
    ),
}  # fmt: skip
_RATIOS = {
    **dict.fromkeys(("packetloss", "packetlossratio", "packetlossrate", "lossratio", "lossrate", "fractionlost"), 1.0),
    **dict.fromkeys(("packetlosspercent", "packetlosspercentage", "packetlosspct", "losspercent"), PERCENT),
}
_TOTALS = {
    "dropped_frames": ("droppedframes", "framesdropped"),
    "frames": ("frames", "framestotal", "totalframes", "framecount"),
    "ingest_bytes": ("bytesreceived", "receivedbytes", "bytesin", "inbytes", "ingestbytes"),
    "egress_bytes": ("bytessent", "sentbytes", "bytesout", "outbytes", "egressbytes"),
}
_FRAME_RATES = ("fps", "framerate", "framespersecond")
_SIZES = {"width_pixels": ("width", "framewidth"), "height_pixels": ("height", "frameheight")}
_TEXTS = {"resolution": ("resolution",), "codec": ("codec", "codecname")}

NOT_MAPPED = frozenset(
    {"target", "targets", "configured", "expected", "requested", "settings", "constraints", "max", "maximum", "min",
     "minimum", "limit", "limits", "peak", "average", "avg", "history",
     "egress", "outbound", "outgoing", "output", "send", "sent", "viewers", "playback"}
)  # fmt: skip
"""Objects whose contents are not current measurements or not about the ingest; nothing inside them is mapped."""


class Scope(IntEnum):
    """Part of a stream that a value describes, from its name and the objects around it; lower is preferred."""

    ALL = 0
    VIDEO = 1
    AUDIO = 2


class Kind(IntEnum):
    """How a value is validated."""

    NUMBER = 0
    RATIO = 1
    TOTAL = 2
    COUNT = 3
    TEXT = 4


class Alias(msgspec.Struct, frozen=True):
    """The field of the report that a name means, and the unit of its value."""

    field: str
    kind: Kind
    unit: float = 1.0
    high: float = LARGEST
    audio_counts: bool = False
    """Whether the audio's value is used for the stream if there is no other: yes for loss, no for bitrate."""


def normalised(name: str) -> str:
    """Return a name in lower case without ``_``, ``-`` and spaces."""
    return name.lower().translate(_IGNORED)


def scope_of(name: str) -> tuple[Scope, str]:
    """Split a normalised name into its scope and the rest."""
    for prefix, scope in (("video", Scope.VIDEO), ("audio", Scope.AUDIO)):
        if name.startswith(prefix):
            return scope, name.removeprefix(prefix)
    return Scope.ALL, name


def _measured() -> Iterator[tuple[str, Alias]]:
    for field, names in _TIMES.items():
        yield from _with_units(names, _TIME_UNITS, Alias(field, Kind.NUMBER, audio_counts=True))
    for field, names in _BITRATES.items():
        yield from _with_units(names, _BITRATE_UNITS, Alias(field, Kind.NUMBER))
    for name, unit in _RATIOS.items():
        yield name, Alias("packet_loss_ratio", Kind.RATIO, unit, audio_counts=True)
    for field, names in _TOTALS.items():
        yield from ((name, Alias(field, Kind.TOTAL)) for name in names)
    for name in _FRAME_RATES:
        yield name, Alias("frames_per_second", Kind.NUMBER, high=1000.0)
    for field, names in _SIZES.items():
        yield from ((name, Alias(field, Kind.COUNT)) for name in names)
    for field, names in _TEXTS.items():
        yield from ((name, Alias(field, Kind.TEXT, audio_counts=field == "codec")) for name in names)


def _with_units(names: tuple[str, ...], units: Mapping[str, float], alias: Alias) -> Iterator[tuple[str, Alias]]:
    for name in names:
        for suffix, unit in units.items():
            yield name + suffix, msgspec.structs.replace(alias, unit=unit)


_IGNORED = {ord(character): None for character in "_- "}
MEASURED: Mapping[str, Alias] = dict(_measured())
"""The names in ``metrics`` and ``connection``."""
QUALITY: Mapping[str, Alias] = {
    **dict(_with_units(("targetlatency",), _TIME_UNITS, Alias("target_latency_seconds", Kind.NUMBER))),
    **dict(_with_units(("maxbitrate",), _BITRATE_UNITS, Alias("max_bitrate_bytes_per_second", Kind.NUMBER))),
}
"""The names in ``quality``, which holds settings."""
