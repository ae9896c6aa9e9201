"""Reading responses: any input gives a value or an error with a reason."""

import errno
import json
import math
import socket
import ssl
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from exporter.http.errors import UpstreamError, map_exception
from exporter.http.response import decode_declared, decode_json, http_date, next_page, retry_after
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


KEY = ConnectionKey("x.example", 443, is_ssl=False, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None)


def connector_error(error: OSError) -> Exception:
    return aiohttp.ClientConnectorError(KEY, error)


def dns_error(number: int) -> Exception:
    return aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(number, "canary"))


@given(documents)
def test_json_is_decoded_like_the_standard_library(document: Any) -> None:
    for text in (json.dumps(document), json.dumps(document, ensure_ascii=False)):
        assert decode_json(text.encode(), "application/json", "GET /x") == json.loads(text)


@given(documents, st.text(alphabet='\ud800\udbff\udc00\udfffa"\\', min_size=1))
def test_lone_surrogates_are_kept(document: Any, broken: str) -> None:
    text = json.dumps({"good": document, "bad": broken, broken: 1})
    assert decode_json(text.encode(), None, "GET /x") == json.loads(text)


@given(documents, st.binary(min_size=1).map(lambda raw: raw.replace(b'"', b"").replace(b"\\", b"")))
def test_invalid_utf_8_stays_in_its_string(document: Any, raw: bytes) -> None:
    body = b'{"good": %s, "bad": "%s", "%s!": 1}' % (json.dumps(document).encode(), raw, raw)
    decoded = decode_json(body, None, "GET /x")
    assert decoded["good"] == json.loads(json.dumps(document))
    assert decoded["bad"].encode("utf-8", "surrogateescape") == raw
    assert list(decoded) == ["good", "bad", decoded["bad"] + "!"]


@given(st.text(), st.sampled_from([b"\xff", b"\x07", b"\n", b"\\ud800", b""]))
def test_other_text_in_a_damaged_document_is_unchanged(text: str, damage: bytes) -> None:
    body = b'["' + damage + b'",' + json.dumps(text, ensure_ascii=False).encode() + b"]"
    assert decode_json(body, None, "GET /x")[1] == text


def test_different_bad_bytes_stay_different() -> None:
    names = decode_json(b'["caf\xe9", "caf\xea", "caf\\ud83d", "caf\\ud83c", "caf?"]', None, "GET /x")
    assert len(set(names)) == 5


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-" + b"9" * 5000])
def test_non_finite_number_does_not_affect_the_others(number: bytes) -> None:
    first, *others = decode_json(b'[%s, 1, {"a": 2.5}]' % number, None, "GET /x")
    assert (math.isfinite(first), others) == (False, [1, {"a": 2.5}])


@pytest.mark.parametrize("character", [bytes([code]) for code in range(32)] + [b"\x7f"])
def test_raw_control_characters_in_strings_are_accepted(character: bytes) -> None:
    assert decode_json(b'{"a": "x%sy", "b": 1}' % character, None, "GET /x") == {"a": f"x{character.decode()}y", "b": 1}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-le"])
def test_byte_order_marks_and_other_unicode_encodings_are_accepted(encoding: str) -> None:
    assert decode_json('{"a": "ä"}'.encode(encoding), None, "GET /x") == {"a": "ä"}


@given(st.binary() | st.text().map(str.encode) | st.from_regex(rb'[\[\]{}",:0-9eE+.\-\\u tfn]{0,60}'))
def test_any_body_is_decoded_or_fails_with_a_reason(body: bytes) -> None:
    try:
        decoded = decode_json(body, "text/html", "GET /x")
    except UpstreamError as error:
        decoded = error.reason.value
    json.dumps(decoded)


LATIN_1 = "<?xml version='1.0' encoding='%s'?><a>caf\xe9</a>"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"<a>\xc3\xa9</a>", "<a>\xe9</a>"),
        (b"\xef\xbb\xbf<a>\xc3\xa9</a>", "<a>\xe9</a>"),
        (b"<a>\xe9\xff</a>", "<a>\ufffd\ufffd</a>"),
        (b"", ""),
        *(((LATIN_1 % name).encode("latin-1"), LATIN_1 % name) for name in ("ISO-8859-1", "latin1", "Latin-1")),
        *(((LATIN_1 % name).encode(), LATIN_1 % name) for name in ("UTF-8", "utf8", "US-ASCII", "koi8-r", "no such")),
        ((LATIN_1 % "utf-8").encode("latin-1"), LATIN_1.replace("\xe9", "\ufffd") % "utf-8"),
        (b"\n" + (LATIN_1 % "iso-8859-1").encode("latin-1"), "\n" + LATIN_1 % "iso-8859-1"),
        (b"<a encoding='latin1'>\xe9</a>", "<a encoding='latin1'>\ufffd</a>"),
        (b"<?xml " + b" " * 200 + b"encoding='latin1'?>\xe9", "<?xml " + " " * 200 + "encoding='latin1'?>\ufffd"),
    ],
)
def test_text_is_decoded_as_declared(body: bytes, text: str) -> None:
    assert decode_declared(body) == text


