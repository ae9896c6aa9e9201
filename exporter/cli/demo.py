"""``stream-exporter demo``: run simulated platforms, and the exporter that polls them, on one port."""

from __future__ import annotations

import argparse
import json
import math
import socket
from collections.abc import AsyncIterator, Collection, Sequence
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
from exporter.web.options import RUNBOOK_PATH, bind, format_address

if TYPE_CHECKING:
    from exporter.config.root import Settings
    from exporter.simulator.context import Context
    from exporter.simulator.fleet import Fleet
    from exporter.simulator.simulated_streams import Stream
    from exporter.web.security import Security

_LISTEN_ADDRESS: Final = "127.0.0.1:10071"
_INTERVAL: Final = "5s"
"""Poll interval and scrape interval."""
_STATE_FOLDER: Final = "state"
_STEADY_SECONDS = 300.0
_SESSIONS_PER_REQUEST_SLOT = 25
"""WAVE needs a request per session, so allow one more concurrent request for this many sessions."""


def add_parser(commands: Commands) -> None:
    """Add the command's parser."""
    parser = add_command(
        commands,
        "demo",
        run,
        summary="run simulated platforms and the exporter on one port",
        description="Run simulated platforms and the exporter on one port, to try it out.",
    )
    parser.add_argument(
        "--streams",
        type=whole_number(1),
        default=60,
        metavar="N",
        help="number of streams on all platforms together (default: 60)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the simulation (default: 0)")
    parser.add_argument(
        "--speed",
        type=decimal_number(lambda number: 0 < number < math.inf, "a number above 0"),
        default=1.0,
        metavar="X",
        help="speed of the simulation; polls keep their interval (default: 1)",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("stream-exporter-demo"),
        metavar="DIR",
        help="folder for the configuration files of Prometheus and the exporter (default: ./stream-exporter-demo)",
    )
    add_web_flags(parser, listen_default=_LISTEN_ADDRESS)
    add_log_flags(parser, level="warn")


def run(options: argparse.Namespace) -> int:
    """Run the demo until a signal arrives, and return the exit code."""
    start_logging(options)
    security = load_security(options)
    if security is None:
        return 1
    return run_to_end(_serve_demo(options, open_sockets(options, _LISTEN_ADDRESS), security))


async def _serve_demo(options: argparse.Namespace, sockets: Sequence[socket.socket], security: Security) -> None:
    """Write the configuration files, print the announcement, and serve until a signal arrives."""
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
    # If the port requires a password or TLS, the simulator is polled at an internal port without them.
    inner = [] if security.is_open and ssl_context is None else bind([("127.0.0.1", 0)])
    polled = f"http://{_own_address(inner[0])}" if inner else base_url
    _write(configuration_file, exporter_configuration(fleet, f"{polled}/simulator", playback=True))
    configuration_file.chmod(0o600)
    rules = rule_files(options.external.page_url if options.external else f"{base_url}/")
    for name, text in rules.items():
        (directory / name).write_text(text, encoding="utf-8")
    scraped = prometheus_configuration(address, options.telemetry_path, scheme, rules)
    _write(directory / "prometheus.yml", scraped)

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
    """Serve only the simulator on these sockets."""
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


