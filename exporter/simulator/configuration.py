"""What an exporter has to be told to watch a simulated fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exporter.simulator.streams import Platform, Stream

if TYPE_CHECKING:
    from exporter.simulator.fleet import Fleet

TOKEN = "simulated-token"  # noqa: S105 - the simulator's word for every platform's token, no secret
USERNAME = "demo"
PASSWORD = "simulated-password"  # noqa: S105 - as above
API_KEY = "demo-key"
"""Storm asks for at least eight characters."""

_EXPECTED = 4
"""So many streams of each platform are expected to be on the air."""
_ANALYSED = 2


def configuration(fleet: Fleet, base_url: str) -> dict[str, Any]:
    """``{"upstreams": [...]}`` in the words of the exporter's configuration file, with the credentials inline.

    ``base_url`` is where the simulator stands, as in ``http://127.0.0.1:10071/simulator``. A platform without a stream
    (a fleet of fewer than three) is left out.
    """
    base = base_url.rstrip("/")
    made = {
        Platform.LIVEPEER: _livepeer(fleet, base),
        Platform.STORM: _storm(fleet, base),
        Platform.WAVE: _wave(fleet, base),
    }
    return {"upstreams": [upstream for platform, upstream in made.items() if fleet.of(platform)]}


def expected(fleet: Fleet, platform: Platform) -> list[Stream]:
    """The streams that somebody counts on: those with the longest publishes."""
    return sorted(fleet.of(platform), key=lambda stream: (-stream.cycles, stream.index))[:_EXPECTED]


def _livepeer(fleet: Fleet, base: str) -> dict[str, Any]:
    return {
        "name": "studio",
        "platform": "livepeer",
        "url": f"{base}/livepeer/api",
        "auth": {"bearer_token": TOKEN},
        "discover": True,
        "viewership": True,
        "health_details": "60s",
        "streams": [{"id": s.id, "name": s.name, **_expectation(s)} for s in expected(fleet, Platform.LIVEPEER)],
    }


def _storm(fleet: Fleet, base: str) -> dict[str, Any]:
    return {
        "name": "edge",
        "platform": "storm",
        "url": f"{base}/storm",
        "base_path": "/api",
        "auth": {"username": USERNAME, "password": PASSWORD},
        "discover": "auto",
        "streams": [
            {"application": s.application, "key": s.name, **_expectation(s)} for s in expected(fleet, Platform.STORM)
        ],
    }


def _wave(fleet: Fleet, base: str) -> dict[str, Any]:
    counted_on = expected(fleet, Platform.WAVE)
    return {
        "name": "wave",
        "platform": "wave",
        "url": f"{base}/wave/api/v1",
        "auth": {"bearer_token": TOKEN},
        "sessions": [
            {"id": s.id, "name": s.name, **(_expectation(s) if s in counted_on else {})}
            for s in fleet.of(Platform.WAVE)
        ],
        "analytics": {"streams": [s.playback_id for s in counted_on[:_ANALYSED]], "dashboards": True},
        "prometheus": {"enabled": True, "api_key": API_KEY},
    }


def _expectation(stream: Stream) -> dict[str, Any]:
    return {
        "expected": True,
        "expected_bitrate": f"{stream.megabits:g}Mbps",
        "expected_frame_rate": stream.frame_rate,
    }
