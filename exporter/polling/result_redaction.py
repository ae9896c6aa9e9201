"""Redact the exporter's own secrets in poll results, because a platform may echo what it was sent.

All texts from a platform pass through here before they are served, logged or stored. Only the platform module sees the
original texts, because it needs the real ids for its requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from typing import Any, TypeVar

import msgspec

from exporter.config.streams import StreamSettings
from exporter.model import Analytics, Listing, PollResult, Reason, Status, StreamReport
from exporter.runtime.redaction import MIN_TEXT_CHARACTERS, redactor

T = TypeVar("T")

ITEMS_PER_STEP = 100
"""Number of reports or ids to process before yielding to the event loop: about a millisecond of work."""
NAME_FIELDS = frozenset({"id", "name", "application", "session", "playback_id", "stream"})
"""Fields that identify something. A short secret is replaced there only if it is the whole name."""
_SEPARATOR = "\0"
"""Separates texts that are searched together; no secret contains it."""
_FLAT = frozenset({str, type(None), bool, int, float, Status, Reason, Listing})
"""Types that contain no other values."""


async def redact_result(
    result: PollResult, streams: tuple[StreamSettings, ...], own_streams: Iterable[StreamSettings]
) -> tuple[PollResult, tuple[StreamSettings, ...]]:
    """Return the result and the platform's configured streams without secrets; the same objects if there are none.

    ``own_streams``: the streams in the configuration, whose names and ids are never changed.
    """
    steps = list(_in_steps(result.streams))
    tainted = set()
    for number, reports in enumerate(steps):
        if _is_tainted(chain.from_iterable(map(msgspec.structs.astuple, reports))):
            tainted.add(number)
        if len(steps) > 1:
            await asyncio.sleep(0)
    rest = [getattr(result, field) for field in _OTHER_FIELDS]
    if not tainted and not _is_tainted(chain(rest, (stream.id for stream in streams))):
        return result, streams
    redaction = _Redaction(own_streams)
    await redaction.find_ids(_all_ids(result, streams))
    clean: list[StreamReport] = []
    for number, reports in enumerate(steps):
        clean += map(redaction.report, reports) if number in tainted else reports
        await asyncio.sleep(0)
    return redaction.result(result, tuple(clean)), tuple(map(redaction.settings, streams))


_OTHER_FIELDS = tuple(name for name in PollResult.__struct_fields__ if name not in ("streams", "passthrough"))
"""The pass-through metrics are redacted before they are parsed."""


def _is_tainted(values: Iterable[Any]) -> bool:
    """Return whether any text in these values may contain a secret."""
    return redactor.occurs_in(_SEPARATOR.join(_texts(values)))


def _texts(values: Iterable[Any]) -> list[str]:
    """Return all texts, at any depth, that are long enough to contain a secret."""
    values = list(values)
    texts = [value for value in values if type(value) is str and len(value) >= MIN_TEXT_CHARACTERS]
    for value in [value for value in values if type(value) not in _FLAT and value]:
        if isinstance(value, msgspec.Struct):
            texts += _texts(msgspec.structs.astuple(value))
        elif isinstance(value, Mapping):
            texts += _texts(chain(value, value.values()))
        elif isinstance(value, Collection):
            texts += _texts(value)
    return texts


def _in_steps(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + ITEMS_PER_STEP] for start in range(0, len(items), ITEMS_PER_STEP))


def _all_ids(result: PollResult, streams: Iterable[StreamSettings]) -> set[str]:
    reported = (report.id for report in result.streams)
    configured = (stream.id for stream in streams)
    analysed = (analytics.stream for analytics in result.analytics)
    return {*reported, *configured, *analysed, *result.failures, *result.postponed, *result.list_names}


class _Redaction:
    """Replaces secrets; streams with different ids keep different ids."""

    def __init__(self, own_streams: Iterable[StreamSettings]) -> None:
        self._kept = {text for stream in own_streams for text in (stream.id, stream.name) if text}
        self._ids: dict[str, str] = {}
        """New ids by the original ids that contain a secret."""

    async def find_ids(self, ids: set[str]) -> None:
        """Choose new ids for those that contain a secret. Ids that would become equal are numbered.

        They are not hashed, because a hash would reveal something about the secret.
        """
        changed: dict[str, str] = {}
        for batch in _in_steps(sorted(ids)):
            if _is_tainted(batch):
                changed |= {id_: shown for id_ in batch if (shown := self._name(id_)) != id_}
            await asyncio.sleep(0)
        taken = ids - changed.keys()
        numbers: dict[str, Iterator[int]] = {}
        for id_, shown in changed.items():
            unique = shown
            while unique in taken:
                unique = f"{shown}#{next(numbers.setdefault(shown, count(2)))}"
            taken.add(unique)
            self._ids[id_] = unique

    def result(self, result: PollResult, reports: tuple[StreamReport, ...]) -> PollResult:
        """Return the result without secrets. ``reports``: its redacted reports."""
        dropped: dict[str, int] = {}
        for field, times in result.dropped_fields.items():
            field = redactor.scrub_text(field)
            dropped[field] = dropped.get(field, 0) + times
        return msgspec.structs.replace(
            result,
            streams=reports,
            failures={self._id(id_): reason for id_, reason in result.failures.items()},
            postponed=frozenset(map(self._id, result.postponed)),
            list_names={self._id(id_): self._name(name) for id_, name in result.list_names.items()},
            list_doubt=redactor.scrub_text(result.list_doubt),
            unknown_words=self._replace(result.unknown_words),
            dropped_fields=dropped,
            fetch_failures=self._replace(result.fetch_failures),
            version=redactor.scrub_text(result.version),
            analytics=tuple(map(self._analytics, result.analytics)),
        )

    def report(self, report: StreamReport) -> StreamReport:
        """Return the report without secrets."""
        clean: StreamReport = self._replace(report)
        return msgspec.structs.replace(clean, id=self._id(report.id))

    def settings(self, stream: StreamSettings) -> StreamSettings:
        """Return the settings with the redacted id; this affects only streams that the platform configured."""
        return stream.model_copy(update={"id": self._ids[stream.id]}) if stream.id in self._ids else stream

    def _analytics(self, analytics: Analytics) -> Analytics:
        # the name comes from the configuration
        clean: Analytics = self._replace(analytics)
        return msgspec.structs.replace(clean, stream=self._id(analytics.stream), name=analytics.name)

    def _id(self, id_: str) -> str:
        return self._ids.get(id_, id_)

    def _name(self, name: str) -> str:
        return name if name in self._kept else redactor.scrub_name(name)

    def _replace(self, value: Any, scrub: Callable[[str], str] = redactor.scrub_text) -> Any:
        """Return the value with every text in it scrubbed, at any depth."""
        if type(value) is str:  # not an enum member
            return scrub(value)
        if isinstance(value, msgspec.Struct):
            changes = {
                field: self._replace(getattr(value, field), self._name if field in NAME_FIELDS else redactor.scrub_text)
                for field in value.__struct_fields__
            }
            return msgspec.structs.replace(value, **changes)
        if isinstance(value, tuple):
            return tuple(self._replace(item, scrub) for item in value)
        if isinstance(value, Mapping):
            return {self._replace(key, scrub): self._replace(item, scrub) for key, item in value.items()}
        return value
