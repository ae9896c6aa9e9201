"""Configuration files of an exporter that polls the bench's nginx."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from bench.nginx import APPLICATION
from bench.serving import Server

GENEROUS_SECONDS = 180.0


def listed(url: str, upstreams: int, **defaults: Any) -> dict[str, Any]:
    """So many upstreams, each with the same list."""
    return {
        "defaults": {"max_streams": 1_000_000, **defaults},
        "upstreams": [
            {"name": f"list-{number}", "platform": "storm", "url": url, "base_path": f"/{number}/api", "discover": True}
            for number in range(upstreams)
        ],
    }


def single(url: str, upstreams: int, streams: int, **defaults: Any) -> dict[str, Any]:
    """So many upstreams, each with so many streams that are asked for one by one."""
    return {
        "defaults": {"max_streams": 1_000_000, **defaults},
        "upstreams": [
            {
                "name": f"single-{number}",
                "platform": "storm",
                "url": url,
                "discover": False,
                "streams": [{"application": APPLICATION, "key": f"stream-{n:06}"} for n in range(streams)],
            }
            for number in range(upstreams)
        ],
    }


def write(directory: str, configuration: dict[str, Any]) -> str:
    """The file, as JSON, which is YAML too."""
    file = Path(directory, "config.yaml")
    file.write_text(json.dumps(configuration))
    return str(file)


def wait_for(server: Server, streams: int) -> None:
    """Wait until an exporter serves so many streams."""
    until = time.monotonic() + GENEROUS_SECONDS
    while not server.ask("ready") or server.ask("streams") < streams:
        if time.monotonic() > until:
            raise TimeoutError(f"{server.ask('streams')} streams of {streams} are there")
        time.sleep(0.1)
