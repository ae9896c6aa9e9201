"""The notification templates, rendered with amtool."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.alerting.promtool import ALERTS, run

pytestmark = pytest.mark.real

TEMPLATES = ALERTS / "templates" / "stream-exporter.tmpl"
EXAMPLE = ALERTS / "alertmanager.example.yaml"
BODIES = {"email.text": "text", "email.html": "html", "slack.text": "text"}
"""Templates that show whole alerts, with their type."""

MINIMUM = {
    "summary": "main on edge (storm) is live, but hardly any media arrives.",
    "description": "Ingest of main on edge (storm) is 0 bit/s (expected at least 2.5 Mbit/s).",
    "runbook_url": "https://runbook.example.com/#streamingeststalled",
}
LINES = {
    "value": ("Value", "0 bit/s"),
    "expected": ("Expected", "at least 2.5 Mbit/s"),
    "since": ("Since", "2026-03-01 03:01:12 UTC"),
    "last_known": ("Last known", "4 Mbit/s, 1200 viewers"),
    "reasons": ("Reasons", "no media, bitrate below expected"),
    "issues": ("Platform reports", "no keyframes received"),
    "cleared": ("Cleared", "condition cleared, resolves at 03:14:15 UTC"),
}
EVERY_ANNOTATION = {
    **MINIMUM,
    **{name: text for name, (_, text) in LINES.items()},
    "page_url": "https://exporter.example.com/?upstream=edge&stream=main",
}
LABELS = {
    "alertname": "StreamIngestStalled",
    "severity": "critical",
    "scope": "stream",
    "job": "stream-exporter",
    "platform": "storm",
    "upstream": "edge",
    "stream": "main",
}
HOSTILE = (
    "\"'><script>alert(1)</script><img src=x onerror=alert(1)> <!channel> <https://evil.example.com|click>"
    " javascript:alert(1)\r\nBcc: victim@example.com\nValue: 5bit/s\x00\x1b[2J\u202eevil {{ .ExternalURL }} & ]]> öäü"
)


def alert(
    annotations: Mapping[str, str] = EVERY_ANNOTATION, *, is_resolved: bool = False, **labels: str
) -> dict[str, Any]:
    return {
        "status": "resolved" if is_resolved else "firing",
        "labels": {**LABELS, **labels},
        "annotations": dict(annotations),
        "startsAt": "2026-03-01T04:02:03.456+01:00",
        "endsAt": "2026-03-01T03:14:15Z" if is_resolved else "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example.com/graph",
        "fingerprint": "0123456789abcdef",
    }


def common(maps: list[dict[str, str]]) -> dict[str, str]:
    return {name: text for name, text in maps[0].items() if all(other.get(name) == text for other in maps)}


def render(template: str, *alerts: Mapping[str, Any], directory: Path) -> str:
    """Render a template for a notification with these alerts."""
    labels = common([one["labels"] for one in alerts])
    data = {
        "receiver": "tickets",
        "status": "firing" if any(one["status"] == "firing" for one in alerts) else "resolved",
        "alerts": alerts,
        "groupLabels": {"alertname": alerts[0]["labels"]["alertname"]},
        "commonLabels": labels,
        "commonAnnotations": common([one["annotations"] for one in alerts]),
        "externalURL": "http://alertmanager.example.com",
    }
    file = directory / "data.json"
    file.write_text(json.dumps(data), encoding="utf-8")
    done = run(
        "amtool",
        "template",
        "render",
        f"--template.glob={TEMPLATES}",
        f'--template.text={{{{ template "stream_exporter.{template}" . }}}}',
        f"--template.type={BODIES.get(template, 'text')}",
        f"--template.data={file}",
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# -- names -------------------------------------------------------------------------------------------------------------


def test_every_template_has_our_prefix_and_is_used() -> None:
    text = TEMPLATES.read_text(encoding="utf-8")
    defined = re.findall(r'define "([^"]+)"', text)
    used = set(re.findall(r'template "([^"]+)"', text + EXAMPLE.read_text(encoding="utf-8")))
    assert all(name.startswith("stream_exporter.") for name in defined)
    assert len(defined) == len(set(defined))
    assert set(defined) == used


# -- titles ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["title", "slack.title"])
@pytest.mark.parametrize(
    ("alerts", "expected"),
    [
        ([alert()], "[critical] StreamIngestStalled: main on edge (storm)"),
        ([alert(severity="warning")], "[warning] StreamIngestStalled: main on edge (storm)"),
        ([alert(is_resolved=True)], "[resolved] StreamIngestStalled: main on edge (storm)"),
        ([alert(cluster="eu")], "[critical] StreamIngestStalled: main on edge (storm), eu"),
        ([alert(stream="", alertname="StreamUpstreamDown")], "[critical] StreamUpstreamDown: edge (storm)"),
        (
            [alert(stream="", upstream="", platform="", alertname="StreamExporterDown")],
            "[critical] StreamExporterDown: stream-exporter",
        ),
        ([alert(instance="a"), alert(instance="b")], "[critical] StreamIngestStalled: main on edge (storm) (2 alerts)"),
        (
            [alert(stream="a"), alert(stream="b"), alert(stream="c", is_resolved=True)],
            "[critical] StreamIngestStalled: edge (storm) (2 alerts)",
        ),
        ([alert(alertname="A"), alert(alertname="B")], "[critical] main on edge (storm) (2 alerts)"),
    ],
    ids=["critical", "warning", "resolved", "cluster", "upstream", "exporter", "several", "streams", "rules"],
)
def test_title_names_state_rule_stream_and_upstream(
    template: str, alerts: list[dict[str, Any]], expected: str, tmp_path: Path
) -> None:
    assert render(template, *alerts, directory=tmp_path) == expected


@pytest.mark.parametrize(
    ("severities", "severity"),
    [
        (["critical"], "critical"),
        (["warning"], "warning"),
        (["info"], "info"),
        (["none"], "info"),
        (["warning", "critical", "info"], "critical"),
        (["info", "warning"], "warning"),
        (["page"], "error"),
        ([""], "error"),
    ],
)
def test_severity_is_the_worst_as_pagerduty_names_it(severities: list[str], severity: str, tmp_path: Path) -> None:
    firing = [alert(severity=severity) for severity in severities]
    assert render("severity", *firing, directory=tmp_path) == severity


def test_severity_of_resolved_alerts_does_not_count_while_others_fire(tmp_path: Path) -> None:
    alerts = [alert(severity="critical", is_resolved=True), alert(severity="warning")]
    assert render("severity", *alerts, directory=tmp_path) == "warning"


@pytest.mark.parametrize(
    ("severity", "is_resolved", "color"),
    [
        ("critical", False, "danger"),
        ("warning", False, "warning"),
        ("info", False, "#439fe0"),
        ("page", False, "danger"),
        ("critical", True, "good"),
    ],
)
def test_slack_color_follows_severity_and_state(severity: str, is_resolved: bool, color: str, tmp_path: Path) -> None:
    assert render("slack.color", alert(severity=severity, is_resolved=is_resolved), directory=tmp_path) == color


# -- bodies ------------------------------------------------------------------------------------------------------------


def test_email_text_shows_every_annotation(tmp_path: Path) -> None:
    assert (
        render("email.text", alert(), directory=tmp_path)
        == """\
