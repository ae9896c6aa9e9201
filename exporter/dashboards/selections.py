"""The variables of a dashboard, and PromQL for the series that they select.

Two replicas of the exporter report the same streams and must not be added up, so every selection takes the maximum
without ``instance`` and ``pod`` first. Variables are saved without a value, which would belong to another server.
"""

from __future__ import annotations

from dataclasses import dataclass

from exporter.dashboards.panels import DATASOURCE, Json

EXPORTER = 'job=~"$job", instance=~"$instance"'
"""Grafana's linter requires these two in every selector."""
UPSTREAM = f'{EXPORTER}, platform=~"$platform", upstream=~"$upstream"'
STREAMS = f'{UPSTREAM}, stream=~"$stream"'
ONE_STREAM = f'{UPSTREAM}, stream="$stream"'
"""A variable of a single value is not escaped for a regular expression, and names may hold anything."""

IDENTITY = "platform, upstream, stream"


@dataclass(frozen=True)
class Selection:
    """The series that the dashboard's variables select."""

    matchers: str

    def selector(self, family: str, *more: str) -> str:
        """Return the bare selector, with further matchers."""
        return f"{family}{{{', '.join((self.matchers, *more))}}}"

    def current(self, family: str, *more: str) -> str:
        """Return the series, the same for all replicas."""
        return f"max without (instance, pod) ({self.selector(family, *more)})"

    def max_by(self, family: str, *more: str, by: str = IDENTITY) -> str:
        """Return one series for each combination of the labels ``by``, for the rows of a table."""
        return f"max by ({by}) ({self.selector(family, *more)})"

    def rate(self, family: str, *more: str) -> str:
        """Return a counter's rate per second."""
        return f"max without (instance, pod) (rate({self.selector(family, *more)}[$__rate_interval]))"

    def increase(self, family: str, *more: str, within: str = "$__rate_interval") -> str:
        """Return how much a counter rose."""
        return f"max without (instance, pod) (increase({self.selector(family, *more)}[{within}]))"

    def quantile(self, quantile: float, family: str, by: str = "") -> str:
        """Return a quantile of recent observations; no sample, rather than NaN, if there are none."""
        labels = f"le, {by}" if by else "le"
        return f"(histogram_quantile({quantile:g}, sum by ({labels}) ({self.rate(family + '_bucket')})) >= 0)"

    def buckets(self, family: str) -> str:
        """Return the observations per bucket, for a heatmap."""
        return f"sum by (le) ({self.increase(family + '_bucket')})"


exporter = Selection(EXPORTER)
upstreams = Selection(UPSTREAM)
streams = Selection(STREAMS)
one_stream = Selection(ONE_STREAM)

UPSTREAM_UP = f"min by (platform, upstream) ({upstreams.current('stream_upstream_up')})"
"""1 for each upstream that every shard reaches, 0 for the others."""


def or_zero(expression: str) -> str:
    """Return 0 if the expression has no result, and nothing if there is no exporter at all."""
    return f"{expression} or 0 * max({exporter.selector('stream_exporter_build_info')})"


def largest(count: int, expression: str, measured: str) -> str:
    """Return the expression for the ``count`` series with the largest ``measured`` at the end of the time range.

    A plain ``topk`` chooses again at every step, so a graph of it has many more series.
    """
    return f"{expression}\nand\ntopk({count}, {measured})"


_ON_TIME_RANGE_CHANGE = 2
_ALPHABETICAL = 1
_EXPORTER_SELECTOR = '{__name__=~"stream_exporter_build_info|stream_upstream_info"'
"""Excludes the job of the probes, which has no series of the exporter itself."""
_STREAM_SELECTOR = '{__name__=~"stream_status|stream_expected", '
"""Includes streams whose state is unknown."""


def _datasource_variable() -> Json:
    """The Prometheus to query."""
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


def exporter_variables() -> list[Json]:
    """Return the variables of every dashboard."""
    return [
        _datasource_variable(),
        _query_variable("job", "Job", f"label_values({_EXPORTER_SELECTOR}}}, job)"),
        _query_variable("instance", "Instance", f'label_values({_EXPORTER_SELECTOR}, job=~"$job"}}, instance)'),
    ]


def upstream_variables() -> list[Json]:
    """Return the variables of dashboards of upstreams."""
    return [
        *exporter_variables(),
        _query_variable("platform", "Platform", f"label_values(stream_upstream_info{{{EXPORTER}}}, platform)"),
        _query_variable(
            "upstream", "Upstream", f'label_values(stream_upstream_info{{{EXPORTER}, platform=~"$platform"}}, upstream)'
        ),
    ]


def stream_variables() -> list[Json]:
    """Return the variables of dashboards of many streams."""
    return [
        *upstream_variables(),
        _query_variable("stream", "Stream", f"label_values({_STREAM_SELECTOR}{UPSTREAM}}}, stream)"),
    ]


def single_stream_variables() -> list[Json]:
    """Return the variables of the dashboard of a single stream."""
    stream = _query_variable("stream", "Stream", f"label_values({_STREAM_SELECTOR}{UPSTREAM}}}, stream)")
    del stream["allValue"]
    return [*upstream_variables(), {**stream, "includeAll": False, "multi": False}]


def _query_variable(name: str, label: str, query: str) -> Json:
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
