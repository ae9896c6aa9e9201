"""Settings of playback checks: URLs with and without tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.cli.settings import load_settings
from exporter.config.root import Settings
from exporter.platforms.hls import HlsSettings
from exporter.platforms.playback import traffic
from exporter.runtime.redaction import redactor

UUID = "de7818e7-610a-4057-8f6f-b785dc1e6f88"


def load(folder: Path, url: str) -> Settings:
    """Load a check of this URL from a file that every user can read."""
    file = folder / "config.yaml"
    file.write_text(
        "upstreams: [{name: cdn, platform: hls, url: 'https://cdn.example.com', "
        f"streams: [{{name: main, url: '{url}'}}]}}]"
    )
    file.chmod(0o644)
    return load_settings(file, {})


@pytest.mark.parametrize(
    "url", ["/live/main/index.m3u8", "a.m3u8", "https://cdn-b.example.com:8443/live/main-stage_1080p/master.m3u8"]
)
def test_plain_url_causes_no_warning_and_is_hidden(tmp_path: Path, url: str) -> None:
    settings = load(tmp_path, url)
    assert settings.warnings == ()
    assert url not in settings.redacted_yaml()
    assert url in redactor.scrub(f"stream {url}")


@pytest.mark.parametrize(
    "url",
    [
        "/live/main.m3u8?token=canary-of-a-query",
        "/hdntl=exp=1700000000~hmac=canary/main.m3u8",
        "/0123456789abcdef0123456789abcdef/main.m3u8",
        f"/{UUID}/main.m3u8",
    ],
)
def test_url_that_may_hold_a_token_is_treated_as_a_secret(tmp_path: Path, url: str) -> None:
    settings = load(tmp_path, url)
    assert "the configuration file contains a secret and is readable by every user" in settings.warnings
    assert url not in redactor.scrub(f"stream {url}")


def settings(**given: object) -> HlsSettings:
    streams = [{"name": "main", "url": "/main.m3u8", "expected_renditions": 3}]
    return HlsSettings.model_validate({"name": "cdn", "url": "https://cdn.example.com", "streams": streams, **given})


@pytest.mark.parametrize(
    ("given", "requests", "bytes_"),
    [
        ({}, 49, 24 * (2000 + 16384) + 300_000),
        ({"whole_segment_every": "0s"}, 48, 24 * (2000 + 16384)),
        ({"renditions": "first", "interval": "10s"}, 13, 6 * (2000 + 16384) + 300_000),
        ({"renditions": "all"}, 73, 36 * (2000 + 16384) + 300_000),
        ({"segments": "none"}, 24, 24 * 2000),
        ({"segments": "full", "renditions": "first"}, 24, 12 * 2000 + 60 * 375_000),
        ({"segments": "full", "renditions": "all"}, 72, 36 * 2000 + 180 * 375_000),
        ({"segments": "full", "interval": "10s"}, 24, 12 * 2000 + 96 * 375_000),
        ({"segments": "full", "interval": "2s"}, 120, 60 * 2000 + 180 * 375_000),
    ],
)
def test_traffic_is_estimated_from_the_settings(given: dict[str, object], requests: float, bytes_: float) -> None:
    assert traffic.requests_per_minute(settings(**given)) == pytest.approx(requests)
    assert traffic.bytes_per_minute(settings(**given)) == pytest.approx(bytes_)
