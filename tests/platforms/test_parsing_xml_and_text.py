"""XML and text are read like JSON: numbers and flags are strings, and a single element is also a list."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Literal
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.http.errors import UpstreamError
from exporter.model import Reason
from exporter.platforms import api
from exporter.platforms.api import DropCounter, Record, decode_lines, decode_xml
from exporter.platforms.testing import RecordedResponse, Recording, expose

NOW = 1_726_000_000.0
NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,5}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"))


def xml(text: str) -> Record:
    return Record(decode_xml(text, "GET /stat"), DropCounter(), is_text=True)


def text_record(**fields: Any) -> tuple[Record, DropCounter]:
    drops = DropCounter()
    return Record(fields, drops, is_text=True), drops


# -- XML ---------------------------------------------------------------------------------------------------------------


def test_xml_elements_become_strings_objects_and_lists() -> None:
    document = xml('<a id="7"><b>1</b><c>x</c><c>y</c><d><e>2</e></d><empty/></a>')
    root = document.required_record("a")
    assert root.text("@id") == "7"
    assert root.number("b") == 1.0
    assert root.texts("c") == ("x", "y")
    assert root.texts("b") == ("1",)
    assert [inner.count("e") for inner in root.records("d")] == [2]
    assert "empty" in root
    assert (root.record("empty"), root.records("empty"), root.texts("empty")) == (None, [], ())
    assert "missing" not in root


def test_xml_text_next_to_children_has_its_own_key() -> None:
    assert decode_xml("<a> before <b>1</b> after </a>", "") == {"a": {"b": "1", "#text": "before  after"}}


@given(st.recursive(TEXTS, lambda inside: st.dictionaries(NAMES, inside, min_size=1, max_size=3), max_leaves=12))
def test_xml_document_round_trips(content: Any) -> None:
    def write(name: str, value: Any) -> str:
        inner = "".join(write(*item) for item in value.items()) if isinstance(value, dict) else escape(value)
        return f"<{name}>{inner}</{name}>"

    def stripped(value: Any) -> Any:
        return {key: stripped(item) for key, item in value.items()} if isinstance(value, dict) else value.strip()

    def normalized(value: str) -> str:
        return value.replace("\r\n", "\n").replace("\r", "\n")

    assert decode_xml(normalized(write("root", content)), "") == {"root": stripped(content)}


@given(TEXTS)
def test_xml_attribute_round_trips(value: str) -> None:
    (attribute,) = decode_xml(f"<a b={quoteattr(value)}/>", "")["a"].values()
    assert attribute == value


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("", "not XML"),
        ("<a>", "not XML"),
        ("<a></b>", "not XML"),
        ("{}", "not XML"),
        ("<a/><b/>", "not XML"),
        ("<a>&unknown;</a>", "not XML"),
        ('<!DOCTYPE a SYSTEM "x"><a/>', "XML with a DOCTYPE"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "XML with a DOCTYPE"),
        ('<?xml version="1.0" encoding="UTF-16"?><a/>', "XML encoding"),
        ("<a>" * 100 + "</a>" * 100, "XML nested"),
    ],
)
def test_invalid_or_unsupported_xml_is_a_bad_response(document: str, message: str) -> None:
    with pytest.raises(UpstreamError, match=f"GET /stat: {message}") as caught:
        decode_xml(document, "GET /stat")
    assert caught.value.reason is Reason.BAD_RESPONSE


@pytest.mark.parametrize("encoding", ["utf-8", "UTF-8", "us-ascii", "iso-8859-1"])
def test_supported_xml_encodings_are_accepted(encoding: str) -> None:
    assert decode_xml(f'<?xml version="1.0" encoding="{encoding}"?><a>1</a>', "") == {"a": "1"}


def test_xml_longer_than_a_slice_is_read() -> None:
    rows = "".join(f"<row><n>{number}</n><name>stre\u00e4m</name></row>" for number in range(10_000))
    records = xml(f"<a>{rows}</a>").required_record("a").records("row")
    assert [record.count("n") for record in records] == list(range(10_000))
    assert {record.text("name") for record in records} == {"stre\u00e4m"}


@given(st.text())
def test_any_text_is_parsed_as_xml_or_refused(text: str) -> None:
    with suppress(UpstreamError):
        assert len(decode_xml(text, "")) == 1


# -- values of XML and text --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "text", "options", "expected"),
    [
        ("number", "12.5", {}, 12.5),
        ("number", "4000", {"unit": api.KILOBITS_PER_SECOND}, 500_000.0),
        ("number", "", {}, None),
        ("total", "7", {}, 7.0),
        ("ratio", "97", {"unit": api.PERCENT}, 0.97),
        ("count", "3", {}, 3),
        ("count", "", {}, None),
        ("flag", "true", {}, True),
        ("flag", "No", {}, False),
        ("flag", "", {}, None),
        ("time_seconds", "1726000000", {}, NOW),
        ("time_seconds", "0", {}, None),
        ("time_ms", "1726000000000", {}, NOW),
        ("time_iso", "2024-09-10T20:26:40Z", {}, NOW),
        ("time_http", "Tue, 10 Sep 2024 20:26:40 GMT", {}, NOW),
    ],
)
def test_text_is_read_as_a_value(method: str, text: str, options: dict[str, Any], expected: Any) -> None:
    record, drops = text_record(x=text)
    assert getattr(record, method)("x", **options) == expected
    assert drops.counts == {}


@pytest.mark.parametrize(
    ("method", "text", "options"),
    [
        ("number", "12 %", {}),
        ("number", "many", {}),
        ("total", "-1", {}),
        ("count", "-1", {}),
        ("count", "1.5", {}),
        ("count", "9" * 30, {}),
        ("flag", "maybe", {}),
        ("time_seconds", "17", {}),
        ("time_http", "yesterday", {}),
    ],
)
def test_unreadable_text_is_dropped_and_counted(method: str, text: str, options: dict[str, Any]) -> None:
    record, drops = text_record(x=text)
    assert getattr(record, method)("x", **options) is None
    assert drops.counts == {"x": 1}


def test_lines_become_fields_and_the_first_of_a_name_is_used() -> None:
    assert decode_lines(["a: 1", "b:2 ", "nothing", "a: 3", "c = 4"]) == {"a": "1", "b": "2"}
    assert decode_lines(["c = 4"], separator="=") == {"c": "4"}


@pytest.mark.parametrize("raw", [{}, {"streams": 5}])
def test_missing_required_object_is_a_bad_response(raw: dict[str, Any]) -> None:
    with pytest.raises(UpstreamError, match="no streams"):
        Record(raw, DropCounter()).required_record("streams")


@pytest.mark.parametrize("raw", [{}, {"streams": None}, {"streams": {"a": 1}}])
def test_missing_required_list_is_a_bad_response(raw: dict[str, Any]) -> None:
    with pytest.raises(UpstreamError, match="no list streams"):
        Record(raw, DropCounter()).required_records("streams")


def test_required_list_may_be_empty() -> None:
    assert Record({"streams": []}, DropCounter()).required_records("streams") == []


# -- a platform with one GET -------------------------------------------------------------------------------------------


class Settings(api.UpstreamSettings):
    platform: Literal["listed"] = "listed"


class Listed(api.ListPlatform[Settings]):
    """Reads the same rows from JSON, XML and text."""

    name = "listed"
    settings_class = Settings
    feeds = frozenset({"status", "live", "viewers"})
    endpoint = "GET /streams"

    def read(self, document: Record) -> Iterator[api.StreamReport | None]:
        root = document.record("streams") or document
        for row in root.records("items") or root.records("stream") or [root]:
            name = row.text("name")
            yield (
                api.StreamReport(id=name, live=True, status=api.Status.LIVE, viewers=row.count("viewers"))
                if name
                else None
            )


class ListedXml(Listed):
    response_format = api.ResponseFormat.XML


class ListedText(Listed):
    response_format = api.ResponseFormat.TEXT


LABELS = 'platform="listed",upstream="test"'


def exposed(kind: type[Listed], body: Any) -> str:
    return expose(kind, Recording({"GET /streams": RecordedResponse.of(body)}))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Listed, [{"name": "one", "viewers": 3}]),
        (Listed, {"items": [{"name": "one", "viewers": 3}]}),
        (ListedXml, "<streams><stream><name>one</name><viewers>3</viewers></stream></streams>"),
        (ListedText, "name: one\nviewers: 3\n"),
    ],
    ids=["json list", "json object", "xml", "text"],
)
def test_every_format_exports_the_same_stream(kind: type[Listed], body: Any) -> None:
    assert f'stream_viewers{{{LABELS},stream="one"}} 3\n' in exposed(kind, body)


def test_row_without_a_name_drops_only_that_row() -> None:
    text = exposed(Listed, [{"name": "one"}, {"viewers": 5}])
    assert f'stream_live{{{LABELS},stream="one"}} 1\n' in text
    assert 'stream_upstream_fields_dropped_total{field="row",platform="listed",upstream="test"} 1.0\n' in text


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Listed, [{"viewers": 5}]),
        (Listed, 5),
        (ListedXml, "<streams><stream/>"),
        (ListedXml, "{}"),
        (ListedText, ""),
        (ListedText, "<html>"),
    ],
)
def test_wrong_document_fails_the_poll(kind: type[Listed], body: Any) -> None:
    text = exposed(kind, body)
    assert f"stream_upstream_up{{{LABELS}}} 0\n" in text
    assert 'stream_upstream_poll_failures_total{platform="listed",reason="bad_response",upstream="test"} 1.0\n' in text


def test_list_platform_sends_one_request_per_poll() -> None:
    settings = Settings.model_validate({"name": "a", "url": "http://a", "interval": "20s"})
    assert Listed.requests_per_minute(settings) == 3.0
