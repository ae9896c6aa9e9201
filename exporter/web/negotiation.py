"""Reading ``Accept-Encoding`` (RFC 9110, section 12.5.3)."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=64)
def accepts_gzip(header: str) -> bool:
    """Whether a client that sent this ``Accept-Encoding`` takes gzip; its own weight goes before that of ``*``.

    The few who scrape send the same header each time.
    """
    weights: dict[str, float] = {}
    for item in header.split(","):
        coding, _, parameters = item.partition(";")
        weights[coding.strip().lower()] = _weight(parameters)
    for coding in ("gzip", "x-gzip", "*"):
        if coding in weights:
            return weights[coding] > 0
    return False


def _weight(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value.strip())
            except ValueError:
                # What can't be read is no promise: the plain body is always right.
                return 0.0
    return 1.0
