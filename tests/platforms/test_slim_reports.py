"""Slim report classes have only the fields that a platform fills, and otherwise behave like ``StreamReport``."""

from typing import Any

import pytest

from exporter.model import Status, StreamReport
from exporter.platforms.base import slim_report
from exporter.platforms.registry import platforms
from exporter.polling.stream_labels import anonymize

FIELDS = StreamReport.__struct_fields__
LIVE: dict[str, Any] = {
    "id": "app/key",
    "application": "app",
    "status": Status.LIVE,
    "live": True,
    "ingest_bytes": 5.0,
    "viewers": 3,
}


def values(report: StreamReport) -> list[Any]:
    return [getattr(report, field) for field in FIELDS]


@pytest.mark.parametrize("platform", sorted(platforms()))
def test_fields_of_slim_report_have_the_usual_defaults(platform: str) -> None:
    assert values(slim_report(platforms()[platform].feeds)(id="a")) == values(StreamReport(id="a"))


def test_slim_report_has_only_the_named_fields() -> None:
    kind = slim_report({"viewers", "analytics"})
    assert kind(id="a", viewers=3).viewers == 3
    with pytest.raises(TypeError):
        kind(id="a", jitter_seconds=1.0)
    with pytest.raises(AttributeError):
        kind(id="a").jitter_seconds = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        kind()  # type: ignore[call-arg]


@pytest.mark.parametrize("changes", [{}, {"live": False, "status": Status.IDLE}, {"end_timestamp_seconds": 7.0}])
def test_slim_report_departs_and_is_anonymized_like_a_full_report(changes: dict[str, Any]) -> None:
    slim = slim_report({"application", "ingest_bytes", "viewers"})(**LIVE | changes)
    full = StreamReport(**LIVE | changes)
    assert values(slim.departed(9.0)) == values(full.departed(9.0))
    assert values(anonymize(slim, "x")) == values(anonymize(full, "x"))
