"""Rules about the exporter itself, its shards and its sidecar."""

from __future__ import annotations

from exporter.alerting.rules.rule import GONE_AFTER_SECONDS, MINUTE, Rule, Scope, Severity, Unit

_SHARDS = "last_over_time(stream_exporter_shards{SELECTOR}[{window}])"
_SHARD_ORDINAL = "last_over_time(stream_exporter_shard_ordinal{SELECTOR}[{window}])"
_CONFIG_HASH = "last_over_time(stream_exporter_config_hash{SELECTOR}[{window}])"
_RELOADED = "stream_exporter_config_last_reload_successful{SELECTOR}"
_FAILED_DELIVERIES = tuple(
    f"stream_exporter_{target}notifications_{outcome}_total"
    for target in ("", "webhook_")
    for outcome in ("errors", "dropped")
)

EXPORTER_RULES: tuple[Rule, ...] = (
    Rule(
        name="StreamExporterDown",
        scope=Scope.EXPORTER,
        severity=Severity.CRITICAL,
        summary="Prometheus cannot scrape the stream exporter.",
        description="No target of job {job} can be scraped. No stream is being monitored.",
        expected="at least one target up",
        # the maximum is 0 if every target is down, and `up` is absent if there are no targets
        promql="max by ({by_job}) (max_over_time(up{SELECTOR}[{window}])) == 0\n"
        "or\n"
        "absent_over_time(up{SELECTOR}[{window}])",
        for_seconds=2.5 * MINUTE,
        window_seconds=GONE_AFTER_SECONDS,
        labels=("job",),
        unit=Unit.FLAG,
        rationale="One replica that can be scraped is enough. The five minutes, half of them look-back, cover a "
        "rollout and a restart of Prometheus.",
    ),
    Rule(
        name="StreamScrapesFailing",
        scope=Scope.EXPORTER,
        severity=Severity.WARNING,
        summary="Scrapes of the stream exporter at {instance} are failing.",
        description="{value} of the scrapes of {instance} failed in the last 10 minutes.",
        expected="at most {threshold}",
        promql="1 - avg_over_time(up{SELECTOR}[{10m}]) > {threshold}\nand on ({by_target}) up{SELECTOR} offset {10m}",
        window_seconds=10 * MINUTE,
        threshold=0.1,
        threshold_max=1.0,
        unit=Unit.RATIO,
        labels=("instance",),
        rationale="Rules bridge single failed scrapes, so alerts still fire, but later. New targets are judged after "
        "ten minutes.",
    ),
    Rule(
        name="StreamShardMissing",
        scope=Scope.EXPORTER,
        severity=Severity.CRITICAL,
        summary="A shard of the stream exporter is missing.",
        description="Only {value} shards of job {job} can be scraped. The streams of the missing shards are not "
        "monitored.",
        expected="every shard of --shard=N/M",
        promql="count by ({by_job}) (\n"
        f'  count_values by ({{by_job}}) ("ordinal", {_SHARD_ORDINAL})\n'
        ")\n"
        f"< max by ({{by_job}}) ({_SHARDS})",
        window_seconds=GONE_AFTER_SECONDS,
        for_seconds=5 * MINUTE,
        unit=Unit.COUNT,
        labels=("job",),
        rationale="Other shards do not poll the streams of a missing shard. Five minutes cover a rollout.",
    ),
    Rule(
        name="StreamShardsDisagree",
        scope=Scope.EXPORTER,
        severity=Severity.WARNING,
        summary="The shards of the stream exporter have different settings.",
        description="The shards of job {job} run with {value} different shard counts or configurations.",
        expected="one shard count and one configuration",
        promql=f'count by ({{by_job}}) (count_values by ({{by_job}}) ("shards", {_SHARDS})) > 1\n'
        "or\n"
        "count by ({by_job}) (\n"
        f'  count_values by ({{by_job}}) ("hash", {_CONFIG_HASH} and on ({{by_target}}) {_SHARDS} > 1)\n'
        ") > 1",
        window_seconds=GONE_AFTER_SECONDS,
        for_seconds=10 * MINUTE,
        unit=Unit.COUNT,
        labels=("job",),
        rationale="With different shard counts, some streams are not polled at all and others twice. Ten minutes cover "
        "a rollout.",
    ),
    Rule(
        name="StreamExporterReloadFailed",
        scope=Scope.EXPORTER,
        severity=Severity.WARNING,
        summary="The configuration reload of the stream exporter at {instance} failed.",
        description="The last configuration reload of {instance} failed. It is still running with the previous "
        "configuration.",
        expected="a successful reload",
        promql=f"(\n  {_RELOADED}\n"
        f"  or (last_over_time({_RELOADED}[{{window}}]) and on ({{by_target}}) up{{SELECTOR}} == 0)\n"
        ") == 0",
        for_seconds=10 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        labels=("instance",),
        unit=Unit.FLAG,
        rationale="Ten minutes are enough to finish editing the file. Each replica has its own file and therefore its "
        "own alert.",
    ),
    Rule(
        name="StreamAlertPushFailing",
        scope=Scope.EXPORTER,
        severity=Severity.WARNING,
        summary="The sidecar cannot deliver alerts.",
        description="Sending alerts failed, or the receiver refused them, {value} times in the last 15 minutes.",
        expected="fewer than {threshold} times",
        promql="\nor\n".join(
            "max without ({replicas}) (\n"
            f"  changes({family}{{SELECTOR}}[{{15m}}])\n"
            f"  - resets({family}{{SELECTOR}}[{{15m}}])\n"
            ") >= {threshold}"
            for family in _FAILED_DELIVERIES
        ),
        window_seconds=15 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        threshold=5.0,
        unit=Unit.COUNT,
        rationale="Firing alerts are sent again every minute, so a single failed request does no harm. Five failures "
        "mean that alerts do not reach the pager.",
    ),
    Rule(
        name="StreamWatchdog",
        scope=Scope.EXPORTER,
        severity=Severity.NONE,
        summary="Watchdog: alerts from Prometheus reach the dead man's switch.",
        description="This alert always fires. If it stops arriving, other alerts from Prometheus do not arrive either.",
        promql="vector(1)",
        unit=Unit.FLAG,
        rationale="When no alerts arrive, either all is well or their delivery is broken. This alert tells the two "
        "apart.",
    ),
    Rule(
        name="StreamSidecarWatchdog",
        scope=Scope.EXPORTER,
        severity=Severity.NONE,
        summary="Watchdog: alerts from the sidecar reach the dead man's switch.",
        description="The sidecar always sends this alert. If it stops arriving, other alerts from the sidecar do not "
        "arrive either.",
        unit=Unit.FLAG,
        rationale="The same as StreamWatchdog, for alerts that do not pass through Prometheus.",
    ),
)
