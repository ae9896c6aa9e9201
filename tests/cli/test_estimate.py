import re
from pathlib import Path

import pytest

from exporter.cli import main
from exporter.cli.estimate import estimate, has_discovery, size
from exporter.cli.settings import load_settings

CONFIGURATION = """
histograms: {per_stream: PER_STREAM}
upstreams:
  - {name: edge, platform: storm, url: "http://127.0.0.1:9", streams: [{application: live, key: a, expected: true}]}
  - {name: studio, platform: livepeer, url: "http://127.0.0.1:9", auth: {bearer_token: canary-token}}
  - {name: named, platform: livepeer, url: "http://127.0.0.1:9", auth: {bearer_token: canary-token}, streams: [{id: a}]}
  - {name: wave, platform: wave, url: "http://127.0.0.1:9", auth: {bearer_token: canary-token}, sessions: [a, b]}
  - {name: origin, platform: node_media_server, url: "http://127.0.0.1:9"}
"""


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(CONFIGURATION.replace("PER_STREAM", "false"))


def test_estimate_has_a_line_per_upstream_and_a_total(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "--estimate", "--streams", "20"]) == 0
    heads, *lines, total = capsys.readouterr().out.splitlines()
    assert heads.split() == ["upstream", "streams", "series", "per", "stream", "bytes", "gzip"]
    assert [re.split(r"\s{2,}", line)[:3] for line in lines[:5]] == [
        ["edge", "20", "assumed"],
        ["studio", "20", "assumed"],
        ["named", "1", "configured"],
        ["wave", "2", "configured"],
        ["origin", "20", "assumed"],
    ]
    assert lines[5].startswith("(the exporter itself)")
    assert total.split()[:2] == ["total", "63"]


def test_excluded_families_are_not_counted() -> None:
    def studio_series() -> int:
        return estimate(load_settings(Path("config.yaml"), {}), 20)[1].series

    whole = studio_series()
    with Path("config.yaml").open("a") as file:
        file.write("defaults: {exclude_families: [stream_viewers]}\n")
    assert studio_series() == whole - 20


def test_estimate_is_scaled_up_above_the_generated_streams() -> None:
    settings = load_settings(Path("config.yaml"), {})
    few, many = (estimate(settings, streams)[1] for streams in (400, 4000))
    assert few.name == many.name == "studio"
    fixed = estimate(settings, 1)[1].series
    assert (many.series - fixed) / (few.series - fixed) == pytest.approx(10, rel=0.05)
    assert many.bytes_ / few.bytes_ == pytest.approx(10, rel=0.1)
    assert few.compressed < few.bytes_ / 3


def test_histograms_per_stream_add_series() -> None:
    shared = estimate(load_settings(Path("config.yaml"), {}), 50)[0]
    Path("config.yaml").write_text(CONFIGURATION.replace("PER_STREAM", "true"))
    single = estimate(load_settings(Path("config.yaml"), {}), 50)[0]
    assert single.series - shared.series >= 49 * 12


PAIRED = """
upstreams:
  - {name: edge, platform: storm, url: "http://127.0.0.1:9", streams: [{application: live, key: a}]}
  - name: cdn
    platform: hls
    url: https://cdn.example.com
    streams:
      - {name: a, url: /a/main.m3u8, of: {upstream: edge, stream: live/a}}
      - {name: b, url: /b/main.m3u8}
"""


def test_playback_checks_are_configured_streams_and_have_series_about_their_source() -> None:
    Path("config.yaml").write_text(PAIRED)
    [_, cdn, *_] = estimate(load_settings(Path("config.yaml"), {}), 20)
    assert (cdn.streams, cdn.basis) == (2, "configured")
    Path("config.yaml").write_text(re.sub(", of: {.*?}", "", PAIRED))
    [_, without, *_] = estimate(load_settings(Path("config.yaml"), {}), 20)
    assert cdn.series == without.series + 2


def test_upstreams_with_discovery_are_recognized() -> None:
    settings = load_settings(Path("config.yaml"), {})
    assert [has_discovery(upstream) for upstream in settings.upstreams] == [True, True, False, False, True]


def test_invalid_configuration_is_reported_by_the_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.yaml").write_text("upstreams: []\n")
    assert main(["metrics", "--estimate", "--config.file", "other.yaml"]) == 1
    assert "other.yaml:1:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (4_900_000, "4.9 MB"), (2e9, "2 GB")]
)
def test_size_is_formatted(count: float, text: str) -> None:
    assert size(count) == text
