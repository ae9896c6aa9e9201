"""Takes a stream's key out of everything that a platform says of the stream."""

from __future__ import annotations

from typing import Any

import msgspec

from exporter.model import StreamReport


def anonymized(report: StreamReport, label: str) -> StreamReport:
    """The report without its key: id replaced by ``label``, names empty, and the key cut out of every other text."""
    keys = {part for part in (report.id, report.id.rpartition("/")[2], report.session, report.name) if part}
    ordered = sorted(keys, key=len, reverse=True)
    clean = {
        field: _without(getattr(report, field), ordered, label)
        for field in report.__struct_fields__
        if field not in ("id", "name", "session", "playback_id")
    }
    return type(report)(id=label, **clean)


def _without(value: Any, keys: list[str], label: str) -> Any:
    if type(value) is str:  # not the words of an enumeration
        for key in keys:
            value = value.replace(key, label)
        return value
    if isinstance(value, tuple):
        return tuple(_without(item, keys, label) for item in value)
    if isinstance(value, dict):
        return {_without(key, keys, label): item for key, item in value.items()}
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(
            value, **{field: _without(getattr(value, field), keys, label) for field in value.__struct_fields__}
        )
    return value
