"""The health score: reported by the platform, or derived here; ``docs/health.md`` explains it to users.

A derived score is the product of factors between 0 and 1, each of which judges one fact. Every factor below 1 is a
reason (``stream_health_reason``). Without any fact to judge there is no score: unknown is not healthy, and not ill.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from exporter.model import HealthReason, StreamSample

VERDICT_FACTOR = 0.4
"""The platform itself says unhealthy: below the 0.5 that pages."""
ISSUE_STEP, ISSUES_FLOOR = 0.1, 0.5
"""Each issue costs a tenth, all together never more than half: their number says little about their weight."""
ENOUGH_RATIO = 0.9
"""Bitrate and frame rate may fall this far below what is expected before it counts."""
LOSS_TOLERATED, LOSS_SLOPE = 0.02, 10.0
"""2 % packet loss is repaired by retransmission; 7 % halves the score, 12 % ends it."""
SILENT_AFTER_SECONDS, SILENT_FOR_GOOD_SECONDS = 60.0, 120.0
"""A live stream shows signs of life at least every 30 s (Livepeer's heartbeat); two missed ones count."""
REPORTED_IS_LOW = 0.8
"""Below this a platform's own score counts as a verdict against the stream."""

Judgement = tuple[float | None, tuple[HealthReason, ...]]
"""Score 0-1 or None, and what pulls it down."""


def judge(
    sample: StreamSample,
    *,
    expected_bitrate: float | None,
    expected_frame_rate: float | None,
    last_seen_age: float | None,
    in_grace: bool,
) -> Judgement:
    """The score of a live stream and its reasons.

    Bitrates in bytes per second, the age of the last sign of life in seconds on the platform's clock. ``in_grace``: the
    publish is younger than ``health_grace``, too young for a derived score.
    """
    if not sample.live:
        return None, ()
    factors = list(_factors(sample, expected_bitrate, expected_frame_rate, last_seen_age))
    reported = sample.health_score_ratio
    if reported is not None:
        return reported, _reasons(factors, is_low=reported < REPORTED_IS_LOW)
    if in_grace or not factors:
        return None, ()
    score = 1.0
    for _, factor in factors:
        score *= factor
    return score, _reasons(factors) if score < 1.0 else ()


def _reasons(factors: Sequence[tuple[HealthReason, float]], *, is_low: bool = False) -> tuple[HealthReason, ...]:
    """What pulls the score down, in the order of the enumeration; ``is_low``: the platform's own score does."""
    ill = [reason for reason, factor in factors if factor < 1.0]
    if is_low and HealthReason.VERDICT not in ill:
        ill.insert(0, HealthReason.VERDICT)
    return tuple(ill)


def _factors(
    sample: StreamSample, expected_bitrate: float | None, expected_frame_rate: float | None, age: float | None
) -> Iterator[tuple[HealthReason, float]]:
    """The facts that there are to judge, in the order of the reasons."""
    if sample.healthy is not None:
        yield HealthReason.VERDICT, 1.0 if sample.healthy else VERDICT_FACTOR
    if sample.issues:
        yield HealthReason.ISSUES, max(ISSUES_FLOOR, 1.0 - ISSUE_STEP * len(sample.issues))
    bitrate = sample.ingest_bitrate_bytes_per_second
    if bitrate is not None and expected_bitrate:
        yield HealthReason.BITRATE_LOW, _enough(bitrate, expected_bitrate)
    if sample.frames_per_second is not None and expected_frame_rate:
        yield HealthReason.FRAME_RATE_LOW, _enough(sample.frames_per_second, expected_frame_rate)
    if sample.transcode_realtime_ratio is not None:
        yield HealthReason.TRANSCODE_SLOW, min(1.0, sample.transcode_realtime_ratio)
    if sample.packet_loss_ratio is not None:
        yield HealthReason.LOSS, _clamp(1.0 - (sample.packet_loss_ratio - LOSS_TOLERATED) * LOSS_SLOPE)
    if bitrate is not None or age is not None:
        yield HealthReason.SILENT, _alive(bitrate, age)


def _enough(value: float, expected: float) -> float:
    return _clamp(value / (expected * ENOUGH_RATIO))


def _alive(bitrate: float | None, age: float | None) -> float:
    if bitrate == 0:
        return 0.0
    if age is None:
        return 1.0
    return _clamp((SILENT_FOR_GOOD_SECONDS - age) / (SILENT_FOR_GOOD_SECONDS - SILENT_AFTER_SECONDS))


def _clamp(value: float) -> float:
    return min(1.0, max(0.0, value))
