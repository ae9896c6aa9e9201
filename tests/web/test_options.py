import socket

import pytest

from exporter.web.options import (
    ListenError,
    Origin,
    address_of,
    bind,
    check_telemetry_path,
    external_origin,
    format_address,
    parse_listen_address,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":10071", ("", 10071)),
        ("127.0.0.1:10071", ("127.0.0.1", 10071)),
        ("[::1]:10071", ("::1", 10071)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        ("localhost:0", ("localhost", 0)),
        ("exporter.example.org:65535", ("exporter.example.org", 65535)),
    ],
)
def test_listen_address_is_parsed(text: str, address: tuple[str, int]) -> None:
    assert parse_listen_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "10071", "::1:10071", "localhost", "localhost:", ":65536", ":-1", "http://x:1", ":1x"]
)
def test_bad_listen_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r":PORT, HOST:PORT or \[IPV6\]:PORT"):
        parse_listen_address(text)


@pytest.mark.parametrize("host", ["", "127.0.0.1", "localhost"])
def test_bound_socket_accepts_ipv4(host: str) -> None:
    [bound] = bind([(host, 0)])
    with bound:
        port = bound.getsockname()[1]
        assert port > 0
        assert address_of(bound).endswith(f":{port}")
        with socket.create_connection(("127.0.0.1", port), timeout=10):
            pass


def test_wildcard_address_without_ipv6_binds_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    [bound] = bind([("", 0)])
    with bound:
        assert bound.family == socket.AF_INET


def test_port_in_use_is_reported_and_other_sockets_are_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        free = socket.create_server(("127.0.0.1", 0))
        free_port = free.getsockname()[1]
        free.close()
        with pytest.raises(ListenError, match=rf"^cannot listen on 127\.0\.0\.1:{port}: Address already in use$"):
            bind([("127.0.0.1", free_port), ("127.0.0.1", port)])
        socket.create_server(("127.0.0.1", free_port)).close()


def test_unknown_host_is_reported() -> None:
    with pytest.raises(ListenError, match=r"^cannot listen on nowhere\.invalid:1: "):
        bind([("nowhere.invalid", 1)])


def test_ipv6_address_is_formatted_in_brackets() -> None:
    assert format_address("::1", 1) == "[::1]:1"
    assert format_address("127.0.0.1", 1) == "127.0.0.1:1"


@pytest.mark.parametrize("path", ["/", "/metrics", "/a/b.c_d~e-f"])
def test_valid_telemetry_path_is_accepted(path: str) -> None:
    assert check_telemetry_path(path) == path


@pytest.mark.parametrize("path", ["/streams", "/streams/x", "/static/page.css", "/runbook", "/api/v1/streams"])
def test_telemetry_path_of_the_page_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="used by another endpoint"):
        check_telemetry_path(path)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://a", Origin("a")),
        ("https://a.example:8443/", Origin("a.example:8443", is_tls=True)),
        ("http://[::1]:1/x/y/", Origin("[::1]:1", path="/x/y")),
    ],
)
def test_external_url_is_parsed(url: str, origin: Origin) -> None:
    assert external_origin(url) == origin


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a",
        "ftp://a",
        "http://",
        "http://u:p@a",
        "http://a?b",
        "http://a#b",
        "http://a:0",
        "http://a:x",
        "http://a/{b}",
    ],
)
def test_bad_external_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        external_origin(url)
