"""Samples that have room for what a platform can say, and read as all others."""

import sys
from typing import Any

import pytest

from exporter.model import DEPARTURE_FIELDS, Status, StreamReport
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


@pytest.mark.parametrize("platform", sorted(platforms()))
def test_what_it_has_no_room_for_reads_as_missing(platform: str) -> None:
    feeds = platforms()[platform].feeds
    sample, whole = slim_report(feeds)(id="a"), StreamReport(id="a")
    assert [getattr(sample, field) for field in FIELDS] == [getattr(whole, field) for field in FIELDS]
    always = {"id", "status", "live", "health_unreadable"} | DEPARTURE_FIELDS
    ages = {"last_seen_age_seconds"} if "last_seen_timestamp_seconds" in feeds else set()
    assert set(sample.__struct_fields__) == feeds & set(FIELDS) | always | ages
    assert repr(slim_report(FIELDS)(id="a")) == repr(whole)


def test_it_has_no_room_for_what_was_not_named() -> None:
    kind = slim_report({"viewers", "analytics"})
    assert kind(id="a", viewers=3).viewers == 3
    with pytest.raises(TypeError):
        kind(id="a", jitter_seconds=1.0)
    with pytest.raises(AttributeError):
        kind(id="a").jitter_seconds = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        kind()  # type: ignore[call-arg]


@pytest.mark.parametrize("life", [{}, {"live": False, "status": Status.IDLE}, {"end_timestamp_seconds": 7.0}])
def test_it_departs_and_is_veiled_as_others_are(life: dict[str, Any]) -> None:
    feeds = {"application", "ingest_bytes", "viewers"}
    slim, whole = slim_report(feeds)(**LIVE | life), StreamReport(**LIVE | life)
    for mine, others in ((slim.departed(9.0), whole.departed(9.0)), (anonymize(slim, "x"), anonymize(whole, "x"))):
        assert type(mine) is type(slim)
        assert [getattr(mine, field) for field in FIELDS] == [getattr(others, field) for field in FIELDS]


def test_storms_takes_a_third_of_the_memory() -> None:
    slim = slim_report(platforms()["storm"].feeds)(id="a")
    assert sys.getsizeof(slim) <= 16 + 8 * 25
    assert sys.getsizeof(StreamReport(id="a")) > 2 * sys.getsizeof(slim)


def test_what_has_no_entry_takes_no_memory() -> None:
    one, two = StreamReport(id="a"), slim_report(FIELDS)(id="b")
    for field in ("health_conditions", "multistream_targets", "ice_candidates"):
        assert getattr(one, field) is getattr(two, field)
        assert getattr(one, field) == {}
