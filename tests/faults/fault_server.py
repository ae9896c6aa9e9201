"""The platforms' servers, good and broken by command: raw sockets before the simulator, in a thread of their own."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import trustme
from aiohttp import web

from exporter.runtime.clock import Clock
from exporter.simulator.simulator_app import make_app
from tests.exporter_process import GENEROUS_SECONDS
from tests.faults.matrix import CLOCK, DNS, FAULTS, HEALTHY, PLATFORMS, REFUSED, TLS, TOKEN, Fault
from tests.faults.recorded_answers import (
    FLEET,
    Ahead,
    Api,
    Good,
    Livepeer,
    NodeMediaServer,
    NodeMediaServer2,
    Storm,
    Wave,
)
from tests.faults.response_faults import Exchange, HangUpError, refusal
from tests.http.raw_server import read_request

T = TypeVar("T")
NAME = "platform.invalid"
"""The host that only the names' file knows."""


@dataclass
class Cell:
    """One upstream: a platform with a fault, or healthy without."""

    platform: str
    fault: Fault | None
    api: Api
    secret: str
    """What its requests have to prove now."""
    secret_file: Path
    broken: bool

    @property
    def name(self) -> str:
        return f"{self.platform}-{self.fault.name if self.fault else HEALTHY}"

    def change_secret(self) -> None:
        self.secret += "-rotated"


class Listener:
    """A port that can be closed and opened again; while it is closed nobody else gets it."""

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
            self._server.close()
        await self._servers.end_connections(self)

    def release(self) -> None:
        self._held.close()


class FaultServers:
    """All cells. Commands may come from any thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._stack = AsyncExitStack()
        self._connections: dict[asyncio.Task[None], Listener] = {}
        self._asked: Counter[tuple[str, str]] = Counter()
        self.names_file = directory / "names"
        self.ca_file = directory / "ca.pem"
        self.cells: dict[str, Cell] = {}
        self.led_elsewhere = 0
        """Connections to the place where a redirect leads."""
        self.errors: list[Exception] = []
        """What broke in these servers against our will."""
        self._not_owned = ""

    def start(self) -> None:
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
        """Every cell as an upstream."""
        shared = {"interval": "4s", "stale_after": "8s", "timeout": "4s", "max_body_bytes": "1MiB"}
        return {"defaults": shared, "upstreams": [self._upstream(cell) for cell in self.cells.values()]}

    def secrets(self) -> set[str]:
        """What must never be seen anywhere: the credentials in all forms, and the streams' keys that Livepeer shows."""
        streams = (stream for cell in self.cells.values() for stream in getattr(cell.api, "streams", ()))
        keys = {stream.secret_key for stream in streams if stream.secret_key}
        assert keys
        return {cell.secret.removesuffix("-rotated") for cell in self.cells.values()} | keys

    # -- in the loop -----------------------------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(GENEROUS_SECONDS)

    async def _start(self) -> None:
        apis = await self._apis()
        good, bad = trustme.CA(), trustme.CA()
        good.cert_pem.write_to_path(self.ca_file)
        self._certified, self._uncertified = _context(good), _context(bad)
        self._listener = Listener(self)
        self._own = {REFUSED: Listener(self), TLS: Listener(self, self._certified)}
        for listener in (self._listener, *self._own.values()):
            await listener.open()
        place = await asyncio.start_server(self._went_elsewhere, "127.0.0.1", 0)
        self._stack.callback(place.close)
        self._not_owned = f"http://127.0.0.1:{place.sockets[0].getsockname()[1]}"
        self.names_file.touch()
        for platform in PLATFORMS:
            self._add(platform, None, apis[platform])
            for fault in FAULTS:
                if fault.outcome(platform) is not None:
                    self._add(platform, fault, apis[platform])

    async def _apis(self) -> dict[str, Api]:
        bases = [await self._simulator(Clock()), await self._simulator(Ahead())]
        session = await self._stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        apis = (
            Livepeer(session, *(f"{base}/livepeer/api" for base in bases)),
            Storm(session, *(f"{base}/storm" for base in bases)),
            Wave(session, *(f"{base}/wave/api/v1" for base in bases)),
            NodeMediaServer(),
        )
        return {api.name: api for api in apis}

    async def _simulator(self, clock: Clock) -> str:
        runner = web.AppRunner(make_app(FLEET, clock))
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    def _add(self, platform: str, fault: Fault | None, api: Api) -> None:
        if fault is not None and fault.name == TOKEN and platform == "node_media_server":
            # a token that version 4 refuses soon after its login is a fault of another kind
            api = NodeMediaServer2()
        name = f"{platform}-{fault.name if fault else HEALTHY}"
        file = self._directory / f"{name}.secret"
        cell = Cell(platform, fault, api, f"canary-of-{name}", file, fault is not None and platform in fault.never_good)
        file.write_text(cell.secret)
        self.cells[name] = cell

    def _upstream(self, cell: Cell) -> dict[str, Any]:
        fault = cell.fault.name if cell.fault else HEALTHY
        scheme = "https" if fault == TLS else "http"
        host = NAME if fault == DNS else "localhost" if fault == TLS else "127.0.0.1"
        port = self._own.get(fault, self._listener).port
        url = f"{scheme}://{host}:{port}/{cell.name}"
        upstream = {"name": cell.name, **cell.api.upstream(url, cell.secret_file)}
        if fault == TLS:
            upstream["tls"] = {"ca_file": str(self.ca_file)}
        if cell.platform == "wave" and cell.broken and fault != DNS:
            upstream["ice_candidates"] = "5s"
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
        await self._stack.aclose()

    async def _went_elsewhere(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.led_elsewhere += 1
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

        def good() -> Awaitable[Good]:
            return cell.api.answer(request, path, ahead=ahead)

        key = name, path.partition("?")[0]
        exchange = Exchange(request, path, cell.api, good, reader, writer, self._asked[key], self._not_owned)
        self._asked[key] += 1
        if cell.broken and cell.fault is not None and cell.fault.answer is not None:
            await cell.fault.answer(exchange)
        elif not cell.api.allowed(request, path, cell.secret):
            await exchange.send(refusal(401)(exchange))
        else:
            await exchange.answer(await good())


def _context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@contextmanager
def fault_servers(directory: Path) -> Iterator[FaultServers]:
    """The servers, all of them good at first but for what can only be broken from the start."""
    servers = FaultServers(directory)
    servers.start()
    try:
        yield servers
    finally:
        servers.stop()
