from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from exporter.cli.settings import load_settings
from exporter.config.errors import MAX_LINES
from exporter.config.loading import ConfigError
from exporter.config.root import Settings
from exporter.config.secrets import Secret
from exporter.config.upstream import AuthSettings, LiveHours, UpstreamSettings
from exporter.platforms.registry import platforms
from tests.file_obstacles import OBSTACLES, HungMount, put_obstacle

Loader = Callable[..., Settings]
MINIMAL = "upstreams: [{name: studio, platform: livepeer}]\n"


@pytest.fixture
def loaded(tmp_path: Path) -> Loader:
    def load_text(text: str, environ: Mapping[str, str] | None = None) -> Settings:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return load_settings(path, environ or {})

    return load_text


def upstream(settings: Settings, index: int = 0) -> UpstreamSettings:
    return settings.upstreams[index]


def test_minimal_configuration_has_all_defaults(loaded: Loader) -> None:
    studio = upstream(loaded(MINIMAL))
    assert (studio.name, studio.platform, studio.host) == ("studio", "livepeer", "livepeer.studio")
    assert (studio.interval, studio.timeout, studio.stale_after) == (30.0, 10.0, 90.0)
    assert (studio.ended_ttl, studio.health_grace) == (300.0, 60.0)
    assert (studio.max_streams, studio.max_concurrent_requests, studio.max_body_bytes) == (10_000, 10, 2**24)
    assert (studio.stream_label, studio.stream_hash_key, studio.auth.kind, studio.auth.secret) == (
        "name",
        None,
        "none",
        None,
    )
    assert studio.configured_streams() == ()


@pytest.mark.parametrize(
    ("written", "timeout", "stale_after"),
    [("interval: 5s", 4.0, 15.0), ("interval: 1m", 10.0, 180.0), ("interval: 5s, timeout: 2s", 2.0, 15.0)],
)
def test_timeout_and_stale_after_follow_the_interval(
    loaded: Loader, written: str, timeout: float, stale_after: float
) -> None:
    studio = upstream(loaded(f"upstreams: [{{name: studio, platform: livepeer, {written}}}]"))
    assert (studio.timeout, studio.stale_after) == (timeout, stale_after)


def test_upstream_overrides_defaults_which_override_the_platform(loaded: Loader) -> None:
    text = """
        defaults: {interval: 20s, ended_ttl: 1m, tls: {insecure_skip_verify: true}, include: [main*]}
        upstreams:
          - {name: a, platform: livepeer}
          - {name: b, platform: livepeer, interval: 40s, tls: {server_name: b}, include: []}
          - {name: c, platform: livepeer, interval: null, tls: null}
    """
    a, b, c = loaded(text).upstreams
    assert (a.interval, a.stale_after, a.ended_ttl) == (20.0, 60.0, 60.0)
    assert (b.interval, b.stale_after, b.ended_ttl) == (40.0, 120.0, 60.0)
    assert (a.tls.insecure_skip_verify, b.tls.insecure_skip_verify, b.tls.server_name) == (True, False, "b")
    assert (a.include, b.include) == (("main*",), ())
    assert c == a.model_copy(update={"name": "c"})


def test_own_secret_overrides_the_default_in_any_spelling(loaded: Loader) -> None:
    text = """
        defaults: {stream_label: hash, stream_hash_key: key-of-all}
        upstreams:
          - {name: a, platform: livepeer}
          - {name: b, platform: livepeer, stream_hash_key_env: KEY}
    """
    a, b = loaded(text, {"KEY": "key-of-b"}).upstreams
    assert a.stream_hash_key is not None
    assert b.stream_hash_key is not None
    assert (a.stream_hash_key.get(), b.stream_hash_key.get()) == ("key-of-all", "key-of-b")


