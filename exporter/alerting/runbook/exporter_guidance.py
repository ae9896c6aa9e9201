"""Runbook text for the rules about the exporter and its sidecar."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.alerting.runbook import Guidance

EXPORTER_GUIDANCE: Mapping[str, Guidance] = {
    "StreamExporterDown": Guidance(
        impact="Viewers are not affected, but no stream is monitored.",
        diagnosis="""
            1. Check that the process is running: `systemctl status stream-exporter`, `kubectl get pods`.
            2. Request `/-/healthy` on its host.
            3. Open Prometheus' target page and read the scrape error. Check that the target is listed at all.
        """,
        mitigation="""
            - Process stopped: read the end of its log, then restart it.
            - Target missing or under another job name: fix the scrape configuration. The rules select the job name
              with which they were generated.
            - Scrape refused or timed out: check the network, TLS and the password of `--web.config.file`.
        """,
        tuning="""
            Generate the rules with `stream-exporter rules --selector` if the job has another name. A second replica
            makes this alert rare.
        """,
    ),
    "StreamScrapesFailing": Guidance(
        impact="""
            Viewers are not affected. Alerts that Prometheus evaluates can be late, because rules see fewer samples.
        """,
        diagnosis="""
            1. Open Prometheus' target page and read the last scrape error.
            2. Compare `scrape_duration_seconds` with the `scrape_timeout` of the job.
            3. Check whether the exporter keeps restarting:
               `changes(process_start_time_seconds{job="stream-exporter"}[1h])`.
        """,
        mitigation="""
            - Timeout: raise `scrape_timeout`, give the exporter more CPU, or reduce the number of series
              (`exclude_families`, shards).
            - Limit exceeded: raise `sample_limit` or `body_size_limit` of the job.
            - Status 429 or 503: raise `rate_limit` or `--web.max-requests`, or find out who else is sending requests.
            - Restarts: read the log, and check the memory limit.
        """,
        tuning="""
            The threshold is the share of failed scrapes. If every target of the job is down, StreamExporterDown pages.
        """,
    ),
    "StreamShardMissing": Guidance(
        impact="Viewers are not affected. The streams of the missing shard are not monitored.",
        diagnosis="""
            1. List the shards that report: `sort(stream_exporter_shard_ordinal)`. The missing number is the missing
               shard.
            2. Check whether its process is running and is a target in Prometheus.
            3. Compare the number of processes with M in `--shard=N/M`.
        """,
        mitigation="""
            - Process stopped: read the end of its log, then restart it.
            - Kubernetes: set `replicas` of the StatefulSet to the M of `--shard=auto/M`.
            - Same ordinal used twice: give each process its own N.
        """,
        tuning="Use a longer `for` if a rolling restart of all shards takes longer.",
    ),
    "StreamShardsDisagree": Guidance(
        impact="Viewers are not affected. Some streams may be polled twice and others not at all.",
        diagnosis="""
            1. Compare `stream_exporter_shards` across instances. All must have the same M.
            2. Compare `stream_exporter_config_hash` across instances. Different values mean different configurations.
            3. Check for StreamExporterReloadFailed: a refused reload leaves one shard with the old configuration.
        """,
        mitigation="""
            - Different M: restart all shards with the same `--shard=N/M`.
            - Different configuration: deploy the same file everywhere and reload every shard.
        """,
        tuning="Use a longer `for` if you roll out configuration more slowly.",
    ),
    "StreamExporterReloadFailed": Guidance(
        impact="""
            Viewers are not affected. Streams, thresholds and credentials added since the last good reload are not in
            effect.
        """,
        diagnosis="""
            1. Find the log line `configuration not reloaded`. It lists every error with its line.
            2. Run `stream-exporter --config.check` on the host of that instance.
        """,
        mitigation="Fix the file, check it with `stream-exporter --config.check`, and reload again.",
        tuning="Use a longer `for` if people edit the file in place.",
    ),
    "StreamAlertPushFailing": Guidance(
        impact="Viewers are not affected, but alerts from the sidecar are not delivered.",
        diagnosis="""
            1. Find the failing receiver: `stream_exporter_notifications_errors_total` by `alertmanager`,
               `stream_exporter_webhook_notifications_errors_total` by `webhook`.
            2. Read the exporter's log: connection refused, timeout, bad certificate, login page, or alerts refused?
            3. Send a test alert: `stream-exporter alerts --test StreamUnhealthy --config.file config.yaml`.
        """,
        mitigation="""
            - Fix the receiver, the network, or the credentials under `alerting`. The sidecar then sends all active
              alerts again on its own.
            - Longer outage: load the output of `stream-exporter rules --evaluator all` into Prometheus until then.
        """,
        tuning="The threshold is the number of scrapes with new errors. Lower it if you scrape only every few minutes.",
    ),
    "StreamWatchdog": Guidance(
        impact="None. This alert always fires; act only when its receiver reports that it stopped.",
        diagnosis="""
            1. Check that Prometheus is up and evaluates rules.
            2. Check that Prometheus reaches Alertmanager: `prometheus_notifications_errors_total`.
            3. Check that Alertmanager reaches the receiver: `alertmanager_notifications_failed_total`.
        """,
        mitigation="""
            - Fix the first step that fails. Until then, no alert from Prometheus arrives: watch the exporter's page.
            - New installation: route this alert to a service that pages when it stops receiving it.
        """,
        tuning="Set the receiver's timeout to two or three times the `repeat_interval` of the route.",
    ),
    "StreamSidecarWatchdog": Guidance(
        impact="None. The sidecar always sends this alert; act only when its receiver reports that it stopped.",
        diagnosis="""
            1. Check that the exporter is running and that its configuration lists the Alertmanager.
            2. Check for StreamAlertPushFailing, and read the exporter's log.
            3. Check that Alertmanager reaches the receiver: `alertmanager_notifications_failed_total`.
        """,
        mitigation="""
            Fix the first step that fails. Until then, no alert from the sidecar arrives: watch the exporter's page.
        """,
        tuning="""
            Use a different receiver than for StreamWatchdog: with a shared one, each alert hides the loss of the other.
            Set its timeout to two or three times the `repeat_interval` of the route.
        """,
    ),
}
