"""What an exporter can know about the streams of a ``Server``, and what it must not export.

``Knowledge`` collects what the server reported in each poll; ``violations`` compares it with what is served. It does
not repeat the exporter's rules: it states what proof each served fact needs, and what good responses must lead to.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.evidence.lifecycle_world import Flag, Reported, RowFacts

MOVES_UNTIL_UNKNOWN, MOVES_UNTIL_LIVE, SECONDS_UNTIL_LIVE = 2, 3, 90.0
FROZEN_SECONDS, FROZEN_POLLS = 185.0, 5
"""Time and polls without movement of the total after which a stream has no media."""
GOOD_SCORE = 0.5
_SERIES = re.compile(r'^(stream_(?!upstream_)\w+)\{(.*?\bstream="((?:[^"\\]|\\.)*)".*)\} (\S+)$', re.MULTILINE)
WITHDRAWN_FAMILIES = {
    "stream_expected",
    "stream_status",
    "stream_status_last_change_timestamp_seconds",
    "stream_info",
}
"""Families that may be served for a stream without any facts."""


@dataclass
class Known:
    """What is known about one stream."""

    facts: RowFacts | None = None
    """The last readable row; None if there is none yet, or the stream was absent since."""
    was_listed: bool = False
    known_at: float | None = None
    """Steady seconds of the last row or proven absence."""
    unreadable_rows: int = 0
    """Number of unreadable rows in the list that last contained the stream."""
    absent_polls: int = 0
    is_absent: bool = False
    is_unsure: bool = False
    """Whether the stream was never listed and some rows are unreadable, so that its absence may count."""
    total: float | None = None
    heartbeat: float | None = None
    heartbeat_at: float = 0.0
    """Steady seconds at which the heartbeat was first seen or last advanced."""
    has_advanced: bool = False
    """Whether the heartbeat advanced in the last poll."""
    moved_since_live: bool = False
    moved_since_off: bool = False
    still_since: float | None = None
    still_polls: int = 0
    rises: int = 0
    """Consecutive polls without faults in which the total rose although the flag is off air."""
    first_rise_at: float = 0.0
    is_rise_off: bool = False
    """Whether the previous poll had that flag."""


@dataclass
class Knowledge:
    """What an exporter can know since its start."""

    interval: float
    heartbeat_limit: float | None
    streams: dict[int, Known]
    counted_at: float | None = None
    sharing: set[str] = field(default_factory=set)
    """Ids of streams whose name another stream has or had."""
    names: dict[str, str] = field(default_factory=dict)

    def learn(self, reported: Reported, now: float, *, is_calm: bool) -> None:
        """Take what a poll reported. ``is_calm``: the poll had no fault."""
        if not reported.is_usable:
            for known in self.streams.values():
                known.rises, known.is_rise_off, known.still_polls, known.still_since = 0, False, 0, None
            return
        is_evidence = self.counted_at is None or now - self.counted_at >= self.interval / 2
        if is_evidence:
            self.counted_at = now
        for number, known in self.streams.items():
            known.has_advanced = False
            if number in reported.facts:
                self._learn_row(known, reported.facts[number], reported, now, is_calm=is_calm and is_evidence)
            elif number in reported.absent:
                self._learn_absence(known, reported, now, is_evidence=is_evidence)

    def _learn_absence(self, known: Known, reported: Reported, now: float, *, is_evidence: bool) -> None:
        known.rises, known.is_rise_off, known.still_polls, known.still_since = 0, False, 0, None
        if reported.is_doubtful:
            return
        if known.was_listed and reported.unreadable_rows > known.unreadable_rows:
            return
        known.absent_polls += is_evidence or not reported.is_shifting
        if not known.was_listed and reported.unreadable_rows:
            # absence counts once the number of unreadable rows has not grown for a while
            known.is_unsure = True
        elif reported.is_direct or not reported.is_shifting or known.absent_polls >= 2:
            known.is_absent, known.is_unsure, known.facts, known.known_at = True, False, None, now

    def _learn_row(self, known: Known, facts: RowFacts, reported: Reported, now: float, *, is_calm: bool) -> None:
        before = known.facts
        has_risen = facts.total is not None and known.total is not None and facts.total > known.total
        known.has_advanced = (
            facts.heartbeat is not None and known.heartbeat is not None and facts.heartbeat > known.heartbeat
        )
        has_moved = has_risen or known.has_advanced
        if facts.heartbeat is not None and (known.heartbeat is None or known.has_advanced):
            known.heartbeat_at = now
        known.heartbeat = facts.heartbeat
        known.moved_since_live = facts.flag is not Flag.LIVE and (known.moved_since_live or has_moved)
        is_off_again = facts.flag is Flag.OFF_AIR and before is not None and before.flag is Flag.OFF_AIR
        known.moved_since_off = is_off_again and (known.moved_since_off or has_moved)
        if facts.flag is Flag.OFF_AIR and before is None and known.was_listed:
            # off air, absent, and off air again: movement in between may count
            known.moved_since_off = has_moved or known.moved_since_live
        self._learn_movement(known, facts, now, has_risen=has_risen, is_calm=is_calm)
        known.total = facts.total
        known.facts, known.known_at, known.was_listed = facts, now, True
        known.is_absent = known.is_unsure = False
        known.absent_polls, known.unreadable_rows = 0, reported.unreadable_rows

    def _learn_movement(self, known: Known, facts: RowFacts, now: float, *, has_risen: bool, is_calm: bool) -> None:
        is_off = facts.flag is Flag.OFF_AIR and facts.total is not None and is_calm
        if is_off and known.is_rise_off and has_risen:
            known.first_rise_at = known.first_rise_at if known.rises else now
            known.rises += 1
        else:
            known.rises = 0
        known.is_rise_off = is_off
        stands_still = facts.total is not None and known.total == facts.total and facts.flag is Flag.LIVE and is_calm
        if not stands_still:
            known.still_since, known.still_polls = now, 0
        else:
            known.still_polls += 1

    def is_without_heartbeat(self, known: Known, now: float) -> bool:
        """Whether the heartbeat has not advanced for the platform's limit, on the exporter's clock."""
        limit = self.heartbeat_limit
        return limit is not None and known.heartbeat is not None and now - known.heartbeat_at > limit

    def note_names(self, names: Mapping[str, str]) -> None:
        """Take the names of streams that are served, by id."""
        self.names |= names
        by_name: dict[str, list[str]] = {}
        for id_, name in self.names.items():
            by_name.setdefault(name or id_, []).append(id_)
        self.sharing |= {id_ for ids in by_name.values() if len(ids) > 1 for id_ in ids}

    def label(self, id_: str) -> str:
        """Return the label that a stream must have."""
        own = self.names[id_] or id_
        digest = hashlib.sha256(id_.encode()).hexdigest()[:8]
        return f"{own}#{digest}" if id_ in self.sharing else own


@dataclass(frozen=True)
class Served:
    """What is served: by stream id, the label and the series without that label."""

    labels: Mapping[str, str]
    series: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(cls, text: str, ids: Mapping[str, str]) -> Served:
        """Parse an exposition. ``ids``: stream ids by label."""
        series: dict[str, dict[str, float]] = {id_: {} for id_ in ids.values()}
        for family, labels, label, value in _SERIES.findall(text):
            if family == "stream_former_label":
                # its label is not that of a stream
                continue
            key = f"{family}{{{labels}}}".replace(f'stream="{label}"', "")
            own = series[ids[label]]
            assert key not in own, f"duplicate series {key}"
            own[key] = float(value)
        return cls({id_: label for label, id_ in ids.items()}, series)

    def value(self, id_: str, family: str) -> float | None:
        """Return the value of a family with one series per stream."""
        return next((v for key, v in self.series[id_].items() if key.startswith(f"{family}{{")), None)

    def status(self, id_: str) -> str:
        """Return the status word."""
        words = [re.findall(r'status="(\w+)"', key)[0] for key in self.series[id_] if key.startswith("stream_status{")]
        assert len(words) == 1, words
        return str(words[0])

    def families(self, id_: str) -> set[str]:
        return {key.partition("{")[0] for key in self.series[id_]}


def violations(knowledge: Knowledge, known: Known, served: Served, id_: str, now: float) -> Iterator[str]:
    """Yield what is served about a stream without proof."""
    live, status = served.value(id_, "stream_live"), served.status(id_)
    score = served.value(id_, "stream_health_score_ratio")
    facts = known.facts
    flag = None if facts is None else facts.flag
    lacks_heartbeat = knowledge.is_without_heartbeat(known, now)
    if (live is None) != (status == "unknown"):
        yield f"stream_live {live} with status {status}"
    if live == 0:
        has_off_air_record = facts is not None and facts.has_off_air_record
        is_proven = flag is Flag.OFF_AIR or has_off_air_record or known.is_absent or known.is_unsure
        if not is_proven and not lacks_heartbeat:
            yield f"off air ({status}) without proof: the platform last reported {flag}"
        if known.rises >= MOVES_UNTIL_UNKNOWN:
            yield "off air although the total rose in two polls"
    if live == 1 and flag is not Flag.LIVE and not known.moved_since_live and not known.moved_since_off:
        yield f"live without proof: the platform last reported {flag}"
    if live == 1 and lacks_heartbeat and not known.moved_since_live:
        yield "live without a heartbeat"
    if score is not None:
        yield from _score_violations(known, score, now, status=status)


def _score_violations(known: Known, score: float, now: float, *, status: str) -> Iterator[str]:
    if status not in ("live", "degraded"):
        yield f"a score of a stream that is {status}"
    if known.facts is not None and not known.facts.is_health_readable:
        yield f"score {score} while a health fact is unreadable"
    still_for = now - (known.still_since or now)
    if known.still_polls >= FROZEN_POLLS and still_for >= FROZEN_SECONDS and score > GOOD_SCORE:
        yield f"score {score} although no media has arrived for {still_for:.0f} s"


def shortcomings(knowledge: Knowledge, known: Known, served: Served, id_: str, now: float) -> Iterator[str]:
    """Yield what good responses should have led to, after a poll that reported the stream."""
    live, facts = served.value(id_, "stream_live"), known.facts
    if known.known_at != now:
        return
    if facts is None:
        if live != 0:
            yield f"{served.status(id_)} although it is absent from the list"
        return
    is_alive = knowledge.heartbeat_limit is None or known.has_advanced
    if facts.flag is Flag.LIVE and is_alive and live != 1:
        yield f"{served.status(id_)} although the platform reports it as live and its heartbeat advances"
    if facts.flag is Flag.OFF_AIR and not known.moved_since_off and live != 0:
        yield f"{served.status(id_)} although the platform reports it as off air and nothing moves"
    if facts.flag is Flag.UNKNOWN and not known.moved_since_live and live == 1:
        yield "live although the platform's word is unknown and nothing moves"
    if known.rises >= MOVES_UNTIL_LIVE and now - known.first_rise_at >= SECONDS_UNTIL_LIVE and live != 1:
        yield f"{served.status(id_)} although the total rose in {known.rises} polls"
