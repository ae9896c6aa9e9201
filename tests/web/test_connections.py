"""Limit of open connections, and which one is replaced."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog.testing

from exporter.cli.settings import load_settings
from exporter.config.root import Settings
from exporter.metrics.self_metrics import FamilyRegistry
from exporter.web.connections import ConnectionBudget, OpenConnections
from tests.fake_clock import FakeClock


class Connection:
    """A fake connection."""

    def __init__(self, host: str, *, is_answering: bool = False) -> None:
        self.host = host
        self.is_answering = is_answering
        self.is_open = True

    def abort(self) -> None:
        self.is_open = False


def admitted(connections: OpenConnections, *hosts: str) -> list[Connection]:
    """Open one connection from each host, in this order."""
    found = [Connection(host) for host in hosts]
    for connection in found:
        assert connections.admit(connection)
    return found


def are_open(found: list[Connection]) -> list[bool]:
    return [connection.is_open for connection in found]


def test_client_with_the_most_connections_loses_its_oldest_one() -> None:
    connections = OpenConnections(lambda: 4)
    found = admitted(connections, "10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.2")
    admitted(connections, "10.0.0.3")
    assert are_open(found) == [True, False, True, True]


@pytest.mark.parametrize(
    ("host", "other", "is_same"),
    [
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("10.0.0.1", "10.0.0.2", False),
    ],
)
def test_addresses_of_an_ipv6_network_count_as_one_client(host: str, other: str, is_same: bool) -> None:
    connections = OpenConnections(lambda: 3)
    alone, *both = admitted(connections, "192.0.2.1", host, other)
    admitted(connections, "192.0.2.2")
    assert alone.is_open == is_same
    assert are_open(both) == [not is_same, True]


def test_connection_that_waits_again_is_the_newest() -> None:
    connections = OpenConnections(lambda: 2)
    first, second = admitted(connections, "10.0.0.1", "10.0.0.1")
    connections.wait_again(first)
    admitted(connections, "10.0.0.1")
    assert are_open([first, second]) == [True, False]


def test_connection_that_handles_a_request_is_never_closed() -> None:
    connections = OpenConnections(lambda: 2)
    busy = [Connection("10.0.0.1", is_answering=True), Connection("10.0.0.1", is_answering=True)]
    assert all(connections.admit(connection) for connection in busy)
    assert not connections.admit(Connection("10.0.0.2"))
    assert are_open(busy) == [True, True]
    busy[1].is_answering = False
    assert connections.admit(Connection("10.0.0.2"))
    assert are_open(busy) == [True, False]


def test_lower_limit_closes_excess_connections() -> None:
    limit = 4
    connections = OpenConnections(lambda: limit)
    found = admitted(connections, *["10.0.0.1"] * 4)
    limit = 2
    admitted(connections, "10.0.0.2")
    assert are_open(found) == [False, False, False, True]


def test_closed_connection_does_not_count() -> None:
    registry = FamilyRegistry()
    connections = OpenConnections(lambda: 1, registry=registry)
    [first] = admitted(connections, "10.0.0.1")
    connections.remove(first)
    connections.remove(first)
    connections.wait_again(first)
    admitted(connections, "10.0.0.2")
    assert first.is_open
    assert registry.get_sample_value("stream_exporter_web_connections") == 1
    assert registry.get_sample_value("stream_exporter_web_connections_max") == 1


def test_reached_limit_is_counted_and_logged_once_a_minute() -> None:
    clock, registry = FakeClock(), FamilyRegistry()
    connections = OpenConnections(lambda: 1, registry=registry, clock=clock)
    with structlog.testing.capture_logs() as logs:
        admitted(connections, *["10.0.0.1"] * 10)
        clock.advance(60)
        admitted(connections, "10.0.0.1")
    assert [(line["event"], line["connections"]) for line in logs] == [
        ("connection limit reached; closing idle connections", 1)
    ] * 2
    closed = registry.get_sample_value("stream_exporter_web_connections_closed_total", {"reason": "limit"})
    assert closed == 10


CONFIG = """
upstreams:
  - {name: one, platform: node_media_server, url: http://127.0.0.1:9, auth: {}, max_concurrent_requests: MOST}
  - {name: two, platform: node_media_server, url: http://127.0.0.1:9, auth: {}}
alerting:
  alertmanagers: [{url: http://127.0.0.1:9}]
  webhooks: [{name: station, url: http://127.0.0.1:9}]
"""


def settings(directory: Path, most: int = 20) -> Settings:
    """Settings whose polls and notifications need ``most`` + 12 connections."""
    file = directory / "config.yaml"
    file.write_text(CONFIG.replace("MOST", str(most)))
    return load_settings(file, {})


@pytest.mark.parametrize(
    ("descriptors", "maximum", "expected"),
    [(65_536, 1024, 1024), (1024, 1024, 1024 - 64 - 32), (1024, 256, 256), (1024, 10, 10)],
)
def test_connections_leave_descriptors_for_polls(tmp_path: Path, descriptors: int, maximum: int, expected: int) -> None:
    current = settings(tmp_path)
    with structlog.testing.capture_logs() as logs:
        budget = ConnectionBudget(lambda: current, descriptors=descriptors, maximum=maximum)
        assert budget() == expected
    assert not logs


def test_reload_changes_the_limit_of_connections(tmp_path: Path) -> None:
    current = settings(tmp_path)
    budget = ConnectionBudget(lambda: current, descriptors=1024, maximum=1024)
    assert budget() == 928
    current = settings(tmp_path, most=120)
    assert budget() == 828


def test_few_descriptors_cause_a_warning_and_allow_some_connections(tmp_path: Path) -> None:
    current = settings(tmp_path)
    budget = ConnectionBudget(lambda: current, descriptors=100, maximum=1024)
    with structlog.testing.capture_logs() as logs:
        assert [budget(), budget()] == [16, 16]
    [line] = logs
    assert line["event"] == "file descriptor limit allows few connections"
    assert (line["descriptors"], line["connections"]) == (100, 16)