[critical] StreamIngestStalled: main on edge (storm)

main on edge (storm) is live, but hardly any media arrives.
Ingest of main on edge (storm) is 0 bit/s (expected at least 2.5 Mbit/s).
Value: 0 bit/s
Expected: at least 2.5 Mbit/s
Since: 2026-03-01 03:01:12 UTC
Last known: 4 Mbit/s, 1200 viewers
Reasons: no media, bitrate below expected
Platform reports: no keyframes received
Cleared: condition cleared, resolves at 03:14:15 UTC
Fired: 2026-03-01 03:02:03 UTC
Page: https://exporter.example.com/?upstream=edge&stream=main
Runbook: https://runbook.example.com/#streamingeststalled

Alertmanager: http://alertmanager.example.com/#/alerts?receiver=tickets
"""
    )


def test_slack_text_shows_every_annotation(tmp_path: Path) -> None:
    assert (
        render("slack.text", alert(), directory=tmp_path)
        == """\
main on edge (storm) is live, but hardly any media arrives.
Ingest of main on edge (storm) is 0 bit/s (expected at least 2.5 Mbit/s).
*Value:* 0 bit/s
*Expected:* at least 2.5 Mbit/s
*Since:* 2026-03-01 03:01:12 UTC
*Last known:* 4 Mbit/s, 1200 viewers
*Reasons:* no media, bitrate below expected
*Platform reports:* no keyframes received
*Cleared:* condition cleared, resolves at 03:14:15 UTC
*Fired:* 2026-03-01 03:02:03 UTC
<https://exporter.example.com/?upstream=edge&amp;stream=main|Page> <https://runbook.example.com/#streamingeststalled|Runbook>
"""
    )


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("missing", [*LINES, "page_url"])
def test_missing_annotation_removes_only_its_own_line(body: str, missing: str, tmp_path: Path) -> None:
    whole = render(body, alert(), directory=tmp_path).splitlines()
    annotations = {name: text for name, text in EVERY_ANNOTATION.items() if name != missing}
    rest = render(body, alert(annotations), directory=tmp_path).splitlines()
    left_out = [line for line in whole if line not in rest]
    assert len(left_out) == 1
    label, text = LINES.get(missing, ("Page", ""))
    assert label in left_out[0]
    assert text in left_out[0]
    if (body, missing) == ("slack.text", "page_url"):
        # both links are on one line
        assert rest[-1] == "<https://runbook.example.com/#streamingeststalled|Runbook>"
    else:
        assert rest == [line for line in whole if line != left_out[0]]


@pytest.mark.parametrize("body", BODIES)
def test_resolved_alert_shows_times_and_links_but_no_values(body: str, tmp_path: Path) -> None:
    text = render(body, alert(is_resolved=True), directory=tmp_path)
    for shown in (MINIMUM["summary"], "2026-03-01 03:02:03 UTC", "2026-03-01 03:14:15 UTC", MINIMUM["runbook_url"]):
        assert shown in text
    for _, value in LINES.values():
        assert value not in text
    assert "Resolved alerts" not in text


@pytest.mark.parametrize("body", BODIES)
def test_resolved_alerts_come_after_firing_ones(body: str, tmp_path: Path) -> None:
    alerts = [alert({"summary": "was bad"}, stream="a", is_resolved=True), alert({"summary": "is bad"}, stream="b")]
    text = render(body, *alerts, directory=tmp_path)
    assert text.index("is bad") < text.index("Resolved alerts") < text.index("was bad")


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("is_resolved", [False, True])
@pytest.mark.parametrize(("count", "rest"), [(10, None), (11, "and 1 more"), (22, "and 12 more")])
def test_long_list_is_shortened(body: str, is_resolved: bool, count: int, rest: str | None, tmp_path: Path) -> None:
    alerts = [alert({"summary": f"trouble-{n}."}, stream=f"s{n}", is_resolved=is_resolved) for n in range(count)]
    text = render(body, *alerts, directory=tmp_path)
    assert re.findall(r"trouble-(\d+)\.", text) == [str(n) for n in range(10)]
    assert re.findall(r"and \d+ more", text) == ([rest] if rest else [])
    assert f"({count} alerts)" in render("title", *alerts, directory=tmp_path)


@pytest.mark.parametrize("body", BODIES)
def test_alert_of_another_system_shows_its_labels(body: str, tmp_path: Path) -> None:
    foreign = {**alert({}), "labels": {"alertname": "DiskFull", "instance": "db-1", "severity": "page"}}
    assert "alertname=DiskFull, instance=db-1, severity=page" in render(body, foreign, directory=tmp_path)
    assert render("title", foreign, directory=tmp_path) == "[error] DiskFull"
    assert render("slack.title", foreign, directory=tmp_path) == "[error] DiskFull"


# -- hostile texts -----------------------------------------------------------------------------------------------------

HOSTILE_ALERT = {**alert(dict.fromkeys(EVERY_ANNOTATION, HOSTILE)), "labels": dict.fromkeys(LABELS, HOSTILE)}
ONE_LINE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u2028-\u202e]")


class Tags(HTMLParser):
    """Collects HTML elements with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def assert_harmless(html: str) -> None:
    """Assert that the HTML has only the elements, attributes and link schemes of the template."""
    allowed = {"html", "head", "meta", "title", "body", "h2", "h3", "table", "tr", "th", "td", "p", "a"}
    for tag, attributes in Tags(html).found:
        assert tag in allowed
        assert attributes.keys() <= {"style", "charset", "align", "valign", "colspan", "cellpadding", "href"}
        assert urlsplit(attributes.get("href") or "").scheme in ("", "http", "https")
        assert "evil" not in (attributes.get("style") or "")


