"""Notifications that a real Alertmanager with the example configuration sends to PagerDuty, Slack and by e-mail."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from tests import yaml_text
from tests.alerting.notification_receivers import Receivers, running_receivers
from tests.alerting.promtool import ALERTS
from tests.alerting.test_notification_templates import EVERY_ANNOTATION, HOSTILE, MINIMUM, assert_harmless
from tests.real.alertmanager import Alertmanager, running_alertmanager
from tests.real.child_process import request_json, wait_until

pytestmark = pytest.mark.real

CRITICAL, WARNING = "StreamIngestStalled", "StreamBitrateLow"


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    """Run a separate Alertmanager, because a shared one would also notify about the alerts of other tests."""
    with running_alertmanager(tmp_path_factory.mktemp("alertmanager")) as server:
        yield server


@pytest.fixture
def receivers(alertmanager: Alertmanager, tmp_path: Path) -> Iterator[Receivers]:
    """Configure Alertmanager with the example; only addresses, secrets and waiting times differ."""
    configuration = yaml_text.parse((ALERTS / "alertmanager.example.yaml").read_text(encoding="utf-8"))
    with running_receivers() as running:
        configuration["templates"] = [str(ALERTS / template) for template in configuration["templates"]]
        configuration["global"] |= {
            "smtp_smarthost": running.smtp_address,
            "smtp_require_tls": False,
            "smtp_auth_password_file": secret(tmp_path, "smtp", "not-a-secret"),
        }
        configuration["route"] |= {"group_wait": "0s", "group_interval": "1s"}
        by_name = {receiver["name"]: receiver for receiver in configuration["receivers"]}
        for pagerduty in by_name["pager"]["pagerduty_configs"]:
            pagerduty["routing_key_file"] = secret(tmp_path, "pagerduty", "routing-key")
            pagerduty["url"] = f"{running.http_url}/pagerduty"
        for slack in by_name["tickets"]["slack_configs"]:
            slack["api_url_file"] = secret(tmp_path, "slack", f"{running.http_url}/slack")
        with alertmanager.configured(yaml_text.render(configuration)):
            yield running


def secret(directory: Path, name: str, text: str) -> str:
    file = directory / name
    file.write_text(text, encoding="utf-8")
    return str(file)


def send(
    alertmanager: Alertmanager,
    name: str,
    stream: str,
    annotations: Mapping[str, str],
    *,
    is_resolved: bool = False,
) -> None:
    now = datetime.now(UTC)
    severity = "warning" if name == WARNING else "critical"
    labels = {"alertname": name, "severity": severity, "scope": "stream", "job": "stream-exporter"}
    labels |= {"platform": "storm", "upstream": "edge", "stream": stream, "source": "sidecar"}
    alert = {
        "labels": labels,
        "annotations": dict(annotations),
        "startsAt": (now - timedelta(minutes=10)).isoformat(),
        "endsAt": (now + timedelta(minutes=-1 if is_resolved else 10)).isoformat(),
    }
    request_json(f"{alertmanager.url}/api/v2/alerts", body=[alert])


def send_maintenance(alertmanager: Alertmanager, labels: Mapping[str, str], *, is_over: bool = False) -> None:
    now = datetime.now(UTC)
    labels = {"alertname": "StreamMaintenance", "severity": "none", "scope": "upstream", **labels}
    labels |= {"job": "stream-exporter", "platform": "storm", "upstream": "edge", "source": "sidecar"}
    ends_at = now + timedelta(seconds=-1 if is_over else 600)
    times = {"startsAt": (now - timedelta(minutes=1)).isoformat(), "endsAt": ends_at.isoformat()}
    request_json(f"{alertmanager.url}/api/v2/alerts", body=[{"labels": labels, "annotations": {}, **times}])


def pagerduty_events(receivers: Receivers, count: int) -> list[dict[str, Any]]:
    wait_until(lambda: len(receivers.posted("/pagerduty")) >= count, f"PagerDuty has {count} events")
    return receivers.posted("/pagerduty")


def slack_attachments(receivers: Receivers, count: int) -> list[dict[str, Any]]:
    wait_until(lambda: len(receivers.posted("/slack")) >= count, f"Slack has {count} messages")
    return [message["attachments"][0] for message in receivers.posted("/slack")]


def mails(receivers: Receivers, count: int) -> list[EmailMessage]:
    wait_until(lambda: len(receivers.mails) >= count, f"{count} mails have arrived")
    return receivers.mails


def part(mail: EmailMessage, kind: str) -> str:
    body = mail.get_body((kind,))
    assert body is not None
    text: str = body.get_content()
    return text


def test_pagerduty_gets_one_incident_per_stream_and_its_resolve(
    alertmanager: Alertmanager, receivers: Receivers
) -> None:
    for stream in ("pd-main", "pd-backup"):
        send(alertmanager, CRITICAL, stream, EVERY_ANNOTATION)
    events = pagerduty_events(receivers, 2)
    assert {event["payload"]["summary"] for event in events} == {
        "StreamIngestStalled: pd-main on edge (storm)",
        "StreamIngestStalled: pd-backup on edge (storm)",
    }
    keys = {event["payload"]["summary"]: event["dedup_key"] for event in events}
    assert len(set(keys.values())) == 2
    event = events[0]
    assert (event["event_action"], event["routing_key"]) == ("trigger", "routing-key")
    payload = event["payload"]
    assert payload["severity"] == "critical"
    assert (payload["class"], payload["component"], payload["group"]) == ("StreamIngestStalled", "edge", "storm")
    firing = payload["custom_details"]["firing"]
    assert "\nValue: 0 bit/s\nExpected: at least 2.5 Mbit/s\n" in firing
    assert payload["custom_details"]["resolved"] == ""
    assert event["links"] == [
        {"href": EVERY_ANNOTATION["page_url"], "text": "Page"},
        {"href": EVERY_ANNOTATION["runbook_url"], "text": "Runbook"},
    ]

    send(alertmanager, CRITICAL, "pd-main", EVERY_ANNOTATION, is_resolved=True)
    end = pagerduty_events(receivers, 3)[2]
    assert end["event_action"] == "resolve"
    assert end["dedup_key"] == keys["StreamIngestStalled: pd-main on edge (storm)"]


def test_pagerduty_accepts_an_alert_with_few_annotations(alertmanager: Alertmanager, receivers: Receivers) -> None:
    send(alertmanager, CRITICAL, "pd-minimum", MINIMUM)
    event = pagerduty_events(receivers, 1)[0]
    assert event["payload"]["summary"] == "StreamIngestStalled: pd-minimum on edge (storm)"
    assert event["links"] == [{"href": MINIMUM["runbook_url"], "text": "Runbook"}]
    assert ":" not in event["payload"]["custom_details"]["firing"].split("Fired: ")[0]


def test_pagerduty_shows_a_hostile_name_in_one_line(alertmanager: Alertmanager, receivers: Receivers) -> None:
    send(alertmanager, CRITICAL, HOSTILE, {**MINIMUM, "issues": HOSTILE})
    payload = pagerduty_events(receivers, 1)[0]["payload"]
    assert "<script>" in payload["summary"]
    assert len(payload["summary"].splitlines()) == 1
    assert [line for line in payload["custom_details"]["firing"].splitlines() if line.startswith("Value:")] == []


def test_slack_and_email_get_every_annotation_and_the_resolve(alertmanager: Alertmanager, receivers: Receivers) -> None:
    send(alertmanager, WARNING, "t-main", EVERY_ANNOTATION)
    attachment, mail = slack_attachments(receivers, 1)[0], mails(receivers, 1)[0]
    title = "[warning] StreamBitrateLow: t-main on edge (storm)"
    assert (attachment["title"], attachment["color"]) == (title, "warning")
    assert attachment["title_link"] == EVERY_ANNOTATION["page_url"]
    assert receivers.posted("/slack")[0]["channel"] == "#stream-alerts"
    assert (mail["Subject"], mail["To"]) == (title, "streaming@example.com")
    for text in (attachment["text"], part(mail, "plain"), part(mail, "html")):
        for name in ("summary", "value", "expected", "since", "last_known", "reasons", "issues", "cleared"):
            assert EVERY_ANNOTATION[name] in text, name
        for name in ("page_url", "runbook_url"):
            assert EVERY_ANNOTATION[name] in text.replace("&amp;", "&"), name

    send(alertmanager, WARNING, "t-main", EVERY_ANNOTATION, is_resolved=True)
    attachment, mail = slack_attachments(receivers, 2)[1], mails(receivers, 2)[1]
    title = "[resolved] StreamBitrateLow: t-main on edge (storm)"
    assert (attachment["title"], attachment["color"]) == (title, "good")
    assert mail["Subject"] == title
    for text in (attachment["text"], part(mail, "plain"), part(mail, "html")):
        assert "Resolved" in text
        assert EVERY_ANNOTATION["value"] not in text


def test_slack_and_email_accept_an_alert_with_few_annotations(alertmanager: Alertmanager, receivers: Receivers) -> None:
    send(alertmanager, WARNING, "t-minimum", MINIMUM)
    attachment, mail = slack_attachments(receivers, 1)[0], mails(receivers, 1)[0]
    assert attachment["title_link"] == f"{alertmanager.url}/#/alerts?receiver=tickets"
    for text in (attachment["text"], part(mail, "plain"), part(mail, "html")):
        assert MINIMUM["summary"] in text
        assert not {"Value", "Expected", "Since", "Reasons", "Platform reports", "Page"} & set(
            text.replace("<", ">").replace("*", ">").replace(":", ">").replace("|", ">").split(">")
        )


def test_hostile_name_is_neutralized_in_slack_and_email(alertmanager: Alertmanager, receivers: Receivers) -> None:
    send(alertmanager, WARNING, f"t-{HOSTILE}", {**MINIMUM, "summary": HOSTILE, "issues": HOSTILE, "page_url": HOSTILE})
    attachment, mail = slack_attachments(receivers, 1)[0], mails(receivers, 1)[0]
    assert "<!channel>" not in attachment["title"] + attachment["text"] + attachment["fallback"]
    assert "&lt;!channel&gt;" in attachment["title"]
    assert "{{ .ExternalURL }}" in attachment["title"]
    assert mail["Bcc"] is None
    assert mail["Subject"].startswith("[warning] StreamBitrateLow: ")
    assert receivers.recipients == ["RCPT TO:<streaming@example.com>"]
    assert_harmless(part(mail, "html"))


# -- maintenance -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [{"stream": "maintained"}, {}], ids=["of the stream", "of the upstream"])
def test_maintenance_neither_pages_nor_resolves_and_what_still_fires_pages_afterwards(
    alertmanager: Alertmanager, receivers: Receivers, labels: dict[str, str]
) -> None:
    """The second alert starts during the maintenance."""
    firing, starting = CRITICAL, "StreamExpectedOffline"
    stream = f"maintained-{len(labels)}"
    labels = {"stream": stream} if labels else {}

    def statuses() -> dict[str, str]:
        found = alertmanager.alerts(f'stream="{stream}"', 'scope="stream"')
        return {alert["labels"]["alertname"]: alert["status"]["state"] for alert in found}

    send(alertmanager, firing, stream, {"summary": "fires before"})
    pagerduty_events(receivers, 1)
    send_maintenance(alertmanager, labels)
    wait_until(lambda: statuses() == {firing: "suppressed"}, "it is inhibited and not resolved")
    send(alertmanager, firing, f"{stream}-other", {"summary": "elsewhere"})
    send(alertmanager, starting, stream, {"summary": "starts during maintenance"})
    wait_until(lambda: statuses() == {firing: "suppressed", starting: "suppressed"}, "both are inhibited")
    if labels:
        # maintenance of one stream does not inhibit the alerts of another
        pagerduty_events(receivers, 2)
    before = [event["event_action"] for event in receivers.posted("/pagerduty")]
    assert before == ["trigger"] * (2 if labels else 1)
    send_maintenance(alertmanager, labels, is_over=True)
    wait_until(lambda: statuses() == {firing: "suppressed", starting: "active"}, "only the offline alert inhibits")
    # of the upstream: the other stream's alert pages too
    events = pagerduty_events(receivers, 3)
    assert {event["event_action"] for event in events} == {"trigger"}
    assert sum("starts during maintenance" in json.dumps(event) for event in events) == 1
