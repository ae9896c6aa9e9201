"""Parsing of fields: what is read, what is dropped, and that nothing raises."""

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.http.errors import UpstreamError
from exporter.model import Reason
from exporter.platforms.parsing import MAX_COUNT, MAX_TEXT, YEAR_2000, YEAR_2100, DropCounter, Record

METHODS = (
    "number",
    "total",
    "ratio",
    "count",
    "flag",
    "text",
    "word",
    "texts",
    "time_ms",
    "time_iso",
    "record",
    "records",
)
NOTHING = {"text": "", "word": "", "records": []}
"""Result for a missing value; None if not listed."""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=5), inside, max_size=4),
    max_leaves=10,
)


def read(method: str, value: object, **options: Any) -> tuple[Any, dict[str, int]]:
    """Return the result of a method for a value, and the dropped fields."""
    drops = DropCounter()
    return getattr(Record({"x": value}, drops), method)("x", **options), drops.counts


@pytest.mark.parametrize("method", METHODS)
def test_missing_and_null_are_none_and_not_counted(method: str) -> None:
    drops = DropCounter()
    record = Record({"null": None}, drops)
    assert getattr(record, method)("null") == getattr(record, method)("missing") == NOTHING.get(method)
    assert drops.counts == {}
    assert "null" not in record
    assert "missing" not in record


@pytest.mark.parametrize(
    ("method", "value", "options", "result"),
    [
        ("number", 5, {}, 5.0),
        ("number", -2.5, {"unit": 2.0}, -5.0),
        ("number", 1000, {"unit": 0.001, "low": 1.0, "high": 1.0}, 1.0),
        ("number", " 12.37 ", {}, 12.37),
        ("number", "-1e3", {}, -1000.0),
        ("total", 0, {}, 0.0),
        ("total", 10**300, {}, 1e300),
        ("total", 4, {"unit": 0.5}, 2.0),
        ("ratio", 1, {}, 1.0),
        ("ratio", 15.379520309919055, {"unit": 0.01}, 0.15379520309919055),
        ("ratio", 100.0000000001, {"unit": 0.01}, 1.0),
        ("ratio", -1e-12, {}, 0.0),
        ("count", 0, {}, 0),
        ("count", 7.0, {}, 7),
        ("count", " 7 ", {}, 7),
        ("count", MAX_COUNT, {}, MAX_COUNT),
        ("flag", False, {}, False),
        ("flag", True, {}, True),
        ("flag", "False", {}, False),
        ("flag", " yes ", {}, True),
        ("text", "a\x00\n", {}, "a\x00\n"),
        ("text", "x" * MAX_TEXT, {}, "x" * MAX_TEXT),
        ("text", "A key", {"unique": True}, "A key"),
        ("word", "LIVE", {}, "live"),
        ("texts", [], {}, ()),
        ("texts", ["a", ""], {}, ("a", "")),
        ("time_ms", 1726000123456, {}, 1726000123.456),
        ("time_ms", "1726000123456", {}, 1726000123.456),
        ("time_ms", 0, {}, None),
        ("time_ms", "0", {}, None),
        ("time_ms", 0.0, {}, None),
        ("time_iso", "2026-03-01T10:05:00Z", {}, 1772359500.0),
        ("time_iso", " 2026-03-01T11:05:00.500+01:00 ", {}, 1772359500.5),
        ("time_iso", "2026-03-01T10:05:00", {}, 1772359500.0),
        ("time_iso", "", {}, None),
        ("records", [], {}, []),
    ],
)
def test_good_values_are_read(method: str, value: object, options: dict[str, Any], result: object) -> None:
    assert read(method, value, **options) == (result, {})


