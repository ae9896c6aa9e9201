"""Rules about the platforms that are polled."""

from __future__ import annotations

from exporter.alerting.rules.rule import MINUTE, Comparison, Condition, Rule, Scope, Series, Severity, Unit

UP = Comparison(Series("stream_upstream_up"), "==", 1)
DOWN = Comparison(Series("stream_upstream_up"), "==", 0)
REFUSED = Comparison(Series("stream_upstream_failing", {"reason": ("auth", "forbidden")}), "==", 1)

UPSTREAM_RULES: tuple[Rule, ...] = (
    Rule(
        name="StreamUpstreamDown",
        scope=Scope.UPSTREAM,
        severity=Severity.CRITICAL,
        summary="A streaming platform does not answer.",
        description="{upstream} ({platform}) does not answer usably: nobody knows how its streams are.",
        condition=Condition(DOWN),
        for_seconds=45.0,
        keep_firing_seconds=5 * MINUTE,
        why="Two polls in a row on every platform, and a page within two minutes of the outage: up to 40 s until a "
        "poll fails (30 s interval, 10 s timeout), 15 s each until it is scraped and evaluated, and these 45 s.",
    ),
    Rule(
        name="StreamUpstreamAuthFailing",
        scope=Scope.UPSTREAM,
        severity=Severity.CRITICAL,
        summary="A streaming platform refuses the exporter's credentials.",
        description="{upstream} ({platform}) refuses the credentials: nobody knows how its streams are.",
        condition=Condition(REFUSED, also=(DOWN,)),
        for_seconds=45.0,
        keep_firing_seconds=5 * MINUTE,
        why="No key heals by itself; two polls let a rotated secret arrive. It comes beside StreamUpstreamDown and "
        "inhibits it.",
    ),
    Rule(
        name="StreamUpstreamErrorRatioHigh",
        scope=Scope.UPSTREAM,
        severity=Severity.WARNING,
        summary="Many requests to a streaming platform fail.",
        description="{value} of the requests to {upstream} ({platform}) fail, more than {threshold}.",
        promql="max without (instance, pod) (\n"
        '  sum without (code, request) (rate(stream_upstream_requests_total{SELECTOR,code!~"[23]..|404"}[{15m}]))\n'
        "  / (sum without (code, request) (rate(stream_upstream_requests_total{SELECTOR}[{15m}])) > 0)\n"
        ") > {threshold}\n"
        "and\n"
        "max without (instance, pod) (\n"
        "  sum without (code, request) (increase(stream_upstream_requests_total{SELECTOR}[{15m}]))\n"
        ") >= {count:20}",
        window_seconds=15 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        threshold=0.05,
        threshold_max=1.0,
        unit=Unit.RATIO,
        why="1 in 20 is more than a flaky network, and data still come: a ticket. Fewer than 20 requests say nothing.",
    ),
    Rule(
        name="StreamUpstreamDataStale",
        scope=Scope.UPSTREAM,
        severity=Severity.WARNING,
        summary="The polls of a streaming platform are overdue.",
        description="The last successful poll of {upstream} ({platform}) is more than 2.5 poll intervals old, although "
        "the upstream counts as up.",
        condition=Condition(Comparison(Series("stream_upstream_answering"), "==", 0), also=(UP,)),
        for_seconds=2 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        why="Polls have stopped although the exporter runs. One late poll is only jitter, hence the two minutes. The "
        "exporter measures the age on its own steady clock, so setting a clock does not matter.",
    ),
    Rule(
        name="StreamSeriesLimitReached",
        scope=Scope.UPSTREAM,
        severity=Severity.INFO,
        summary="A platform has more streams than may be exported.",
        description="{value} streams of {upstream} ({platform}) are left out by max_streams.",
        condition=Condition(Comparison(Series("stream_upstream_streams_dropped"), ">", 0)),
        for_seconds=10 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        unit=Unit.COUNT,
        why="The guard of the series count is at work; expected and live streams are kept first.",
    ),
)


EXPORTER_RULES: tuple[Rule, ...] = (
    Rule(
        name="StreamExporterDown",
        scope=Scope.EXPORTER,
        severity=Severity.CRITICAL,
        summary="The stream exporter cannot be scraped.",
        description="No instance of the job {job} can be scraped: nobody watches the streams.",
        # the maximum is 0 only where every replica is down; absent() where the target itself is gone
        promql="max without (instance, pod) (up{SELECTOR}) == 0\nor\nabsent(up{SELECTOR})",
        for_seconds=5 * MINUTE,
        labels=("job",),
        why="One of two replicas is enough; five minutes let a rollout and a restart of Prometheus pass.",
    ),
    Rule(
        name="StreamExporterReloadFailed",
        scope=Scope.EXPORTER,
        severity=Severity.WARNING,
        summary="The stream exporter runs with an old configuration.",
        description="The last reload of the configuration of {instance} failed; the one before is still in force.",
        promql="stream_exporter_config_last_reload_successful{SELECTOR} == 0",
        for_seconds=10 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        labels=("instance",),
        why="Time enough to mend the file that one is editing. Each replica has a file of its own, hence an alert.",
    ),
    Rule(
        name="StreamAlertPushFailing",
        scope=Scope.EXPORTER,
        severity=Severity.WARNING,
        summary="The sidecar cannot deliver its alerts.",
        description="In a quarter of an hour alerts were lost or refused {value} times.",
        promql="max without (instance, pod) (\n"
        "  changes(stream_exporter_notifications_errors_total{SELECTOR}[{15m}])\n"
        "  - resets(stream_exporter_notifications_errors_total{SELECTOR}[{15m}])\n"
        ") >= {threshold}\n"
        "or\n"
        "max without (instance, pod) (\n"
        "  changes(stream_exporter_notifications_dropped_total{SELECTOR}[{15m}])\n"
        "  - resets(stream_exporter_notifications_dropped_total{SELECTOR}[{15m}])\n"
        ") >= {threshold}",
        window_seconds=15 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        threshold=5.0,
        unit=Unit.COUNT,
        why="All is sent again every minute, so that one lost request costs nothing; five are a pager that is cut off.",
    ),
    Rule(
        name="StreamWatchdog",
        scope=Scope.EXPORTER,
        severity=Severity.NONE,
        summary="The way from Prometheus to the dead man's receiver works.",
        description="This alert always fires. Should it cease to arrive, alerts of Prometheus do not arrive either.",
        promql="vector(1)",
        why="A pager that is silent is either content or cut off; this tells which.",
    ),
    Rule(
        name="StreamSidecarWatchdog",
        scope=Scope.EXPORTER,
        severity=Severity.NONE,
        summary="The way from the sidecar to the dead man's receiver works.",
        description="The sidecar sends this with every round. Should it cease to arrive, its alerts do not either.",
        why="As StreamWatchdog, for the alerts that do not pass through Prometheus.",
    ),
)
