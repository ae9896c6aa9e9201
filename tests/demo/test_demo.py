"""The demo as a new user runs it."""

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import yaml

from exporter.cli.demo import announcement, exporter_configuration
from exporter.cli.settings import load_settings
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulated_streams import Platform
from exporter.web.options import bind
from tests.exporter_process import GENEROUS_SECONDS, Exporter
from tests.real.child_process import Program, responds, running_server, wait_until
from tests.real.prometheus import Prometheus, check_metrics, promtool
from tests.real.tools import tool

PLATFORMS = {"livepeer", "storm", "wave"}
PLAYBACK_FAULTS = {
    "playlist_frozen": ('stream_unplayable_reason{{{labels},reason="stale"}} 1', "stream_playable{{{labels}}} 0"),
    "segments_missing": ('stream_unplayable_reason{{{labels},reason="segment_missing"}} 1',),
    "cdn_stale": ("stream_segments_missed_total{{{labels}}} [1-9]",),
    "audio_missing": ("stream_audio_present{{{labels}}} 0", "stream_playable{{{labels}}} 1"),
    "slow_edge": ('stream_health_reason{{{labels},reason="slow"}} 1', "stream_playable{{{labels}}} 1"),
}
"""Faults of the HLS origin, and lines of the metrics that each of them causes."""
FAULT_SECONDS = 90.0
"""Three whole segments are fetched, one every 10 s, before a server counts as slow."""


class Demo:
    """A running demo. Its URL is taken from its output."""

    def __init__(self, process: Exporter, directory: Path) -> None:
        self.process = process
        self.directory = directory
        self.url = process.wait_for(r"^  (http://\S+:[1-9][0-9]*)/$")[1]

    def get(self, path: str) -> str:
        with urlopen(self.url + path, timeout=GENEROUS_SECONDS) as answer:
            text: str = answer.read().decode()
        return text

    def wait_for(self, pattern: str, seconds: float = GENEROUS_SECONDS) -> None:
        """Wait until a line of the metrics matches."""
        wait_until(lambda: re.search(pattern, self.get("/metrics"), re.MULTILINE), f"a line matches {pattern}", seconds)

    def printed_faults(self) -> tuple[str, list[str]]:
        """Return the URL of the printed commands, and the bodies that they send."""
        self.process.wait_for("Press Ctrl-C")
        commands = re.findall(r"curl -X POST (http://\S+) -d '(.*)'$", self.process.said, re.MULTILINE)
        return commands[0][0], [body for _, body in commands]

    def inject(self, body: str) -> None:
        """Inject a fault like the printed commands."""
        url = self.printed_faults()[0]
        with urlopen(Request(url, data=body.encode(), method="POST"), timeout=GENEROUS_SECONDS) as answer:
            assert answer.status < 300


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    directory = tmp_path_factory.mktemp("demo")
    arguments = ["demo", "--streams", "12", "--seed", "7", "--speed", "2", "--web.listen-address", "127.0.0.1:0"]
    with Exporter(arguments, directory) as process:
        yield Demo(process, directory)
        process.send(signal.SIGINT)
        assert process.ended() == 0
        assert "Traceback" not in process.said
        assert "level=error" not in process.said


def test_all_platforms_are_polled_and_their_histograms_fill(demo: Demo) -> None:
    for platform in PLATFORMS:
        demo.wait_for(rf'^stream_upstream_up{{platform="{platform}",.*}} 1$')
        demo.wait_for(rf'^stream_live{{platform="{platform}",.*}} 1$')
        demo.wait_for(rf'^stream_sampled_ingest_bitrate_bytes_per_second_count{{platform="{platform}",.*}} [1-9]')
        demo.wait_for(rf'^stream_sampled_health_score_ratio_count{{platform="{platform}",.*}} [1-9]')
    demo.wait_for(r"^stream_sampled_latency_seconds_count{.*} [1-9]")
    demo.wait_for(r'^stream_upstream_up{platform="hls",.*} 1$')
    page = demo.get("/")
    assert page.count('<span class="up">up</span>') == 4


def test_viewers_of_live_streams_get_them(demo: Demo) -> None:
    checked = yaml.safe_load((demo.directory / "stream-exporter-demo" / "config.yaml").read_text())["upstreams"][-1]
    assert len(checked["streams"]) == 4
    for stream in checked["streams"]:
        labels = f'platform="hls",upstream="viewers",stream="{stream["name"]}"'
        for family in ("live", "playable", "source_live", "audio_present", "video_present"):
            demo.wait_for(rf"^stream_{family}{{{labels}}} 1$")
        demo.wait_for(rf"^stream_renditions_playable{{{labels}}} 3$")


