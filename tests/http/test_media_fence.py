"""The fence: which addresses documents and redirects may lead to, and that the connection uses the checked address."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import aiohappyeyeballs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.http.media import FetchReason, MediaFetcher, shown
from exporter.http.media_fence import Fence, ForbiddenAddressError, Network, forbidden_network
from exporter.http.media_url import UnusableUrlError, parse_url
from exporter.runtime.clock import Clock
from tests.http.media_fetching import Names, failure, fetcher_of, head, playlist, whole
from tests.http.raw_server import answering, http

PUBLIC, PUBLIC_6 = "8.8.8.8", "2606:4700:4700::1111"
ADDRESSES = {
    Network.LOOPBACK: ["127.0.0.1", "127.255.255.254", "::1"],
    Network.PRIVATE: [
        "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255",
        "100.64.0.1", "100.127.255.255", "fc00::1", "fdff:ffff::1", "fec0::1",
    ],
    Network.LINK_LOCAL: ["169.254.0.1", "169.254.255.255", "fe80::1", "febf::1", "fe80::1%eth0"],
    Network.METADATA: [
        "169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254",
        "fd00:ec2::254%1", "fd20:ce::254",
    ],
    Network.MULTICAST: ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
    Network.UNSPECIFIED: ["0.0.0.0", "::"],
    Network.RESERVED: [
        "0.0.0.1", "192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.1",
        "203.0.113.1", "240.0.0.1", "255.255.255.255", "2001:db8::1", "3fff::1", "100::1", "4000::1", "5f00::1",
        # these lead to an IPv4 address that a relay or the system takes out of them
        "::127.0.0.1", "::8.8.8.8", "2002:7f00:1::", "2002:808:808::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "64:ff9b:1::7f00:1",
    ],
    None: [
        PUBLIC, PUBLIC_6, "1.1.1.1", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1", "126.255.255.255",
        "128.0.0.1", "172.15.255.255", "172.32.0.1", "192.167.255.255", "223.255.255.255", "2a00:1450:4001::1",
        "64:ff9b::8.8.8.8", "::ffff:8.8.8.8",
    ],
}  # fmt: skip
KINDS = [(address, kind) for kind, addresses in ADDRESSES.items() for address in addresses]
FORBIDDEN = [address for address, kind in KINDS if kind is not None]
LITERALS = [address for address in FORBIDDEN if "%" not in address]


def in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@pytest.mark.parametrize(("address", "kind"), KINDS)
def test_kind_of_an_address(address: str, kind: Network | None) -> None:
    assert forbidden_network(ip_address(address)) is kind


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:0:0", "64:ff9b::"]))
def test_ipv4_address_within_an_ipv6_address_counts_as_itself(address: IPv4Address, prefix: str) -> None:
    assert forbidden_network(IPv6Address(int(IPv6Address(prefix)) + int(address))) is forbidden_network(address)


@given(st.ip_addresses())
def test_public_address_is_global_for_the_standard_library_too(address: IPv4Address | IPv6Address) -> None:
    inner = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    if forbidden_network(address) is None:
        assert (inner or address).is_global


# -- literal addresses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [*LITERALS, "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "64:ff9b::10.0.0.1"])
@pytest.mark.parametrize("port", ["", ":8080"])
async def test_forbidden_address_in_a_document_is_blocked_without_a_request(address: str, port: str) -> None:
    names = Names()
    async with fetcher_of("http://origin.example", names=names) as fetcher:
        for fetch in (playlist, head, whole):
            error = await failure(fetch(fetcher, f"http://{in_url(address)}{port}/x.ts"), FetchReason.BLOCKED)
            assert "the host has a" in str(error)
    assert not names.lookups


@pytest.mark.parametrize(
    "host",
    [
        "2130706433", "017700000001", "0x7f000001", "0x7f.1", "127.1", "127.0.1", "0177.0.0.1", "127.0.0.01",
        "0x7f.0.0.1", "1.2.3.4.5", "256.0.0.1", "127.0.0.1.", "127.0.0.1..", "localhost.", "cdn.example.",
        "[fe80::1%eth0]", "[fe80::1%25eth0]", "[::1%25]", "user@127.0.0.1", "user:pass@cdn.example", "@cdn.example",
        "cdn.example@127.0.0.1", "a.0x", "\uff11\uff12\uff17.1", "127\u30020\u30020\u30021",
        "\u2460\u2461\u2466.0.0.1",
    ],
)  # fmt: skip
async def test_host_in_an_unusual_form_is_blocked(host: str) -> None:
    names = Names()
    # also where the address itself is allowed
    async with fetcher_of("http://127.0.0.1", names=names, hosts=["*"]) as fetcher:
        await failure(playlist(fetcher, f"http://{host}/x"), FetchReason.BLOCKED)
    assert not names.lookups


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "data:text/plain,x", "ftp://cdn.example/x", "gopher://cdn.example/", "javascript:1",
        "ws://cdn.example/", "rtmp://cdn.example/live", "unix:/run/x.sock", "http+unix://x/", "FILE:///x",
    ],
)  # fmt: skip
async def test_scheme_other_than_http_is_blocked(url: str) -> None:
    async with fetcher_of("http://origin.example", hosts=["*"]) as fetcher:
        await failure(playlist(fetcher, url), FetchReason.BLOCKED)


@pytest.mark.parametrize(
    "url",
    [
        "", "x.ts", "//cdn.example/x", "http://", "http:///x", "http://:80/", "http://cdn.example:0/",
        "http://cdn.example:65536/", "http://cdn.example:x/", "http://[::1", "http://[1.2.3.4]/", "http://[::g]/",
        "http://a b/", "http://a\\b/", "http://127.0.0.1%2f@x/", "http://cdn%2eexample/", "http://-a.example/",
        "http://a..example/", "http://.example/", f"http://{'a' * 64}.example/", f"http://{'a.' * 130}example/",
        f"http://cdn.example/{'x' * 10_000}", "http://cdn.example/\ud800", "http://\ud800.example/",
        "http://\u2100.example/", "http://xn--\xe4.example/",
    ],
)  # fmt: skip
async def test_text_that_is_not_a_url_is_refused(url: str) -> None:
    names = Names()
    async with fetcher_of("http://origin.example", names=names, hosts=["*"]) as fetcher:
        with pytest.raises(Exception, match="the URL"):
            await playlist(fetcher, url)
    assert not names.lookups


@given(st.text(max_size=60), st.sampled_from(["", "http://", "https://", "http://127.0.0.1", "http://[::1]"]))
def test_any_text_is_parsed_or_refused(text: str, start: str) -> None:
    try:
        url = parse_url(start + text)
    except UnusableUrlError:
        pass
    else:
        assert url.url.scheme == url.origin.scheme
        assert (url.url.raw_host, url.url.port) == (url.host, url.origin.port)
        assert url.url.raw_user is None
        assert parse_url(str(url.url)).origin == url.origin
    assert shown(start + text)


# -- names -------------------------------------------------------------------------------------------------------------


class Connections:
    """Records the addresses that aiohttp connects to, and refuses all connections."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.addresses: list[list[str]] = []
        monkeypatch.setattr(aiohappyeyeballs, "start_connection", self._start)

    async def _start(self, addr_infos: list[Any], **_: Any) -> socket.socket:
        self.addresses.append([info[4][0] for info in addr_infos])
        raise ConnectionRefusedError(111, "refused")


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Connections:
    return Connections(monkeypatch)


