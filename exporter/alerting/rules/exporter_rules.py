"""Rules about the exporter and its sidecar themselves."""

from __future__ import annotations

from exporter.alerting.rules.rule import MINUTE, Rule, Scope, Severity, Unit

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
