"""Reading responses: any input gives a value or a failure with a reason."""

import json
import math
import ssl
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from exporter.http.errors import UpstreamError, map_exception
from exporter.http.response import decode_json, http_date, next_page, retry_after
from exporter.model import Reason

documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=5), inside, max_size=4),
    max_leaves=20,
)
UNIX = 1_726_000_000.0


def response_with(headers: dict[str, str]) -> aiohttp.ClientResponse:
    response = aiohttp.ClientResponse.__new__(aiohttp.ClientResponse)
    response._cache = {}
    response._url = URL("http://127.0.0.1/base/x?cursor=1")
    response._headers = CIMultiDictProxy(CIMultiDict(headers))
    return response


@given(documents)
def test_json_is_read_as_python_reads_it(document: Any) -> None:
    for text in (json.dumps(document), json.dumps(document, ensure_ascii=False)):
        assert decode_json(text.encode(), "application/json", "GET /x") == json.loads(text)


@given(documents, st.text(alphabet="\ud800\udbff\udc00\udfffa", min_size=1))
def test_half_a_surrogate_pair_does_not_spoil_a_document(document: Any, broken: str) -> None:
    decoded = decode_json(json.dumps({"good": document, "bad": broken}).encode(), None, "GET /x")
    assert decoded["good"] == json.loads(json.dumps(document))
    decoded["bad"].encode()


@given(st.binary() | st.text().map(str.encode) | st.from_regex(rb'[\[\]{}",:0-9eE+.\-\\u tfn]{0,60}'))
def test_anything_is_a_value_or_a_classed_failure(body: bytes) -> None:
    try:
        decoded = decode_json(body, "text/html", "GET /x")
    except UpstreamError as error:
        decoded = error.reason.value
    json.dumps(decoded, ensure_ascii=False).encode()


@given(st.text() | st.from_regex(r'(\s*<[^>]{0,5}>(;\s*[a-z]{1,4}(=("[^"]{0,4}"|[a-z]{0,4}))?){0,3},?){0,4}'))
def test_no_link_header_raises(header: str) -> None:
    page = next_page(response_with({"Link": header}))
    assert page is None or page.partition("?")[0] == "http://127.0.0.1/base/x"


@given(st.datetimes(datetime(1971, 1, 1), datetime(9000, 1, 1)))  # noqa: DTZ001
def test_dates(moment: datetime) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    assert http_date(format_datetime(moment, usegmt=True)) == moment.timestamp()


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,5} \d\d:\d\d:\d\d( [+-]?\w{1,5})?"))
def test_no_date_raises(text: str) -> None:
    http_date(text)
    wait = retry_after(text, None, UNIX)
    assert wait is None or (wait >= 0 and math.isfinite(wait))


@pytest.mark.parametrize(
    ("text", "wait"), [(None, None), ("", None), ("5", 5.0), ("٣", None), ("9" * 50, 999999999999.0)]
)
def test_retry_after(text: str | None, wait: float | None) -> None:
    assert retry_after(text, None, UNIX) == wait


@pytest.mark.parametrize("body", [b"", b"<html>", b"[NaN]", b"\xff", b"[" * 10_000])
def test_what_is_no_json(body: bytes) -> None:
    with pytest.raises(UpstreamError) as caught:
        decode_json(body, "text/html", "GET /x")
    assert caught.value.reason is Reason.BAD_RESPONSE


@pytest.mark.parametrize(
    ("raised", "reason", "text"),
    [
        (aiohttp.ConnectionTimeoutError("canary"), Reason.TIMEOUT, "no connection in time"),
        (aiohttp.SocketTimeoutError("canary"), Reason.TIMEOUT, "no answer in time"),
        (ConnectionResetError("canary"), Reason.CONNECT, "the connection was lost"),
        (aiohttp.ServerDisconnectedError("canary"), Reason.CONNECT, "the connection was lost"),
        (aiohttp.ClientPayloadError("canary"), Reason.BAD_RESPONSE, "the answer's body is cut off or malformed"),
        (ssl.SSLError("canary"), Reason.TLS, "no TLS connection"),
        (ZeroDivisionError("canary"), Reason.INTERNAL, "ZeroDivisionError"),
    ],
)
def test_exceptions_are_classed_without_their_text(raised: Exception, reason: Reason, text: str) -> None:
    error = map_exception(raised, "GET /x")
    assert (error.reason, str(error)) == (reason, f"GET /x: {text}")