def test_hostile_texts_add_nothing_to_the_html(tmp_path: Path) -> None:
    html = render("email.html", HOSTILE_ALERT, directory=tmp_path)
    assert_harmless(html)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    links = [attributes["href"] for tag, attributes in Tags(html).found if tag == "a"]
    assert links[-1] == "http://alertmanager.example.com/#/alerts?receiver=tickets"


def test_script_url_is_not_linked(tmp_path: Path) -> None:
    html = render("email.html", alert({**MINIMUM, "page_url": "javascript:alert(1)"}), directory=tmp_path)
    assert 'href="#ZgotmplZ"' in html
    assert "javascript:" not in html


def test_hostile_texts_stay_on_their_line(tmp_path: Path) -> None:
    text = render("email.text", HOSTILE_ALERT, directory=tmp_path)
    whole = render("email.text", alert(), directory=tmp_path)
    assert [line.split(":")[0] for line in text.splitlines() if re.match("[A-Z][a-z ]+:", line)] == [
        line.split(":")[0] for line in whole.splitlines() if re.match("[A-Z][a-z ]+:", line)
    ]
    assert len(text.splitlines()) == len(whole.splitlines())
    assert ONE_LINE.search(text) is None


def test_hostile_texts_notify_nobody_in_slack(tmp_path: Path) -> None:
    assert ONE_LINE.search(render("slack.title", HOSTILE_ALERT, directory=tmp_path)) is None
    assert not re.search("[<>]", render("slack.title", HOSTILE_ALERT, directory=tmp_path))
    text = render("slack.text", HOSTILE_ALERT, directory=tmp_path)
    assert len(text.splitlines()) == len(render("slack.text", alert(), directory=tmp_path).splitlines())
    *lines, links = text.splitlines()
    assert not re.search("[<>]", "".join(lines))
    assert re.fullmatch(r"<[^<>|]+\|Page> <[^<>|]+\|Runbook>", links)


@pytest.mark.parametrize("body", BODIES)
def test_long_text_is_cut(body: str, tmp_path: Path) -> None:
    text = render(body, alert({**MINIMUM, "issues": "ö" * 5000}), directory=tmp_path)
    assert text.count("ö") == 500
