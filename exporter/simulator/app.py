"""The simulator as one application: each platform below its own path, the controls beside them."""

from __future__ import annotations

from aiohttp import web

from exporter.runtime.clock import Clock
from exporter.simulator.context import Context, Options
from exporter.simulator.control import FaultControl
from exporter.simulator.fleet import Fleet
from exporter.simulator.livepeer import livepeer_app
from exporter.simulator.serving import dated
from exporter.simulator.storm import storm_app
from exporter.simulator.wave import wave_app
from exporter.simulator.wave_events import Events


def make_app(fleet: Fleet, clock: Clock | None = None, options: Options | None = None) -> web.Application:
    """A world of its own around ``fleet``, and its application."""
    return make_simulator(Context(fleet, clock or Clock(), options or Options()))


def make_simulator(world: Context) -> web.Application:
    """``/livepeer/api``, ``/storm/api``, ``/wave/api/v1``, ``/faults`` and ``/wave/events``, to be mounted anywhere."""
    faults, events = FaultControl(world), Events(world)
    app = web.Application(middlewares=(dated(world),))
    app.add_routes(
        [
            web.post("/faults", faults.order),
            web.get("/faults", faults.show),
            web.delete("/faults", faults.clear),
            web.get("/wave/events", events.show),
        ]
    )
    app.add_subapp("/livepeer/api", livepeer_app(world))
    app.add_subapp("/storm/api", storm_app(world))
    app.add_subapp("/wave/api/v1", wave_app(world, events))
    return app
