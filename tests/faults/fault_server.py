"""The platforms' servers, healthy or broken on demand: raw sockets that serve recordings, in their own thread."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import trustme

from tests.exporter_process import GENEROUS_SECONDS
from tests.faults.matrix import CLOCK, DNS, FAULTS, HEALTHY, REFUSED, TLS, TOKEN, Fault, Outcome
from tests.faults.recorded_api import RecordedApi, basic
from tests.faults.response_faults import Exchange, HangUpError, refusal
from tests.http.raw_server import read_request
from tests.platforms.recordings import PlatformRecording, main_recordings

T = TypeVar("T")
NAME = "platform.invalid"
"""A host that is only in the file of names."""


@dataclass
class Cell:
    """One upstream: a platform with a fault, or a healthy one."""

    platform: str
    fault: Fault | None
    expected: Outcome
    """The expected result of the fault."""
    api: RecordedApi
    secret: str
    """The secret that requests must contain now."""
    secret_file: Path
    broken: bool

    @property
    def name(self) -> str:
        return f"{self.platform}-{self.fault.name if self.fault else HEALTHY}"

    def change_secret(self) -> None:
        self.secret += "-rotated"


class Listener:
    """A port that can be closed and reopened; it stays reserved while it is closed."""

    def __init__(self, servers: FaultServers, context: ssl.SSLContext | None = None) -> None:
        self._servers = servers
        self.context = context
        self._server: asyncio.Server | None = None
        self._held = self._socket(0)
        self.port: int = self._held.getsockname()[1]

    @staticmethod
    def _socket(port: int) -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(("127.0.0.1", port))
        return made

    async def open(self) -> None:
        self._server = await asyncio.start_server(
            lambda reader, writer: self._servers.connected(self, reader, writer),
            sock=self._socket(self.port),
            ssl=self.context,
        )

    async def close(self) -> None:
        if self._server is not None:
            # asyncio loses an accepted connection if the server closes before the next step
            for listening in self._server.sockets:
                asyncio.get_running_loop().remove_reader(listening.fileno())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self._server.close()
        await self._servers.end_connections(self)

    def release(self) -> None:
        self._held.close()


class FaultServers:
    """All cells. Methods may be called from any thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._elsewhere: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], Listener] = {}
        self._asked: Counter[tuple[str, str]] = Counter()
        self.names_file = directory / "names"
        self.ca_file = directory / "ca.pem"
        self.cells: dict[str, Cell] = {}
        self.followed_redirects = 0
        """Number of connections to the redirect's target."""
        self.errors: list[Exception] = []
        """Unexpected errors in these servers."""
        self._not_owned = ""

    def start(self) -> None:
        for recording in main_recordings().values():
            self._add_platform(recording)
        self._thread.start()
        self._run(self._start())

    def stop(self) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(GENEROUS_SECONDS)
        self._loop.close()

    def break_all(self) -> None:
        self._run(self._set(broken=True))

    def heal_all(self) -> None:
        self._run(self._set(broken=False))

    def configuration(self) -> dict[str, Any]:
        """Return a configuration with every cell as an upstream."""
        shared = {"interval": "4s", "stale_after": "8s", "timeout": "4s", "max_body_bytes": "1MiB", "health_grace": 0}
        return {"defaults": shared, "upstreams": [self._upstream(cell) for cell in self.cells.values()]}

    def secrets(self) -> set[str]:
        """Return what must never be visible: the credentials in all forms, and the secrets in responses."""
        shown = {secret for cell in self.cells.values() for secret in cell.api.recording.secrets}
        assert shown
        credentials = {cell.secret.removesuffix("-rotated") for cell in self.cells.values()}
        users = {cell.api.username for cell in self.cells.values()} - {""}
        return shown | credentials | {basic(user, secret) for user in users for secret in credentials}

    def _add_platform(self, recording: PlatformRecording) -> None:
        api, platform = RecordedApi(recording), recording.platform.name
        self._add(Cell(platform, None, Outcome(), api, *self._secret(platform, HEALTHY), broken=False))
        for fault in FAULTS:
            expected, own = fault.outcome(recording), fault.recording(recording)
            if expected is not None:
                own_api = api if own is recording else RecordedApi(own)
                secret = self._secret(platform, fault.name)
                self._add(Cell(platform, fault, expected, own_api, *secret, broken=fault.is_from_start(recording)))

    def _secret(self, platform: str, fault: str) -> tuple[str, Path]:
        return f"canary-of-{platform}-{fault}", self._directory / f"{platform}-{fault}.secret"

    def _add(self, cell: Cell) -> None:
        cell.secret_file.write_text(cell.secret)
        self.cells[cell.name] = cell

    # -- in the loop -----------------------------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(GENEROUS_SECONDS)

    async def _start(self) -> None:
        good, bad = trustme.CA(), trustme.CA()
        good.cert_pem.write_to_path(self.ca_file)
        self._certified, self._uncertified = _context(good), _context(bad)
        self._listener = Listener(self)
        self._own = {REFUSED: Listener(self), TLS: Listener(self, self._certified)}
        for listener in (self._listener, *self._own.values()):
            await listener.open()
        self._elsewhere = await asyncio.start_server(self._count_redirect, "127.0.0.1", 0)
        self._not_owned = f"http://127.0.0.1:{self._elsewhere.sockets[0].getsockname()[1]}"
        self.names_file.touch()

    def _upstream(self, cell: Cell) -> dict[str, Any]:
        fault = cell.fault.name if cell.fault else HEALTHY
        scheme = "https" if fault == TLS else "http"
        host = NAME if fault == DNS else "localhost" if fault == TLS else "127.0.0.1"
        port = self._own.get(fault, self._listener).port
        url = f"{scheme}://{host}:{port}/{cell.name}"
        upstream = {"name": cell.name, **cell.api.upstream(url, cell.secret_file)}
        if fault == TLS:
            upstream["tls"] = {"ca_file": str(self.ca_file)}
        return upstream

    async def _set(self, *, broken: bool) -> None:
        self._asked.clear()
        for cell in self.cells.values():
            cell.broken = broken and cell.fault is not None
            if cell.fault is not None and cell.fault.name == TOKEN:
                if broken:
                    cell.change_secret()
                else:
                    cell.secret_file.write_text(cell.secret)
        self.names_file.write_text("" if broken else NAME)
        refused, tls = self._own[REFUSED], self._own[TLS]
        tls.context = self._uncertified if broken else self._certified
        await tls.close()
        await tls.open()
        if broken:
            await refused.close()
        else:
            await refused.open()

    async def _stop(self) -> None:
        for listener in (self._listener, *self._own.values()):
            await listener.close()
            listener.release()
        if self._elsewhere is not None:
            self._elsewhere.close()

    async def _count_redirect(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.followed_redirects += 1
        writer.close()

    # -- connections -----------------------------------------------------------------------------------------------

    async def connected(self, listener: Listener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = listener
        try:
            while True:
                await self._exchange(reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError, HangUpError):
            pass
        except Exception as error:
            self.errors.append(error)
        finally:
            del self._connections[task]
            writer.close()

    async def end_connections(self, listener: Listener) -> None:
        tasks = [task for task, own in self._connections.items() if own is listener]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        _, name, path = request.target.split("/", 2)
        path = f"/{path}"
        cell = self.cells[name]
        ahead = cell.broken and cell.fault is not None and cell.fault.name == CLOCK
        good = cell.api.respond(request, path, cell.secret, ahead=ahead)
        key = name, path.partition("?")[0]
        exchange = Exchange(request, path, cell.api, good, reader, writer, self._asked[key], self._not_owned)
        self._asked[key] += 1
        if cell.broken and cell.fault is not None and cell.fault.answer is not None:
            await cell.fault.answer(exchange)
        elif status := cell.api.refused(request, path, cell.secret):
            await exchange.send(refusal(status)(exchange))
        else:
            await exchange.answer(good)


def _context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@contextmanager
def fault_servers(directory: Path) -> Iterator[FaultServers]:
    """Run the servers; all are healthy at first, except for faults that only work from the start."""
    servers = FaultServers(directory)
    servers.start()
    try:
        yield servers
    finally:
        servers.stop()
