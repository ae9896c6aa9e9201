"""``stream-exporter demo``: simulated platforms and the exporter that polls them, on one port of one process."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml
from aiohttp import web

from exporter.cli.process import serve
from exporter.cli.settings import load_settings
from exporter.config.root import Settings
from exporter.runtime.clock import Clock
from exporter.service import Service
from exporter.simulator.context import Context
from exporter.simulator.exporter_config import upstreams_config
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulated_streams import PLATFORMS, Stream
from exporter.simulator.simulator_app import make_simulator
from exporter.web.app import make_app
from exporter.web.options import WebOptions, bind, format_address
from exporter.web.security import Security

DEFAULT_LISTEN_ADDRESS: Final = "127.0.0.1:10071"
INTERVAL: Final = "5s"
"""Of the polls and of the scrapes."""

_STEADY_SECONDS = 300.0
_POLLED_IN_TURN = 25
"""WAVE is asked session by session: with one more request at a time for so many sessions, a round ends in time."""


class Plan(msgspec.Struct, frozen=True):
    """What the command line says of the demo."""

    streams: int
    seed: int
    speed: float
    output_directory: Path


async def run(
    plan: Plan, sockets: Sequence[socket.socket], *, web_options: WebOptions, security: Security | None = None
) -> None:
    """Write the configurations, say what to open, and serve until a signal."""
    security = security or Security()
    ssl_context = security.ssl_context()
    address = _own_address(sockets[0])
    scheme = "http" if ssl_context is None else "https"
    base_url = f"{scheme}://{address}"
    clock = Clock()
    fleet = Fleet(plan.streams, seed=plan.seed, speed=plan.speed)
    plan.output_directory.mkdir(parents=True, exist_ok=True)
    configuration_file = plan.output_directory / "config.yaml"
    prometheus_file = plan.output_directory / "prometheus.yml"
    context = Context(fleet, clock)
    # The exporter has no password for its own port: it is given another one to poll.
    inner = [] if security.is_open and ssl_context is None else bind([("127.0.0.1", 0)])
    polled = f"http://{_own_address(inner[0])}" if inner else base_url
    _write(configuration_file, exporter_configuration(fleet, f"{polled}/simulator"))
    configuration_file.chmod(0o600)
    _write(prometheus_file, prometheus_configuration(address, web_options.telemetry_path, scheme))

    def load_file() -> Settings:
        # The demo is the same everywhere: the environment has no say.
        return load_settings(configuration_file, {})

    service = Service(load_file(), load=load_file)
    app = make_app(service, options=web_options, security=security)
    app.add_subapp("/simulator", make_simulator(context))
    print(announcement(fleet, clock.now(), base_url, web_options.telemetry_path, plan.output_directory), flush=True)
    async with _simulating(context, inner):
        await serve(service, app, sockets, ssl_context)


@asynccontextmanager
async def _simulating(context: Context, sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
    """The simulator alone, on these sockets."""
    app = web.Application()
    app.add_subapp("/simulator", make_simulator(context))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    for bound in sockets:
        await web.SockSite(runner, bound).start()
    try:
        yield
    finally:
        await runner.cleanup()


def exporter_configuration(fleet: Fleet, simulator_url: str) -> dict[str, Any]:
    """The exporter's own configuration, for a fleet whose simulator stands at ``simulator_url``."""
    largest = max(len(fleet.streams(platform)) for platform in PLATFORMS)
    defaults = {"interval": INTERVAL, "max_concurrent_requests": min(10 + largest // _POLLED_IN_TURN, 100)}
    return {"defaults": defaults, **upstreams_config(fleet, simulator_url)}


def prometheus_configuration(address: str, telemetry_path: str, scheme: str = "http") -> dict[str, Any]:
    """A whole ``prometheus.yml`` that scrapes the demo; passwords and certificates are for its user to add."""
    scrape = {
        "job_name": "stream-exporter",
        "scheme": scheme,
        "scrape_interval": INTERVAL,
        "scrape_timeout": INTERVAL,
        "metrics_path": telemetry_path,
        "static_configs": [{"targets": [address]}],
    }
    return {"scrape_configs": [scrape]}


def announcement(fleet: Fleet, now: float, base_url: str, telemetry_path: str, directory: Path) -> str:
    """What to open, what to run beside it, how to break something."""
    stream = _steady_stream(fleet, now)
    order = {"platform": stream.platform, "stream": stream.name, "fault": "unhealthy", "for": "2m"}
    fault = msgspec.json.encode(order).decode()
    return f"""\
{fleet.size} simulated streams on {sum(1 for p in PLATFORMS if fleet.streams(p))} platforms, polled every {INTERVAL}.

Open
  {base_url}/
  {base_url}{telemetry_path}

Scrape it with Prometheus (http://127.0.0.1:9090/)
  prometheus --config.file={directory}/prometheus.yml --storage.tsdb.path={directory}/data

Make a fault, see it in the metrics
  curl -X POST {base_url}/simulator/faults -d '{fault}'
  curl -s {base_url}{telemetry_path} | grep '^stream_health.*{stream.name}'

Ctrl-C ends it."""


def _steady_stream(fleet: Fleet, now: float) -> Stream:
    """One that is on the air and stays there for a while, so that a fault can be seen on it."""
    streams = [stream for platform in PLATFORMS for stream in fleet.streams(platform)]
    steady = (s for s in streams if fleet.is_live(s, now) and fleet.is_live(s, now + _STEADY_SECONDS))
    return next(steady, streams[0])


def _own_address(bound: socket.socket) -> str:
    """Where this process reaches itself; an address that stands for all becomes the loopback."""
    host, port = bound.getsockname()[:2]
    if host == "0.0.0.0":  # noqa: S104 - compared, not listened on
        host = "127.0.0.1"
    if host == "::":
        host = "127.0.0.1" if socket.has_dualstack_ipv6() else "::1"
    return format_address(host, port)


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