def test_printed_command_injects_a_fault(demo: Demo) -> None:
    body = demo.printed_faults()[1][0]
    fault = json.loads(body)
    demo.wait_for(rf'^stream_healthy{{.*stream="{fault["stream"]}".*}} 1$')
    demo.inject(body)
    demo.wait_for(rf'^stream_healthy{{.*stream="{fault["stream"]}".*}} 0$')
    searched = demo.process.wait_for(r"grep '(.*)'$")[1]
    assert re.search(searched, demo.get("/metrics"), re.MULTILINE)


def test_printed_command_takes_a_live_stream_away_from_its_viewers(demo: Demo) -> None:
    body = demo.printed_faults()[1][1]
    stream = json.loads(body)["stream"]
    labels = f'platform="hls",upstream="viewers",stream="{stream}"'
    demo.wait_for(rf"^stream_playable{{{labels}}} 1$")
    demo.inject(body)
    demo.wait_for(rf"^stream_playable{{{labels}}} 0$")
    metrics = demo.get("/metrics")
    assert f"\nstream_source_live{{{labels}}} 1\n" in metrics
    assert f'\nstream_live{{platform="storm",upstream="edge",stream="{stream}"}} 1\n' in metrics
    searched = re.findall(r"grep -E '(.*)'$", demo.process.said, re.MULTILINE)[0]
    assert len(re.findall(searched, metrics, re.MULTILINE)) == 2


@pytest.mark.no_cover
def test_each_playback_fault_is_found(tmp_path: Path) -> None:
    arguments = ["demo", "--streams", "12", "--web.listen-address", "127.0.0.1:0"]
    with Exporter(arguments, tmp_path) as process:
        demo = Demo(process, tmp_path)
        names = [stream.id for stream in Fleet(12).streams(Platform.STORM)]
        # the last two do not hide each other
        broken = dict(zip(PLAYBACK_FAULTS, [*names, names[-1]], strict=True))
        for name in names:
            demo.wait_for(rf'^stream_audio_present{{.*stream="{name}".*}} 1$')
        for fault, name in broken.items():
            demo.inject(json.dumps({"platform": "hls", "stream": name, "fault": fault}))
        for fault, name in broken.items():
            for line in PLAYBACK_FAULTS[fault]:
                labels = f'platform="hls",upstream="viewers",stream="{name}"'
                demo.wait_for(f"^{line.format(labels=labels)}", FAULT_SECONDS)
        assert "Traceback" not in process.said
        assert "level=error" not in process.said


def test_written_prometheus_configuration_scrapes_the_demo(demo: Demo) -> None:
    written = demo.process.wait_for(r"--config.file=(\S+)")[1]
    content = yaml.safe_load((demo.directory / written).read_text())
    assert written == "stream-exporter-demo/prometheus.yml"
    [job] = content["scrape_configs"]
    assert job["static_configs"] == [{"targets": [demo.url.removeprefix("http://")]}]
    assert job["metrics_path"] == "/metrics"
    for name in content["rule_files"]:
        assert yaml.safe_load((demo.directory / written).with_name(name).read_text())["groups"]


def test_reload_succeeds(demo: Demo) -> None:
    demo.process.send(signal.SIGHUP)
    wait_until(lambda: "last_reload_successful 1" in demo.get("/metrics?collect[]=exporter"), "the reload succeeds")
    assert demo.process.process.poll() is None


