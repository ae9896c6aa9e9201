from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from exporter.alerting.rules import RULES
from exporter.cli import main

CONFIG = """
upstreams: [{name: studio, platform: livepeer, auth: {bearer_token: x}}]
alerting:
  thresholds: {StreamUnhealthy: {value: 0.3, for: 7m}}
  health_slo: {goal: 0.9}
"""


def test_rules_command_lists_all_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(RULES) + 1
    assert lines[0].split()[:2] == ["NAME", "SCOPE"]


@pytest.mark.parametrize(("evaluator", "owners"), [("prometheus", {"prometheus"}), ("sidecar", {"both", "sidecar"})])
def test_evaluator_flag_limits_the_list(evaluator: str, owners: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "--evaluator", evaluator]) == 0
    assert {line.split()[-1] for line in capsys.readouterr().out.splitlines()[1:]} == owners


def test_output_dir_gets_the_committed_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "--output-dir", str(tmp_path / "new")]) == 0
    names = ["stream-alerts.yaml", "stream-recordings.yaml"]
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "new" / name) for name in names]
    for name in names:
        assert (tmp_path / "new" / name).read_text() == (Path("alerts") / name).read_text()


def test_sidecar_rules_are_written_without_recordings(tmp_path: Path) -> None:
    assert main(["rules", "--output-dir", str(tmp_path), "--evaluator", "sidecar"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["stream-alerts.yaml"]


def test_written_rules_use_configured_thresholds_and_flags(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    flags = ["--selector", 'job="mine"', "--time-scale", "60", "--runbook-url", "https://wiki/x"]
    assert main(["rules", "--config.file", str(config), "--output-dir", str(tmp_path), *flags]) == 0
    groups = yaml.safe_load((tmp_path / "stream-alerts.yaml").read_text())["groups"]
    rules = {rule["alert"]: rule for group in groups for rule in group["rules"]}
    unhealthy = rules["StreamUnhealthy"]
    assert 'stream_health_score_ratio{job="mine"}) < 0.3' in unhealthy["expr"]
    assert unhealthy["for"] == "7s"
    assert unhealthy["annotations"]["runbook_url"] == "https://wiki/x#streamunhealthy"
    assert 'le="0.9"' in (tmp_path / "stream-recordings.yaml").read_text()


def test_invalid_configuration_is_reported_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.replace("StreamUnhealthy", "StreamUnhealty"))
    assert main(["rules", "--config.file", str(config), "--output-dir", str(tmp_path / "out")]) == 1
    assert "the name of a rule, such as StreamUnhealthy" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_unwritable_output_dir_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["rules", "--output-dir", str(tmp_path / "file" / "below")]) == 1
    assert "can't write to" in capsys.readouterr().err


@pytest.mark.parametrize("scale", ["0", "-1", "x", "nan", "4000"])
def test_invalid_time_scale_is_a_usage_error(scale: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["rules", f"--time-scale={scale}"])
    assert caught.value.code == 2
    assert "allowed: a number from 0.001 to 3600" in capsys.readouterr().err
