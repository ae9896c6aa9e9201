"""Simulated platform APIs over a fleet of streams, for the demo, the tests and the benchmarks.

Of the exporter, this package imports only the clock.
"""

from exporter.simulator.context import Options
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulator_app import make_app

__all__ = ["Fleet", "Options", "make_app"]