def exporter_configuration(fleet: Fleet, simulator_url: str, *, playback: bool = False) -> dict[str, Any]:
    """Return the exporter's configuration for a simulated fleet at ``simulator_url``.

    ``playback``: whether to check some streams of Storm as viewers get them.
    """
    from exporter.simulator.exporter_config import playback_upstream, upstreams_config
    from exporter.simulator.simulated_streams import PLATFORMS

    largest = max(len(fleet.streams(platform)) for platform in PLATFORMS)
    defaults = {"interval": _INTERVAL, "max_concurrent_requests": min(10 + largest // _SESSIONS_PER_REQUEST_SLOT, 100)}
    upstreams = upstreams_config(fleet, simulator_url)["upstreams"]
    checked = playback_upstream(fleet, simulator_url) if playback else None
    if checked is not None:
        upstreams.append(checked)
    # beside the configuration file, so that the demo shares nothing with an exporter on the same machine
    return {"state_dir": _STATE_FOLDER, "defaults": defaults, "upstreams": upstreams}


def rule_files(page_url: str) -> dict[str, str]:
    """Return the rule files for Prometheus, by name, with all alerts as they are by default."""
    from exporter.alerting import rule_files as files
    from exporter.alerting.promql import Dialect
    from exporter.alerting.rules.active_rules import rules_in_force
    from exporter.config.alerting import AlertingSettings

    rules = rules_in_force(AlertingSettings())
    dialect = Dialect(page=page_url, runbook=f"{page_url}{RUNBOOK_PATH[1:]}")
    return {files.ALERTS_FILE: files.alerts_file(rules, dialect), files.RECORDINGS_FILE: files.recordings_file(dialect)}


def prometheus_configuration(address: str, telemetry_path: str, scheme: str, rules: Collection[str]) -> dict[str, Any]:
    """Return a ``prometheus.yml`` that scrapes the demo, without passwords and certificates.

    ``rules``: names of the rule files.
    """
    scrape = {
        "job_name": "stream-exporter",
        "scheme": scheme,
        "scrape_interval": _INTERVAL,
        "scrape_timeout": _INTERVAL,
        "metrics_path": telemetry_path,
        "static_configs": [{"targets": [address]}],
    }
    return {
        "global": {"evaluation_interval": _INTERVAL},
        "rule_files": list(rules),
        "scrape_configs": [scrape],
    }


def announcement(fleet: Fleet, now: float, base_url: str, telemetry_path: str, directory: Path) -> str:
    """Return the text to print: URLs, how to run Prometheus, and how to inject faults."""
    from exporter.simulator.simulated_streams import PLATFORMS

    streams = [stream for platform in PLATFORMS for stream in fleet.streams(platform)]
    faults = f"{base_url}/simulator/faults"
    metrics = f"{base_url}{telemetry_path}"
    stream = _steady_stream(fleet, streams, now)
    return f"""\
{fleet.size} simulated streams on {sum(1 for p in PLATFORMS if fleet.streams(p))} platforms, polled every {_INTERVAL}.

Open
  {base_url}/
  {metrics}

Scrape it with Prometheus (http://127.0.0.1:9090/)
  prometheus --config.file={directory}/prometheus.yml --storage.tsdb.path={directory}/data

Inject a fault and see it in the metrics
  curl -X POST {faults} -d '{_fault(stream.platform, stream.name, "unhealthy")}'
  curl -s {metrics} | grep '^stream_health.*{stream.name}'
{_playback_announcement(fleet, now, faults, metrics)}
Press Ctrl-C to stop."""


def _playback_announcement(fleet: Fleet, now: float, faults: str, metrics: str) -> str:
    """Return how to break playback of a stream that stays live; empty without playback checks."""
    from exporter.simulator.exporter_config import expected_streams
    from exporter.simulator.simulated_streams import PLAYBACK_PLATFORM, Platform

    streams = expected_streams(fleet, PLAYBACK_PLATFORM)
    if not streams:
        return ""
    stream = _steady_stream(fleet, streams, now)
    return f"""
Take a stream away from its viewers while its platform reports it as live: stream_playable becomes 0 within 15 s,
stream_source_live stays 1, and within a minute the alert StreamViewersGetNothing fires in Prometheus
  curl -X POST {faults} -d '{_fault(Platform.HLS, stream.id, "segments_missing")}'
  curl -s {metrics} | grep -E '^stream_(playable|source_live).*{stream.id}'
"""


def _fault(platform: str, stream: str, fault: str) -> str:
    """Return the order for a fault as JSON."""
    order = {"platform": platform, "stream": stream, "fault": fault, "for": "2m"}
    return json.dumps(order, ensure_ascii=False, separators=(",", ":"))


def _steady_stream(fleet: Fleet, streams: Sequence[Stream], now: float) -> Stream:
    """Return one of the streams that stays live for a while, so that an injected fault is visible."""
    steady = (s for s in streams if fleet.is_live(s, now) and fleet.is_live(s, now + _STEADY_SECONDS))
    return next(steady, streams[0])


def _own_address(bound: socket.socket) -> str:
    """Return the address at which this process can reach itself; a wildcard becomes loopback."""
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
