"""Durations, sizes and bitrates as people write them."""

from __future__ import annotations

import re

_DURATION_UNITS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
"""Milliseconds by unit, in the order in which Prometheus wants them."""
_DURATION = re.compile("".join(rf"(?:([0-9]{{1,12}}){unit})?" for unit in _DURATION_UNITS))
_WHOLE_ONLY = ("y", "w", "d")
"""Units that are written only where nothing is left over: 90m is 1h30m, but 36h is not 1d12h."""

_SIZE_UNITS = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)(B|kB|KB|MB|GB|KiB|MiB|GiB)?")

_BITRATE_UNITS = {"bps": 1, "kbps": 10**3, "Kbps": 10**3, "Mbps": 10**6, "Gbps": 10**9}
_BITRATE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)(bps|[kKMG]bps)")


def parse_duration(text: str) -> float:
    """Seconds of a duration as in Prometheus: ``500ms``, ``15s``, ``1h30m``, ``7d``, ``0``. Raises ``ValueError``."""
    match = _DURATION.fullmatch(text)
    if text == "0":
        return 0.0
    if not text or match is None:
        raise ValueError("not a duration")
    milliseconds = sum(int(n) * factor for n, factor in zip(match.groups(), _DURATION_UNITS.values(), strict=True) if n)
    return milliseconds / 1000


def format_duration(seconds: float) -> str:
    """The duration as Prometheus writes it, to the millisecond."""
    left = round(seconds * 1000)
    if left == 0:
        return "0s"
    parts = []
    for unit, factor in _DURATION_UNITS.items():
        if unit in _WHOLE_ONLY and left % factor:
            continue
        count, left = divmod(left, factor)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def parse_size(text: str) -> int:
    """Bytes of ``16MiB``, ``10MB``, ``512kB`` or a plain number. Raises ``ValueError``."""
    match = _SIZE.fullmatch(text)
    if match is None or ("." in match[1] and not match[2]):
        raise ValueError("not a size")
    return round(float(match[1]) * _SIZE_UNITS[match[2] or "B"])


def format_size(size: float) -> str:
    """The size in the largest unit that needs no fraction."""
    for unit in ("GiB", "MiB", "KiB", "GB", "MB", "kB"):
        if size and size % _SIZE_UNITS[unit] == 0:
            return f"{int(size) // _SIZE_UNITS[unit]}{unit}"
    return f"{int(size)}B"


def parse_bitrate(text: str) -> float:
    """Bytes per second of ``4Mbps``, ``2.5Mbps``, ``800kbps``, ``64000bps`` (bits). Raises ``ValueError``."""
    match = _BITRATE.fullmatch(text)
    if match is None:
        raise ValueError("not a bitrate")
    return float(match[1]) * _BITRATE_UNITS[match[2]] / 8


def format_bitrate(rate: float) -> str:
    """Bytes per second, written in bits."""
    bits = rate * 8
    for unit in ("Gbps", "Mbps", "kbps"):
        if bits >= _BITRATE_UNITS[unit]:
            return f"{bits / _BITRATE_UNITS[unit]:.6g}{unit}"
    return f"{bits:.6g}bps"
