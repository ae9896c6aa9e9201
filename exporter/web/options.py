"""Values of the ``--web.*`` options: listen addresses, telemetry path, external URL. Does not import aiohttp."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address
from typing import Final, NamedTuple
from urllib.parse import urlsplit

DEFAULT_LISTEN_ADDRESS: Final = ":10071"
DEFAULT_TELEMETRY_PATH: Final = "/metrics"
DEFAULT_MAX_REQUESTS: Final = 40
"""Maximum number of concurrent requests."""
DEFAULT_MAX_CONNECTIONS: Final = 1024
"""Maximum number of open connections without TLS."""
DEFAULT_MAX_TLS_CONNECTIONS: Final = 256
"""Maximum number of open connections with TLS; each needs about 0.3 MB."""
PROBE_PATH: Final = "/probe"
DISCOVERY_PATH: Final = "/sd"
RUNBOOK_PATH: Final = "/runbook"

_RESERVED_PATHS = ("/config", "/streams", PROBE_PATH, DISCOVERY_PATH, RUNBOOK_PATH)
_RESERVED_PREFIXES = ("/-/", "/static/", "/streams/", "/api/v1/")
_PATH = re.compile(r"/[A-Za-z0-9._~/-]*")
_LISTEN_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:\[\]/@]*)):(?P<port>[0-9]{1,5})")
_HOST_HEADER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_BACKLOG = 128


class Origin(NamedTuple):
    """Base of the exporter's URLs."""

    address: str
    """``host[:port]``."""
    is_tls: bool = False
    path: str = ""
    """Prefix of every path, without a trailing slash."""

    @property
    def origin(self) -> str:
        """Value of the ``Origin`` header in requests from the exporter's own pages."""
        return f"{'https' if self.is_tls else 'http'}://{self.address}"

    @property
    def page_url(self) -> str:
        """URL of the exporter's page."""
        return f"{self.origin}{self.path}/"

    @classmethod
    def from_host_header(cls, host: str, *, is_tls: bool) -> Origin | None:
        """Return the origin that a request was sent to, or None if its ``Host`` header is malformed."""
        return cls(host, is_tls) if _HOST_HEADER.fullmatch(host) else None


class WebOptions(NamedTuple):
    """Command-line options of the web layer."""

    telemetry_path: str = DEFAULT_TELEMETRY_PATH
    enable_lifecycle: bool = False
    external: Origin | None = None
    """Base URL for Prometheus, if it differs from the ``Host`` header of its requests."""
    disable_probe: bool = False


def check_telemetry_path(path: str) -> str:
    """Return the path. Raises ``ValueError`` if it is malformed or reserved."""
    if not _PATH.fullmatch(path):
        raise ValueError("must start with / and contain only letters, digits and . _ ~ - /")
    if path in _RESERVED_PATHS or path.startswith(_RESERVED_PREFIXES):
        raise ValueError("path is used by another endpoint")
    return path


def external_origin(url: str) -> Origin:
    """Parse the value of ``--web.external-url``. Raises ``ValueError``."""
    parts = urlsplit(url)
    is_usable = parts.scheme in ("http", "https") and _HOST_HEADER.fullmatch(parts.netloc) and parts.port != 0
    if not is_usable or not re.fullmatch(r"[A-Za-z0-9._~/-]*", parts.path) or parts.query or parts.fragment:
        raise ValueError("expected http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]")
    return Origin(parts.netloc, parts.scheme == "https", parts.path.rstrip("/"))


class ListenError(OSError):
    """Listening failed. The message is one line that contains the address."""


def parse_listen_address(text: str) -> tuple[str, int]:
    """Parse ``:10071``, ``127.0.0.1:10071``, ``[::1]:10071`` or ``localhost:10071`` to host and port.

    Host "" means all addresses, port 0 any free port. Raises ``ValueError``.
    """
    match = _LISTEN_ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError("expected :PORT, HOST:PORT or [IPV6]:PORT")
    return match["ipv6"] or match["host"], int(match["port"])


def bind(addresses: Iterable[tuple[str, int]]) -> list[socket.socket]:
    """Open a listening socket for each address, or none if one fails. Raises ``ListenError``."""
    sockets: list[socket.socket] = []
    try:
        sockets.extend(_bind_address(host, port) for host, port in addresses)
    except OSError:
        for bound in sockets:
            bound.close()
        raise
    return sockets


def _bind_address(host: str, port: int) -> socket.socket:
    try:
        if not host:
            return _bind_all_addresses(port)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # Prefer IPv4 if a name resolves to both families, like Prometheus.
        family, _, _, _, address = min(found, key=lambda item: item[0] != socket.AF_INET)
        return socket.create_server(address, family=family, backlog=_BACKLOG)
    except OSError as error:
        # Python's own text repeats the address in another form.
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise ListenError(f"cannot listen on {format_address(host, port)}: {reason}") from error


def _bind_all_addresses(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True)
    return socket.create_server(("", port), backlog=_BACKLOG)


def address_of(bound: socket.socket) -> str:
    """Return the socket's ``host:port``, with the actual port if 0 was requested."""
    host, port = bound.getsockname()[:2]
    return format_address(host, port)


def reachable_address(bound: socket.socket) -> str:
    """Return ``host:port`` for links, with this machine's name instead of a wildcard address."""
    host, port = bound.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - only compared
        name = socket.gethostname()
        host = name if _HOST_NAME.fullmatch(name) else "127.0.0.1"
    return format_address(host, port)


def format_address(host: str, port: int) -> str:
    """Return ``host:port``, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_own_host(header: str) -> bool:
    """Return whether a ``Host`` header is an IP address, localhost, or this machine's name."""
    match = _HOST_HEADER.fullmatch(header.lower())
    host = match[1].strip("[]") if match else ""
    try:
        ip_address(host)
    except ValueError:
        name = socket.gethostname().lower()
        return host in ("localhost", name, name.partition(".")[0])
    return True


def network_of(address: str | None) -> str:
    """Return the IPv4 address or the IPv6 /64 network: a client can easily have many addresses of one /64 network."""
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return ""
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or IPv6Address(int(parsed) >> 64 << 64))
    return str(parsed)
