import socket

import pytest

from exporter.web.options import ListenError, address_of, bind, format_address, parse_listen_address


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
def test_the_forms_of_an_address(text: str, address: tuple[str, int]) -> None:
    assert parse_listen_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "10071", "::1:10071", "localhost", "localhost:", ":65536", ":-1", "http://x:1", ":1x"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"allowed: :PORT, HOST:PORT or \[IPV6\]:PORT"):
        parse_listen_address(text)


@pytest.mark.parametrize("host", ["", "127.0.0.1", "localhost"])
def test_a_bound_socket_takes_connections_over_ipv4(host: str) -> None:
    [bound] = bind([(host, 0)])
    with bound:
        port = bound.getsockname()[1]
        assert port > 0
        assert address_of(bound).endswith(f":{port}")
        with socket.create_connection(("127.0.0.1", port), timeout=10):
            pass


def test_without_ipv6_all_means_all_of_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    [bound] = bind([("", 0)])
    with bound:
        assert bound.family == socket.AF_INET


def test_a_taken_port_is_named_and_nothing_stays_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        free = socket.create_server(("127.0.0.1", 0))
        free_port = free.getsockname()[1]
        free.close()
        with pytest.raises(ListenError, match=rf"^can't listen on 127\.0\.0\.1:{port}: Address already in use$"):
            bind([("127.0.0.1", free_port), ("127.0.0.1", port)])
        socket.create_server(("127.0.0.1", free_port)).close()


def test_an_unknown_host_is_named() -> None:
    with pytest.raises(ListenError, match=r"^can't listen on nowhere\.invalid:1: "):
        bind([("nowhere.invalid", 1)])


def test_ipv6_addresses_stand_in_brackets() -> None:
    assert format_address("::1", 1) == "[::1]:1"
    assert format_address("127.0.0.1", 1) == "127.0.0.1:1"