@pytest.mark.real
def test_promtool_accepts_metrics_and_configuration(demo: Demo) -> None:
    for platform in (*PLATFORMS, "hls"):
        demo.wait_for(rf'^stream_live{{platform="{platform}",.*}} 1$')
    check_metrics(demo.get("/metrics"))
    checked = promtool("check", "config", demo.directory / "stream-exporter-demo" / "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.real
def test_prometheus_scrapes_the_demo(demo: Demo, prometheus: Prometheus) -> None:
    with prometheus.scraping("demo", demo.url.removeprefix("http://")):
        prometheus.wait_for('count(count by (platform) (stream_live{job="demo"})) == 4')
        assert prometheus.value('up{job="demo"}') == 1


@pytest.mark.real
def test_prometheus_alerts_within_a_minute_that_viewers_get_nothing(tmp_path: Path) -> None:
    with Exporter(["demo", "--web.listen-address", "127.0.0.1:0"], tmp_path, measured=False) as process:
        demo = Demo(process, tmp_path)
        written = tmp_path / process.wait_for(r"--config.file=(\S+)")[1]

        def start(port: int) -> Program:
            flags = {
                "config.file": written,
                "storage.tsdb.path": tmp_path / "tsdb",
                "web.listen-address": f"127.0.0.1:{port}",
                "log.level": "warn",
            }
            command: list[str | Path] = [tool("prometheus"), *(f"--{name}={value}" for name, value in flags.items())]
            return Program(command, tmp_path, name="prometheus")

        with running_server(start, lambda port: responds(f"http://127.0.0.1:{port}/-/ready")) as (program, port):
            prometheus = Prometheus(program, port, tmp_path)
            body = demo.printed_faults()[1][1]
            labels = f'stream="{json.loads(body)["stream"]}"'
            prometheus.wait_for(f"stream_playable{{{labels}}} == 1 and on (stream) stream_source_live{{{labels}}} == 1")
            begin = time.monotonic()
            demo.inject(body)
            alert = f'ALERTS{{alertname="StreamViewersGetNothing",alertstate="firing",{labels}}}'
            prometheus.wait_for(alert, 2 * GENEROUS_SECONDS)
            assert time.monotonic() - begin < 60
            assert prometheus.query(f'stream_live{{platform="storm",{labels}}}')[0][1] == 1


def test_streams_in_the_printed_commands_are_live_and_stay_live() -> None:
    fleet = Fleet(12)
    for now in range(1_790_000_000, 1_790_086_400, 1800):
        text = announcement(fleet, now, "http://127.0.0.1:1", "/metrics", Path("out"))
        platform, viewers = (json.loads(body) for body in re.findall("-d '(.*)'$", text, re.MULTILINE))
        assert viewers["platform"] == "hls"
        for stream in (
            fleet.find_stream(platform["platform"], platform["stream"]),
            fleet.find_stream(Platform.STORM, viewers["stream"]),
        ):
            assert stream is not None
            assert fleet.is_live(stream, now + 120)


@pytest.mark.parametrize("streams", [1, 2, 3, 60, 5000])
def test_fleet_of_any_size_has_a_valid_configuration(streams: int, tmp_path: Path) -> None:
    fleet = Fleet(streams)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(exporter_configuration(fleet, "http://127.0.0.1:1/simulator", playback=True)))
    upstreams = load_settings(file, {}).upstreams
    platforms = min(streams, 3)
    for upstream in upstreams[:platforms]:
        assert upstream.interval == 5
        assert any(stream.expected and stream.expected_bitrate for stream in upstream.configured_streams())
    assert [upstream.platform for upstream in upstreams[platforms:]] == (["hls"] if streams > 1 else [])
    for upstream in upstreams[platforms:]:
        for stream in upstream.configured_streams():
            assert stream.expected
            assert stream.source is not None
            assert (stream.source.upstream, stream.source.stream) == ("edge", stream.name)
    text = announcement(fleet, 1_790_000_000.0, "http://127.0.0.1:1", "/metrics", tmp_path)
    assert f"{streams} simulated streams on {platforms} platforms" in text
    assert ("StreamViewersGetNothing" in text) == (streams > 1)


def has_ipv6() -> bool:
    try:
        bind([("::1", 0)])[0].close()
    except OSError:
        return False
    return True


IPV6_ONLY = pytest.param("[::1]:0", "[::1]", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here"))


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("listen", "own"), [("127.0.0.1:0", "127.0.0.1"), (":0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.1"), IPV6_ONLY]
)
def test_demo_reaches_itself_at_any_listen_address(listen: str, own: str, tmp_path: Path) -> None:
    with Exporter(["demo", "--streams", "3", "--web.listen-address", listen], tmp_path) as process:
        url = Demo(process, tmp_path).url
        assert url.rpartition(":")[0] == f"http://{own}"
        with urlopen(f"{url}/-/healthy", timeout=GENEROUS_SECONDS) as answer:
            assert answer.status == 200
        process.send(signal.SIGTERM)
        assert process.ended() == 0


def test_demo_keeps_its_state_beside_its_configuration(demo: Demo) -> None:
    """An exporter on the same machine would find the state of the user's folder in use."""
    folder = demo.directory / "stream-exporter-demo"
    assert load_settings(folder / "config.yaml", {}).state_dir == folder / "state"
