"""Dashboard variables, and PromQL for the series that they select.

Replicas of the exporter report the same streams and must not be summed, so every selection first takes the maximum
without ``instance`` and ``pod``. Variables are saved without a value, because values differ between servers.
"""

from __future__ import annotations

from dataclasses import dataclass

from exporter.dashboards.panels import DATASOURCE, Json

EXPORTER = 'job=~"$job", instance=~"$instance"'
"""Grafana's linter requires these two in every selector."""
UPSTREAM = f'{EXPORTER}, platform=~"$platform", upstream=~"$upstream"'
STREAMS = f'{UPSTREAM}, stream=~"$stream"'
ONE_STREAM = f'{UPSTREAM}, stream="$stream"'
"""Uses ``=``, because Grafana does not escape a single-value variable for a regular expression."""

IDENTITY = "platform, upstream, stream"


@dataclass(frozen=True)
class Selection:
    """The series that the dashboard's variables select."""

    matchers: str

    def selector(self, family: str, *more: str) -> str:
        """Return a selector with optional additional matchers."""
        return f"{family}{{{', '.join((self.matchers, *more))}}}"

    def current(self, family: str, *more: str) -> str:
        """Return the current series, merged over replicas."""
        return f"max without (instance, pod) ({self.selector(family, *more)})"

    def max_by(self, family: str, *more: str, by: str = IDENTITY) -> str:
        """Return one series for each combination of the labels in ``by``, for the rows of a table."""
        return f"max by ({by}) ({self.selector(family, *more)})"

    def rate(self, family: str, *more: str) -> str:
        """Return a counter's rate per second."""
        return f"max without (instance, pod) (rate({self.selector(family, *more)}[$__rate_interval]))"

    def increase(self, family: str, *more: str, within: str = "$__rate_interval") -> str:
        """Return a counter's increase."""
        return f"max without (instance, pod) (increase({self.selector(family, *more)}[{within}]))"

    def quantile(self, quantile: float, family: str, by: str = "") -> str:
        """Return a quantile of recent observations; no sample instead of NaN if there are none."""
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
"""1 for each upstream that is up on every shard, 0 for the others."""


def or_zero(expression: str) -> str:
    """Return the expression, or 0 if it has no result; nothing if there is no exporter."""
    return f"{expression} or 0 * max({exporter.selector('stream_exporter_build_info')})"


def largest(count: int, expression: str, measured: str) -> str:
    """Limit the expression to the ``count`` series with the largest ``measured`` value.

    ``measured`` must be constant over the time range, because ``topk`` selects again at every step.
    """
    return f"{expression}\nand\ntopk({count}, {measured})"


_ON_TIME_RANGE_CHANGE = 2
_ALPHABETICAL = 1
_EXPORTER_SELECTOR = '{__name__=~"stream_exporter_build_info|stream_upstream_info"'
"""Excludes probe jobs, which have no series of the exporter itself."""
_STREAM_SELECTOR = '{__name__=~"stream_status|stream_expected", '
"""Includes streams with an unknown state."""


def _datasource_variable() -> Json:
    """Return the variable for the Prometheus data source."""
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
    """Return the variables that every dashboard has."""
    return [
        _datasource_variable(),
        _query_variable("job", "Job", f"label_values({_EXPORTER_SELECTOR}}}, job)"),
        _query_variable("instance", "Instance", f'label_values({_EXPORTER_SELECTOR}, job=~"$job"}}, instance)'),
    ]


def upstream_variables() -> list[Json]:
    """Return the variables of dashboards about upstreams."""
    return [
        *exporter_variables(),
        _query_variable("platform", "Platform", f"label_values(stream_upstream_info{{{EXPORTER}}}, platform)"),
        _query_variable(
            "upstream", "Upstream", f'label_values(stream_upstream_info{{{EXPORTER}, platform=~"$platform"}}, upstream)'
        ),
    ]


def stream_variables() -> list[Json]:
    """Return the variables of dashboards about all streams."""
    return [
        *upstream_variables(),
        _query_variable("stream", "Stream", f"label_values({_STREAM_SELECTOR}{UPSTREAM}}}, stream)"),
    ]


def single_stream_variables() -> list[Json]:
    """Return the variables of the dashboard about a single stream."""
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
