"""Listen addresses: ``:10071``, ``127.0.0.1:10071``, ``[::1]:10071``, ``localhost:10071``."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable
from typing import Final

DEFAULT_LISTEN_ADDRESS: Final = ":10071"

_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:\[\]/@]*)):(?P<port>[0-9]{1,5})")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_BACKLOG = 128


class ListenError(OSError):
    """An address that can't be listened on; the text is one line and names it."""


def parse_listen_address(text: str) -> tuple[str, int]:
    """Host ("" for all) and port (0: any free one); ValueError when it is neither."""
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError("allowed: :PORT, HOST:PORT or [IPV6]:PORT")
    return match["ipv6"] or match["host"], int(match["port"])


def bind(addresses: Iterable[tuple[str, int]]) -> list[socket.socket]:
    """One listening socket per address; all or none."""
    sockets: list[socket.socket] = []
    try:
        sockets.extend(_bind(host, port) for host, port in addresses)
    except OSError:
        for bound in sockets:
            bound.close()
        raise
    return sockets


def _bind(host: str, port: int) -> socket.socket:
    try:
        if not host:
            return _bind_all(port)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name that stands for both families means the older one, as it does for Prometheus itself.
        family, _, _, _, address = min(found, key=lambda item: item[0] != socket.AF_INET)
        return socket.create_server(address, family=family, backlog=_BACKLOG)
    except OSError as error:
        # Of the rest, Python's text for a failed bind repeats the address in its own form.
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise ListenError(f"can't listen on {format_address(host, port)}: {reason}") from error


def _bind_all(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True)
    return socket.create_server(("", port), backlog=_BACKLOG)


def address_of(bound: socket.socket) -> str:
    """``host:port`` as the socket has it: with the real port where 0 was asked for."""
    host, port = bound.getsockname()[:2]
    return format_address(host, port)


def reachable_address(bound: socket.socket) -> str:
    """``host:port`` for others: an address that stands for all becomes this machine's name."""
    host, port = bound.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not listened on
        name = socket.gethostname()
        host = name if _HOST_NAME.fullmatch(name) else "127.0.0.1"
    return format_address(host, port)


def format_address(host: str, port: int) -> str:
    """``host:port``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
