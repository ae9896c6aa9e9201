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
        summary="The stream exporter cannot be scraped.",
        description="No target of the job {job} can be scraped, so no stream is watched.",
        expected="at least one target up",
        # the maximum is 0 only where every target is down; absent where the targets themselves are gone
        promql="max by ({by_job}) (max_over_time(up{SELECTOR}[{window}])) == 0\n"
        "or\n"
        "absent_over_time(up{SELECTOR}[{window}])",
        for_seconds=2.5 * MINUTE,
        window_seconds=GONE_AFTER_SECONDS,
        labels=("job",),
        unit=Unit.FLAG,
        why="One of two replicas is enough. Five minutes, half of which are the look-back, let a rollout and a restart "
        "of Prometheus pass.",
    ),
    Rule(
        name="StreamScrapesFailing",
        scope=Scope.EXPORTER,
        severity=Severity.WARNING,
        summary="Scrapes of the stream exporter at {instance} fail.",
        description="{value} of the scrapes of {instance} failed in the last ten minutes.",
        expected="at most {threshold}",
        promql="1 - avg_over_time(up{SELECTOR}[{10m}]) > {threshold}\nand on ({by_target}) up{SELECTOR} offset {10m}",
        window_seconds=10 * MINUTE,
        threshold=0.1,
        threshold_max=1.0,
        unit=Unit.RATIO,
        labels=("instance",),
        why="Rules bridge single failed scrapes, so alerts still fire, but later. A target that is new is judged after "
        "ten minutes.",
    ),
    Rule(
        name="StreamShardMissing",
        scope=Scope.EXPORTER,
        severity=Severity.CRITICAL,
        summary="A shard of the stream exporter is missing.",
        description="Only {value} of the shards of the job {job} can be scraped, so some streams are not watched.",
        expected="as many as --shard says",
        promql="count by ({by_job}) (\n"
        f'  count_values by ({{by_job}}) ("ordinal", {_SHARD_ORDINAL})\n'
        ")\n"
        f"< max by ({{by_job}}) ({_SHARDS})",
        window_seconds=GONE_AFTER_SECONDS,
        for_seconds=5 * MINUTE,
        unit=Unit.COUNT,
        labels=("job",),
        why="The other shards do not poll the streams of the missing one. Five minutes let a rollout pass.",
    ),
    Rule(
        name="StreamShardsDisagree",
        scope=Scope.EXPORTER,
        severity=Severity.WARNING,
        summary="The shards of the stream exporter disagree.",
        description="The shards of the job {job} have {value} different shard counts or configurations.",
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
        why="With different shard counts, some streams are not polled at all and others twice. Ten minutes let a "
        "rollout pass.",
    ),
    Rule(
        name="StreamExporterReloadFailed",
        scope=Scope.EXPORTER,
        severity=Severity.WARNING,
        summary="The stream exporter at {instance} runs with an old configuration.",
        description="The last reload of the configuration of {instance} failed; the previous one is still in use.",
        expected="a configuration without errors",
        promql=f"(\n  {_RELOADED}\n"
        f"  or (last_over_time({_RELOADED}[{{window}}]) and on ({{by_target}}) up{{SELECTOR}} == 0)\n"
        ") == 0",
        for_seconds=10 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        labels=("instance",),
        unit=Unit.FLAG,
        why="Long enough to finish editing the file. Each replica has its own file, hence its own alert.",
    ),
    Rule(
        name="StreamAlertPushFailing",
        scope=Scope.EXPORTER,
        severity=Severity.WARNING,
        summary="The sidecar cannot deliver its alerts.",
        description="Requests to a receiver of alerts failed, or it refused alerts, {value} times in the last "
        "15 minutes.",
        expected="less than {threshold} times",
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
        why="Every alert is sent again every minute, so one lost request does no harm; five mean that the pager is "
        "cut off.",
    ),
    Rule(
        name="StreamWatchdog",
        scope=Scope.EXPORTER,
        severity=Severity.NONE,
        summary="The path from Prometheus to the dead man's receiver works.",
        description="This alert always fires. If it stops arriving, other alerts of Prometheus do not arrive either.",
        promql="vector(1)",
        unit=Unit.FLAG,
        why="A silent pager is either healthy or cut off; this tells which.",
    ),
    Rule(
        name="StreamSidecarWatchdog",
        scope=Scope.EXPORTER,
        severity=Severity.NONE,
        summary="The path from the sidecar to the dead man's receiver works.",
        description="The sidecar sends this with every round. If it stops arriving, its alerts do not arrive either.",
        unit=Unit.FLAG,
        why="As StreamWatchdog, for the alerts that do not pass through Prometheus.",
    ),
)
