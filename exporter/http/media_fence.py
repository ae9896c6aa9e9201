"""The fence around the media fetcher: which addresses a URL chosen by a document or a redirect may lead to.

Without it, whoever writes a playlist could make the exporter send requests into the operator's network (server-side
request forgery). The rules:

- A *configured* host, one that the operator's own URLs name, may have any address. It is the same host for any port
  and scheme, and matches by name.
- Any other host may have public addresses, and the addresses that the configured hosts had at their last lookup (on
  any port). Only exact addresses count, not the network around them.
- A host that matches one of the ``hosts`` globs may also have private and loopback addresses. Globs never permit
  link-local, multicast, unspecified and reserved addresses, nor the metadata services of clouds.
- A host with several addresses is refused if one of them is forbidden, because the connection could use any of them,
  and because a mixture of public and private addresses is how DNS rebinding starts.

The check is part of the connector's name lookup, and the connector connects to the addresses that were checked: there
is no second lookup that could return something else. A connection that is kept open needs no lookup.

Sources: the IANA special-purpose address registries for IPv4 and IPv6 (RFC 6890), and the documents of the clouds.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from enum import StrEnum
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from exporter.http.media_url import Address, MediaUrl


class Network(StrEnum):
    """A kind of network that documents may not lead to."""

    LOOPBACK = "loopback"
    PRIVATE = "private"
    LINK_LOCAL = "link-local"
    METADATA = "cloud metadata"
    MULTICAST = "multicast"
    UNSPECIFIED = "unspecified"
    RESERVED = "reserved"


PERMITTED_BY_GLOB: Final = frozenset({Network.LOOPBACK, Network.PRIVATE})
"""Kinds that a host matching one of the ``hosts`` globs may have."""
_METADATA: Final = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Azure, Google Cloud and others
        "169.254.170.2",  # AWS containers
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure, a public address
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # Google Cloud
    )
)
_IPV4: Final[tuple[tuple[IPv4Network, Network], ...]] = tuple(
    (IPv4Network(text), kind)
    for text, kind in (
        ("0.0.0.0/32", Network.UNSPECIFIED),
        ("0.0.0.0/8", Network.RESERVED),
        ("10.0.0.0/8", Network.PRIVATE),
        ("100.64.0.0/10", Network.PRIVATE),  # shared by carriers' customers
        ("127.0.0.0/8", Network.LOOPBACK),
        ("169.254.0.0/16", Network.LINK_LOCAL),
        ("172.16.0.0/12", Network.PRIVATE),
        ("192.0.0.0/24", Network.RESERVED),
        ("192.0.2.0/24", Network.RESERVED),  # documentation
        ("192.88.99.0/24", Network.RESERVED),  # 6to4 relays
        ("192.168.0.0/16", Network.PRIVATE),
        ("198.18.0.0/15", Network.RESERVED),  # benchmarks
        ("198.51.100.0/24", Network.RESERVED),  # documentation
        ("203.0.113.0/24", Network.RESERVED),  # documentation
        ("224.0.0.0/4", Network.MULTICAST),
        ("240.0.0.0/4", Network.RESERVED),
    )
)
_IPV6: Final[tuple[tuple[IPv6Network, Network | None], ...]] = tuple(
    (IPv6Network(text), kind)
    for text, kind in (
        ("::/128", Network.UNSPECIFIED),
        ("::1/128", Network.LOOPBACK),
        ("fc00::/7", Network.PRIVATE),
        ("fe80::/10", Network.LINK_LOCAL),
        ("fec0::/10", Network.PRIVATE),  # site-local, deprecated
        ("ff00::/8", Network.MULTICAST),
        ("2001::/23", Network.RESERVED),  # protocols, with Teredo (2001::/32)
        ("2001:db8::/32", Network.RESERVED),
        ("2002::/16", Network.RESERVED),  # 6to4
        ("3fff::/20", Network.RESERVED),
        ("2000::/3", None),
        ("::/0", Network.RESERVED),  # with IPv4-compatible addresses (::/96) and local NAT64 (64:ff9b:1::/48)
    )
)
"""The first match counts. Only 2000::/3 is assigned to public hosts."""
_NAT64: Final = ip_network("64:ff9b::/96")


class ForbiddenAddressError(Exception):
    """The fence does not permit the host. The message contains the kind of network, and neither host nor address."""


def forbidden_network(address: Address) -> Network | None:
    """Return the kind of network of an address; None for a public one.

    An IPv4 address within an IPv6 address (IPv4-mapped, NAT64) counts as itself. 6to4, Teredo and IPv4-compatible
    addresses are all reserved.
    """
    if address in _METADATA:
        return Network.METADATA
    if isinstance(address, IPv4Address):
        return next((kind for network, kind in _IPV4 if address in network), None)
    inner = address.ipv4_mapped
    if inner is None and address in _NAT64:
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is not None:
        return forbidden_network(inner)
    # without the interface of a link-local address, which the comparison would ignore anyway
    plain = IPv6Address(int(address))
    if plain in _METADATA:
        return Network.METADATA
    return next(kind for network, kind in _IPV6 if plain in network)


class Fence:
    """The configured hosts, the globs, and the checks of a fetcher."""

    def __init__(self, configured: Iterable[MediaUrl], hosts: Iterable[str] = ()) -> None:
        """``configured``: the operator's URLs; ``hosts``: globs on names and addresses, without port."""
        self._configured: dict[str, frozenset[Address]] = {
            url.host: frozenset() if url.address is None else frozenset({url.address}) for url in configured
        }
        """Addresses of each configured host at its last lookup."""
        self._globs = tuple(glob.lower() for glob in hosts)

    def is_named(self, host: str) -> bool:
        """Return whether the operator named the host, in a URL or by a glob."""
        return host in self._configured or self._matches_glob(host)

    def check_url(self, url: MediaUrl) -> None:
        """Check a host that is an address, which needs no lookup. Raises ``ForbiddenAddressError``."""
        if url.address is not None and url.host not in self._configured:
            self._check(url.host, (url.address,))

    def check_lookup(self, host: str, addresses: Iterable[str]) -> None:
        """Check the result of a lookup. Raises ``ForbiddenAddressError`` if one of the addresses is forbidden."""
        try:
            found = frozenset(map(ip_address, addresses))
        except ValueError:
            raise ForbiddenAddressError("the name lookup returned something other than addresses") from None
        if host in self._configured:
            self._configured[host] = found
        else:
            self._check(host, found)

    def _check(self, host: str, addresses: Iterable[Address]) -> None:
        for address in addresses:
            kind = forbidden_network(address)
            if kind is None or any(address in known for known in self._configured.values()):
                continue
            if kind not in PERMITTED_BY_GLOB:
                raise ForbiddenAddressError(f"the host has a {kind} address")
            if not self._matches_glob(host):
                raise ForbiddenAddressError(f"the host has a {kind} address; to allow it, add the host to hosts")

    def _matches_glob(self, host: str) -> bool:
        return any(fnmatchcase(host, glob) for glob in self._globs)


class FencedResolver(AbstractResolver):
    """aiohttp resolver that returns only addresses that the fence permits."""

    def __init__(self, fence: Fence, resolver: AbstractResolver) -> None:
        self._fence = fence
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the host's addresses. Raises ``OSError`` and ``ForbiddenAddressError``."""
        found = await self._resolver.resolve(host, port, family)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        self._fence.check_lookup(host, [address["host"] for address in found])
        return found

    async def close(self) -> None:
        """Close the resolver that does the lookups."""
        await self._resolver.close()
