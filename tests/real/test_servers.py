"""The tests' real servers: they start, do what the other tests need, and end."""

import signal
import urllib.error

import pytest

from tests.real.alertmanager import Alertmanager
from tests.real.child_process import Program, request_json, wait_until
from tests.real.media import PASSWORD, USERNAME, NodeMediaServer
from tests.real.prometheus import Prometheus, check_metrics, promtool

pytestmark = pytest.mark.real


def test_prometheus_scrapes_and_answers_queries(prometheus: Prometheus) -> None:
    with prometheus.scraping("itself", prometheus.url.removeprefix("http://")):
        prometheus.wait_for('up{job="itself"} == 1')
    assert prometheus.value("vector(42)") == 42
    assert prometheus.value("absent(vector(1))") is None


def test_prometheus_evaluates_rules_and_sends_alerts(
    prometheus: Prometheus, alertmanager: Alertmanager, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rules = tmp_path_factory.mktemp("rules") / "rules.yml"
    rules.write_text("groups: [{name: g, rules: [{alert: ServersOfTheTests, expr: vector(1)}]}]")
    with prometheus.evaluating(rules, alertmanagers=[alertmanager.address]):
        wait_until(lambda: alertmanager.alerts('alertname="ServersOfTheTests"'), "the alert arrives")


def test_alertmanager_accepts_a_new_configuration(alertmanager: Alertmanager) -> None:
    with alertmanager.configured("{route: {receiver: other}, receivers: [{name: other}]}"):
        assert "other" in request_json(f"{alertmanager.url}/api/v2/status")["config"]["original"]


def test_promtool_checks_an_exposition() -> None:
    check_metrics("# HELP stream_live Is it live?\n# TYPE stream_live gauge\nstream_live 1\n")
    assert promtool("check", "metrics", text="stream_live 1\n").returncode != 0


def test_media_servers_require_authentication(nms2: NodeMediaServer, nms4: NodeMediaServer) -> None:
    for url in (f"{nms2.url}/api/streams", f"{nms4.url}/api/v1/streams"):
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            request_json(url)
        refused.value.close()
    answer = request_json(f"{nms4.url}/api/v1/login", body={"username": USERNAME, "password": PASSWORD})
    assert answer["success"] is True


def test_program_ends_with_its_block(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Program(["sh", "-c", "sleep 1000"], tmp_path_factory.mktemp("program")) as program:
        program.signal(signal.SIGSTOP)
    assert program.process.returncode == -signal.SIGKILL
