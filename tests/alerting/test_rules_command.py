from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exporter.alerting.rules import RULES
from exporter.cli import main
from tests import yaml_text

CONFIG = """
upstreams: [{name: studio, platform: livepeer, auth: {bearer_token: x}}]
alerting:
  thresholds: {StreamUnhealthy: {value: 0.3, for: 7m}}
  health_slo: {goal: 0.9}
"""


def test_rules_command_lists_every_severity_of_all_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split()[:4] == ["NAME", "SCOPE", "SEVERITY", "FOR"]
    assert [tuple(line.split()[:3]) for line in lines] == [
        (rule.name, rule.scope, severity) for rule in RULES for severity in rule.severities
    ]
    found = {tuple(line.split()[2:4]) for line in lines if line.startswith("StreamExpectedUnknown ")}
    assert found == {("critical", "15m"), ("warning", "5m")}


@pytest.mark.parametrize(("evaluator", "owners"), [("prometheus", {"prometheus"}), ("sidecar", {"both", "sidecar"})])
def test_evaluator_flag_limits_the_list(evaluator: str, owners: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "--evaluator", evaluator]) == 0
    assert {line.split()[-1] for line in capsys.readouterr().out.splitlines()[1:]} == owners


def test_written_files_equal_the_committed_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "--output-dir", str(tmp_path / "new")]) == 0
    names = ["stream-alerts.yaml", "stream-recordings.yaml"]
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "new" / name) for name in names]
    for name in names:
        assert (tmp_path / "new" / name).read_text() == (Path("alerts") / name).read_text(), "run: make generate"


def test_sidecar_rules_are_written_without_recordings(tmp_path: Path) -> None:
    assert main(["rules", "--output-dir", str(tmp_path), "--evaluator", "sidecar"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["stream-alerts.yaml"]


def written_rules(folder: Path, *flags: str) -> dict[str, dict[str, Any]]:
    """Run the command and return the written rules by name (of two severities, the rule's own)."""
    assert main(["rules", "--output-dir", str(folder), *flags]) == 0
    groups = yaml_text.parse((folder / "stream-alerts.yaml").read_text())["groups"]
    return {rule.get("alert") or rule["record"]: rule for group in groups for rule in group["rules"]}


def test_written_rules_use_configured_thresholds_and_flags(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    flags = ["--selector", 'job="mine"', "--time-scale", "60", "--runbook-url", "https://wiki/x"]
    rules = written_rules(tmp_path, "--config.file", str(config), *flags)
    unhealthy = rules["StreamUnhealthy"]
    assert "stream:health_score_ratio < 0.3 unless" in unhealthy["expr"]
    assert 'stream_health_score_ratio{job="mine"}' in rules["stream:health_score_ratio"]["expr"]
    assert unhealthy["for"] == "7s"
    assert unhealthy["annotations"]["runbook_url"] == "https://wiki/x#streamunhealthy"
    assert "page_url" not in unhealthy["annotations"]
    assert 'upstream="studio"' in rules["StreamUpstreamUnwatched"]["expr"]
    assert 'le="0.9"' in (tmp_path / "stream-recordings.yaml").read_text()


def test_upstream_for_which_unwatched_is_off_may_be_served_by_no_target(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.replace("auth:", "alerts: {StreamUpstreamUnwatched: off}, auth:"))
    rules = written_rules(tmp_path, "--config.file", str(config))
    assert 'upstream="studio"' not in rules["StreamUpstreamUnwatched"]["expr"]


def test_links_lead_to_the_external_url(tmp_path: Path) -> None:
    rules = written_rules(tmp_path, "--web.external-url", "https://exporter.example.com/streams")
    annotations = rules["StreamUnhealthy"]["annotations"]
    page = "https://exporter.example.com/streams/"
    assert annotations["runbook_url"] == f"{page}runbook#streamunhealthy"
    assert annotations["page_url"].startswith(f"{page}streams?upstream={{{{")
    assert rules["StreamUpstreamDown"]["annotations"]["page_url"] == page


def test_prometheus_flags_change_the_written_rules(tmp_path: Path) -> None:
    flags = ["--scrape-interval", "10s", "--replica-labels", "replica", "--target-labels", "site,zone"]
    rules = written_rules(tmp_path, *flags, "--without-keep-firing")
    assert not [rule for rule in rules.values() if "keep_firing_for" in rule]
    operand = rules["stream:live"]["expr"]
    assert operand.startswith("max without (replica) (")
    assert "[25s]" in operand
    assert "site, zone" in operand
    assert "instance" not in operand


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *(("--scrape-interval", value) for value in ("", "0s", "2h", "x")),
        *(("--replica-labels", value) for value in ("a-b", "__name__", "a,,b")),
        ("--target-labels", 'a"'),
        ("--web.external-url", "ftp://a"),
        *(("--time-scale", value) for value in ("0", "-1", "x", "nan", "4000")),
    ],
)
def test_invalid_flag_is_a_usage_error(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["rules", f"{flag}={value}"])
    assert caught.value.code == 2
    assert f"argument {flag}: " in capsys.readouterr().err


def test_invalid_configuration_is_reported_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.replace("StreamUnhealthy", "StreamUnhealty"))
    assert main(["rules", "--config.file", str(config), "--output-dir", str(tmp_path / "out")]) == 1
    assert "StreamUnhealthy" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_unwritable_output_dir_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["rules", "--output-dir", str(tmp_path / "file" / "below")]) == 1
    assert str(tmp_path / "file" / "below") in capsys.readouterr().err
