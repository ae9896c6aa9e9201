"""The dashboards fit Grafana's schema, the exporter's metrics, and the rules' thresholds."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from exporter.alerting.rules.active_rules import rules_in_force
from exporter.cli import main
from exporter.config.alerting import AlertingSettings
from exporter.dashboards import RuleThresholds, all_dashboards, render_files
from exporter.dashboards.dashboard import SCHEMA_VERSION, Dashboard, Row
from exporter.dashboards.panels import FieldOptions, Query, stat
from exporter.metrics.families import FAMILIES
from exporter.metrics.families.exporter_families import SIDECAR_FAMILIES
from exporter.metrics.families.family import Family, Kind, Part
from exporter.platforms.registry import shipped
from tests.dashboards.dashboard_files import (
    DASHBOARDS,
    Json,
    metric_name,
    node_types,
    panels,
    read_dashboards,
    selectors,
    targets,
    variables,
    walk,
)

ALL = {dashboard["title"]: dashboard for dashboard in read_dashboards()}
SCHEMAS = sorted((Path(__file__).parent / "schemas").glob("*.json"))

OTHER_METRICS = {
    "up": (), "scrape_duration_seconds": (), "scrape_samples_scraped": (),
    "ALERTS": ("alertname", "alertstate", "severity", "scope", "platform", "upstream", "stream"),
    "ALERTS_FOR_STATE": ("alertname", "severity", "scope", "platform", "upstream", "stream"),
    "process_cpu_seconds_total": (), "process_resident_memory_bytes": (), "process_open_fds": (), "process_max_fds": (),
    "process_start_time_seconds": (),
}  # fmt: skip
"""Metrics from Prometheus and its client library, with their labels besides job and instance."""

NOT_SHOWN = {
    "stream_end_timestamp_seconds": "the status shows that it ended",
    "stream_status_last_change_timestamp_seconds": "the status timeline shows every change",
    "stream_viewers_partial": "the page shows it beside the number of viewers",
    "stream_audio_sample_rate_hertz": "stays the same while the stream is live; the page shows it",
    "stream_audio_channels": "as above",
    "stream_former_label": "used by an alert rule: a renamed stream has not vanished",
    "stream_alert_threshold": "read by the alert rules",
    "stream_alert_off": "as above",
    "stream_maintenance": "the page shows it, and it inhibits alerts",
    "stream_group_live_streams": "the page shows groups; a dashboard of events is planned",
    "stream_group_needed_streams": "as above",
    "stream_group_expected": "as above",
    "stream_group_streams": "as above",
    "stream_group_member_info": "as above",
    "stream_upstream_calendar_readable": "has an alert",
    "stream_upstream_calendar_last_success_timestamp_seconds": "shown in that alert",
    "stream_last_seen_timestamp_seconds": "used to decide whether a Livepeer stream is live",
    "stream_ingest_bytes_total": "the bitrate gauges are shown instead",
    "stream_egress_bytes_total": "as above",
    "stream_transcoded_bytes_total": "as above",
    "stream_source_media_seconds_total": "the number of segments is shown",
    "stream_transcoded_media_seconds_total": "the number of segments is shown",
    "stream_renditions": "their bitrates are shown, one line each",
    "stream_substreams": "not useful over time",
    "stream_video_width_pixels": "the height is shown",
    "stream_upstream_failing": "the failed polls are shown by reason",
    "stream_upstream_retired": "used by an alert rule only",
    "stream_upstream_statistics_frozen": "has an alert",
    "stream_upstream_foreign_series_dropped": "dropped series are logged",
    "stream_exporter_config_last_reload_success_timestamp_seconds": "whether it succeeded is shown",
    "stream_exporter_alert_state_write_failures_total": "is logged and described in the runbook",
    "stream_exporter_alert_state_saved": "as above",
    "stream_exporter_maintenance_saved": "as above",
    "stream_exporter_maintenance_write_failures_total": "as above",
    "stream_exporter_shard_ordinal": "useful in joins only",
    "stream_exporter_shards": "as above",
    "stream_exporter_web_connections": "reaching the limit is logged",
    "stream_exporter_web_connections_max": "as above",
    "stream_exporter_web_connections_closed_total": "as above",
    "stream_exporter_config_hash": "used by an alert rule only",
    "stream_exporter_wave_events_total": "WAVE counts these events itself",
}


def family_of(metric: str) -> Family | None:
    for family in FAMILIES:
        suffixes = ("_bucket", "_sum", "_count") if family.kind is Kind.HISTOGRAM else ("",)
        if metric in {family.name + suffix for suffix in suffixes}:
            return family
    return None


def labels_of(metric: str) -> set[str]:
    """Return the labels of a metric. Raises ``KeyError`` for an unknown one."""
    family = family_of(metric)
    if family is None:
        return {"job", "instance", *OTHER_METRICS[metric]}
    bucket = {"le"} if metric.endswith("_bucket") else set()
    return {"job", "instance", "pod", *family.labels} | bucket


def metrics_of(expression: str) -> set[str]:
    return {name for selector, _ in selectors(expression) for name in metric_name(selector).split("|")}


# -- the files -------------------------------------------------------------------------------------------------------


def test_committed_dashboards_are_up_to_date() -> None:
    assert {file.name: file.read_text(encoding="utf-8") for file in DASHBOARDS.iterdir()} == render_files(), (
        "run: make generate"
    )


@pytest.mark.slow
@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda file: file.stem)
@pytest.mark.parametrize("title", ALL)
def test_dashboard_is_valid_by_grafanas_schema(title: str, schema: Path) -> None:
    import jsonschema  # takes two seconds, in every worker

    content = json.loads(schema.read_text())
    # The schema covers only annotations in Grafana's own store, not those from a data source.
    content["definitions"]["AnnotationQuery"]["additionalProperties"] = True
    content["definitions"]["AnnotationTarget"] = {"type": "object", "required": ["expr", "refId"]}
    # null lets Grafana assign an id, but the schema does not allow it.
    dashboard = {key: value for key, value in ALL[title].items() if key != "id"}
    jsonschema.validate(dashboard, content)


@pytest.mark.parametrize("title", ALL)
def test_dashboard_can_be_imported_and_provisioned(title: str) -> None:
    dashboard = ALL[title]
    text = json.dumps(dashboard)
    assert dashboard["id"] is None
    assert dashboard["schemaVersion"] == SCHEMA_VERSION == 39
    assert not {"__inputs", "__elements", "__requires"} & dashboard.keys()
    assert "${DS_" not in text
    assert all("current" not in v and not v["options"] for v in variables(dashboard).values())
    assert set(re.findall(r'"uid": "([^"]*)"', text)) <= {dashboard["uid"], "${datasource}", "-- Grafana --"}


def test_uids_and_titles_are_stable() -> None:
    assert {dashboard["uid"]: dashboard["title"] for dashboard in ALL.values()} == {
        "stream-exporter-overview": "Streams / Overview",
        "stream-exporter-stream": "Streams / Stream",
        "stream-exporter-upstreams": "Streams / Upstreams and exporter",
        "stream-exporter-audience": "Streams / Audience",
        "stream-exporter-playback": "Streams / Playback",
    }


@pytest.mark.parametrize("title", ALL)
def test_links_use_existing_dashboards_and_variables(title: str) -> None:
    known = {dashboard["uid"]: dashboard for dashboard in ALL.values()}
    links = re.findall(r'"url": "/d/([^?"]+)\?([^"]*)"', json.dumps(ALL[title]))
    assert {uid for uid, _ in links} >= known.keys() - {ALL[title]["uid"]}
    for uid, query in links:
        given = set(re.findall(r"var-(\w+)=", query)) | set(re.findall(r"\{(\w+):queryparam\}", query))
        assert given <= variables(known[uid]).keys()
        assert re.findall(r"\{(\w+):queryparam\}", query)[0] == "datasource"
        assert set(re.findall(r"\{(\w+):queryparam\}", query)) <= variables(ALL[title]).keys()


# -- the grid --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("title", ALL)
def test_ids_titles_and_references_are_unique(title: str) -> None:
    everything = [panel for top in ALL[title]["panels"] for panel in (top, *top.get("panels", ()))]
    assert len({panel["id"] for panel in everything}) == len(everything)
    names = [panel["title"] for panel in panels(ALL[title])]
    assert len(set(names)) == len(names)
    for panel in panels(ALL[title]):
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)


@pytest.mark.parametrize("title", ALL)
def test_panels_fill_the_grid_without_overlap(title: str) -> None:
    places = [panel["gridPos"] for panel in ALL[title]["panels"]]
    for place in places:
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
        assert min(place["w"], place["h"]) >= 1
    for one, other in combinations(places, 2):
        assert (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
    covered = sum(place["w"] * place["h"] for place in places)
    assert covered == 24 * max(place["y"] + place["h"] for place in places)


def test_row_that_some_platform_cannot_feed_is_collapsed_with_its_panels() -> None:
    jitter, live = (
        stat(name, f"{name}.", Query(f"stream_{name}"), FieldOptions(unit="short"))
        for name in ("jitter_seconds", "live")
    )
    rows = [Row("One", [jitter]), Row("Two", [jitter, live])]
    made = Dashboard(uid="u", title="t", description="d", variables=[], rows=rows).as_json()["panels"]
    assert [(p["type"], p["gridPos"]["y"]) for p in made] == [("row", 0), ("row", 1), ("stat", 2), ("stat", 2)]
    (inside,) = made[0]["panels"]
    assert inside["title"] == "jitter_seconds"
    assert inside["description"] == "jitter_seconds. Reported by: wave."
    assert made[3]["description"] == "live."


@pytest.mark.parametrize("title", [title for title in ALL if title != "Streams / Playback"])
@pytest.mark.parametrize("platform", [platform.name for platform in shipped()])
def test_open_rows_show_something_for_every_platform(title: str, platform: str) -> None:
    """A panel names the platforms that report its values, unless all do."""
    rows: dict[str, list[str]] = {}
    row = ""
    for panel in ALL[title]["panels"]:
        row = panel["title"] if panel["type"] == "row" else row
        if panel["type"] != "row" and row:
            rows.setdefault(row, []).append(panel["description"].partition("Reported by: ")[2])
    empty = [name for name, named in rows.items() if not any(not names or platform in names for names in named)]
    assert empty == []


# -- queries ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("title", ALL)
def test_every_metric_and_label_exists(title: str) -> None:
    for target in targets(ALL[title]):
        labels: set[str] = set()
        for selector, _ in selectors(target.expression):
            for metric in metric_name(selector).split("|"):
                labels |= labels_of(metric)
                matched = {matcher.name for matcher in selector.matchers.matchers} - {"__name__"}
                assert matched <= labels_of(metric), f"{target}: {selector}"
        made = set(re.findall(r'count_values by \([^()]*\) \("(\w+)"', target.expression))
        labels |= made
        grouped = re.findall(r"\b(?:by|on|ignoring|without|group_left|group_right)\s*\(([^()]*)\)", target.expression)
        assert {name.strip() for names in grouped for name in names.split(",") if name} - {"pod"} <= labels, str(target)
        labels -= made
        in_legend = set(re.findall(r"\{\{(\w+)\}\}", target.json.get("legendFormat", "")))
        assert in_legend <= labels, str(target)


@pytest.mark.parametrize("title", ALL)
def test_columns_show_existing_labels_and_values(title: str) -> None:
    for panel in panels(ALL[title]):
        if panel["type"] != "table":
            continue
        organize = panel["transformations"][1]["options"]
        references = [target["refId"] for target in panel["targets"]]
        values = {f"Value #{reference}" for reference in references} if len(references) > 1 else {"Value"}
        grouped = set()
        for target in panel["targets"]:
            (first, *_) = re.findall(r"\bby \(([^)]*)\)", target["expr"])
            grouped |= {label.strip() for label in first.split(",")}
        shown = organize["renameByName"]
        assert shown.keys() | organize["excludeByName"].keys() == values | grouped | {"Time"}, panel["title"]
        assert set(organize["indexByName"]) == set(shown)
        assert {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]} == set(shown.values())
        assert panel["options"]["sortBy"][0]["displayName"] in shown.values()


def test_every_family_is_shown_or_listed_with_a_reason() -> None:
    shown = {family_of(m) for d in ALL.values() for t in targets(d) for m in metrics_of(t.expression)}
    assert {family.name for family in FAMILIES} - {family.name for family in shown if family} == NOT_SHOWN.keys()


@pytest.mark.parametrize("title", ALL)
def test_replicas_are_merged_before_any_other_aggregation(title: str) -> None:
    for target in targets(ALL[title]):
        for selector, above in selectors(target.expression):
            family = family_of(metric_name(selector).split("|")[0])
            if family is None or (family.part is Part.EXPORTER and family not in SIDECAR_FAMILIES):
                continue
            nearest = [node for node in above if type(node).__name__ == "AggregateExpr"][-1]
            assert str(nearest.op) == "max", f"{target}: {nearest}"
            by = "instance" not in nearest.modifier.labels
            assert by == ("By" in str(nearest.modifier.type)), f"{target}: {nearest}"


@pytest.mark.parametrize("title", ALL)
def test_bitrates_come_from_gauges_and_are_shown_in_bits(title: str) -> None:
    for target in targets(ALL[title]):
        metrics = metrics_of(target.expression)
        assert not [metric for metric in metrics if metric.endswith("_bytes_total")], str(target)
        if not [metric for metric in metrics if "bytes_per_second" in metric] or target.panel["type"] == "heatmap":
            continue
        defaults, overrides = target.panel["fieldConfig"]["defaults"], target.panel["fieldConfig"]["overrides"]
        units = {defaults["unit"], *(p["value"] for o in overrides for p in o["properties"] if p["id"] == "unit")}
        assert "Bps" not in units
        is_share = "/ max by" in target.expression or "percentunit" in units
        assert "8 * " in target.expression or is_share, str(target)


def test_only_the_heatmap_of_bitrates_shows_bytes() -> None:
    [axis] = re.findall(r'"unit": "(Bps)"', json.dumps(list(ALL.values())))
    assert axis == "Bps"


@pytest.mark.parametrize("title", ALL)
def test_legend_of_per_stream_graphs_names_the_stream(title: str) -> None:
    for target in targets(ALL[title]):
        if target.panel["type"] in ("timeseries", "state-timeline") and "legendFormat" in target.json:
            legend = target.json["legendFormat"]
            assert legend != "__auto", str(target)
            names_of_one = (
                variables(ALL[title])["stream"]["multi"] is False if "stream" in variables(ALL[title]) else True
            )
            per_stream = not re.match(r"[\s\S]*\b(?:sum|count|avg|histogram_quantile)\b", target.expression)
            is_of_streams = all(
                (family := family_of(m)) is not None and "stream" in family.labels
                for m in metrics_of(target.expression)
            )
            assert names_of_one or not (per_stream and is_of_streams) or "{{stream}}" in legend, str(target)


def test_selector_of_a_single_stream_is_an_exact_match() -> None:
    for target in targets(ALL["Streams / Stream"]):
        for selector, above in selectors(target.expression):
            matchers = {m.name: (str(m.op), m.value) for m in selector.matchers.matchers}
            if metric_name(selector) == "stream_source_info":
                assert matchers["source_stream"] == ("MatchOp.Equal", "$stream")
            elif "stream" in matchers:
                assert matchers["stream"] == ("MatchOp.Equal", "$stream")
            else:
                assert is_of_checks(above), f"{target}: {selector}"


def is_of_checks(above: tuple[Any, ...]) -> bool:
    """Return whether an expression is limited to the checks that are paired with the stream."""
    joins = [node for node in above if type(node).__name__ == "BinaryExpr" and str(node.op) == "and"]
    return any(metric_name(selector) == "stream_source_info" for node in joins for selector in vectors(node.rhs))


def vectors(node: Any) -> list[Any]:
    return [inner for inner, _ in walk(node) if type(inner).__name__ == "VectorSelector"]


def test_node_types_lists_the_ancestors() -> None:
    (_, above), *_ = selectors("sum(rate(a_total[5m]))")
    assert node_types(above) == ["AggregateExpr", "Call", "MatrixSelector"]


# -- thresholds ------------------------------------------------------------------------------------------------------


def steps(panel: Json, column: str | None = None) -> list[float]:
    """Return the threshold values of a panel, or of a table column."""
    thresholds: Any = panel["fieldConfig"]["defaults"]["thresholds"]
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["options"] == column:
            [thresholds] = [p["value"] for p in override["properties"] if p["id"] == "thresholds"]
    return [step["value"] for step in thresholds["steps"][1:]]


SHARED = [
    ("Streams / Overview", "Health", None, ["StreamUnhealthy", "StreamDegraded"]),
    ("Streams / Overview", "Mean health by platform", None, ["StreamUnhealthy", "StreamDegraded"]),
    ("Streams / Overview", "Streams", "Health", ["StreamUnhealthy", "StreamDegraded"]),
    ("Streams / Overview", "Streams", "Of expected", ["StreamBitrateCritical", "StreamBitrateLow"]),
    ("Streams / Stream", "Health", None, ["StreamUnhealthy", "StreamDegraded"]),
    ("Streams / Stream", "Health score", None, ["StreamUnhealthy", "StreamDegraded"]),
    ("Streams / Stream", "Of expected", None, ["StreamBitrateCritical", "StreamBitrateLow"]),
    ("Streams / Stream", "Dropped frames", None, ["StreamDroppedFramesHigh", "StreamDroppedFramesCritical"]),
    ("Streams / Stream", "Packet loss", None, ["StreamPacketLossHigh", "StreamPacketLossCritical"]),
    ("Streams / Stream", "Round-trip time", None, ["StreamRoundTripTimeHigh"]),
    ("Streams / Stream", "Jitter", None, ["StreamJitterHigh"]),
    ("Streams / Stream", "Transcoding speed", None, ["StreamTranscodeBelowRealtime"]),
    ("Streams / Upstreams and exporter", "Request error ratio", None, ["StreamUpstreamErrorRatioHigh"]),
]


@pytest.mark.parametrize("thresholds", [{}, {"StreamUnhealthy": 0.45, "StreamPacketLossHigh": 0.03}])
@pytest.mark.parametrize(("dashboard", "panel", "column", "alerts"), SHARED)
def test_panel_thresholds_equal_the_rules_thresholds(
    dashboard: str, panel: str, column: str | None, alerts: list[str], thresholds: dict[str, float]
) -> None:
    rules = rules_in_force(AlertingSettings.model_validate({"thresholds": thresholds}))
    in_force = {active.rule.name: active.threshold for active in rules}
    made = {d.title: d.as_json() for d in all_dashboards(RuleThresholds(rules))}[dashboard]
    [found] = [p for p in panels(made) if p["title"] == panel]
    # In the timeline, 0 is the threshold for missing streams.
    assert [value for value in steps(found, column) if value] == [in_force[alert] for alert in alerts]


@pytest.mark.parametrize(
    ("panel", "column", "alert", "is_falling"),
    [
        ("Checks", "New media", "StreamMediaShortage", True),
        ("New media per second", None, "StreamMediaShortage", True),
        ("Checks", "Download", "StreamDeliverySlow", False),
        ("Download time of segments", None, "StreamDeliverySlow", False),
    ],
)
@pytest.mark.parametrize("configured", [{}, {"StreamMediaShortage": 0.9, "StreamDeliverySlow": 0.7}])
def test_panel_thresholds_equal_both_grades_of_a_rule(
    panel: str, column: str | None, alert: str, is_falling: bool, configured: dict[str, float]
) -> None:
    rules = rules_in_force(AlertingSettings.model_validate({"thresholds": configured}))
    [active] = [active for active in rules if active.rule.name == alert]
    grades = [grade.threshold for grade in active.own_grades]
    assert None not in grades
    made = {d.title: d.as_json() for d in all_dashboards(RuleThresholds(rules))}["Streams / Playback"]
    [found] = [p for p in panels(made) if p["title"] == panel]
    assert steps(found, column) == (grades if is_falling else grades[::-1])


@pytest.mark.parametrize("title", ALL)
def test_empty_cell_has_no_threshold_colour(title: str) -> None:
    for panel in panels(ALL[title]):
        for override in panel["fieldConfig"]["overrides"]:
            properties = {p["id"]: p["value"] for p in override["properties"]}
            if "custom.cellOptions" in properties:
                results = [m["options"] for m in properties["mappings"] if m["type"] == "special"]
                assert results == [{"match": "null", "result": {"color": "transparent", "text": ""}}]


@pytest.mark.parametrize("title", ALL)
def test_override_patterns_are_delimited_by_slashes(title: str) -> None:
    """Without slashes, Grafana would match the whole name."""
    for panel in panels(ALL[title]):
        for override in panel["fieldConfig"]["overrides"]:
            if override["matcher"]["id"] == "byRegexp":
                assert re.fullmatch("/.+/", override["matcher"]["options"])


@pytest.mark.parametrize("title", ALL)
def test_timeline_uses_the_colours_of_its_mappings(title: str) -> None:
    """Grafana ignores mappings if it merges by thresholds: https://github.com/grafana/grafana/issues/71804."""
    for panel in panels(ALL[title]):
        defaults = panel["fieldConfig"]["defaults"]
        if panel["type"] == "state-timeline":
            assert (defaults["color"]["mode"] == "thresholds") == (not defaults["mappings"]), panel["title"]


