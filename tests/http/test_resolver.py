"""Host name lookups: shared, limited, in their own threads, and with the last address if the name server fails."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
import trustme
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.upstream import TlsSettings
from exporter.http import resolver
from exporter.http.errors import UpstreamError
from exporter.http.resolver import (
    KEEP_SECONDS,
    KEEP_SECONDS_TLS,
    MAX_LOOKUPS,
    RESERVED_LOOKUPS,
    SECONDS_WITH_ADDRESS,
    SECONDS_WITHOUT_ADDRESS,
    Address,
    Lookups,
    SystemResolver,
)
from exporter.model import Reason
from tests.fake_clock import FakeClock
from tests.http.loop_clock import LoopTime
from tests.http.raw_server import Server, client_of, http, serving

HOST = "media.example"
FAILURE = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
UNKNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class FakeNames:
    """A fake system resolver. A name without an answer hangs until it gets one."""

    def __init__(self) -> None:
        self._answers: dict[str, str | Exception] = {}
        self._changed = threading.Condition()
        self._is_over = False
        self.lookups: Counter[str] = Counter()
        """Number of started lookups by name."""
        self.in_flight = self.most_in_flight = 0

    def set(self, host: str, answer: str | Exception) -> None:
        with self._changed:
            self._answers[host] = answer
            self._changed.notify_all()

    def hang(self, host: str) -> None:
        with self._changed:
            del self._answers[host]

    def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
        with self._changed:
            self.lookups[host] += 1
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self._changed.wait_for(lambda: self._is_over or host in self._answers)
            self.in_flight -= 1
            answer = self._answers.get(host, FAILURE)
        if isinstance(answer, Exception):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (answer, port))]

    def close(self) -> None:
        """End all hanging lookups."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNames]:
    fake = FakeNames()
    monkeypatch.setattr(socket, "getaddrinfo", fake.getaddrinfo)
    try:
        yield fake
    finally:
        fake.close()


class Harness:
    """Lookups with a fake clock."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.lookups = Lookups(self.clock)

    async def find(self, host: str = HOST, keep_seconds: float = KEEP_SECONDS) -> str:
        """Return the host's only address."""
        (address,) = await self.lookups.find(host, keep_seconds=keep_seconds)
        return address.host

    def start(self, host: str = HOST, keep_seconds: float = KEEP_SECONDS) -> asyncio.Task[str]:
        return asyncio.create_task(self.find(host, keep_seconds))


@pytest.fixture
async def harness(loop_time: LoopTime) -> Harness:
    """Lookups in an event loop whose time does not move, so that a slow thread does not look like a hanging lookup."""
    del loop_time
    return Harness()


async def until(holds: Callable[[], bool]) -> None:
    """Let the event loop, whose time may not move, and the threads run until the condition holds."""
    while not holds():  # noqa: ASYNC110 - threads
        await asyncio.sleep(0)


def lookup_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "name lookup"]


async def error_of(finding: Awaitable[str]) -> int | None:
    """Return the errno of the error that it raises."""
    with pytest.raises(socket.gaierror) as caught:
        await finding
    return caught.value.errno


# -- one lookup at a time ----------------------------------------------------------------------------------------------


async def test_callers_share_a_lookup_that_none_of_them_cancels(names: FakeNames, harness: Harness) -> None:
    impatient, patient = harness.start(), harness.start()
    await until(lambda: names.in_flight == 1)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    late = harness.start()
    await asyncio.sleep(0)
    names.set(HOST, "192.0.2.1")
    assert [await patient, await late] == ["192.0.2.1"] * 2
    assert names.lookups[HOST] == 1
    assert await harness.find() == "192.0.2.1"
    assert names.lookups[HOST] == 2, "nothing is cached"


async def test_abandoned_lookup_is_joined_by_the_next_caller(names: FakeNames, harness: Harness) -> None:
    for _ in range(3):
        abandoned = harness.start()
        await until(lambda: names.in_flight == 1)
        abandoned.cancel()
    last = harness.start()
    await asyncio.sleep(0)
    names.set(HOST, "192.0.2.1")
    assert await last == "192.0.2.1"
    assert names.lookups[HOST] == 1


async def test_hanging_lookup_is_waited_for_once(names: FakeNames, harness: Harness, loop_time: LoopTime) -> None:
    first = harness.start()
    await until(lambda: names.in_flight == 1)
    await loop_time.advance(SECONDS_WITHOUT_ADDRESS - 0.1)
    assert not first.done()
    await loop_time.advance(0.2)
    harness.clock.advance(SECONDS_WITHOUT_ADDRESS + 0.1)
    assert await error_of(first) == socket.EAI_AGAIN
    # without moving the event loop's time
    assert await error_of(harness.find()) == socket.EAI_AGAIN
    assert names.lookups[HOST] == 1


