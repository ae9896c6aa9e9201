"""The variables above a dashboard. They are saved without a value: a stored one would be of somebody else's server."""

from __future__ import annotations

from exporter.dashboards.panels import DATASOURCE, Json
from exporter.dashboards.queries import EXPORTER, UPSTREAM

_ON_TIME_RANGE_CHANGE = 2
_ALPHABETICAL = 1
_EXPORTER_IF_ANY = '{__name__=~"stream_exporter_build_info|stream_upstream_info"'
"""Probes are a job of their own, which tells nothing of the exporter itself."""
_IF_ANY = '{__name__=~"stream_live|stream_expected", '
"""A stream of which nothing is known but that it should be live is chosen from too."""


def datasource() -> Json:
    """Which Prometheus."""
    return {
        "hide": 0,
        "includeAll": False,
        "label": "Data source",
        "multi": False,
        "name": "datasource",
        "options": [],
        "query": "prometheus",
        "refresh": 1,
        "regex": "",
        "skipUrlSync": False,
        "type": "datasource",
    }


def of_exporter() -> list[Json]:
    """Every dashboard has these."""
    return [
        datasource(),
        _query("job", "Job", f"label_values({_EXPORTER_IF_ANY}}}, job)"),
        _query("instance", "Instance", f'label_values({_EXPORTER_IF_ANY}, job=~"$job"}}, instance)'),
    ]


def of_upstreams() -> list[Json]:
    """Every dashboard but none of the exporter alone has these too."""
    return [
        *of_exporter(),
        _query("platform", "Platform", f"label_values(stream_upstream_info{{{EXPORTER}}}, platform)"),
        _query(
            "upstream", "Upstream", f'label_values(stream_upstream_info{{{EXPORTER}, platform=~"$platform"}}, upstream)'
        ),
    ]


def of_streams() -> list[Json]:
    """For dashboards of many streams."""
    return [*of_upstreams(), _query("stream", "Stream", f"label_values({_IF_ANY}{UPSTREAM}}}, stream)")]


def of_one_stream() -> list[Json]:
    """For the dashboard of a single stream."""
    stream = _query("stream", "Stream", f"label_values({_IF_ANY}{UPSTREAM}}}, stream)")
    del stream["allValue"]
    return [*of_upstreams(), {**stream, "includeAll": False, "multi": False}]


def _query(name: str, label: str, query: str) -> Json:
    return {
        "allValue": ".+",
        "datasource": DATASOURCE,
        "hide": 0,
        "includeAll": True,
        "label": label,
        "multi": True,
        "name": name,
        "options": [],
        "query": {"qryType": 5, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "refresh": _ON_TIME_RANGE_CHANGE,
        "regex": "",
        "skipUrlSync": False,
        "sort": _ALPHABETICAL,
        "type": "query",
    }
