"""PromQL of the panels.

Two replicas of the exporter show the same streams: what they say is never added up. So every selection takes the
maximum without ``instance`` and ``pod`` before anything else is done with it.
"""

from __future__ import annotations

from dataclasses import dataclass

EXPORTER = 'job=~"$job", instance=~"$instance"'
"""The linter of Grafana wants these two in every selector."""
UPSTREAM = f'{EXPORTER}, platform=~"$platform", upstream=~"$upstream"'
STREAMS = f'{UPSTREAM}, stream=~"$stream"'
ONE_STREAM = f'{UPSTREAM}, stream="$stream"'
"""A variable of a single value is not escaped for a regular expression, and names may hold anything."""

IDENTITY = "platform, upstream, stream"


@dataclass(frozen=True)
class Selection:
    """What the dashboard's variables leave of the series."""

    matchers: str

    def series(self, family: str, *more: str) -> str:
        """The bare selector, with further matchers."""
        return f"{family}{{{', '.join((self.matchers, *more))}}}"

    def now(self, family: str, *more: str) -> str:
        """The series themselves, whichever replica is asked."""
        return f"max without (instance, pod) ({self.series(family, *more)})"

    def each(self, family: str, *more: str, by: str = IDENTITY) -> str:
        """One series for each of ``by``, for the rows of a table."""
        return f"max by ({by}) ({self.series(family, *more)})"

    def rate(self, family: str, *more: str) -> str:
        """A counter's rate per second."""
        return f"max without (instance, pod) (rate({self.series(family, *more)}[$__rate_interval]))"

    def increase(self, family: str, *more: str, within: str = "$__rate_interval") -> str:
        """How much a counter rose."""
        return f"max without (instance, pod) (increase({self.series(family, *more)}[{within}]))"

    def quantile(self, quantile: float, family: str, by: str = "") -> str:
        """A quantile of what was observed in the last moments; nothing, and not NaN, where that was nothing."""
        labels = f"le, {by}" if by else "le"
        return f"(histogram_quantile({quantile:g}, sum by ({labels}) ({self.rate(family + '_bucket')})) >= 0)"

    def buckets(self, family: str) -> str:
        """Observations per bucket, for a heatmap."""
        return f"sum by (le) ({self.increase(family + '_bucket')})"


exporter = Selection(EXPORTER)
upstreams = Selection(UPSTREAM)
streams = Selection(STREAMS)
one_stream = Selection(ONE_STREAM)


UPSTREAMS_UP = f"min by (platform, upstream) ({upstreams.now('stream_upstream_up')})"
"""1 for each upstream that every shard reaches, 0 for the others."""


def or_zero(expression: str) -> str:
    """0 where the expression has nothing to count, and nothing where no exporter is there to count anything."""
    return f"{expression} or 0 * max({exporter.series('stream_exporter_build_info')})"


def largest(count: int, expression: str, measured: str) -> str:
    """The expression, for the ``count`` series for which ``measured`` is largest at the end of the dashboard's time.

    The plain ``topk`` chooses anew at every step, so that a graph of it holds many more series.
    """
    return f"{expression}\nand\ntopk({count}, {measured})"
