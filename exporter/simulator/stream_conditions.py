"""Conditions of a stream, and how each affects the measurements."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Condition(StrEnum):
    """Condition of a stream."""

    OFF_AIR = "off_air"
    START = "start"
    STEADY = "steady"
    STRUGGLING = "struggling"
    STALLED = "stalled"
    RECOVERING = "recovering"
    UNHEALTHY = "unhealthy"
    BITRATE_LOW = "bitrate_low"
    SLOW_TRANSCODE = "slow_transcode"


@dataclass(frozen=True, slots=True)
class Level:
    """Effect of a condition. Factors are relative to a steady stream."""

    bitrate: float = 1.0
    media: float = 1.0
    """Seconds of media received per second."""
    pace: float = 3.0
    """Seconds of media that the transcoder produces per second; below 1 it falls behind."""
    frame_rate: float = 1.0
    dropped: float = 0.0005
    """Share of dropped frames."""
    audience: float = 1.0
    loss: float = 0.001
    """Share of lost packets."""
    delay: float = 1.0
    """Factor for latency, round-trip time and jitter."""
    healthy: bool = True
    score: float = 94.0
    """Storm's healthScore, 0-100."""
    issues: tuple[str, ...] = ()
    """Livepeer's issue texts."""


LEVELS = {
    Condition.OFF_AIR: Level(bitrate=0.0, media=0.0, frame_rate=0.0, audience=0.0, score=0.0),
    Condition.START: Level(bitrate=0.8, pace=2.5, audience=0.3, delay=1.2, score=78.0),
    Condition.STEADY: Level(),
    Condition.STRUGGLING: Level(
        bitrate=0.45,
        pace=1.6,
        frame_rate=0.6,
        dropped=0.08,
        audience=0.85,
        loss=0.03,
        delay=2.5,
        healthy=False,
        score=34.0,
        issues=("Stream bitrate is unstable", "Encoder is sending fewer frames than configured"),
    ),
    Condition.STALLED: Level(
        bitrate=0.0,
        media=0.0,
        frame_rate=0.0,
        dropped=0.0,
        audience=0.6,
        loss=0.0,
        healthy=False,
        score=5.0,
        issues=("No media has been received from the encoder",),
    ),
    Condition.RECOVERING: Level(
        bitrate=0.9, pace=2.0, frame_rate=0.95, dropped=0.01, audience=0.75, delay=1.3, score=72.0
    ),
    Condition.UNHEALTHY: Level(
        pace=2.4,
        dropped=0.02,
        audience=0.95,
        loss=0.09,
        delay=3.0,
        healthy=False,
        score=22.0,
        issues=("Keyframe interval is longer than 10 seconds", "Audio and video have drifted apart"),
    ),
    Condition.BITRATE_LOW: Level(bitrate=0.25, score=62.0),
    Condition.SLOW_TRANSCODE: Level(pace=0.6, audience=0.9, delay=1.5, score=55.0),
}
