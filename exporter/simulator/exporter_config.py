"""Exporter configuration for a simulated fleet."""

from __future__ import annotations

from typing import Any

from exporter.simulator.context import API_KEY, PASSWORD, TOKEN, USERNAME
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulated_hls import master_path
from exporter.simulator.simulated_streams import PLAYBACK_PLATFORM, Platform, Stream

_EXPECTED_STREAMS = 4
"""Number of streams per platform that are configured as expected."""
_ANALYZED_STREAMS = 2
STORM_UPSTREAM = "edge"


def upstreams_config(fleet: Fleet, base_url: str) -> dict[str, Any]:
    """Return ``{"upstreams": [...]}`` as in the exporter's configuration file, with the credentials inline.

    ``base_url`` is the simulator's URL, such as ``http://127.0.0.1:10071/simulator``. Platforms without a stream (in a
    fleet of fewer than three) are left out.
    """
    base = base_url.rstrip("/")
    upstreams = {
        Platform.LIVEPEER: _livepeer_upstream(fleet, base),
        Platform.STORM: _storm_upstream(fleet, base),
        Platform.WAVE: _wave_upstream(fleet, base),
    }
    return {"upstreams": [upstream for platform, upstream in upstreams.items() if fleet.streams(platform)]}


def playback_upstream(fleet: Fleet, base_url: str) -> dict[str, Any] | None:
    """Return an upstream that checks the expected streams of Storm as viewers get them; None without such streams."""
    streams = expected_streams(fleet, PLAYBACK_PLATFORM)
    if not streams:
        return None
    return {
        "name": "viewers",
        "platform": "hls",
        "url": f"{base_url.rstrip('/')}/hls",
        "interval": "2s",
        "whole_segment_every": "10s",
        "streams": [
            {
                "name": stream.id,
                "url": master_path(stream),
                "of": {"upstream": STORM_UPSTREAM, "stream": stream.id},
                "expected": True,
            }
            for stream in streams
        ],
    }


def expected_streams(fleet: Fleet, platform: Platform) -> list[Stream]:
    """Return the streams to configure as expected: those with the longest ingest sessions."""
    return sorted(fleet.streams(platform), key=lambda stream: (-stream.cycles, stream.index))[:_EXPECTED_STREAMS]


def _livepeer_upstream(fleet: Fleet, base: str) -> dict[str, Any]:
    return {
        "name": "studio",
        "platform": "livepeer",
        "url": f"{base}/livepeer/api",
        "auth": {"bearer_token": TOKEN},
        "discover": True,
        "viewership": True,
        "health_details": "60s",
        "streams": [
            {"id": s.id, "name": s.name, **_expectation_fields(s)} for s in expected_streams(fleet, Platform.LIVEPEER)
        ],
    }


def _storm_upstream(fleet: Fleet, base: str) -> dict[str, Any]:
    return {
        "name": STORM_UPSTREAM,
        "platform": "storm",
        "url": f"{base}/storm",
        "base_path": "/api",
        "auth": {"username": USERNAME, "password": PASSWORD},
        "discover": "auto",
        "streams": [
            {"application": s.application, "key": s.name, **_expectation_fields(s)}
            for s in expected_streams(fleet, Platform.STORM)
        ],
    }


def _wave_upstream(fleet: Fleet, base: str) -> dict[str, Any]:
    expected = expected_streams(fleet, Platform.WAVE)
    return {
        "name": "wave",
        "platform": "wave",
        "url": f"{base}/wave/api/v1",
        "auth": {"bearer_token": TOKEN},
        "sessions": [
            {"id": s.id, "name": s.name, **(_expectation_fields(s) if s in expected else {})}
            for s in fleet.streams(Platform.WAVE)
        ],
        "analytics": {"streams": [s.playback_id for s in expected[:_ANALYZED_STREAMS]], "dashboards": True},
        "prometheus": {"enabled": True, "api_key": API_KEY},
    }


def _expectation_fields(stream: Stream) -> dict[str, Any]:
    return {
        "expected": True,
        "expected_bitrate": f"{stream.megabits:g}Mbps",
        "expected_frame_rate": stream.frame_rate,
    }
