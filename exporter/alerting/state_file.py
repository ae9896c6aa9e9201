"""File that keeps alert state across restarts."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from exporter.alerting.evaluator import Alert, Phase
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.alerting.webhooks import NotifiedGroup
from exporter.runtime.clock import Clock
from exporter.runtime.state_files import MAX_SECONDS, StateFile

VERSION: Final = 2
READABLE_VERSIONS: Final = (1, VERSION)
FILE_NAME: Final = "alerts.json"
PENDING_MAX_AGE_SECONDS = 10 * 60.0
"""Maximum downtime after which ``for`` continues; a condition may not have held throughout a longer one."""
_NOT_A_STATE_FILE: Final = "it is not a valid state file"


class AlertState(msgspec.Struct):
    """State that survives a restart."""

    alerts: list[Alert] = []
    webhooks: dict[str, list[NotifiedGroup]] = {}
    """By webhook name."""


class _StateDocument(msgspec.Struct):
    """Content of the file. Version 1 has no boot id and no steady times."""

    version: int
    written_at: float
    """Unix seconds."""
    alerts: list[Alert]
    written_steady: float = 0.0
    boot_id: str = ""
    """Boot in which the steady times were measured; empty if unknown."""
    webhooks: dict[str, list[NotifiedGroup]] = {}
    """Missing in files of earlier releases, which ignore it."""


class _VersionOnly(msgspec.Struct):
    version: int


class AlertStateFile(StateFile[AlertState]):
    """The file that keeps alert state."""

    def __init__(self, path: Path, state: Callable[[], AlertState], *, clock: Clock, metrics: SidecarMetrics) -> None:
        """``state`` returns the current state to write."""
        super().__init__(
            path,
            name="alert state",
            encode=self._encode_state,
            decode=lambda content: restore_state(content, *clock.instant(), clock.boot_id()),
            clock=clock,
            metrics=metrics,
        )
        self._state = state
        metrics.start_write_failures()

    def load(self) -> AlertState:
        """Read the file; move it aside if it is corrupt or unsafe."""
        return super().load() or AlertState()

    def _encode_state(self) -> bytes:
        now, state = self._clock.instant(), self._state()
        document = _StateDocument(VERSION, now.wall, state.alerts, now.steady, self._clock.boot_id(), state.webhooks)
        return msgspec.json.encode(document)


def restore_state(content: bytes, wall_now: float, steady_now: float = 0.0, boot_id: str = "") -> AlertState:
    """Decode a file's content. Raises ``ValueError``, whose message never quotes the content.

    The time since the file was written is measured with the steady clock if ``boot_id``, the current boot, is the same,
    otherwise with the wall clock. It is never negative.
    """
    document = _decode_document(content)
    if boot_id and document.boot_id == boot_id:
        elapsed, shift = steady_now - document.written_steady, 0.0
    else:
        elapsed = max(0.0, wall_now - document.written_at)
        shift = steady_now - elapsed - document.written_steady
    is_recent = elapsed <= PENDING_MAX_AGE_SECONDS
    alerts = [a for a in document.alerts if _has_valid_times(a) and (is_recent or a.phase is not Phase.PENDING)]
    for alert in alerts:
        alert.active_steady = min(alert.active_steady + shift, steady_now)
        if alert.resolved_steady is not None:
            alert.resolved_steady = min(alert.resolved_steady + shift, steady_now)
        if alert.keep_steady is not None:
            alert.keep_steady = min(alert.keep_steady + shift, steady_now)
        if alert.stopped_steady is not None:
            alert.stopped_steady = max(alert.active_steady, min(alert.stopped_steady + shift, steady_now))
    webhooks = {
        name: [g for g in groups if math.isfinite(g.notified_steady)] for name, groups in document.webhooks.items()
    }
    for group in (group for groups in webhooks.values() for group in groups):
        group.notified_steady = min(group.notified_steady + shift, steady_now)
    return AlertState(alerts, webhooks)


def _decode_document(content: bytes) -> _StateDocument:
    """Decode a document of any readable version. Raises ``ValueError``."""
    try:
        version = msgspec.json.decode(content, type=_VersionOnly).version
        document = msgspec.json.decode(content, type=_StateDocument) if version in READABLE_VERSIONS else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError(_NOT_A_STATE_FILE) from None
    if document is None:
        known = " and ".join(map(str, READABLE_VERSIONS))
        raise ValueError(f"its version is {version}; this exporter reads versions {known}")
    if not all(abs(time) <= MAX_SECONDS for time in (document.written_at, document.written_steady)):
        raise ValueError(_NOT_A_STATE_FILE)
    if version == 1:
        _add_steady_times(document)
    return document


def _add_steady_times(document: _StateDocument) -> None:
    """Upgrade version 1: its wall times become the steady times of an unknown boot."""
    document.boot_id, document.written_steady = "", document.written_at
    for alert in document.alerts:
        alert.active_steady, alert.resolved_steady, alert.keep_steady = (
            alert.active_at,
            alert.resolved_at,
            alert.keep_since,
        )


def _has_valid_times(alert: Alert) -> bool:
    """Return whether all times are in range, and those that the alert's phase needs are set on both clocks."""
    wall_times = [alert.active_at, alert.fired_at, alert.resolved_at, alert.keep_since]
    steady_times = [alert.active_steady, alert.resolved_steady, alert.keep_steady, alert.stopped_steady]
    required = {Phase.PENDING: (), Phase.FIRING: (alert.fired_at,), Phase.RESOLVED: (alert.fired_at, alert.resolved_at)}
    return (
        all(0 <= time <= MAX_SECONDS for time in wall_times if time is not None)
        and all(abs(time) <= MAX_SECONDS for time in steady_times if time is not None)
        and (alert.resolved_at is None) is (alert.resolved_steady is None)
        and (alert.keep_since is None or alert.keep_steady is not None)
        and None not in required[alert.phase]
        and math.isfinite(alert.value)
    )
