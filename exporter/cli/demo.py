"""``stream-exporter demo``: simulated platforms and the exporter that polls them, on one port of one process."""

from __future__ import annotations

import argparse
import json
import math
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exporter.cli.command import (
    Commands,
    add_command,
    add_log_flags,
    add_web_flags,
    decimal_number,
    whole_number,
)
from exporter.cli.run import load_security, open_sockets, run_to_end, serve, start_logging, web_options
from exporter.web.options import bind, format_address

if TYPE_CHECKING:
    from exporter.config.root import Settings
    from exporter.simulator.context import Context
    from exporter.simulator.fleet import Fleet
    from exporter.simulator.simulated_streams import Stream
    from exporter.web.security import Security

_LISTEN_ADDRESS: Final = "127.0.0.1:10071"
_INTERVAL: Final = "5s"
"""Interval of the polls and of the scrapes."""
_STEADY_SECONDS = 300.0
_POLLED_IN_TURN = 25
"""WAVE is asked session by session: with one more request at a time for so many sessions, a round ends in time."""


def add_parser(commands: Commands) -> None:
    """Add the command's parser."""
    parser = add_command(
        commands,
        "demo",
        run,
        summary="run simulated platforms and the exporter on one port",
        description="Run simulated platforms and the exporter on one port, for trying out.",
    )
    parser.add_argument(
        "--streams",
        type=whole_number(1),
        default=60,
        metavar="N",
        help="streams in all, a third per platform (default: 60)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="the fleet's seed (default: 0)")
    parser.add_argument(
        "--speed",
        type=decimal_number(lambda number: 0 < number < math.inf, "a number above 0"),
        default=1.0,
        metavar="X",
        help="how fast the fleet lives, never the polls (default: 1)",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("stream-exporter-demo"),
        metavar="DIR",
        help="where the Prometheus configuration is written (default: ./stream-exporter-demo)",
    )
    add_web_flags(parser, listen_default=_LISTEN_ADDRESS)
    add_log_flags(parser, level="warn")


def run(options: argparse.Namespace) -> int:
    """Run the demo until a signal and return the exit code."""
    start_logging(options)
    security = load_security(options)
    if security is None:
        return 1
    return run_to_end(_serve_demo(options, open_sockets(options, _LISTEN_ADDRESS), security))


async def _serve_demo(options: argparse.Namespace, sockets: Sequence[socket.socket], security: Security) -> None:
    """Write the configurations, print what to open, and serve until a signal."""
    from exporter.cli.settings import load_settings
    from exporter.runtime.clock import Clock
    from exporter.service import Service
    from exporter.simulator.context import Context
    from exporter.simulator.fleet import Fleet
    from exporter.simulator.simulator_app import make_simulator
    from exporter.web.app import make_app

    ssl_context = security.ssl_context()
    address = _own_address(sockets[0])
    scheme = "http" if ssl_context is None else "https"
    base_url = f"{scheme}://{address}"
    clock = Clock()
    fleet = Fleet(options.streams, seed=options.seed, speed=options.speed)
    directory: Path = options.output_dir
    configuration_file = directory / "config.yaml"
    context = Context(fleet, clock)
    # The exporter has no password for its own port: it is given another one to poll.
    inner = [] if security.is_open and ssl_context is None else bind([("127.0.0.1", 0)])
    polled = f"http://{_own_address(inner[0])}" if inner else base_url
    _write(configuration_file, exporter_configuration(fleet, f"{polled}/simulator"))
    configuration_file.chmod(0o600)
    _write(directory / "prometheus.yml", prometheus_configuration(address, options.telemetry_path, scheme))

    def load_file() -> Settings:
        # Ignore the environment, so that the demo is the same everywhere.
        return load_settings(configuration_file, {})

    service = Service(load_file(), load=load_file)
    app = make_app(service, options=web_options(options), security=security)
    app.add_subapp("/simulator", make_simulator(context))
    print(announcement(fleet, clock.now(), base_url, options.telemetry_path, directory), flush=True)
    async with _simulating(context, inner):
        await serve(service, app, sockets, ssl_context, max_connections=options.max_connections)


@asynccontextmanager
async def _simulating(context: Context, sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
    """Serve the simulator alone on these sockets."""
    from aiohttp import web

    from exporter.simulator.simulator_app import make_simulator

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
    from exporter.simulator.exporter_config import upstreams_config
    from exporter.simulator.simulated_streams import PLATFORMS

    largest = max(len(fleet.streams(platform)) for platform in PLATFORMS)
    defaults = {"interval": _INTERVAL, "max_concurrent_requests": min(10 + largest // _POLLED_IN_TURN, 100)}
    return {"defaults": defaults, **upstreams_config(fleet, simulator_url)}


def prometheus_configuration(address: str, telemetry_path: str, scheme: str = "http") -> dict[str, Any]:
    """A whole ``prometheus.yml`` that scrapes the demo; passwords and certificates are for its user to add."""
    scrape = {
        "job_name": "stream-exporter",
        "scheme": scheme,
        "scrape_interval": _INTERVAL,
        "scrape_timeout": _INTERVAL,
        "metrics_path": telemetry_path,
        "static_configs": [{"targets": [address]}],
    }
    return {"scrape_configs": [scrape]}


def announcement(fleet: Fleet, now: float, base_url: str, telemetry_path: str, directory: Path) -> str:
    """Return what to open, what to run beside it, and how to break something."""
    from exporter.simulator.simulated_streams import PLATFORMS

    stream = _steady_stream(fleet, now)
    order = {"platform": stream.platform, "stream": stream.name, "fault": "unhealthy", "for": "2m"}
    fault = json.dumps(order, ensure_ascii=False, separators=(",", ":"))
    return f"""\
{fleet.size} simulated streams on {sum(1 for p in PLATFORMS if fleet.streams(p))} platforms, polled every {_INTERVAL}.

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
    from exporter.simulator.simulated_streams import PLATFORMS

    streams = [stream for platform in PLATFORMS for stream in fleet.streams(platform)]
    steady = (s for s in streams if fleet.is_live(s, now) and fleet.is_live(s, now + _STEADY_SECONDS))
    return next(steady, streams[0])


def _own_address(bound: socket.socket) -> str:
    """Return the address at which this process reaches itself; a wildcard address becomes the loopback."""
    host, port = bound.getsockname()[:2]
    if host == "0.0.0.0":  # noqa: S104 - compared, not listened on
        host = "127.0.0.1"
    if host == "::":
        host = "127.0.0.1" if socket.has_dualstack_ipv6() else "::1"
    return format_address(host, port)


def _write(file: Path, content: dict[str, Any]) -> None:
    import yaml

    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
