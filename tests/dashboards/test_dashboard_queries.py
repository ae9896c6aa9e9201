"""Run every query of every dashboard on a real Prometheus with 15 minutes of data of the demo fleet."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.metrics.families.group_families import GROUP_FAMILIES
from tests.dashboards.dashboard_files import TIMES, Json, Target, fill_variables, read_dashboards, targets, variables
from tests.dashboards.fast_forward import STEP_SECONDS
from tests.dashboards.prometheus_history import INSTANCE, JOB, History, history

pytestmark = pytest.mark.real

SECONDS = 15 * 60.0
ALL = {dashboard["title"]: dashboard for dashboard in read_dashboards()}
STREAM = "Streams / Stream"
RARE = (
    "stream_recording_status", "stream_multistream_target_connected", "stream_health_grade", "stream_health_reason",
    "stream_viewer_error_ratio", "stream_ice_candidates", "stream_egress_bitrate_bytes_per_second",
)  # fmt: skip
"""Metrics that only some streams of a platform have."""

EMPTY = {
    "Streams / Stream: Viewers over time: C": "the simulated platforms have no system clients",
    "Streams / Stream: Ingest vs expected: F": "only Icecast reports a declared bitrate, and it is not simulated",
    "Streams / Stream: Fallback: A": "only Icecast has fallbacks",
    "Streams / Stream: Viewers disconnected as too slow: A": "only Icecast reports them",
    "Streams / Stream: Ingest lag: A": "only nginx-rtmp reports it, and it is not simulated",
    "Streams / Upstreams and exporter: Dropped fields and records: B": "the simulated platforms list each stream once",
}
"""Queries without a result on the demo fleet, and why."""


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    with history(tmp_path_factory.mktemp("history"), seconds=SECONDS, sidecar=True) as made:
        yield made


def variable_values(dashboard: Json, history: History) -> list[dict[str, str]]:
    """Return sets of values for the variables: one for all streams, or several for the stream dashboard."""
    everything = {name: variable.get("allValue", "") for name, variable in variables(dashboard).items()}
    if dashboard["title"] != STREAM:
        return [everything]
    streams = set(history.best_known_streams.items())
    for family in RARE:
        [first, *_] = history.prometheus.get("query", query=family, time=history.end)["result"]
        streams.add((first["metric"]["platform"], first["metric"]["stream"]))
    return [everything | {"platform": platform, "stream": label} for platform, label in sorted(streams)]


def run_query(target: Target, values: dict[str, str], history: History) -> list[Any]:
    """Return the result as the panel gets it."""
    step = 120 if target.json.get("interval") else STEP_SECONDS
    times = TIMES | {"__interval": f"{step:g}s", "__rate_interval": f"{max(60, step + STEP_SECONDS):g}s"}
    query = fill_variables(target.expression, times | values)
    if target.json["instant"]:
        result = history.prometheus.get("query", query=query, time=history.end)["result"]
    else:
        result = history.prometheus.get("query_range", query=query, start=history.begin, end=history.end, step=step)[
            "result"
        ]
    for series in result:
        assert all(value != "NaN" for _, value in series.get("values", [series.get("value")])), str(target)
    return list(result)


@pytest.mark.parametrize("title", ALL)
def test_every_query_has_a_result(known: History, title: str) -> None:
    found = {
        str(target): [run_query(target, values, known) for values in variable_values(ALL[title], known)]
        for target in targets(ALL[title])
    }
    empty = {name for name, answers in found.items() if not any(answers)}
    assert empty == {name for name in EMPTY if name.startswith(f"{title}: ")}


def render_legend(legend: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), legend)


@pytest.mark.parametrize("title", ALL)
def test_legends_are_unique_and_not_empty(known: History, title: str) -> None:
    for values in variable_values(ALL[title], known):
        names: dict[str, list[str]] = {}
        for target in targets(ALL[title]):
            if target.panel["type"] not in ("timeseries", "state-timeline"):
                continue
            for series in run_query(target, values, known):
                legend = render_legend(target.json["legendFormat"], series["metric"])
                assert legend.strip(), str(target)
                names.setdefault(target.panel["title"], []).append(legend)
        for panel, legends in names.items():
            if panel not in SAME_NAMES:
                assert len(set(legends)) == len(legends), f"{panel}: {sorted(legends)}"


SAME_NAMES = {"Health": "streams of different upstreams may have the same name"}


@pytest.mark.parametrize("title", ALL)
def test_variables_find_their_values(known: History, title: str) -> None:
    expected = {
        "job": [JOB],
        "instance": [INSTANCE],
        "platform": ["hls", "livepeer", "storm", "wave"],
        "upstream": ["edge", "studio", "viewers", "wave"],
    }
    every = dict.fromkeys(variables(ALL[title]), ".+")
    for name, variable in variables(ALL[title]).items():
        if variable["type"] != "query":
            continue
        match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert match is not None
        parameters = {"match[]": fill_variables(match[1], every), "start": known.begin, "end": known.end}
        values = known.prometheus.get(f"label/{match[2]}/values", **parameters)
        if name == "stream":
            assert len(values) > 30
        else:
            assert values == expected[name]


@pytest.mark.parametrize("title", ALL)
def test_annotations_find_events(known: History, title: str) -> None:
    for annotation in ALL[title]["annotations"]["list"]:
        if annotation.get("builtIn"):
            continue
        query = annotation["target"]["expr"]
        for values in [TIMES | dict.fromkeys(variables(ALL[title]), ".+")]:
            # Match any stream, because the annotated stream is not known.
            expression = fill_variables(query, values).replace('stream=".+"', 'stream=~".+"')
            times = {"start": known.begin, "end": known.end, "step": STEP_SECONDS}
            assert known.prometheus.get("query_range", query=expression, **times)["result"], annotation["name"]


def test_health_timeline_starts_with_the_worst_stream(known: History) -> None:
    [dashboard] = [d for d in ALL.values() if d["uid"] == "stream-exporter-overview"]
    [target] = [target for target in targets(dashboard) if target.panel["type"] == "state-timeline"]
    answer = run_query(target, dict.fromkeys(variables(dashboard), ".+"), known)
    assert len(answer) == 24
    healths = [[float(value) for _, value in series["values"]] for series in answer]
    # The query samples once a minute, so streams with nearly the same health may be swapped.
    lost = [sum(max(0.0, 0.8 - health) for health in series) / len(series) for series in healths]
    assert all(after - before < 0.02 for before, after in pairwise(lost))
    assert lost[0] > 0.1
    assert lost[-1] == 0


def test_every_stream_of_the_table_has_a_sort_value(known: History) -> None:
    """Grafana would put rows without a value first."""
    [dashboard] = [d for d in ALL.values() if d["uid"] == "stream-exporter-overview"]
    [health] = [target for target in targets(dashboard) if "stream_health_score_ratio" in target.expression
                and target.panel["type"] == "table"]  # fmt: skip
    answer = run_query(health, dict.fromkeys(variables(dashboard), ".+"), known)
    values = {identity(series): float(series["value"][1]) for series in answer}
    everything = known.prometheus.get("query", query="stream_status or stream_expected", time=known.end)["result"]
    assert values.keys() == {identity(series) for series in everything}
    query = "stream_health_score_ratio < 1 and stream_live == 1"
    scores = known.prometheus.get("query", query=query, time=known.end)["result"]
    assert scores
    assert all(values[identity(series)] < 1 for series in scores), "streams without a score must come after these"


def identity(series: Json) -> tuple[str, ...]:
    return tuple(series["metric"][label] for label in ("platform", "upstream", "stream"))


RULE_FILES = sorted((Path(__file__).parents[2] / "alerts").glob("stream-*.yaml"))
SCRAPE_LABELS = {"job", "instance", "pod"}


def selected_by_rules() -> set[tuple[str, str]]:
    """Return pairs of metric and label in the rules' selectors; the label is empty if a selector has none."""
    selected: set[tuple[str, str]] = set()
    for rule in (
        r for file in RULE_FILES for group in yaml.safe_load(file.read_text())["groups"] for r in group["rules"]
    ):
        expression = re.sub(r'"(?:[^"\\]|\\.)*"', '""', rule["expr"])
        for metric, matchers in re.findall(r"(?<![\w:])(stream_\w+)\{([^}]*)\}", expression):
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) - SCRAPE_LABELS
            selected |= {(metric, label) for label in labels or {""}}
    return selected


NOT_IN_THE_HISTORY = {
    "stream_former_label", "stream_upstream_retired", "stream_maintenance", "stream_alert_threshold",
    "stream_alert_off", "stream_upstream_calendar_readable", "stream_upstream_calendar_last_success_timestamp_seconds",
    *(family.name for family in GROUP_FAMILIES),
}  # fmt: skip
"""Metrics of renamed streams, retired upstreams and of what the configuration of the history does not have."""


def test_every_metric_and_label_of_the_rules_is_exposed(known: History) -> None:
    selected = {(metric, label) for metric, label in selected_by_rules() if metric not in NOT_IN_THE_HISTORY}
    assert len({metric for metric, _ in selected}) > 25
    for metric, label in sorted(selected):
        selector = f'{metric}{{{label}!=""}}' if label else metric
        series = {"match[]": selector, "start": known.begin, "end": known.end}
        assert known.prometheus.get("series", **series), selector