# -- the last good address ---------------------------------------------------------------------------------------------


@given(
    ages=st.lists(st.floats(1.0, 2 * KEEP_SECONDS_TLS), min_size=1, max_size=5),
    keep_seconds=st.sampled_from([0.0, KEEP_SECONDS, KEEP_SECONDS_TLS]),
)
async def test_last_address_is_used_after_failures_up_to_its_maximum_age(
    ages: list[float], keep_seconds: float
) -> None:
    names, harness = FakeNames(), Harness()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", names.getaddrinfo)
        LoopTime(patched)
        names.set(HOST, "192.0.2.1")
        assert await harness.find() == "192.0.2.1"
        names.set(HOST, FAILURE)
        at = 0.0
        for age in sorted(ages):
            harness.clock.advance(age - at)
            at = age
            # rounding: a sum of floats is not exact
            if age <= keep_seconds - 0.001:
                assert await harness.find(keep_seconds=keep_seconds) == "192.0.2.1"
            elif age > keep_seconds + 0.001:
                assert await error_of(harness.find(keep_seconds=keep_seconds)) == socket.EAI_AGAIN
        names.set(HOST, "192.0.2.2")
        assert await harness.find(keep_seconds=keep_seconds) == "192.0.2.2"


async def test_last_address_is_used_while_a_lookup_hangs(
    names: FakeNames, harness: Harness, loop_time: LoopTime
) -> None:
    names.set(HOST, "192.0.2.1")
    assert await harness.find() == "192.0.2.1"
    names.hang(HOST)
    finding = harness.start()
    await until(lambda: names.in_flight == 1)
    assert not finding.done()
    await loop_time.advance(SECONDS_WITH_ADDRESS)
    assert await finding == "192.0.2.1"
    harness.clock.advance(SECONDS_WITH_ADDRESS)
    # without moving the event loop's time
    assert await harness.find() == "192.0.2.1"
    harness.clock.advance(KEEP_SECONDS)
    assert await error_of(harness.find()) == socket.EAI_AGAIN
    assert names.lookups[HOST] == 2
    names.set(HOST, "192.0.2.2")
    await until(lambda: not lookup_threads())
    await asyncio.sleep(0)
    assert await harness.find() == "192.0.2.2"


async def test_name_that_no_longer_exists_has_no_address(names: FakeNames, harness: Harness) -> None:
    names.set(HOST, "192.0.2.1")
    assert await harness.find() == "192.0.2.1"
    names.set(HOST, UNKNOWN)
    assert await error_of(harness.find()) == socket.EAI_NONAME
    names.set(HOST, FAILURE)
    assert await error_of(harness.find()) == socket.EAI_AGAIN


async def test_use_of_the_last_address_is_logged_at_most_every_ten_minutes(names: FakeNames, harness: Harness) -> None:
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            names.set(HOST, "192.0.2.1")
            await harness.find()
            names.set(HOST, FAILURE)
            harness.clock.advance(60.0)
            for _ in range(2):
                assert await harness.find() == "192.0.2.1"
    event = "host name cannot be resolved; using its last address"
    assert logs == [{"event": event, "host": HOST, "age_seconds": 60, "log_level": "warning"}]


@pytest.mark.parametrize(
    ("tls", "keep_seconds"),
    [
        (None, KEEP_SECONDS),
        (TlsSettings(), KEEP_SECONDS_TLS),
        (TlsSettings(insecure_skip_verify=True), KEEP_SECONDS),
    ],
)
async def test_address_is_kept_for_an_hour_if_a_certificate_proves_the_server(
    names: FakeNames, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tls: TlsSettings | None, keep_seconds: float
) -> None:
    """Each poll uses a new client, as after a reload, so that no connection is reused."""
    clock = FakeClock()
    monkeypatch.setattr(resolver, "Clock", lambda: clock)
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    if tls is not None and not tls.insecure_skip_verify:
        tls = TlsSettings(ca_file=tmp_path / "ca.pem")
    server = Server(http(body=b'"found"'))
    async with serving(server.handle, context if tls else None) as port:

        async def poll() -> Any:
            async with client_of(f"{'https' if tls else 'http'}://{HOST}:{port}", tls=tls) as client:
                return (await client.requests(30.0).get("GET /x")).data

        names.set(HOST, "127.0.0.1")
        assert await poll() == "found"
        names.set(HOST, FAILURE)
        clock.advance(keep_seconds)
        assert await poll() == "found"
        clock.advance(1.0)
        with pytest.raises(UpstreamError) as caught:
            await poll()
    assert caught.value.reason is Reason.CONNECT
    assert str(caught.value) == "GET /x: host name cannot be resolved at the moment: check DNS"


