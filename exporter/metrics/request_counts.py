"""What is counted of single requests: in plain numbers, since there are hundreds of them in a second."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from exporter.metrics.families.upstream_families import REQUEST_DURATION, REQUESTS

_BOUNDS: Final = REQUEST_DURATION.bounds
_UPPER_BOUNDS: Final = [*map(floatToGoString, _BOUNDS), "+Inf"]


class _Durations:
    """The histogram of one endpoint."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * len(_UPPER_BOUNDS)
        self.sum = 0.0


class UpstreamRequests:
    """Those to one upstream."""

    __slots__ = ("_codes", "_durations")

    def __init__(self) -> None:
        self._codes: dict[tuple[str, str], int] = {}
        self._durations: dict[str, _Durations] = {}

    def add(self, endpoint: str, code: str, seconds: float) -> None:
        """One more."""
        key = endpoint, code
        self._codes[key] = self._codes.get(key, 0) + 1
        durations = self._durations.get(endpoint)
        if durations is None:
            durations = self._durations[endpoint] = _Durations()
        durations.counts[bisect_left(_BOUNDS, seconds)] += 1
        durations.sum += seconds

    def codes(self) -> list[tuple[tuple[str, str], int]]:
        """How many by endpoint and code, now."""
        return list(self._codes.items())

    def durations(self) -> list[tuple[str, _Durations]]:
        """The histograms by endpoint, which may go on growing."""
        return list(self._durations.items())


class RequestCounts(Collector):
    """The requests to all upstreams, as families of prometheus_client."""

    def __init__(self, upstreams: Mapping[tuple[str, str], UpstreamRequests]) -> None:
        """``upstreams``: by platform and name."""
        self._upstreams = upstreams

    def collect(self) -> Iterator[Metric]:
        """Both families; called while requests are being counted."""
        requests = CounterMetricFamily(REQUESTS.name, REQUESTS.help, labels=REQUESTS.labels)
        durations = HistogramMetricFamily(REQUEST_DURATION.name, REQUEST_DURATION.help, labels=REQUEST_DURATION.labels)
        for labels, counted in list(self._upstreams.items()):
            for key, times in counted.codes():
                requests.add_metric([*labels, *key], times)
            for endpoint, histogram in counted.durations():
                buckets = zip(_UPPER_BOUNDS, accumulate(histogram.counts), strict=True)
                durations.add_metric([*labels, endpoint], list(buckets), histogram.sum)
        yield requests
        yield durations
