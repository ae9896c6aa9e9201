"""Alerts waiting to be sent to one Alertmanager: changes, and the rest of the current round."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from exporter.alerting.evaluator import Alert, AlertKey, Phase
from exporter.alerting.outbox import SendingOrder, sending_order
from exporter.alerting.payload import AlertPayload


class Version(NamedTuple):
    """Identifies one state of an alert, to detect changes."""

    phase: Phase
    fired_at: float | None
    resolved_at: float | None

    @classmethod
    def of(cls, alert: Alert) -> Version:
        """Return the alert's current version."""
        return cls(alert.phase, alert.fired_at, alert.resolved_at)


class Entry(NamedTuple):
    """An alert in a batch."""

    alert: Alert
    version: Version
    payload: AlertPayload
    is_change: bool


class Backlog:
    """Waiting alerts, kept by reference so that each is sent in its latest state."""

    def __init__(self) -> None:
        self._changes: tuple[dict[AlertKey, Alert], ...] = tuple({} for _ in SendingOrder)
        """Alerts whose latest state has not been accepted yet."""
        self._round: deque[Alert] = deque()
        """Alerts not yet repeated in this round."""

    def __len__(self) -> int:
        return self.changes + len(self._round)

    @property
    def changes(self) -> int:
        """Number of alerts whose latest state has not been accepted yet."""
        return sum(map(len, self._changes))

    @property
    def is_round_complete(self) -> bool:
        """Whether all alerts of the round have been taken."""
        return not self._round

    def add_changes(self, alerts: Iterable[Alert]) -> None:
        """Add alerts that have changed; each waits only once."""
        for alert in alerts:
            self._changes_for(alert)[alert.key] = alert

    def begin_round(self, alerts: Sequence[Alert]) -> None:
        """Start repeating all alerts, in the given order."""
        self._round = deque(alerts)

    def end_round(self) -> None:
        """Drop the rest of the round."""
        self._round.clear()

    def take_batch(self, size: int, build_payload: Callable[[Alert, Version], AlertPayload | None]) -> list[Entry]:
        """Return the next alerts: changes first, but at most half of them while a round is under way.

        ``build_payload`` returns None for an alert that no longer has to be sent. Changes stay in the backlog until
        ``remove``; repeated alerts leave it.
        """
        batch: list[Entry] = []
        limit = size if self.is_round_complete else max(1, size // 2)
        while self.changes and not batch:
            for changes in self._changes:
                for alert in list(islice(changes.values(), limit - len(batch))):
                    version = Version.of(alert)
                    payload = build_payload(alert, version)
                    if payload is None:
                        self.remove(alert, version)
                    else:
                        batch.append(Entry(alert, version, payload, is_change=True))
        while self._round and len(batch) < size:
            alert, version = self._round[0], Version.of(self._round.popleft())
            if self._changes_for(alert).get(alert.key) is not alert:
                payload = build_payload(alert, version)
                if payload is not None:
                    batch.append(Entry(alert, version, payload, is_change=False))
        return batch

    def return_to_front(self, batch: Sequence[Entry]) -> None:
        """Put back a batch so that it is sent next."""
        self._round.extendleft(entry.alert for entry in reversed(batch) if not entry.is_change)

    def return_to_end(self, batch: Iterable[Entry]) -> None:
        """Put back a batch behind all other alerts."""
        for entry in batch:
            changes, key = self._changes_for(entry.alert), entry.alert.key
            if not entry.is_change:
                self._round.append(entry.alert)
            elif changes.get(key) is entry.alert:
                changes[key] = changes.pop(key)

    def remove(self, alert: Alert, version: Version) -> None:
        """Remove a change, unless the alert has changed again."""
        changes = self._changes_for(alert)
        if changes.get(alert.key) is alert and Version.of(alert) == version:
            del changes[alert.key]

    def remove_resolved_before(self, steady: float) -> Iterator[Alert]:
        """Remove and yield alerts that were resolved before this time on the steady clock."""
        for changes in self._changes:
            for alert in [a for a in changes.values() if a.resolved_steady is not None and a.resolved_steady < steady]:
                del changes[alert.key]
                yield alert

    def _changes_for(self, alert: Alert) -> dict[AlertKey, Alert]:
        return self._changes[sending_order(alert)]
