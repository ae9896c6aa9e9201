"""Overrides of alert rules: of the streams of one upstream, of the upstream itself, and the series that export them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from exporter.config.upstream import StreamSettings, UpstreamSettings
from exporter.model import NO_OVERRIDES, AlertOverrides, Identity, StreamState

Row = tuple[tuple[str, str], float]
"""Stream (empty: the upstream itself) and rule, and the value of a series."""


class UpstreamOverrides:
    """The overrides of one upstream and its streams, resolved once per configuration."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self.of_upstream = _resolve(settings.upstream_alerts)
        """For rules about the upstream itself."""
        self._stream_alerts = settings.stream_alerts
        self._of_all_streams = _resolve(settings.stream_alerts)
        self._overridden: Sequence[tuple[Identity, AlertOverrides]] = ()
        self._rows = override_rows(self.of_upstream, ())

    def of_stream(self, settings: StreamSettings | None) -> AlertOverrides:
        """Return the overrides of a stream; all streams without entries of their own share one object."""
        if settings is None or not settings.alerts:
            return self._of_all_streams
        return _resolve({**self._stream_alerts, **settings.alerts})

    def rows(self, states: Sequence[StreamState]) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
        """Return the rows of ``stream_alert_threshold`` and ``stream_alert_off``, built only if they have changed."""
        overridden = [(state.identity, state.overrides) for state in states if state.overrides is not NO_OVERRIDES]
        if overridden != self._overridden:
            self._overridden, self._rows = overridden, override_rows(self.of_upstream, overridden)
        return self._rows


def _resolve(alerts: Mapping[str, bool | float]) -> AlertOverrides:
    thresholds = {rule: value for rule, value in sorted(alerts.items()) if not isinstance(value, bool)}
    off = frozenset(rule for rule, value in alerts.items() if value is False)
    return AlertOverrides(thresholds, off) if thresholds or off else NO_OVERRIDES


def override_rows(
    of_upstream: AlertOverrides, of_streams: Iterable[tuple[Identity, AlertOverrides]]
) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Return the rows of ``stream_alert_threshold`` and ``stream_alert_off``."""
    named = [("", of_upstream), *((identity.stream, overrides) for identity, overrides in of_streams)]
    thresholds = [((stream, rule), value) for stream, of in named for rule, value in of.thresholds.items()]
    off = [((stream, rule), 1.0) for stream, of in named for rule in sorted(of.off)]
    return tuple(thresholds), tuple(off)
