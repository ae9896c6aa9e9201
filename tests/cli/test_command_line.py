import platform
import re
from pathlib import Path

import pytest

from exporter import __version__
from exporter.cli import main, make_parser
from exporter.cli.run import web_options
from exporter.runtime.revision import revision

LIVEPEER = """
upstreams:
  - name: studio
    platform: livepeer
    url: http://127.0.0.1:9/api
    auth: {bearer_token_file: token}
    streams: [{id: de7818e7-610a-4057-8f6f-b785dc1e6f88}]
"""
GREEDY_WAVE = """
upstreams:
  - name: wave
    platform: wave
    url: http://127.0.0.1:9/api/v1
    interval: 1s
    auth: {bearer_token_file: token}
    sessions: [SESSIONS]
"""


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("token").write_text("canary-of-the-command-line\n")
    Path("token").chmod(0o600)


def usage_error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_version_prints_version_revision_and_python_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    python = platform.python_version()
    assert capsys.readouterr().out == f"stream-exporter {__version__} (revision {revision()}, Python {python})\n"


@pytest.mark.parametrize("command", [[], ["demo"], ["metrics"]])
def test_help_is_printed(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith(f"usage: {' '.join(['stream-exporter', *command])} ")
    if not command:
        assert "config.yaml in the current directory" in text
        assert "demo run simulated platforms" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--web.listen-address=10071"], "'10071': expected :PORT, HOST:PORT or [IPV6]:PORT"),
        (["--web.telemetry-path=metrics"], "must start with /"),
        (["--web.telemetry-path=/config"], "path is used by another endpoint"),
        (["--web.telemetry-path=/-/ready"], "path is used by another endpoint"),
        (["--web.telemetry-path=/{x}"], "must start with /"),
        (["--log.level=loud"], "invalid choice"),
        (["--log.format=xml"], "invalid choice"),
        (["--web.max-requests=many"], "'many': expected a whole number"),
        (["--web.external-url=ftp://a"], "expected http://HOST[:PORT][/PATH]"),
        (["--config.f=x"], "unrecognized arguments"),
        (["nonsense"], 'unknown command "nonsense"; the commands are demo, alerts,'),
        (["alrts"], 'unknown command "alrts"; did you mean "alerts"?'),
        (["--config.file", "demo", "alrts"], 'unknown command "alrts"; did you mean "alerts"?'),
        (["--log.level=debug", "demo"], "options must follow the command: stream-exporter demo …"),
        (["demo", "--log.l=debug"], "stream-exporter demo: error: unrecognized arguments: --log.l=debug"),
        (["demo", "--streams=0"], "'0': expected a whole number of at least 1"),
        (["demo", "--streams=many"], "expected a whole number of at least 1"),
        (["demo", "--speed=0"], "'0': expected a number above 0"),
        (["demo", "--speed=inf"], "expected a number above 0"),
        (["demo", "--speed=nan"], "expected a number above 0"),
        (["demo", "--speed=fast"], "expected a number above 0"),
        (["demo", "--config.file=x"], "unrecognized arguments"),
        (["metrics", "all"], "unrecognized arguments"),
    ],
)
def test_usage_error_states_what_is_expected(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in usage_error(capsys, *arguments)


@pytest.mark.parametrize("command", [[], ["demo"]])
def test_probes_are_disabled_only_by_their_flag(command: list[str]) -> None:
    for flags in ([], ["--web.disable-probe"]):
        assert web_options(make_parser().parse_args([*command, *flags])).disable_probe is bool(flags)


def test_check_prints_requests_per_minute(capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.yaml").write_text(LIVEPEER)
    assert main(["--config.check"]) == 0
    first, second, *rest = capsys.readouterr().out.splitlines()
    assert first == "config.yaml: configuration is valid"
    assert re.fullmatch(r"upstream studio \(livepeer, 127\.0\.0\.1:9\): [0-9.]+ requests per minute", second)
    assert not rest


def test_check_warns_above_the_request_limit_of_a_platform(capsys: pytest.CaptureFixture[str]) -> None:
    sessions = ", ".join(f"sess_{number}" for number in range(200))
    Path("own.yaml").write_text(GREEDY_WAVE.replace("SESSIONS", sessions))
    assert main(["--config.check", "--config.file", "own.yaml"]) == 0
    out = capsys.readouterr().out
    assert "own.yaml: configuration is valid" in out
    assert re.search(r"^warning: upstream wave: [0-9.e+]+ requests per minute exceed", out, re.MULTILINE)


CHECKS = """
upstreams:
  - name: cdn
    platform: hls
    url: https://cdn.example.com
    segments: SEGMENTS
    streams: [STREAMS]
"""


def check_playback(capsys: pytest.CaptureFixture[str], streams: int, segments: str = "head") -> list[str]:
    listed = ", ".join(f"{{name: s{number}, url: /s{number}/main.m3u8}}" for number in range(streams))
    Path("config.yaml").write_text(CHECKS.replace("STREAMS", listed).replace("SEGMENTS", segments))
    assert main(["--config.check"]) == 0
    return capsys.readouterr().out.splitlines()[1:]


def test_check_prints_the_bytes_of_playback_checks(capsys: pytest.CaptureFixture[str]) -> None:
    line = "upstream cdn (hls, cdn.example.com): {}"
    assert check_playback(capsys, 1) == [line.format("49 requests per minute, about 44.5 MB per hour")]
    assert check_playback(capsys, 1, "none") == [line.format("24 requests per minute, about 2.88 MB per hour")]


def test_check_warns_above_100_mbit_per_second(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(check_playback(capsys, 100)) == len(check_playback(capsys, 15, "full")) == 1
    _, warning = check_playback(capsys, 20, "full")
    assert warning.startswith("warning: the upstreams need about 132 Mbit/s, of which cdn needs 132; ")


def test_check_warns_about_a_secret_readable_by_every_user(capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.yaml").write_text(LIVEPEER)
    Path("token").chmod(0o644)
    assert main(["--config.check"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^warning: .*token", out, re.MULTILINE)
    assert "canary" not in out


def test_check_warns_about_a_costly_password_hash(capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.yaml").write_text(LIVEPEER)
    Path("web.yml").write_text(f"basic_auth_users: {{alice: $2b$15${'.' * 53}}}")
    assert main(["--config.check", "--web.config.file=web.yml"]) == 0
    assert "warning: web.yml:1:27: basic_auth_users.alice: checking a hash of cost 15" in capsys.readouterr().out


def test_check_prints_one_line_per_error(capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.yaml").write_text(LIVEPEER.replace("name: studio", "name: not a name").replace("http:", "ftp:"))
    assert main(["--config.check"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 2
    assert all(re.match(r"config\.yaml:\d+:\d+: upstreams", line) for line in captured.err.splitlines())


def test_metrics_command_prints_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics"]) == 0
    out = capsys.readouterr().out
    assert "stream_live" in out
    assert "stream_upstream_up" in out
