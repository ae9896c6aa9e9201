"""A response is refused by its size and its number of values before any decoder sees it."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.http.errors import UpstreamError
from exporter.http.response import count_values
from exporter.model import Reason
from tests.http.raw_server import answering, client_of, http

LONG = 20.0

json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=50,
)


def number_of_values(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(number_of_values, inner))


@given(json_values, st.sampled_from([None, 2]))
def test_json_values_are_never_undercounted(value: Any, indent: int | None) -> None:
    assert number_of_values(value) <= count_values(json.dumps(value, indent=indent).encode(), is_json=True) + 1


@given(st.integers(0, 30), st.integers(0, 5))
def test_xml_values_are_never_undercounted(elements: int, attributes: int) -> None:
    element = "<a" + "".join(f' k{n}="v"' for n in range(attributes)) + "/>"
    document = "\ufeff\n<?xml version='1.0'?><root>" + element * elements + "</root>"
    assert elements * (1 + attributes) + 1 <= count_values(document.encode(), is_json=False)


async def test_text_that_is_not_decoded_has_no_values() -> None:
    exported = b'metric{a="1",b="2"} 1\n' * 100
    async with answering(http(body=exported)) as server, client_of(server.url, max_values=100) as client:
        answer = await client.requests(LONG).get("GET /metrics", json=False)
    assert answer.body == exported


SURROGATE = rb'"\ud800"'


@pytest.mark.parametrize("text", [b'"x"', SURROGATE], ids=["strict decoder", "lenient decoder"])
@pytest.mark.parametrize("fill", [b'{"a":{}}', b"[]", b"0", b'"x"'])
async def test_document_with_a_million_values_is_refused(fill: bytes, text: bytes) -> None:
    body = b'{"data":{"streams":[]},"s":' + text + b',"x":[' + b",".join([fill] * 1_000_000) + b"]}"
    packed = http(body=gzip.compress(body, 1), Content_Encoding="gzip")
    async with answering(packed) as server, client_of(server.url, max_body_bytes=2**24) as client:
        with pytest.raises(UpstreamError) as caught:
            await client.requests(LONG).get("GET /x")
    assert caught.value.reason is Reason.TOO_LARGE
    assert str(caught.value) == "GET /x: the response has more than 1000000 values"


async def test_xml_with_a_million_elements_is_refused() -> None:
    body = b"<r>" + b"<a/>" * 1_000_000 + b"</r>"
    async with answering(http(body=body)) as server, client_of(server.url, max_body_bytes=2**24) as client:
        with pytest.raises(UpstreamError) as caught:
            await client.requests(LONG).get("GET /x", json=False)
    assert caught.value.reason is Reason.TOO_LARGE


async def test_hundred_thousand_streams_in_one_response_fit() -> None:
    streams = b",".join(b'{"id":"%d","name":"stream-%d","isActive":true,"viewers":1}' % (n, n) for n in range(100_000))
    body = b'{"streams":[' + streams + b"]}"
    async with answering(http(body=body)) as server, client_of(server.url, max_body_bytes=2**24) as client:
        answer = await client.requests(LONG).get("GET /x")
    assert len(answer.data["streams"]) == 100_000


async def test_values_are_counted_over_all_responses_of_a_poll() -> None:
    page = http(body=b"[" + b",".join([b"1"] * 40) + b"]")
    async with answering(page) as server, client_of(server.url, max_values=100) as client:
        requests = client.requests(LONG)
        for _ in range(2):
            await requests.get("GET /page")
        with pytest.raises(UpstreamError) as caught:
            await requests.get("GET /page")
        await client.requests(LONG).get("GET /page")
    assert caught.value.reason is Reason.TOO_LARGE
    assert str(caught.value) == "GET /page: the responses of this poll exceed 100 values in total (max_streams)"


async def test_bytes_are_counted_over_all_responses_of_a_poll() -> None:
    page = http(body=b'"' + b"x" * 900 + b'"')
    async with answering(page) as server, client_of(server.url, max_body_bytes=1_000) as client:
        requests = client.requests(LONG)
        for _ in range(4):
            await requests.get("GET /page")
        with pytest.raises(UpstreamError) as caught:
            await requests.get("GET /page")
        await client.requests(LONG).get("GET /page")
    assert caught.value.reason is Reason.TOO_LARGE
    assert str(caught.value) == "GET /page: the responses of this poll exceed 4000 bytes in total (max_body_bytes)"


@pytest.mark.parametrize("form", [b'"%d":1', b'"%d" :\n1', b'"\\u0041%d":1', b'"\\"%d":1', b'"\\ud800%d":1'])
async def test_document_with_too_many_different_keys_is_refused(form: bytes) -> None:
    body = b"{" + b",".join(form % number for number in range(410_000)) + b"}"
    async with answering(http(body=body)) as server, client_of(server.url, max_body_bytes=2**24) as client:
        with pytest.raises(UpstreamError) as caught:
            await client.requests(LONG).get("GET /x")
    assert caught.value.reason is Reason.TOO_LARGE
    assert str(caught.value) == "GET /x: the response has more than 400000 different keys"


@pytest.mark.slow
@pytest.mark.parametrize("text", [b'"x"', SURROGATE], ids=["strict decoder", "lenient decoder"])
async def test_large_document_is_decoded_completely(text: bytes) -> None:
    rows = b",".join(b'{"a:b":"%d: \\"c\\":","d":[1.5,null]}' % number for number in range(100_000))
    body = b'{"first":' + text + b',"rows":[' + rows + b"]}"
    async with answering(http(body=body)) as server, client_of(server.url, max_body_bytes=2**24) as client:
        answer = await client.requests(LONG).get("GET /x")
    assert answer.data == json.loads(body)
