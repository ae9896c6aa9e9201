"""The demo as a new user runs it."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import yaml

from exporter.cli.demo import announcement, exporter_configuration
from exporter.cli.settings import load_settings
from exporter.simulator.fleet import Fleet
from exporter.web.options import bind
from tests.exporter_process import GENEROUS_SECONDS, Exporter
from tests.real.child_process import wait_until
from tests.real.prometheus import Prometheus, check_metrics, promtool

PLATFORMS = {"livepeer", "storm", "wave"}


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

    def wait_for(self, pattern: str) -> None:
        """Wait until a line of the metrics matches."""
        wait_until(lambda: re.search(pattern, self.get("/metrics"), re.MULTILINE), f"a line matches {pattern}")


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
    page = demo.get("/")
    assert page.count('<span class="up">up</span>') == 3


def test_printed_command_injects_a_fault(demo: Demo) -> None:
    command = demo.process.wait_for(r"curl -X POST (http://\S+) -d '(.*)'$")
    fault = json.loads(command[2])
    demo.wait_for(rf'^stream_healthy{{.*stream="{fault["stream"]}".*}} 1$')
    with urlopen(Request(command[1], data=command[2].encode(), method="POST"), timeout=GENEROUS_SECONDS) as answer:
        assert answer.status < 300
    demo.wait_for(rf'^stream_healthy{{.*stream="{fault["stream"]}".*}} 0$')
    searched = demo.process.wait_for(r"grep '(.*)'$")[1]
    assert re.search(searched, demo.get("/metrics"), re.MULTILINE)


def test_written_prometheus_configuration_scrapes_the_demo(demo: Demo) -> None:
    written = demo.process.wait_for(r"--config.file=(\S+)")[1]
    content = yaml.safe_load((demo.directory / written).read_text())
    assert written == "stream-exporter-demo/prometheus.yml"
    [job] = content["scrape_configs"]
    assert job["static_configs"] == [{"targets": [demo.url.removeprefix("http://")]}]
    assert job["metrics_path"] == "/metrics"


def test_reload_succeeds(demo: Demo) -> None:
    demo.process.send(signal.SIGHUP)
    wait_until(lambda: "last_reload_successful 1" in demo.get("/metrics?collect[]=exporter"), "the reload succeeds")
    assert demo.process.process.poll() is None


@pytest.mark.real
def test_promtool_accepts_metrics_and_configuration(demo: Demo) -> None:
    for platform in PLATFORMS:
        demo.wait_for(rf'^stream_live{{platform="{platform}",.*}} 1$')
    check_metrics(demo.get("/metrics"))
    checked = promtool("check", "config", demo.directory / "stream-exporter-demo" / "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.real
def test_prometheus_scrapes_the_demo(demo: Demo, prometheus: Prometheus) -> None:
    with prometheus.scraping("demo", demo.url.removeprefix("http://")):
        prometheus.wait_for('count(count by (platform) (stream_live{job="demo"})) == 3')
        assert prometheus.value('up{job="demo"}') == 1


def test_stream_in_the_printed_command_is_live_and_stays_live() -> None:
    fleet = Fleet(12)
    for now in range(1_790_000_000, 1_790_086_400, 1800):
        text = announcement(fleet, now, "http://127.0.0.1:1", "/metrics", Path("out"))
        fault = json.loads(text.partition("-d '")[2].partition("'")[0])
        stream = fleet.find_stream(fault["platform"], fault["stream"])
        assert stream is not None
        assert fleet.is_live(stream, now + 120)


@pytest.mark.parametrize("streams", [1, 2, 3, 60, 5000])
def test_fleet_of_any_size_has_a_valid_configuration(streams: int, tmp_path: Path) -> None:
    fleet = Fleet(streams)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(exporter_configuration(fleet, "http://127.0.0.1:1/simulator")))
    settings = load_settings(file, {})
    assert len(settings.upstreams) == min(streams, 3)
    for upstream in settings.upstreams:
        assert upstream.interval == 5
        assert any(stream.expected and stream.expected_bitrate for stream in upstream.configured_streams())
    assert f"{streams} simulated streams on {min(streams, 3)} platforms" in announcement(
        fleet, 1_790_000_000.0, "http://127.0.0.1:1", "/metrics", tmp_path
    )


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