def test_rule_without_threshold_raises_value_error() -> None:
    with pytest.raises(ValueError, match="StreamError has no threshold"):
        RuleThresholds()["StreamError"]
    with pytest.raises(ValueError, match="StreamError has no threshold"):
        RuleThresholds().critical("StreamError")


# -- the command -----------------------------------------------------------------------------------------------------


def test_dashboards_command_lists_the_dashboards(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboards"]) == 0
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()] == [
        dashboard.title for dashboard in all_dashboards()
    ]


def test_dashboards_command_writes_configured_thresholds(tmp_path: Path) -> None:
    configuration = tmp_path / "config.yaml"
    configuration.write_text(
        "upstreams: [{name: a, platform: storm, url: 'http://127.0.0.1:1', discover: true}]\n"
        "alerting: {thresholds: {StreamUnhealthy: 0.45}}\n"
    )
    out = tmp_path / "out"
    assert main(["dashboards", "--config.file", str(configuration), "--output-dir", str(out)]) == 0
    assert {file.name for file in out.iterdir()} == set(render_files())
    assert '"value": 0.45' in (out / "stream-exporter-overview.json").read_text()
    assert '"value": 0.45' not in (DASHBOARDS / "stream-exporter-overview.json").read_text()


def test_dashboards_command_reports_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboards", "--config.file", str(tmp_path / "none.yaml")]) == 1
    assert "none.yaml" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["dashboards", "--output-dir", str(tmp_path / "file")]) == 1
    assert "cannot write" in capsys.readouterr().err
