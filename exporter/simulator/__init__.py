"""The platforms' own APIs over a fleet of living streams: for the demo, the tests and the bench.

Stands apart: of the exporter it knows nothing but the clock.
"""

from exporter.simulator.app import make_app
from exporter.simulator.context import Options
from exporter.simulator.fleet import Fleet

__all__ = ["Fleet", "Options", "make_app"]
