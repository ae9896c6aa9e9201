"""The health score, reported by the platform or derived here; documented in ``docs/health.md``.

A derived score is the product of factors between 0 and 1, one for each known fact. Every factor below 1 is a reason
(``stream_health_reason``). Without any known fact there is no score, because unknown is neither healthy nor unhealthy.
"""

from __future__ import annotations

from collections.abc import Sequence

from exporter.model import HealthReason, StreamReport

VERDICT_FACTOR = 0.4
"""Factor if the platform reports the stream as unhealthy; less than 0.5, the alert's threshold."""
ISSUE_STEP, ISSUES_FLOOR = 0.1, 0.5
"""Deduction per issue, and the minimum factor, because the number of issues says little about their severity."""
ENOUGH_RATIO = 0.9
"""Fraction of the expected bitrate or frame rate below which the score falls."""
LOSS_TOLERATED, LOSS_SLOPE = 0.02, 10.0
"""Retransmission repairs 2 % packet loss; 7 % halves the score, 12 % makes it 0."""
SILENT_AFTER_SECONDS, SILENT_SCORE_0_SECONDS = 60.0, 120.0
"""Age of the last sign of life at which the score starts to fall, and at which it is 0. Livepeer sends a heartbeat
every 30 s."""
PLAYBACK_FACTORS = {
    HealthReason.SEGMENT_MISSING: 0.0,
    HealthReason.AUDIO_MISSING: 0.3,
    HealthReason.VIDEO_MISSING: 0.3,
    HealthReason.SLOW: 0.4,
    HealthReason.SHORTAGE: 0.4,
    HealthReason.SEQUENCE: 0.6,
    HealthReason.GAP: 0.7,
    HealthReason.RENDITION_MISSING: 0.7,
    HealthReason.LATENCY_GROWING: 0.8,
    HealthReason.WINDOW_SHORT: 0.9,
}
"""Factors of a playback check's findings: below 0.5 if viewers lose sound or picture, or must wait."""
REPORTED_IS_LOW = 0.8
"""Reported score below which ``verdict`` becomes a reason."""

Fault = tuple[HealthReason, float]
"""A reason for a low score, and its factor."""
Judgement = tuple[float | None, tuple[HealthReason, ...]]
"""Score (0-1) or None, and the reasons for a low score."""


def judge(
    report: StreamReport,
    *,
    expected_bitrate: float | None,
    expected_frame_rate: float | None,
    may_derive: bool,
) -> Judgement:
    """Return a live stream's score and its reasons.

    Bitrates are in bytes per second. ``may_derive``: whether a score may be derived, because the platform reports none
    and the ingest session is older than ``health_grace``. No score is derived while one of its facts is unreadable.
    The reasons do not depend on ``may_derive``.
    """
    if not report.live:
        return None, ()
    last_seen_age = report.last_seen_age_seconds
    faults = _find_faults(report, expected_bitrate, expected_frame_rate, last_seen_age)
    reported = report.health_score_ratio
    if reported is not None:
        is_low = reported < REPORTED_IS_LOW
        return reported, _list_reasons(faults, is_low=is_low) if faults or is_low else ()
    if not may_derive or report.health_unreadable:
        return None, _list_reasons(faults) if faults else ()
    if not faults:
        return (1.0 if _has_known_fact(report, expected_frame_rate, last_seen_age) else None), ()
    score = 1.0
    for _, factor in faults:
        score *= factor
    return score, _list_reasons(faults)


def _list_reasons(faults: Sequence[Fault], *, is_low: bool = False) -> tuple[HealthReason, ...]:
    """Return the reasons in the enumeration's order; ``is_low``: the platform's own score is low."""
    reasons = [reason for reason, _ in faults]
    if is_low and HealthReason.VERDICT not in reasons:
        reasons.insert(0, HealthReason.VERDICT)
    return tuple(reasons)


def _find_faults(
    report: StreamReport, expected_bitrate: float | None, expected_frame_rate: float | None, age: float | None
) -> list[Fault]:
    """Return the factors below 1, in the order of ``HealthReason``."""
    faults: list[Fault] = []
    if report.healthy is False:
        faults.append((HealthReason.VERDICT, VERDICT_FACTOR))
    if report.issues:
        faults.append((HealthReason.ISSUES, max(ISSUES_FLOOR, 1.0 - ISSUE_STEP * len(report.issues))))
    bitrate = report.ingest_bitrate_bytes_per_second
    if expected_bitrate and bitrate is not None and (factor := _sufficiency(bitrate, expected_bitrate)) < 1.0:
        faults.append((HealthReason.BITRATE_LOW, factor))
    frame_rate = report.frames_per_second
    if (
        expected_frame_rate
        and frame_rate is not None
        and (factor := _sufficiency(frame_rate, expected_frame_rate)) < 1.0
    ):
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
        faults.append((HealthReason.SILENT, _last_seen_factor(age)))
    faults += [(finding, PLAYBACK_FACTORS[finding]) for finding in report.playback_findings]
    return faults


def _has_known_fact(report: StreamReport, expected_frame_rate: float | None, age: float | None) -> bool:
    """Return whether any fact is known about a stream without faults."""
    return (
        report.healthy is not None
        or report.ingest_bitrate_bytes_per_second is not None
        or report.transcode_realtime_ratio is not None
        or report.packet_loss_ratio is not None
        or age is not None
        or report.playable is not None
        or (report.frames_per_second is not None and bool(expected_frame_rate))
    )


def _sufficiency(value: float, expected: float) -> float:
    return _clamp(value / (expected * ENOUGH_RATIO))


def _last_seen_factor(age: float) -> float:
    return _clamp((SILENT_SCORE_0_SECONDS - age) / (SILENT_SCORE_0_SECONDS - SILENT_AFTER_SECONDS))


def _clamp(value: float) -> float:
    return min(1.0, max(0.0, value))