@pytest.mark.parametrize("address", [*FORBIDDEN, "::ffff:10.0.0.1"])
async def test_name_with_a_forbidden_address_is_blocked(address: str, connections: Connections) -> None:
    names = Names({"cdn.example": [[address]], "mixed.example": [[PUBLIC, address]], "other.example": [[PUBLIC]]})
    async with fetcher_of("http://other.example", names=names) as fetcher:
        for host in ("cdn.example", "mixed.example"):
            error = await failure(head(fetcher, f"http://{host}/x.ts"), FetchReason.BLOCKED)
            assert "the host has a" in str(error)
            assert address not in str(error)
    assert connections.addresses == []


async def test_connection_uses_the_checked_address_without_a_second_lookup(connections: Connections) -> None:
    # DNS rebinding: the next lookup would return another address
    names = Names({"cdn.example": [[PUBLIC, PUBLIC_6], ["127.0.0.1"]]})
    async with fetcher_of("http://origin.example", names=names) as fetcher:
        await failure(playlist(fetcher, "http://cdn.example/x"), FetchReason.CONNECT)
        assert {address for tried in connections.addresses for address in tried} == {PUBLIC, PUBLIC_6}
        assert names.lookups["cdn.example"] == 1
        tried = len(connections.addresses)
        await failure(playlist(fetcher, "http://cdn.example/x"), FetchReason.BLOCKED)
        assert len(connections.addresses) == tried


async def test_kept_connection_is_used_after_the_name_has_changed() -> None:
    names = Names({"cdn.example": [["127.0.0.1"], ["127.0.0.2"]]})
    closing = http(body=b"last", Connection="close")
    async with answering(http(), http(), closing) as server, fetcher_of(server.url, names=names) as fetcher:
        url = f"http://cdn.example:{server.port}/x"
        for _ in range(3):
            await playlist(fetcher, url)
        assert (names.lookups["cdn.example"], server.connections) == (1, 1)
        error = await failure(playlist(fetcher, url), FetchReason.BLOCKED)
    assert "the host has a loopback address; to allow it, add the host to hosts" in str(error)
    assert server.requests[0].headers["host"] == f"cdn.example:{server.port}"