def test_relative_path_is_resolved_against_the_file(loaded: Loader, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text("token-in-a-file\n")
    (tmp_path / "ca.pem").write_text("")
    text = """
        upstreams:
          - {name: a, platform: livepeer, auth: {bearer_token_file: secrets/token}, tls: {ca_file: ca.pem}}
        alerting: {state_file: alerts.json}
    """
    settings = loaded(text)
    secret = upstream(settings).auth.secret
    assert secret is not None
    assert secret.get() == "token-in-a-file"
    assert upstream(settings).tls.ca_file == tmp_path / "ca.pem"
    assert settings.alerting.state_file == tmp_path / "alerts.json"


@pytest.mark.parametrize(
    ("auth", "kind", "text"),
    [
        ("{username: u, password: some-password}", "login", "some-password"),
        ("{bearer_token: some-token}", "bearer", "some-token"),
        ("{api_key_env: KEY}", "api_key", "some-key"),
    ],
)
def test_each_kind_of_auth_is_read(loaded: Loader, auth: str, kind: str, text: str) -> None:
    edge = upstream(
        loaded(f"upstreams: [{{name: edge, platform: storm, url: http://x, auth: {auth}}}]", {"KEY": "some-key"})
    )
    assert edge.auth.kind == kind
    assert edge.auth.secret is not None
    assert edge.auth.secret.get() == text


def test_unchanged_settings_are_equal_after_a_secret_changed(loaded: Loader, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first-token")
    text = """
        upstreams:
          - {name: a, platform: livepeer, auth: {bearer_token_file: token}, streams: [{id: s, expected: true}]}
          - {name: b, platform: livepeer}
    """
    before = loaded(text)
    secret = upstream(before).auth.secret
    assert secret is not None
    secret.get()
    token.write_text("other-token")
    same, changed = loaded(text), loaded(text.replace("name: b,", "name: b, interval: 31s,"))
    assert same.upstreams == before.upstreams
    assert changed.upstreams[0] == before.upstreams[0]
    assert changed.upstreams[1] != before.upstreams[1]
    assert loaded(text.replace("expected: true", "expected: false")).upstreams[0] != before.upstreams[0]


def test_secrets_file_readable_by_every_user_is_a_warning(loaded: Loader, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("some-token")
    text = """
        defaults: {stream_hash_key_file: token}
        upstreams: [{name: a, platform: livepeer, auth: {bearer_token_file: token}}]
    """
    token.chmod(0o644)
    assert loaded(text).warnings == (f"secrets file {token} is readable by every user",)
    token.chmod(0o640)
    assert loaded(text).warnings == ()


@pytest.mark.parametrize("auth", ["{bearer_token_env: X}", "{username: u, password_file: token}", "{api_key: seven-7}"])
def test_short_secret_of_an_upstream_is_a_warning_that_does_not_show_it(
    auth: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("seven-7\n")
    (tmp_path / "token").chmod(0o600)
    file = tmp_path / "config.yaml"
    file.write_text(
        f"upstreams: [{{name: edge-a, platform: storm, url: http://h, auth: {auth}}},"
        f" {{name: b, platform: storm, url: http://h, auth: {{api_key: eight-88}}}}]"
    )
    file.chmod(0o600)
    [warning] = load_settings(file, {"X": "seven-7"}).warnings
    assert "the secret of upstream edge-a has fewer than 8 characters" in warning


def test_short_secret_in_a_subsection_of_an_upstream_is_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        """
        defaults: {stream_label: hash, stream_hash_key: short}
        upstreams:
          - {name: a, platform: wave, url: http://h, sessions: [s], prometheus: {enabled: true, api_key: short}}
          - {name: b, platform: wave, url: http://h, sessions: [s], auth: {bearer_token: long-enough}}
        """
    )
    file.chmod(0o600)
    [warning] = load_settings(file, {}).warnings
    assert "upstream a " in warning


def test_secret_in_a_configuration_readable_by_every_user_is_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    text = "upstreams: [{name: a, platform: livepeer, auth: {bearer_token: some-token}}, {name: b, platform: livepeer}]"
    file.write_text(f"{text}\n")
    file.chmod(0o644)
    [warning] = load_settings(file, {}).warnings
    assert warning == "the configuration file contains a secret and is readable by every user"
    file.chmod(0o640)
    assert load_settings(file, {}).warnings == ()
    file.write_text("upstreams: [{name: a, platform: livepeer}]")
    file.chmod(0o644)
    given = {"STREAM_EXPORTER_DEFAULTS__STREAM_HASH_KEY": "some-key-of-some-length"}
    assert load_settings(file, given).warnings == ()


def test_expected_hours_are_read(loaded: Loader) -> None:
    text = """
        upstreams:
          - name: a
            platform: livepeer
            streams:
              - id: a
                expected:
                  - {days: [sat, sun, sat], from: 22:00, to: 02:00, timezone: Europe/Berlin}
                  - {days: [mon], from: 00:00, to: 24:00}
    """
    (stream,) = upstream(loaded(text)).configured_streams()
    assert isinstance(stream.expected, tuple)
    night, day = stream.expected
    assert (sorted(night.days), night.from_.hour, night.to.hour, night.timezone) == ([5, 6], 22, 2, "Europe/Berlin")
    assert (day.from_, day.to, day.timezone) == (day.to, day.from_, "UTC")


def test_thresholds_are_read(loaded: Loader) -> None:
    text = (
        "alerting: {thresholds: "
        "{StreamUnhealthy: 0.5, StreamLatencyHigh: {value: 10, for: 5m}, StreamJitterHigh: {for: 0}}}"
    )
    thresholds = loaded(MINIMAL + text).alerting.thresholds
    assert {name: (limit.value, limit.for_) for name, limit in thresholds.items()} == {
        "StreamUnhealthy": (0.5, None),
        "StreamLatencyHigh": (10.0, 300.0),
        "StreamJitterHigh": (None, 0.0),
    }


def test_environment_overrides_the_file(loaded: Loader) -> None:
    environ = {
        "STREAM_EXPORTER_DEFAULTS__INTERVAL": "45s",
        "STREAM_EXPORTER_DEFAULTS__MAX_STREAMS": "500",
        "STREAM_EXPORTER_DEFAULTS__INCLUDE": "[a*, b]",
        "STREAM_EXPORTER_DEFAULTS__TLS__INSECURE_SKIP_VERIFY": "true",
        "STREAM_EXPORTER_DEFAULTS__ENDED_TTL": "null",
        "STREAM_EXPORTER_DEFAULTS__HEALTH_GRACE": "",
        "STREAM_EXPORTER_DEFAULTS__STREAM_HASH_KEY": "0123456",
        "STREAM_EXPORTER_HISTOGRAMS__PER_STREAM": "yes",
        "STREAM_EXPORTER_ALERTING__THRESHOLDS__StreamUnhealthy": "0.25",
        "STREAM_EXPORTER_ALERTING__EXTERNAL_LABELS": "{site: berlin}",
        "STREAM_EXPORTER_ALERTING__EXTERNAL_LABELS__Zone": "b",
        "PATH": "/bin",
    }
    text = MINIMAL + "defaults: {interval: 20s, ended_ttl: 1h, health_grace: 5s, timeout: 7s, tls: {server_name: x}}"
    settings = loaded(text, environ)
    studio = upstream(settings)
    assert (studio.interval, studio.timeout, studio.max_streams, studio.include) == (45.0, 7.0, 500, ("a*", "b"))
    assert (studio.ended_ttl, studio.health_grace) == (300.0, 5.0)
    assert (studio.tls.insecure_skip_verify, studio.tls.server_name) == (True, "x")
    assert studio.stream_hash_key is not None
    assert studio.stream_hash_key.get() == "0123456"
    assert settings.histograms.per_stream
    assert settings.alerting.thresholds["StreamUnhealthy"].value == 0.25
    assert settings.alerting.external_labels == {"site": "berlin", "Zone": "b"}


def test_environment_can_set_the_whole_list_of_upstreams(loaded: Loader) -> None:
    environ = {"STREAM_EXPORTER_UPSTREAMS": "[{name: other, platform: livepeer}]"}
    assert [item.name for item in loaded(MINIMAL, environ).upstreams] == ["other"]


def test_service_links_and_secret_variables_are_ignored(loaded: Loader) -> None:
    environ = {
        "STREAM_EXPORTER_SERVICE_HOST": "10.0.0.1",
        "STREAM_EXPORTER_SERVICE_PORT": "10071",
        "STREAM_EXPORTER_SERVICE_PORT_HTTP": "10071",
        "STREAM_EXPORTER_PORT": "tcp://10.0.0.1:10071",
        "STREAM_EXPORTER_PORT_10071_TCP_ADDR": "10.0.0.1",
        "STREAM_EXPORTER_HEADLESS_PORT_10071_TCP": "tcp://10.0.0.1:10071",
        "STREAM_EXPORTER_STUDIO_TOKEN": "named-in-the-file",
    }
    text = "upstreams: [{name: a, platform: livepeer, auth: {bearer_token_env: STREAM_EXPORTER_STUDIO_TOKEN}}]"
    secret = upstream(loaded(text, environ)).auth.secret
    assert secret is not None
    assert secret.get() == "named-in-the-file"


def test_overridden_value_is_not_validated(loaded: Loader) -> None:
    text = MINIMAL + "defaults: {interval: fast}"
    assert upstream(loaded(text, {"STREAM_EXPORTER_DEFAULTS__INTERVAL": "1m"})).interval == 60.0


CANARY = "canary-0815"


def test_effective_settings_are_shown_without_secrets(loaded: Loader, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(CANARY)
    text = f"""
        upstreams:
          - {{name: a, platform: livepeer, auth: {{bearer_token_file: token}}, health_details: false}}
          - {{name: b, platform: storm, url: http://b, auth: {{username: u, password: {CANARY}}}}}
          - {{name: c, platform: storm, url: http://c, auth: {{api_key_env: KEY}}}}
          - name: d
            platform: node_media_server
            url: http://d
            stream_label: hash
            stream_hash_key: {CANARY}
            streams: [{{application: live, key: {CANARY}, name: lobby, expected_bitrate: 4Mbps}}]
        alerting: {{alertmanagers: [{{url: http://am, headers: {{X-Key: {CANARY}}}}}]}}
    """
    settings = loaded(text, {"KEY": CANARY})
    shown = settings.redacted_yaml()
    assert CANARY not in shown
    assert CANARY not in repr(settings)
    dumped: Any = yaml.safe_load(shown)
    a, b, c, d = dumped["upstreams"]
    assert list(a)[:3] == ["name", "platform", "url"]
    assert (a["auth"], a["interval"], a["health_details"]) == (
        {"bearer_token_file": str(tmp_path / "token")},
        "30s",
        False,
    )
    assert b["auth"] == {"username": "u", "password": "<secret>"}
    assert c["auth"] == {"api_key_env": "KEY"}
    assert d["stream_hash_key"] == "<secret>"
    assert d["streams"][0]["key"] == "<secret>"
    assert (d["streams"][0]["name"], d["streams"][0]["expected_bitrate"]) == ("lobby", "4Mbps")
    assert dumped["alerting"]["alertmanagers"][0]["headers"] == {"X-Key": "<secret>"}


SECRETS = """
upstreams:
  - {{name: a, platform: livepeer, auth: {{bearer_token_file: token}}}}
  - {{name: b, platform: storm, url: http://b, auth: {{username: u, password: {inline}}}}}
  - {{name: c, platform: storm, url: http://c, auth: {{api_key_env: KEY}}}}
  - name: d
    platform: node_media_server
    url: http://d
    stream_label: hash
    stream_hash_key: {inline}
    streams: [{{application: live, key: {inline}, name: lobby}}]
alerting: {{alertmanagers: [{{url: http://am, headers: {{X-Key: {inline}}}}}]}}
"""


def test_fingerprint_does_not_depend_on_secrets(loaded: Loader, tmp_path: Path) -> None:
    found = set()
    for secret in ("one", "another"):
        (tmp_path / "token").write_text(secret)
        found.add(loaded(SECRETS.format(inline=secret), {"KEY": secret}).fingerprint())
    assert len(found) == 1


WRITTEN_DIFFERENTLY = """
# as above
upstreams:
- streams:
  - key: 'f1'
    application: live
  url: http://a/
  platform: storm
  name: a
"""
ONE_STREAM = "upstreams: [{name: a, platform: storm, url: http://a, streams: [{application: live, key: f1}]}]\n"
SAME = (
    WRITTEN_DIFFERENTLY,
    ONE_STREAM + "defaults: {interval: 15000ms}\n",
    ONE_STREAM + "alerting: {state_file: of-this-process.json}\n",
    ONE_STREAM + "alerting: {webhooks: [{name: of-one-replica, url: http://hook}]}\n",
    ONE_STREAM + "retired: []\n",
)
OTHER = (
    ONE_STREAM.replace("f1", "f2"),
    ONE_STREAM.replace("http://a", "http://b"),
    ONE_STREAM.replace("key: f1", "key: f1, expected: true"),
    ONE_STREAM.replace("{application: live, key: f1}", ""),
    ONE_STREAM + "defaults: {interval: 16s}\n",
    ONE_STREAM + "alerting: {thresholds: {StreamUnhealthy: 0.3}}\n",
    ONE_STREAM + "alerting: {external_labels: {site: berlin}}\n",
    ONE_STREAM + "retired: [b]\n",
    ONE_STREAM.replace("url: http://a", "url: http://a, auth: {api_key_file: token}"),
    ONE_STREAM.replace("url: http://a", "url: http://a, auth: {api_key_file: other-token}"),
)


@pytest.mark.parametrize("text", SAME)
def test_fingerprint_depends_only_on_effective_settings(loaded: Loader, text: str) -> None:
    assert loaded(text).fingerprint() == loaded(ONE_STREAM).fingerprint()


def test_different_configurations_have_different_fingerprints(loaded: Loader, tmp_path: Path) -> None:
    for name in ("token", "other-token"):
        (tmp_path / name).write_text(CANARY)
    found = [loaded(text).fingerprint() for text in (ONE_STREAM, *OTHER)]
    assert len(set(found)) == len(found)
    assert all(0 <= number < 2**48 for number in found)


@pytest.mark.parametrize("kind", OBSTACLES)
@pytest.mark.parametrize("file", ["config.yaml", "token", "ca.pem"])
def test_anything_but_a_regular_file_is_refused_with_the_cause(tmp_path: Path, kind: str, file: str) -> None:
    write_files(tmp_path)
    cause = put_obstacle(tmp_path / file, kind)
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path / "config.yaml", {})
    (error,) = caught.value.errors
    assert error.startswith(f"{tmp_path}/config.yaml:")
    assert cause in error
    assert file in error


def test_hung_files_cost_no_more_than_one_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path)
    monkeypatch.setattr("exporter.config.loading._FILES_SECONDS", 0.0)
    monkeypatch.setattr("exporter.runtime.files.LEAST_SECONDS", 0.2)
    mount = HungMount(monkeypatch, tmp_path / "token", tmp_path / "ca.pem")
    try:
        with pytest.raises(ConfigError) as caught:
            load_settings(tmp_path / "config.yaml", {})
    finally:
        mount.release()
    assert len(caught.value.errors) == mount.asked == 2
    assert all("no answer from the file system within 0.2 s" in error for error in caught.value.errors)


def write_files(folder: Path) -> None:
    """Write a configuration and the files that it names."""
    for name in ("token", "ca.pem"):
        (folder / name).write_text(CANARY)
        (folder / name).chmod(0o600)
    (folder / "config.yaml").write_text(
        "upstreams: [{name: a, platform: livepeer, auth: {bearer_token_file: token}, tls: {ca_file: ca.pem}}]"
    )


def test_missing_or_invalid_path_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path / "nowhere.yaml", {})
    assert caught.value.errors == [f"{tmp_path}/nowhere.yaml: cannot read the file: No such file or directory"]
    with pytest.raises(ConfigError, match="is a directory"):
        load_settings(tmp_path, {})
    with pytest.raises(ConfigError, match="not a valid path"):
        load_settings(Path("\0"), {})


def test_invalid_utf_8_is_reported_with_its_position(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"upstreams:\n  - \xff")
    with pytest.raises(ConfigError) as caught:
        load_settings(path, {})
    assert caught.value.errors == [f"{path}:2:5: invalid UTF-8"]


def test_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(MINIMAL, encoding="utf-8-sig")
    assert upstream(load_settings(path, {})).name == "studio"


def test_load_context_ends_with_the_load(loaded: Loader, tmp_path: Path) -> None:
    loaded(MINIMAL)
    with pytest.raises(ConfigError):
        loaded("upstreams: 5")
    bare = Settings(upstreams=({"name": "a", "platform": "p", "url": "http://a", "tls": {}},))
    assert bare.upstreams[0].host == "a"
    assert bare.warnings == ()


KEYS = st.sampled_from(
    [
        "defaults",
        "upstreams",
        "alerting",
        "histograms",
        "name",
        "platform",
        "url",
        "auth",
        "tls",
        "interval",
        "timeout",
        "streams",
        "sessions",
        "expected",
        "days",
        "from",
        "to",
        "timezone",
        "id",
        "key",
        "application",
        "thresholds",
        "alertmanagers",
        "headers",
        "external_labels",
        "wave_events",
        "StreamX",
        "value",
        "bearer_token",
        "bearer_token_file",
        "bearer_token_env",
        "stream_label",
        "stream_hash_key_file",
        "ca_file",
        "include",
        "<<",
    ]
)
SCALARS = st.sampled_from(["studio", *platforms(), "http://a", "15s", "hash", "mon", "10:00", "", "\0"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | SCALARS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=5),
    max_leaves=25,
)
UPSTREAM = st.fixed_dictionaries(
    {"platform": st.sampled_from(sorted(platforms()))},
    optional={
        "name": SCALARS,
        "url": SCALARS,
        "auth": VALUES,
        "streams": st.lists(VALUES, max_size=2),
        "sessions": st.lists(VALUES, max_size=2),
        "prometheus": VALUES,
        "interval": VALUES,
        "tls": VALUES,
    },
)
CONFIGURATIONS = st.dictionaries(KEYS, VALUES, max_size=4) | st.fixed_dictionaries(
    {"upstreams": st.lists(UPSTREAM, max_size=3)}, optional={"defaults": VALUES, "alerting": VALUES}
)


@pytest.mark.no_cover
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(value=CONFIGURATIONS, variables=st.dictionaries(KEYS.map(lambda key: f"STREAM_EXPORTER_{key.upper()}"), SCALARS))
def test_any_configuration_is_loaded_or_refused(value: Any, variables: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(value))
    os.utime(path)
    try:
        load_settings(path, variables).redacted_yaml()
    except ConfigError as error:
        lines = error.errors[:-1] if len(error.errors) > MAX_LINES else error.errors
        wrong = [line for line in lines if "\n" in line or ": " not in line]
    else:
        wrong = []
    assert wrong == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary() | st.text().map(str.encode))
