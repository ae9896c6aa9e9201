from pathlib import Path

import pytest

from exporter.config.loading import load
from exporter.config.upstream import UpstreamSettings
from exporter.model import Identity, StreamReport, StreamState, UpstreamState
from exporter.web.options import check_telemetry_path
from exporter.web.ui.page import render, root_from, static_files

HOSTILE = "<script>alert('x')</script>\" $version &amp;"


@pytest.fixture
def settings(tmp_path: Path) -> UpstreamSettings:
    file = tmp_path / "config.yaml"
    file.write_text("upstreams: [{name: edge, platform: storm, url: 'http://127.0.0.1:9', discover: true}]")
    return load(file, {}).upstreams[0]


def view(**facts: object) -> UpstreamState:
    known = {"platform": "storm", "upstream": "edge", "host": "127.0.0.1:9", "health_score": "reported", "up": True}
    return UpstreamState(**(known | facts))  # type: ignore[arg-type]


def state(live: bool | None) -> StreamState:
    return StreamState(identity=Identity("storm", "edge", "live/one"), report=StreamReport(id="live/one"), live=live)


def test_an_upstream_s_row(settings: UpstreamSettings) -> None:
    streams = (state(live=True), state(live=False), state(live=None))
    html = render(
        [(settings, view(streams=streams, last_success_timestamp_seconds=1_726_000_123.9))], telemetry_path="/m"
    )
    assert '<span class="up">up</span></td><td>3</td><td>1</td><td>2024-09-10 20:28:43 UTC</td><td></td>' in html


def test_an_upstream_that_has_not_been_polled(settings: UpstreamSettings) -> None:
    assert render([(settings, None)], telemetry_path="/m").count("not polled yet") == 1
    assert render([(settings, view(up=None))], telemetry_path="/m").count("not polled yet") == 1


def test_what_others_say_is_escaped(settings: UpstreamSettings) -> None:
    html = render([(settings, view(up=False, last_error=HOSTILE))], telemetry_path="/m")
    assert "<script>" not in html
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&quot; $version &amp;amp;" in html


def test_the_page_names_its_files_from_wherever_it_stands() -> None:
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


@pytest.mark.parametrize("path", ["/streams", "/streams/x", "/static/page.css", "/api/v1/streams", "/api/v1/alerts"])
def test_metrics_do_not_take_the_page_s_places(path: str) -> None:
    with pytest.raises(ValueError, match="already taken"):
        check_telemetry_path(path)