async def test_lookup_that_returns_no_address_is_blocked() -> None:
    names = Names({"cdn.example": [["localhost"]]})
    async with fetcher_of("http://origin.example", names=names) as fetcher:
        await failure(playlist(fetcher, "http://cdn.example/"), FetchReason.BLOCKED)


async def test_default_resolver_is_fenced() -> None:
    fetcher = MediaFetcher(url="http://192.0.2.1", clock=Clock())
    try:
        await failure(playlist(fetcher, "http://localhost:9/"), FetchReason.BLOCKED)
    finally:
        await fetcher.close()


# -- what is allowed ---------------------------------------------------------------------------------------------------


async def test_configured_host_may_have_any_address_and_port(connections: Connections) -> None:
    names = Names({"origin.lan": [["10.0.0.5"]], "stream.lan": [["fe80::1%eth0"]]})
    async with fetcher_of("http://origin.lan", names=names, stream_urls=["https://stream.lan/x"]) as fetcher:
        for url in ("http://origin.lan/", "http://Origin.LAN:8080/", "http://stream.lan:81/"):
            await failure(playlist(fetcher, url), FetchReason.CONNECT)
    assert {address for tried in connections.addresses for address in tried} == {"10.0.0.5", "fe80::1%eth0"}


async def test_address_of_a_configured_host_is_allowed_but_not_its_network(connections: Connections) -> None:
    names = Names({"origin.lan": [["10.0.0.5"], ["10.0.0.6"]], "cdn.example": [["10.0.0.5"]]})
    async with fetcher_of("http://origin.lan", names=names) as fetcher:
        await failure(playlist(fetcher, "http://10.0.0.5/"), FetchReason.BLOCKED)
        await failure(playlist(fetcher, "http://origin.lan/"), FetchReason.CONNECT)
        for url in ("http://10.0.0.5/", "http://10.0.0.5:8080/", "http://cdn.example/"):
            await failure(playlist(fetcher, url), FetchReason.CONNECT)
        await failure(playlist(fetcher, "http://10.0.0.6/"), FetchReason.BLOCKED)
        await failure(playlist(fetcher, "http://origin.lan/"), FetchReason.CONNECT)
        await failure(playlist(fetcher, "http://10.0.0.6/"), FetchReason.CONNECT)
        await failure(playlist(fetcher, "http://10.0.0.5/"), FetchReason.BLOCKED)
        for mapped in ("[::ffff:10.0.0.6]", "[64:ff9b::10.0.0.6]"):
            await failure(playlist(fetcher, f"http://{mapped}/"), FetchReason.BLOCKED)


def test_glob_permits_private_and_loopback_addresses_only() -> None:
    fence = Fence([parse_url("http://origin.example")], ["*.LAN", "10.1.*", "fd12::*"])
    for kind, addresses in ADDRESSES.items():
        for address in addresses:
            if kind in (None, Network.PRIVATE, Network.LOOPBACK):
                fence.check_lookup("media.lan", [address])
            else:
                with pytest.raises(ForbiddenAddressError, match=str(kind)):
                    fence.check_lookup("media.lan", [address])
    for allowed in ("http://10.1.2.3:81/", "http://[fd12::5]/", "http://8.8.8.8/"):
        fence.check_url(parse_url(allowed))
    for forbidden in ("http://10.2.1.1/", "http://[fd13::5]/", "http://169.254.169.254/"):
        with pytest.raises(ForbiddenAddressError):
            fence.check_url(parse_url(forbidden))
    with pytest.raises(ForbiddenAddressError, match="add the host to hosts"):
        fence.check_lookup("lan", ["10.0.0.1"])


# -- redirects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.2/", "http://[::1]/", "http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/",
        "//192.168.0.1/x", "http://2130706433/", "http://0x7f.1/", "http://internal.example/", "http://localhost./",
        "http://u:p@cdn.example/", "file:///etc/passwd", "data:,x", "ftp://cdn.example/",
    ],
)  # fmt: skip
async def test_redirect_to_a_forbidden_target_is_blocked(target: str) -> None:
    names = Names({"internal.example": [["10.0.0.1"]], "cdn.example": [[PUBLIC]]})
    async with answering(http(302, b"", Location="/next"), http(302, b"", Location=target)) as server:
        async with fetcher_of(server.url, names=names) as fetcher:
            await failure(playlist(fetcher, f"{server.url}/first"), FetchReason.BLOCKED)
        assert [request.target for request in server.requests] == ["/first", "/next"]


async def test_many_fetches_of_one_name_are_checked_one_by_one() -> None:
    names = Names({"cdn.example": [["127.0.0.1"], ["127.0.0.2"]]})
    async with answering(http()) as server, fetcher_of(server.url, names=names) as fetcher:
        url = f"http://cdn.example:{server.port}/"
        results = await asyncio.gather(*(playlist(fetcher, url) for _ in range(2)), return_exceptions=True)
    assert sum(isinstance(result, Exception) for result in results) == 1, "the second lookup was refused"