def test_any_bytes_are_loaded_or_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        load_settings(path, {})


def test_settings_created_in_code_are_validated() -> None:
    token = Secret.inline("token-made-in-code")
    auth = AuthSettings(bearer_token=token)
    made = UpstreamSettings(name="a", platform="p", url="https://[::1]:8443/x/", auth=auth, interval="20s")
    assert (made.auth.secret, made.interval, made.host, made.url) == (token, 20.0, "[::1]:8443", "https://[::1]:8443/x")
    with pytest.raises(ValidationError, match="printable ASCII"):
        AuthSettings(bearer_token=Secret.from_env("NOT_SET", {}))
    with pytest.raises(ValidationError, match="1 validation error"):
        LiveHours.model_validate(5)


def test_errors_in_defaults_and_upstreams_are_reported_together(loaded: Loader) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded("defaults: {interval: 20s, timeout: fast}\nupstreams: [5, {name: a, platform: livepeer}]")
    assert [line.partition(": ")[2] for line in caught.value.errors] == [
        'defaults.timeout: expected a duration such as 500ms, 15s or 1m30s, got "fast"',
        "upstreams[0]: expected a mapping, got a single value",
    ]


def test_names_in_a_sessions_file_that_differ_only_in_outer_blanks_are_refused(loaded: Loader, tmp_path: Path) -> None:
    text = "upstreams: [{name: studio, platform: wave, url: https://wave.example, sessions_file: sessions}]"
    sessions = tmp_path / "sessions"
    sessions.write_text('{id: a, name: main}\n{id: b, name: "my main"}\n')
    loaded(text)
    sessions.write_text('{id: a, name: "main "}\n{id: b, name: main}\n{id: c, name: "my main"}\n')
    with pytest.raises(ConfigError, match=f"{sessions}:2: another session has the same id or name") as caught:
        loaded(text)
    assert "sessions:3" not in str(caught.value)


@pytest.mark.parametrize("keys", ["unknown", "repeated"])
def test_only_the_first_errors_are_described_and_the_rest_counted(loaded: Loader, keys: str) -> None:
    names = [f"k{n}" if keys == "unknown" else "retired" for n in range(2_000)]
    text = ONE_STREAM + "".join(f"{name}: []\n" for name in names)
    with pytest.raises(ConfigError) as caught:
        loaded(text)
    *lines, last = caught.value.errors
    assert len(lines) == 50
    left_out = 2_000 - 50 - (keys == "repeated")
    assert last.endswith(f": {left_out} more errors")
    assert len({line.split(":")[1] for line in lines}) == 50, "each has a line of its own in the file"
