"""The names under which numbers stand inside WAVE's ``metrics``, ``connection`` and ``quality``.

WAVE publishes no inside of these objects, so the usual names are known in any spelling: case, ``_``, ``-`` and spaces
are ignored. ``docs/platforms/wave.md`` shows this table to users.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum

import msgspec

from exporter.platforms.parsing import LARGEST

MS, S, US = 0.001, 1.0, 0.000001
KBIT, BIT, MBIT, BYTE = 125.0, 0.125, 125_000.0, 1.0
_TIME_UNITS = {
    "": MS, "ms": MS, "millis": MS, "milliseconds": MS, "s": S, "sec": S, "secs": S, "seconds": S,
    "us": US, "micros": US, "microseconds": US,
}  # fmt: skip
"""What a time's name may end in, and the seconds that its unit is: milliseconds unless the name says otherwise."""
_BITRATE_UNITS = {
    "": KBIT, "kbps": KBIT, "kbits": KBIT, "kilobits": KBIT, "bps": BIT, "bits": BIT, "mbps": MBIT, "mbits": MBIT,
    "bytes": BYTE, "bytespersecond": BYTE,
}  # fmt: skip
"""The same for bitrates, in bytes per second: kbit/s unless the name says otherwise."""

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
    "packetloss": 1.0, "packetlossratio": 1.0, "packetlossrate": 1.0, "lossratio": 1.0, "lossrate": 1.0,
    "fractionlost": 1.0, "packetlosspercent": 0.01, "packetlosspercentage": 0.01, "packetlosspct": 0.01,
    "losspercent": 0.01,
}  # fmt: skip
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
"""Objects whose inside is not what is measured now, or not of the ingest: nothing below them is mapped."""


class Scope(IntEnum):
    """What a number is about, from its name and the objects around it; the lower one is preferred."""

    ALL = 0
    VIDEO = 1
    AUDIO = 2


class Kind(IntEnum):
    """How a value is to be checked."""

    NUMBER = 0
    RATIO = 1
    TOTAL = 2
    COUNT = 3
    TEXT = 4


class Alias(msgspec.Struct, frozen=True):
    """What a name means: a field of the report, and how its value becomes that field's unit."""

    field: str
    kind: Kind
    scale: float = 1.0
    high: float = LARGEST
    audio_counts: bool = False
    """Whether the audio's value stands for the stream, where there is no other: loss yes, bitrate no."""


def normalised(name: str) -> str:
    """A name without what is ignored in it."""
    return name.lower().translate(_IGNORED)


def scope_of(name: str) -> tuple[Scope, str]:
    """What a normalised name is about by its beginning, and the rest of it."""
    for prefix, scope in (("video", Scope.VIDEO), ("audio", Scope.AUDIO)):
        if name.startswith(prefix):
            return scope, name.removeprefix(prefix)
    return Scope.ALL, name


def _measured() -> Iterator[tuple[str, Alias]]:
    for field, names in _TIMES.items():
        yield from _with_units(names, _TIME_UNITS, Alias(field, Kind.NUMBER, audio_counts=True))
    for field, names in _BITRATES.items():
        yield from _with_units(names, _BITRATE_UNITS, Alias(field, Kind.NUMBER))
    for name, scale in _RATIOS.items():
        yield name, Alias("packet_loss_ratio", Kind.RATIO, scale, audio_counts=True)
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
        for suffix, scale in units.items():
            yield name + suffix, msgspec.structs.replace(alias, scale=scale)


_IGNORED = {ord(character): None for character in "_- "}
MEASURED: Mapping[str, Alias] = dict(_measured())
"""The names inside ``metrics`` and ``connection``."""
QUALITY: Mapping[str, Alias] = {
    **dict(_with_units(("targetlatency",), _TIME_UNITS, Alias("target_latency_seconds", Kind.NUMBER))),
    **dict(_with_units(("maxbitrate",), _BITRATE_UNITS, Alias("max_bitrate_bytes_per_second", Kind.NUMBER))),
}
"""The names inside ``quality``, which holds settings."""
