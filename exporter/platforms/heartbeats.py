"""Heartbeats: times on the platform's clock at which it last saw a stream, judged by the exporter's steady clock.

A heartbeat that advances from poll to poll shows that the stream is alive, whatever the platform's clock shows. If it
has not advanced for the platform's limit, the stream is not alive.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

KEPT_UNSEEN = 1000
"""Number of unreported heartbeats to keep after a poll, in addition to as many as the poll reported."""


class SignOfLife(NamedTuple):
    """What a heartbeat proves."""

    is_alive: bool | None
    """None if the exporter has not watched the heartbeat for long enough to tell."""
    age_seconds: float | None
    """Seconds since it advanced, on the exporter's steady clock; None if it was never seen to advance."""


UNDATED = SignOfLife(None, None)


class _Heartbeat(msgspec.Struct, gc=False):
    value: float
    """The latest value of the last poll that reported it."""
    latest: float
    """The latest value of this poll; several records of one stream may have different values."""
    advanced_at: float
    """Steady seconds of the last advance; estimated from the platform's clock until an advance was seen."""
    watched_from: float
    """Steady seconds of the last advance, or of the first poll."""
    is_trusted: bool
    """Whether it has advanced, or was recent by the platform's clock when first seen."""
    is_first_poll: bool = True
    is_seen: bool = True


class HeartbeatTracker:
    """The heartbeats of one upstream, by stream or session."""

    def __init__(self, limit_seconds: float) -> None:
        """``limit_seconds``: time without a heartbeat after which the platform considers a stream inactive."""
        self._limit = limit_seconds
        self._heartbeats: dict[str, _Heartbeat] = {}

    def observe(self, key: str, value: float | None, *, now: float, platform_now: float) -> SignOfLife:
        """Record a reported heartbeat and return what it proves. One poll may report it several times.

        ``value``: unix seconds on the platform's clock; None if not reported or unreadable. ``platform_now``: the
        current time on the same clock. ``now``: steady seconds.
        """
        if value is None:
            return UNDATED
        heartbeat = self._heartbeats.get(key)
        if heartbeat is None or (heartbeat.is_first_poll and value > heartbeat.latest):
            age = platform_now - value
            is_recent = age <= self._limit
            advanced_at = now - max(0.0, age) if is_recent else now
            heartbeat = self._heartbeats[key] = _Heartbeat(value, value, advanced_at, now, is_recent)
        elif value > heartbeat.value and not heartbeat.is_first_poll:
            heartbeat.advanced_at = heartbeat.watched_from = now
            heartbeat.is_trusted = True
        heartbeat.latest = max(heartbeat.latest, value) if heartbeat.is_seen else value
        heartbeat.is_seen = True
        age = now - heartbeat.advanced_at
        if now - heartbeat.watched_from > self._limit:
            return SignOfLife(False, age)
        if age > self._limit:
            # old only by the platform's clock, which may be wrong: wait until it was watched for long enough
            return UNDATED
        return SignOfLife(True, age) if heartbeat.is_trusted else UNDATED

    def end_poll(self) -> None:
        """Forget heartbeats that are no longer reported, once there are many of them."""
        seen = sum(heartbeat.is_seen for heartbeat in self._heartbeats.values())
        if len(self._heartbeats) > 2 * seen + KEPT_UNSEEN:
            self._heartbeats = {key: kept for key, kept in self._heartbeats.items() if kept.is_seen}
        for heartbeat in self._heartbeats.values():
            # take over a value that fell: if the platform's clock was set back, the next value can be an advance
            heartbeat.value = heartbeat.latest
            heartbeat.is_seen = heartbeat.is_first_poll = False