@pytest.mark.parametrize(
    ("method", "options", "values"),
    [
        ("number", {}, [True, [], {}, math.nan, math.inf, -math.inf, 10**400]),
        ("number", {}, ["", "12.5 %", "nan", "inf", "1_0", "0x1", "1e9999", "٣", "1" * 400]),
        ("number", {"low": 5.0}, [4]),
        ("number", {"high": 5.0}, [6]),
        ("number", {"unit": 1e300}, [1e300]),
        ("total", {}, [-1]),
        ("ratio", {}, [1.01, -0.01]),
        ("count", {}, [-1, 1.5, True, "1.5", "", "-1", "9" * 30, 2**63, 1e300, math.nan, math.inf]),
        ("flag", {}, [0, 1, "maybe", "", []]),
        ("text", {}, [5, True, [], "x" * (MAX_TEXT + 1)]),
        ("word", {}, [5, "x" * (MAX_TEXT + 1)]),
        ("texts", {}, ["a", {}, 5]),
        ("time_ms", {}, [True, False, "1726000123", 1726000123, -1, 10**15]),
        ("time_iso", {}, ["now", 1726000123456, "1999-01-01T00:00:00Z", "2026-13-01T00:00:00Z"]),
        ("time_iso", {}, ["0001-01-01T00:00:00+23:59"]),
        ("record", {}, [[], "a", 5]),
        ("records", {}, [{}, "a", 5]),
    ],
)
def test_bad_values_are_dropped_and_counted(method: str, options: dict[str, Any], values: list[object]) -> None:
    for value in values:
        assert read(method, value, **options) == (NOTHING.get(method), {"x": 1})


def test_bad_items_are_dropped_and_good_ones_kept() -> None:
    assert read("texts", ["a", 5, None, "b", "x" * 2000]) == (("a", "b"), {"x": 3})
    records, dropped = read("records", [{"a": 1}, 5, None, {"b": 2}])
    assert ([record.raw for record in records], dropped) == ([{"a": 1}, {"b": 2}], {"x": 2})


def test_nested_fields_are_counted_by_their_path() -> None:
    drops = DropCounter()
    outer = Record.from_response(
        {"metrics": {"rtt": "?", "inner": {"a": "?"}}, "list": [{"b": "?"}, {"b": "?"}]}, drops
    )
    metrics = outer.record("metrics")
    assert metrics is not None
    assert metrics.number("rtt") is None
    inner = metrics.record("inner")
    assert inner is not None
    inner.flag("a")
    for record in outer.records("list"):
        record.count("b")
        record.sibling({"c": "?"}).count("c")
    assert drops.counts == {"metrics.rtt": 1, "metrics.inner.a": 1, "list.b": 2, "list.c": 2}


@pytest.mark.parametrize(
    ("raw", "kind"), [([1], "a list"), ("x", "a string"), (None, "null"), (True, "a boolean"), (5, "a number")]
)
def test_response_that_is_not_an_object_is_a_bad_response(raw: object, kind: str) -> None:
    with pytest.raises(UpstreamError, match=f"found {kind}$") as caught:
        Record.from_response(raw, DropCounter())
    assert caught.value.reason is Reason.BAD_RESPONSE


@given(st.sampled_from(METHODS), json_values)
def test_any_value_is_read_within_its_bounds_or_dropped(method: str, value: object) -> None:
    result, dropped = read(method, value)
    if method in ("number", "total", "ratio", "time_ms", "time_iso") and result is not None:
        assert math.isfinite(result)
    if method in ("total", "count") and result is not None:
        assert result >= 0
    if method == "ratio" and result is not None:
        assert 0.0 <= result <= 1.0
    if method.startswith("time") and result is not None:
        assert YEAR_2000 <= result <= YEAR_2100
    assert set(dropped) <= {"x"}


@given(st.datetimes(datetime(2001, 1, 1), datetime(2099, 1, 1)), st.integers(-1439, 1439))  # noqa: DTZ001
def test_iso_time_is_read_in_any_zone(moment: datetime, minutes: int) -> None:
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert read("time_iso", zoned.isoformat()) == (zoned.timestamp(), {})
    assert read("time_iso", moment.isoformat()) == (moment.replace(tzinfo=UTC).timestamp(), {})