# -- limits ------------------------------------------------------------------------------------------------------------


async def test_many_hanging_names_do_not_delay_a_reliable_one(names: FakeNames, harness: Harness) -> None:
    names.set("healthy.example", "192.0.2.1")
    assert await harness.find("healthy.example") == "192.0.2.1"
    dead = [harness.start(f"dead-{number}.example") for number in range(500)]
    await until(lambda: names.in_flight == MAX_LOOKUPS - RESERVED_LOOKUPS)
    names.set("healthy.example", "192.0.2.2")
    assert await harness.find("healthy.example") == "192.0.2.2"
    assert names.most_in_flight <= MAX_LOOKUPS
    assert sum(names.lookups.values()) == MAX_LOOKUPS - RESERVED_LOOKUPS + 2
    names.close()
    assert {await error_of(task) for task in dead} == {socket.EAI_AGAIN}
    assert names.most_in_flight <= MAX_LOOKUPS


async def test_reliable_names_that_hang_are_bounded_too(names: FakeNames, harness: Harness) -> None:
    hosts = [f"media-{number}.example" for number in range(MAX_LOOKUPS + 10)]
    for host in hosts:
        names.set(host, "192.0.2.1")
        await harness.find(host)
        names.hang(host)
    tasks = [harness.start(host) for host in hosts]
    await until(lambda: names.in_flight == MAX_LOOKUPS)
    names.close()
    assert {await task for task in tasks} == {"192.0.2.1"}, "found before"
    assert names.most_in_flight == MAX_LOOKUPS


async def test_new_name_is_looked_up_before_names_that_failed(
    names: FakeNames, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "MAX_LOOKUPS", RESERVED_LOOKUPS + 1)
    for number in range(3):
        names.set(f"dead-{number}.example", FAILURE)
        assert await error_of(harness.find(f"dead-{number}.example")) == socket.EAI_AGAIN
        names.hang(f"dead-{number}.example")
    dead = [harness.start(f"dead-{number}.example") for number in range(3)]
    await until(lambda: names.in_flight == 1)
    new = harness.start("new.example")
    await asyncio.sleep(0)
    names.set("new.example", "192.0.2.1")
    names.set("dead-0.example", FAILURE)
    assert await new == "192.0.2.1"
    names.close()
    assert {await error_of(task) for task in dead} == {socket.EAI_AGAIN}


async def test_lookup_without_a_thread_fails_and_the_next_one_succeeds(
    names: FakeNames, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    names.set(HOST, "192.0.2.1")

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert await error_of(harness.find()) == socket.EAI_AGAIN
    assert await harness.find() == "192.0.2.1"


async def test_number_of_remembered_names_is_bounded(
    names: FakeNames, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "MAX_NAMES", 2)
    hosts = ["a.example", "b.example", "c.example"]
    for host in hosts:
        names.set(host, "192.0.2.1")
        await harness.find(host)
    for host in hosts:
        names.set(host, FAILURE)
    assert [await harness.find(host) for host in ("c.example", "b.example")] == ["192.0.2.1"] * 2
    assert await error_of(harness.find("a.example")) == socket.EAI_AGAIN


def test_event_loop_ends_while_a_lookup_hangs(names: FakeNames, monkeypatch: pytest.MonkeyPatch) -> None:
    crashes: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", crashes.append)

    async def abandon() -> None:
        task = Harness().start()
        await until(lambda: names.in_flight == 1)
        task.cancel()

    asyncio.run(abandon())
    (thread,) = lookup_threads()
    assert thread.daemon, "the process may end"
    names.close()
    thread.join(30)
    assert not thread.is_alive()
    assert not crashes


# -- the system's resolver ---------------------------------------------------------------------------------------------


async def test_localhost_is_found_with_the_port() -> None:
    found = await SystemResolver().resolve("localhost", 8080)
    assert [address["port"] for address in found if address["host"] == "127.0.0.1"] == [8080]


async def test_link_local_address_keeps_its_interface(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    index, interface = socket.if_nameindex()[0]
    scoped = (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("fe80::1", 0, 0, index))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [scoped])
    expected = Address(f"fe80::1%{interface}", socket.AF_INET6, socket.IPPROTO_TCP)
    assert await harness.lookups.find(HOST) == (expected,)


async def test_name_that_cannot_be_encoded_is_an_error(harness: Harness) -> None:
    with pytest.raises(UnicodeError):
        await harness.find("a" * 64 + ".example")
