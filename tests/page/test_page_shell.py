from pathlib import Path

import pytest

from exporter.cli.settings import load_settings
from exporter.config.upstream import UpstreamSettings
from exporter.model import Identity, Status, StreamReport, StreamState, UpstreamState
from exporter.web.ui.page import render, root_from, static_files
from tests.page.states import outage

HOSTILE = "<script>alert('x')</script>\" $version &amp;"


@pytest.fixture
def settings(tmp_path: Path) -> UpstreamSettings:
    file = tmp_path / "config.yaml"
    file.write_text("upstreams: [{name: edge, platform: storm, url: 'http://127.0.0.1:9', discover: true}]")
    return load_settings(file, {}).upstreams[0]


def upstream_state(**facts: object) -> UpstreamState:
    known = {"platform": "storm", "upstream": "edge", "host": "127.0.0.1:9", "health_score": "reported", "up": True}
    return UpstreamState(**(known | facts))  # type: ignore[arg-type]


def state(live: bool | None) -> StreamState:
    status = {True: Status.LIVE, False: Status.IDLE, None: Status.UNKNOWN}[live]
    identity, report = Identity("storm", "edge", "live/one"), StreamReport(id="live/one")
    return StreamState(identity=identity, report=report, status=status, live=live)


def test_upstream_row_has_state_counts_and_time(settings: UpstreamSettings) -> None:
    streams = (state(live=True), state(live=False), state(live=None))
    html = render(
        [(settings, upstream_state(streams=streams, last_success_timestamp_seconds=1_726_000_123.9))],
        telemetry_path="/m",
    )
    cells = ("3", "1, 1 unknown", "2024-09-10 20:28:43 UTC", "")
    assert f'<span class="up">up</span></td>{"".join(f"<td>{cell}</td>" for cell in cells)}' in html


def test_upstream_row_of_an_outage_has_the_last_known_counts(settings: UpstreamSettings) -> None:
    html = render([(settings, outage(since=1_726_000_123.9))], telemetry_path="/m")
    assert "<td>20</td><td>unknown since 2024-09-10 20:28:43 UTC; 19 of 20 were live then</td>" in html


def test_upstream_row_omits_unknown_counts(settings: UpstreamSettings) -> None:
    html = render([(settings, upstream_state(up=False, streams=(state(live=None),)))], telemetry_path="/m")
    assert "<td>1</td><td>unknown</td>" in html


def test_upstream_without_a_poll_is_shown_as_not_polled(settings: UpstreamSettings) -> None:
    assert render([(settings, None)], telemetry_path="/m").count("not polled yet") == 1
    assert render([(settings, upstream_state(up=None))], telemetry_path="/m").count("not polled yet") == 1


def test_text_of_platforms_is_escaped(settings: UpstreamSettings) -> None:
    html = render([(settings, upstream_state(up=False, last_error=HOSTILE))], telemetry_path="/m")
    assert "<script>" not in html
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&quot; $version &amp;amp;" in html


def test_page_links_its_files_relative_to_its_path() -> None:
    assert [root_from(path) for path in ("/", "/streams", "/streams/edge/live%2Fone", "/streams/edge/live/one")] == [
        "./",
        "./",
        "../../",
        "../../../",
    ]
    html = render([], telemetry_path="/", root="../../")
    for name, (content_type, body) in static_files().items():
        assert body
        if content_type == "text/javascript":
            assert f'<link rel="modulepreload" href="../../static/{name}">' in html
    assert 'href="../../streams"' in html
