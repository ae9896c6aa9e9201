"""Simulated platform APIs with a fleet of streams, for the demo, tests and benchmarks.

The only other module of the exporter that this package imports is the clock.
"""

from exporter.simulator.context import Options
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulator_app import make_app

__all__ = ["Fleet", "Options", "make_app"]
