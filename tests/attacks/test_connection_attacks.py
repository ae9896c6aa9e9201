"""Connections to the exporter's port that send nothing."""

from __future__ import annotations

import resource
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from tests.attacks.attack_run import AttackRun
from tests.web.secure_server import write_certificate, write_web_config

TURN_SECONDS = 0.02
CONNECTIONS_PER_TURN = 8
"""Few enough that the listening socket's queue does not overflow."""
SECONDS = 11.0
"""Longer than a silent connection is kept."""


@pytest.fixture(autouse=True)
def many_descriptors() -> Iterator[None]:
    """Raise the limit of open files for the attacks' connections."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


@contextmanager
def connections_held(number: int, port: int, said: bytes = b"") -> Iterator[None]:
    """Keep this number of connections open, each having sent these bytes; reopen those that the server closes."""
    over = threading.Event()
    attack = threading.Thread(target=_hold, args=(number, ("127.0.0.1", port), said, over))
    attack.start()
    try:
        yield
    finally:
        over.set()
        attack.join()


def _hold(number: int, address: tuple[str, int], said: bytes, over: threading.Event) -> None:
    clients: set[socket.socket] = set()
    with selectors.DefaultSelector() as selector:
        while not over.wait(TURN_SECONDS):
            for _ in range(min(CONNECTIONS_PER_TURN, number - len(clients))):
                client = socket.socket()
                client.setblocking(False)
                client.connect_ex(address)
                clients.add(client)
                selector.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE)
            for key, events in selector.select(0):
                assert isinstance(key.fileobj, socket.socket)
                client = key.fileobj
                if is_closed(client, said if events & selectors.EVENT_WRITE else b""):
                    selector.unregister(client)
                    client.close()
                    clients.remove(client)
                elif events & selectors.EVENT_WRITE:
                    selector.modify(client, selectors.EVENT_READ)
        for client in clients:
            client.close()


def is_closed(client: socket.socket, said: bytes) -> bool:
    """Return whether the server has closed the connection; if not, send this."""
    try:
        client.send(said)
        return client.recv(65536) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_silent_connections_block_no_poll_and_no_scrape(tmp_path: Path) -> None:
    with (
        AttackRun("silent_connections", tmp_path) as run,
        run.under_attack(),
        connections_held(1120, run.exporter.port),
    ):
        threading.Event().wait(SECONDS)


CLIENT_HELLO_BEGINNING = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


@pytest.mark.parametrize("said", [b"", CLIENT_HELLO_BEGINNING], ids=["silent", "begun handshake"])
def test_idle_tls_connections_do_not_use_up_memory(tmp_path: Path, said: bytes) -> None:
    write_certificate(tmp_path, trustme.CA())
    web_config = write_web_config(
        tmp_path, {"tls_server_config": {"cert_file": "server.pem", "key_file": "server.key"}}
    )
    arguments = [f"--web.config.file={web_config}"]
    with (
        AttackRun("tls_connections", tmp_path, scheme="https", arguments=arguments, descriptors=4096) as run,
        run.under_attack(),
        connections_held(1500, run.exporter.port, said),
    ):
        threading.Event().wait(SECONDS)