@given(st.text() | st.from_regex(r'(\s*<[^>]{0,5}>(;\s*[a-z]{1,4}(=("[^"]{0,4}"|[a-z]{0,4}))?){0,3},?){0,4}'))
def test_any_link_header_is_parsed_or_ignored(header: str) -> None:
    for text in (header, header.replace("a", "\udce9")):
        page = next_page(response_with({"Link": text}))
        assert page is None or page.partition("?")[0] == "http://127.0.0.1/base/x"


@given(st.datetimes(datetime(1971, 1, 1), datetime(9000, 1, 1)))  # noqa: DTZ001
def test_http_date_is_parsed(moment: datetime) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    assert http_date(format_datetime(moment, usegmt=True)) == moment.timestamp()


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,5} \d\d:\d\d:\d\d( [+-]?\w{1,5})?"))
def test_any_date_is_parsed_or_ignored(text: str) -> None:
    http_date(text)
    wait = retry_after(text, None, UNIX)
    assert wait is None or (wait >= 0 and math.isfinite(wait))


@pytest.mark.parametrize(
    ("text", "wait"), [(None, None), ("", None), ("5", 5.0), ("٣", None), ("9" * 50, 999999999999.0)]
)
def test_retry_after_in_seconds_is_parsed(text: str | None, wait: float | None) -> None:
    assert retry_after(text, None, UNIX) == wait


@pytest.mark.parametrize(
    "body", [b"", b"\xef\xbb\xbf", b"<html>", b"[1,]", b"{'a': 1}", b"[nan]", b"\xff", b'["', b"[" * 10_000]
)
def test_invalid_json_is_a_bad_response(body: bytes) -> None:
    with pytest.raises(UpstreamError) as caught:
        decode_json(body, "text/html", "GET /x")
    assert caught.value.reason is Reason.BAD_RESPONSE


@pytest.mark.parametrize(
    ("raised", "reason", "text"),
    [
        (
            aiohttp.ConnectionTimeoutError("canary"),
            Reason.TIMEOUT,
            "connection timed out: check host and port in url, and firewalls",
        ),
        (aiohttp.SocketTimeoutError("canary"), Reason.TIMEOUT, "timed out"),
        (
            ConnectionResetError("canary"),
            Reason.CONNECT,
            "connection lost before the response was complete: check the server's log",
        ),
        (
            aiohttp.ServerDisconnectedError("canary"),
            Reason.CONNECT,
            "the server closed the connection without responding: check scheme and port in url",
        ),
        (
            connector_error(OSError(errno.EHOSTUNREACH, "canary")),
            Reason.CONNECT,
            "cannot connect to the host (No route to host): check host and port in url, the network and firewalls",
        ),
        (
            connector_error(OSError("canary")),
            Reason.CONNECT,
            "cannot connect to the host: check host and port in url, the network and firewalls",
        ),
        (
            dns_error(socket.EAI_NONAME),
            Reason.CONNECT,
            "host name not found: check the host in url, and DNS",
        ),
        (
            dns_error(socket.EAI_AGAIN),
            Reason.CONNECT,
            "host name cannot be resolved at the moment: check DNS",
        ),
        (
            dns_error(socket.EAI_FAIL),
            Reason.CONNECT,
            "host name cannot be resolved at the moment: check DNS",
        ),
        (aiohttp.ClientPayloadError("canary"), Reason.BAD_RESPONSE, "response body is truncated or malformed"),
        (
            ssl.SSLError("canary"),
            Reason.TLS,
            "the TLS handshake failed: check the port in url, and the server's TLS settings",
        ),
        (ZeroDivisionError("canary"), Reason.INTERNAL, "ZeroDivisionError"),
    ],
)
def test_exception_is_mapped_to_a_reason_without_its_text(raised: Exception, reason: Reason, text: str) -> None:
    error = map_exception(raised, "GET /x")
    assert (error.reason, str(error)) == (reason, f"GET /x: {text}")
