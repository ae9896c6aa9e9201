"""The health score: reported by the platform, or derived here; ``docs/health.md`` explains it to users.

A derived score is the product of factors between 0 and 1, each of which judges one fact. Every factor below 1 is a
reason (``stream_health_reason``). Without any fact to judge there is no score: unknown is not healthy, and not ill.
"""

from __future__ import annotations

from collections.abc import Sequence

from exporter.model import HealthReason, StreamReport

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

Fault = tuple[HealthReason, float]
"""What pulls the score down, and its factor."""
Judgement = tuple[float | None, tuple[HealthReason, ...]]
"""Score 0-1 or None, and what pulls it down."""


def judge(
    report: StreamReport,
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
    if not report.live:
        return None, ()
    faults = _faults(report, expected_bitrate, expected_frame_rate, last_seen_age)
    reported = report.health_score_ratio
    if reported is not None:
        is_low = reported < REPORTED_IS_LOW
        return reported, _reasons(faults, is_low=is_low) if faults or is_low else ()
    if in_grace:
        return None, ()
    if not faults:
        return (1.0 if _is_judged(report, expected_frame_rate, last_seen_age) else None), ()
    score = 1.0
    for _, factor in faults:
        score *= factor
    return score, _reasons(faults)


def _reasons(faults: Sequence[Fault], *, is_low: bool = False) -> tuple[HealthReason, ...]:
    """What pulls the score down, in the order of the enumeration; ``is_low``: the platform's own score does."""
    ill = [reason for reason, _ in faults]
    if is_low and HealthReason.VERDICT not in ill:
        ill.insert(0, HealthReason.VERDICT)
    return tuple(ill)


def _faults(
    report: StreamReport, expected_bitrate: float | None, expected_frame_rate: float | None, age: float | None
) -> list[Fault]:
    """The factors below 1, in the order of the reasons."""
    faults: list[Fault] = []
    if report.healthy is False:
        faults.append((HealthReason.VERDICT, VERDICT_FACTOR))
    if report.issues:
        faults.append((HealthReason.ISSUES, max(ISSUES_FLOOR, 1.0 - ISSUE_STEP * len(report.issues))))
    bitrate = report.ingest_bitrate_bytes_per_second
    if expected_bitrate and bitrate is not None and (factor := _enough(bitrate, expected_bitrate)) < 1.0:
        faults.append((HealthReason.BITRATE_LOW, factor))
    frame_rate = report.frames_per_second
    if expected_frame_rate and frame_rate is not None and (factor := _enough(frame_rate, expected_frame_rate)) < 1.0:
        faults.append((HealthReason.FRAME_RATE_LOW, factor))
    pace = report.transcode_realtime_ratio
    if pace is not None and pace < 1.0:
        faults.append((HealthReason.TRANSCODE_SLOW, pace))
    loss = report.packet_loss_ratio
    if (
        loss is not None
        and loss > LOSS_TOLERATED
        and (factor := _clamp(1.0 - (loss - LOSS_TOLERATED) * LOSS_SLOPE)) < 1.0
    ):
        faults.append((HealthReason.LOSS, factor))
    if bitrate == 0:
        faults.append((HealthReason.SILENT, 0.0))
    elif age is not None and age > SILENT_AFTER_SECONDS:
        faults.append((HealthReason.SILENT, _alive(age)))
    return faults


def _is_judged(report: StreamReport, expected_frame_rate: float | None, age: float | None) -> bool:
    """Whether there is a fact to judge of a stream without faults."""
    return (
        report.healthy is not None
        or report.ingest_bitrate_bytes_per_second is not None
        or report.transcode_realtime_ratio is not None
        or report.packet_loss_ratio is not None
        or age is not None
        or (report.frames_per_second is not None and bool(expected_frame_rate))
    )


def _enough(value: float, expected: float) -> float:
    return _clamp(value / (expected * ENOUGH_RATIO))


def _alive(age: float) -> float:
    return _clamp((SILENT_FOR_GOOD_SECONDS - age) / (SILENT_FOR_GOOD_SECONDS - SILENT_AFTER_SECONDS))


def _clamp(value: float) -> float:
    return min(1.0, max(0.0, value))
