"""Run the simulator on its own: ``python -m exporter.simulator``."""

from __future__ import annotations

import argparse

from aiohttp import web

from exporter.runtime.clock import Clock
from exporter.simulator.context import Options
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulator_app import make_app


def main(arguments: list[str] | None = None) -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m exporter.simulator",
        description="Serve the APIs of simulated streaming platforms.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=10072, help="port to listen on; 0 for any free port")
    parser.add_argument("--streams", type=int, default=60, help="total number of streams")
    parser.add_argument("--seed", type=int, default=0, help="seed of the fleet; the same seed gives the same streams")
    parser.add_argument(
        "--speed",
        type=float,
        default=1.0,
        help="speed of events and of the time of day; bitrates and counters are not affected",
    )
    parser.add_argument(
        "--wave-rate-limit",
        type=int,
        default=Options().wave_rate_limit,
        help="rate limit of WAVE, in requests per minute and key",
    )
    chosen = parser.parse_args(arguments)
    try:
        fleet = Fleet(chosen.streams, seed=chosen.seed, speed=chosen.speed)
        options = Options(wave_rate_limit=chosen.wave_rate_limit)
    except ValueError as error:
        parser.error(str(error))
    fleet.prepare(Clock().now())
    app = make_app(fleet, options=options)
    web.run_app(app, host=chosen.host, port=chosen.port, shutdown_timeout=2.0)


if __name__ == "__main__":
    main()
