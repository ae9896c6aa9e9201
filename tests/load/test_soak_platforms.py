"""What the exporter makes of complete timelines on real servers: ``make soak PART=platforms``, about 35 minutes."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request

import pytest

from tests.real.child_process import GENEROUS_SECONDS
from tests.real.icecast import PASSWORD, USERNAME, running_icecast
from tests.real.nginx_rtmp import running_nginx_rtmp
from tests.real.platform_timeline import (
    INTERVAL,
    LONG_FREEZE,
    MOUNT,
    NAME,
    RATES,
    SETTINGS,
    SHORT_FREEZE,
    Timeline,
    running_timeline,
)

ORDINARY_SECONDS = float(os.environ.get("SOAK_SECONDS", "900"))
SOUND_RATE = 64_000
"""Bit/s of the sound beside a picture."""

pytestmark = [pytest.mark.soak, pytest.mark.real]


def run_timeline(
    timeline: Timeline,
    publish: Callable[[str], Any],
    watch: Callable[[], Any],
    restart: Callable[[], None],
    *,
    ordinary_seconds: float,
) -> None:
    """Go through all events. ``publish`` takes a suffix for the names of the encoder's files."""

    def visit() -> None:
        with watch():
            time.sleep(10)

    def freeze(encoder: Any) -> None:
        encoder.freeze()
        timeline.unchanged(
            f"encoder sends nothing for {SHORT_FREEZE:.0f} s",
            SHORT_FREEZE,
            lambda: timeline.is_live and timeline.rate > 0,
        )
        encoder.thaw()
        # the bitrate of before the pause is served until the total has moved again
        time.sleep(4 * INTERVAL)
        timeline.settle()
        began = time.monotonic()
        encoder.freeze()
        timeline.event(
            f"encoder sends nothing for {LONG_FREEZE:.0f} s or more",
            "live, bitrate 0",
            lambda: timeline.is_live and timeline.rate == 0,
            alert="StreamIngestStalled",
        )
        while time.monotonic() < began + LONG_FREEZE:
            assert timeline.rate == 0
            time.sleep(1)
        encoder.thaw()
        timeline.event("encoder sends again", "bitrate above 0", lambda: timeline.rate > 0)

    with publish("-1") as encoder:
        timeline.event("encoder connects", "live", lambda: timeline.is_live)
        timeline.event("first bitrate", "bitrate above 0", lambda: timeline.rate > 0)
        timeline.settle()
        with watch():
            timeline.event("viewer joins", "1 viewer", lambda: timeline.value("stream_viewers") == 1)
            time.sleep(2 * INTERVAL)
        timeline.event("viewer leaves", "0 viewers", lambda: timeline.value("stream_viewers") == 0)
        timeline.ordinary(ordinary_seconds, lambda: encoder.bytes_sent, visit)
        with publish("-2") as second:
            second.process.wait(GENEROUS_SECONDS)
            timeline.unchanged("second encoder is refused", 45, lambda: timeline.is_live and timeline.rate > 0)
        freeze(encoder)
        timeline.settle()
        with watch():
            timeline.event("viewer joins again", "1 viewer", lambda: timeline.value("stream_viewers") == 1)
            time.sleep(2 * INTERVAL)
            encoder.kill()
            timeline.event(
                "encoder is killed, a viewer waits",
                "off air",
                lambda: timeline.is_off_air,
                alert="StreamExpectedOffline",
            )
    with publish("-3") as encoder:
        timeline.event("encoder connects again", "live", lambda: timeline.is_live)
        timeline.settle()
        encoder.kill()
        timeline.event("encoder is killed", "off air", lambda: timeline.is_off_air, alert="StreamExpectedOffline")
    with publish("-4"):
        timeline.event("encoder connects a third time", "live", lambda: timeline.is_live)
        timeline.settle()
        restarts = timeline.value("stream_restarts_total") or 0.0
        restart()
    with publish("-5"):
        timeline.event(
            "server restarts, encoder reconnects",
            "live, one restart more",
            lambda: timeline.is_live and timeline.value("stream_restarts_total") == restarts + 1,
        )
        timeline.settle()
    timeline.write()


def test_timeline_of_nginx(tmp_path: Path) -> None:
    with running_nginx_rtmp(tmp_path) as server:
        upstream = {"url": server.url, **SETTINGS["nginx_rtmp"]}
        requests = {"GET /stat": Request(f"{server.url}/stat")}
        with running_timeline("nginx_rtmp", upstream, f"live/{NAME}", requests, tmp_path) as timeline:
            run_timeline(
                timeline,
                lambda suffix: server.publish(
                    NAME, bits_per_second=RATES["nginx_rtmp"] - SOUND_RATE, suffix=suffix, seconds=7200
                ),
                lambda: server.watch(NAME),
                server.restart,
                ordinary_seconds=ORDINARY_SECONDS,
            )


def test_timeline_of_icecast(tmp_path: Path) -> None:
    """The server waits longer than usual for data, because it would disconnect a frozen encoder after 10 s."""
    with running_icecast(tmp_path, source_timeout=600) as server:
        upstream = {"url": server.url, **SETTINGS["icecast"]}
        credentials = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        requests = {
            f"GET {path}": Request(f"{server.url}{path}", headers={"Authorization": f"Basic {credentials}"})
            for path in ("/admin/stats", "/admin/listmounts", "/status-json.xsl")
        }
        with running_timeline("icecast", upstream, MOUNT, requests, tmp_path) as timeline:
            run_timeline(
                timeline,
                lambda _: server.publish(MOUNT, bits_per_second=RATES["icecast"]),
                lambda: server.listen(MOUNT),
                server.restart,
                ordinary_seconds=ORDINARY_SECONDS,
            )
