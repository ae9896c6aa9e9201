"""The runbook's guidance for each rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Guidance for the person on call, as Markdown. The page removes the indentation and links the names of alerts."""

    impact: str
    """Impact on viewers, or on the monitoring of their streams."""
    diagnosis: str
    """What to check, in this order."""
    mitigation: str
    """What to do, for each cause."""
    tuning: str
    """How to tune the rule, in addition to its threshold and ``for``."""


_BURN_RATE_DIAGNOSIS = """
    1. Open the exporter's page and sort the streams by health. Find out whether one stream is always bad or many are
       bad at times.
    2. Read the causes in `stream_health_reason`. An expected stream that is off air counts as health 0.
"""
_BURN_RATE_TUNING = """
    Set `goal` (minimum health of a good observation), `objective` (share of observations that must be good) and
    `minimum_observations` under `alerting.health_slo`. The threshold is the burn rate. The rule needs polls that were
    answered for half of its window and observations in a twelfth of it. At least three streams, or 5 % of them, must be
    below the goal now.
"""

GUIDANCE: Mapping[str, Guidance] = {
    "StreamExporterDown": Guidance(
        impact="Viewers are not affected, but no stream is monitored.",
        diagnosis="""
            1. Check that the process is running: `systemctl status stream-exporter`, `kubectl get pods`.
            2. Request `/-/healthy` on its host.
            3. Open Prometheus' target page and read the scrape error. Check that the target is listed at all.
        """,
        mitigation="""
            - Process stopped: read the end of its log, then restart it.
            - Target missing or under another job name: fix the scrape configuration. The rules select the job name that
              they were generated with.
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
        impact="Viewers are not affected, but alerts of the sidecar do not reach anybody.",
        diagnosis="""
            1. Find the failing Alertmanager: `stream_exporter_notifications_errors_total` by `alertmanager`.
            2. Read the exporter's log: connection refused, timeout, bad certificate, or alerts refused?
            3. Send a test alert: `stream-exporter alerts --test StreamUnhealthy --config.file config.yaml`.
        """,
        mitigation="""
            - Fix the Alertmanager, the network, or the credentials under `alerting.alertmanagers`. The sidecar then
              sends all active alerts again on its own.
            - Longer outage: load the output of `stream-exporter rules --evaluator all` into Prometheus until then.
        """,
        tuning="The threshold is the number of scrapes that saw new errors. Lower it if you scrape every few minutes.",
    ),
    "StreamWatchdog": Guidance(
        impact="None. This alert always fires; act only when its receiver reports that it stopped.",
        diagnosis="""
            1. Check that Prometheus is up and evaluates rules.
            2. Check that Prometheus reaches Alertmanager: `prometheus_notifications_errors_total`.
            3. Check that Alertmanager reaches the receiver: `alertmanager_notifications_failed_total`.
        """,
        mitigation="""
            - Fix the first broken link. Until then, no alert of Prometheus arrives: watch the exporter's page.
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
        mitigation="Fix the first broken link. Until then, no alert of the sidecar arrives: watch the exporter's page.",
        tuning="""
            Use another receiver than for StreamWatchdog; with a shared one, either alert hides the loss of the other.
            Set its timeout to two or three times the `repeat_interval` of the route.
        """,
    ),
    "StreamUpstreamDown": Guidance(
        impact="""
            Unknown. The platform's API does not answer, but its streams may still be running. Often both are down.
        """,
        diagnosis="""
            1. Read the reason in `stream_upstream_failing` or on the exporter's page: timeout, connect, tls,
               rate_limited, server_error, …
            2. Play a stream to see whether viewers are affected.
            3. Check the platform's status page, or the server itself.
            4. Poll it from the exporter's host: `curl 'http://localhost:10071/probe?upstream=NAME'`.
        """,
        mitigation="""
            - `connect` or `timeout`: check the network, the firewall and the server. If the API is only slow, raise
              `timeout`.
            - `tls`: renew the certificate, or set `tls.ca_file`.
            - `rate_limited`: raise `interval`; `stream-exporter --config.check` shows the requests per minute.
            - `server_error` or `bad_response`: contact the platform.
            - Watch the pictures until the API is back: alerts of its streams are paused. A stream that died during the
              outage alerts afterwards.
        """,
        tuning="""
            Use a longer `for` for an API that restarts regularly. Do not go below two poll intervals, or single failed
            polls will page.
        """,
    ),
    "StreamUpstreamAuthFailing": Guidance(
        impact="Unknown. The streams may still be running, but the exporter may not read their state.",
        diagnosis="""
            1. Check whether the key was rotated or revoked, or has expired.
            2. Read the reason in `stream_upstream_failing`: `auth` (401) means wrong credentials; `forbidden` (402,
               403) means that the key is known but lacks permission.
        """,
        mitigation="""
            - Write the new secret to its file. The next poll uses it; no reload is needed.
            - Secret in the environment: restart. Secret in the configuration: reload.
            - `forbidden`: give the key permission to read streams.
        """,
        tuning="Only `for`. This alert inhibits StreamUpstreamDown, which fires at the same time.",
    ),
    "StreamUpstreamUnwatched": Guidance(
        impact="Unknown. No exporter polls this upstream any more, so an outage of its streams would go unnoticed.",
        diagnosis="""
            1. Find out which instance polled it last:
               `last_over_time(stream_upstream_poll_interval_seconds{upstream="NAME"}[6h])`.
            2. Check whether that instance is down (`up`) or gone from Prometheus' targets.
            3. Check whether the upstream was removed from the configuration in the last rollout.
        """,
        mitigation="""
            - Exporter down: restart it, or start it on another host. Its log tells why it stopped.
            - Upstream removed by mistake: put it back into the configuration of a running exporter and reload.
            - Upstream removed on purpose: add its name to `retired` and reload. The alert then resolves.
        """,
        tuning="List upstreams under `retired` in the same rollout that removes them.",
    ),
    "StreamUpstreamUnstable": Guidance(
        impact="""
            Viewers are probably not affected. The state of the streams is refreshed less often, so alerts about them
            can be late.
        """,
        diagnosis="""
            1. Show the failures by reason:
               `sum by (reason) (increase(stream_upstream_poll_failures_total{upstream="NAME"}[10m]))`.
            2. Compare `stream_upstream_poll_duration_seconds` with `timeout`.
            3. Check whether other upstreams fail at the same time. If so, suspect the exporter's network.
        """,
        mitigation="""
            - `timeout`: raise `timeout` and, if needed, `interval`; look for load on the server.
            - `rate_limited`: raise `interval`, or find out what else uses the same key.
            - `connect`: look for a restarting server, a flapping link, or a bad node behind a load balancer.
            - `server_error` or `bad_response`: contact the platform, with the times of the failures.
        """,
        tuning="The threshold is the share of failed polls. A complete outage is StreamUpstreamDown.",
    ),
    "StreamUpstreamErrorRatioHigh": Guidance(
        impact="None yet. Data of some streams may be older than usual.",
        diagnosis="""
            Show the failures: `sum by (request, code) (rate(stream_upstream_requests_total[15m]))`. Does one request
            fail or do all, and with which status code?
        """,
        mitigation="""
            - 429: raise `interval`, or watch fewer streams.
            - 5xx: report it to the platform.
            - One optional request only: your account may lack that feature; disable its option.
        """,
        tuning="The threshold is the share of requests. 404 and redirects do not count as failures.",
    ),
    "StreamUpstreamDataStale": Guidance(
        impact="Viewers are not affected. All alerts about this upstream's streams are paused.",
        diagnosis="""
            1. Search the exporter's log for errors of the poller, and check `stream_upstream_poller_restarts_total`.
            2. Check whether the process lacks CPU: `rate(process_cpu_seconds_total[5m])`, and throttling on Kubernetes.
        """,
        mitigation="""
            - Too little CPU: raise the limit, or shard.
            - Otherwise restart the exporter. Keep its log and report the bug.
        """,
        tuning="Only `for`. The 2.5 poll intervals are part of `stream_upstream_answering`.",
    ),
    "StreamUpstreamStatesUnknown": Guidance(
        impact="""
            Unknown. The platform answers, but the exporter cannot tell whether many of its streams are live. The alert
            is critical if an expected stream is among them.
        """,
        diagnosis="""
            1. List the streams: `stream_status{upstream="NAME", status="unknown"} == 1`, or the filter *Unknown* on the
               exporter's page.
            2. Search the log for `words without a known meaning`. New status words are typical of a platform upgrade.
            3. Check `stream_upstream_stream_failures_total` by `reason` for failed requests of single streams.
            4. Compare `version` in `stream_upstream_info` with the version of last week.
        """,
        mitigation="""
            - Watch the pictures: streams in an unknown state do not page as offline.
            - New status words: upgrade the exporter, or roll the platform back. Report the words if the newest release
              does not know them.
            - Failed requests: fix the key's permissions or the configured ids; contact the platform for 5xx.
        """,
        tuning="""
            The threshold is the share of streams. At least three streams must be unknown. Leave out streams without a
            usable state with `exclude`.
        """,
    ),
    "StreamUpstreamListDoubtful": Guidance(
        impact="""
            Viewers are not affected. A stream that disappears becomes unknown instead of ended, so
            StreamExpectedUnknown fires later instead of StreamExpectedOffline.
        """,
        diagnosis="""
            1. Search the log for `the list of streams may be incomplete`. It gives the reason.
            2. `stream_upstream_streams_dropped` above 0 means that the list was cut at `max_streams`.
            3. Check `stream_upstream_fields_dropped_total` by `field` for rows and paging fields that cannot be read.
        """,
        mitigation="""
            - Cut at `max_streams`: raise it, or narrow the list with `include` and `exclude`.
            - Unreadable rows or paging fields: check whether the platform was upgraded; report the bug with a response
              from which the keys are removed.
            - Streams that matter: configure them under `streams`. Where the platform supports it, the exporter then
              requests them one by one.
        """,
        tuning="Use a longer `for` if the list is doubtful only while many streams start.",
    ),
    "StreamUpstreamStatisticsFrozen": Guidance(
        impact="""
            Unknown. The byte totals of all live streams stopped at once: either the platform's statistics hang, or its
            ingest does. The alert is critical if an expected stream is live on it.
        """,
        diagnosis="""
            1. Play a stream. A moving picture means that only the statistics are frozen.
            2. Check the network traffic of the server. No incoming traffic means that ingest stopped for all streams.
            3. Check the platform's status page, or the load and log of the server.
        """,
        mitigation="""
            - Picture frozen: treat it as an outage of the platform. Switch to the backup.
            - Statistics frozen: restart the statistics service, or contact the platform. Restarting the whole server
              interrupts all streams, so wait for a break.
            - Until then, bitrates and health scores are absent and their alerts cannot fire: watch the pictures.
        """,
        tuning="Only `for`, which begins after the platform's stall time of 45 s to 3 min.",
    ),
    "StreamSeriesLimitReached": Guidance(
        impact="""
            Viewers are not affected. Streams beyond `max_streams` are not monitored; expected and live streams are kept
            first.
        """,
        diagnosis="""
            Plot `stream_upstream_streams` over a week. A jump suggests that something creates streams in a loop.
        """,
        mitigation="Raise `max_streams` if Prometheus has room for the series, or use `exclude`.",
        tuning="Set `max_streams` of the upstream.",
    ),
    "StreamHealthBudgetBurnFast": Guidance(
        impact="Many viewers have a bad picture now: about one in seven health observations or more is bad.",
        diagnosis=_BURN_RATE_DIAGNOSIS,
        mitigation="""
            - Start with the alerts of its streams: they name the cause, and page where that is needed.
            - Many streams with the same reason: look for a shared cause, such as a site, an uplink or a transcoder.
        """,
        tuning=_BURN_RATE_TUNING,
    ),
    "StreamHealthBudgetBurnSteady": Guidance(
        impact="Some viewers have had a bad picture for hours.",
        diagnosis=_BURN_RATE_DIAGNOSIS,
        mitigation="Fix the worst streams today. Several small faults can add up to this alert.",
        tuning=_BURN_RATE_TUNING,
    ),
    "StreamHealthBudgetBurnSlow": Guidance(
        impact="A few viewers have had a bad picture for a day.",
        diagnosis=_BURN_RATE_DIAGNOSIS,
        mitigation="""
            During working hours, find the streams that use most of the budget and what they share: site, encoder, time
            of day.
        """,
        tuning=_BURN_RATE_TUNING,
    ),
    "StreamHealthBudgetBurnCreeping": Guidance(
        impact="Hardly noticeable, but more observations were bad over three days than the objective allows.",
        diagnosis=_BURN_RATE_DIAGNOSIS,
        mitigation="Plan repairs, or agree on an objective that matches what viewers need.",
        tuning=_BURN_RATE_TUNING,
    ),
    "StreamExpectedOffline": Guidance(
        impact="Viewers see nothing, or a frozen picture.",
        diagnosis="""
            1. Read `stream_status`. `idle` or `ended`: the encoder is not sending. `connecting`: it is connected but
               sends no media. `error`: the platform reports a fault.
            2. See since when: `stream_status_last_change_timestamp_seconds` and `stream_end_timestamp_seconds`.
            3. Check other streams of the same site, encoder and upstream.
        """,
        mitigation="""
            - Call the encoder's operator, or switch to the backup.
            - Encoder is sending but refused: check the publish key, and `stream_publish_allowed`.
            - Session stuck on WAVE: end it with `stream-exporter session end --upstream NAME ID`, then publish again.
            - Ended on purpose: set `end_ok: true`, or restrict `expected` to hours.
        """,
        tuning="""
            Set hours under `expected`, and `start_grace` for encoders that start late. A paused stream is
            StreamExpectedPaused.
        """,
    ),
    "StreamError": Guidance(
        impact="""
            Viewers of this stream see nothing, or will soon lose the picture. This is a warning because the
            configuration does not expect the stream to be live.
        """,
        diagnosis="""
            1. Read the platform's message on the stream's page of the exporter, and in the platform's own dashboard.
            2. Check whether the stream matters now: an event may be missing from the configuration.
        """,
        mitigation="""
            - Restart the encoder. If the session stays in error on WAVE, end it with
              `stream-exporter session end --upstream NAME ID` and create a new one.
            - Stream that matters: set `expected`, so that it pages as StreamExpectedOffline.
        """,
        tuning="Leave out test streams with `exclude`.",
    ),
    "StreamExpectedUnknown": Guidance(
        impact="Unknown. The platform answers, but does not tell whether this stream is live.",
        diagnosis="""
            1. Play the stream to see whether viewers are affected.
            2. Check `stream_upstream_stream_failures_total` by `reason`, and the log: `forbidden`, `not_found`,
               `bad_response`, `server_error`?
            3. Compare the id or key in the configuration with the platform.
            4. Check for StreamUpstreamStatesUnknown and StreamUpstreamListDoubtful.
        """,
        mitigation="""
            - Fix the id in the configuration, or the permissions of the key.
            - Broken response: report it to the platform, and keep the response.
        """,
        tuning="Keep `for` above `stale_after` and a few poll intervals.",
    ),
    "StreamExpectedPaused": Guidance(
        impact="Viewers see a paused stream although a live one is scheduled.",
        diagnosis="""
            1. Ask the operator whether the pause is intended. `stream_status_last_change_timestamp_seconds` tells when
               it began.
            2. Compare the schedule with the hours under `expected`.
        """,
        mitigation="""
            - Paused by mistake: resume it at the platform; on WAVE with
              `stream-exporter session update --upstream NAME ID --status live`.
            - Paused on purpose: adjust the hours under `expected`.
        """,
        tuning="Use a longer `for` if planned breaks last longer.",
    ),
    "StreamLiveUnexpectedly": Guidance(
        impact="Viewers may see something that is not meant for them, and the stream costs traffic.",
        diagnosis="""
            1. Watch the stream. Is the programme running late, was the encoder left on, or is somebody else publishing?
            2. Compare the schedule with the hours under `expected`.
        """,
        mitigation="""
            - Programme running late: extend the hours under `expected`.
            - Encoder left on: stop it, or ask its operator to.
            - Unknown publisher: end the session at the platform and change the publish key.
        """,
        tuning="""
            Use a longer `for` if programmes often run late. A stream without `expected` never causes this alert;
            `expected: false` means never live.
        """,
    ),
    "StreamVanished": Guidance(
        impact="Probably none: the stream was renamed or removed. At worst it failed without a trace.",
        diagnosis="""
            1. Look for the stream on the platform, also under another name.
            2. Check whether `include`, `exclude` or `stream_label` changed, or the exporter restarted while the stream
               ended.
        """,
        mitigation="Renamed or removed on purpose: nothing to do. For a stream that matters, set `expected`.",
        tuning="Route `info` alerts to a chat, or drop them.",
    ),
    "StreamFlapping": Guidance(
        impact="The picture stops and comes back repeatedly.",
        diagnosis="""
            1. Plot `stream_restarts_total`, and read the encoder's log: does it lose the connection or crash?
            2. Check whether two encoders publish with the same key and disconnect each other.
        """,
        mitigation="""
            - Two encoders: stop one of them.
            - Weak uplink: lower the bitrate, or use another route.
            - Encoder that reconnects too eagerly: raise its reconnect delay.
        """,
        tuning="The threshold is the number of restarts within the window.",
    ),
    "StreamMultistreamTargetDown": Guidance(
        impact="""
            Viewers on that target (YouTube, Twitch, …) see nothing. Viewers on the platform itself are not affected.
        """,
        diagnosis="""
            1. Open the target's own console: is its event live, and is its stream key unchanged?
            2. Check other targets. Several failed targets suggest the platform.
        """,
        mitigation="Enter the new key at the platform's multistream target, and restart that target.",
        tuning="Disable unused targets on the platform.",
    ),
    "StreamViewersDropped": Guidance(
        impact="Most viewers left within ten minutes. Either their players failed, or the programme is over.",
        diagnosis="""
            1. Play the stream yourself, on a phone as well.
            2. Check `stream_viewer_error_ratio`, and the statistics of the CDN and the player.
        """,
        mitigation="Players fail: check the CDN, certificates, geo-blocking and DRM.",
        tuning="Drop `info` alerts if your programmes end often.",
    ),
    "StreamIngestStalled": Guidance(
        impact="Viewers see a frozen picture or a spinner, although the platform reports the stream as live.",
        diagnosis="""
            1. See when the bitrate fell: `stream_ingest_bitrate_bytes_per_second`.
            2. Check the encoder: no input signal, a hung process, or a half-open connection?
            3. Check other streams of the site. All stalled at once suggests the uplink; all of the upstream suggests
               StreamUpstreamStatisticsFrozen.
        """,
        mitigation="""
            - Restart the encoder, or switch to the backup.
            - Dead session that blocks the reconnect: end it at the platform; on WAVE with
              `stream-exporter session end --upstream NAME ID`.
        """,
        tuning="""
            The threshold is in bytes per second. Raise it for streams that never send so little. On Livepeer, the
            bitrate falls to 0 only 75 s after the last media.
        """,
    ),
    "StreamBitrateCritical": Guidance(
        impact="Viewers see a blocky or stuttering picture.",
        diagnosis="""
            1. Compare `stream_ingest_bitrate_bytes_per_second` with `stream_expected_ingest_bitrate_bytes_per_second`.
            2. Check packet loss and round-trip time if the platform reports them.
            3. Read the output bitrate on the encoder itself. A full bitrate there means a loss on the way.
        """,
        mitigation="""
            - Lower the encoder's bitrate, or use a better uplink (cable, bonded link, other route).
            - Encoder sends less than configured: check its load and its rate control.
        """,
        tuning="""
            Set `expected_bitrate` of the stream. Choose a low value for content with a variable bitrate, such as
            slides.
        """,
    ),
    "StreamBitrateLow": Guidance(
        impact="Viewers see a softer picture than intended.",
        diagnosis="Follow the steps of StreamBitrateCritical.",
        mitigation="Lower the encoder's bitrate, or use a better uplink (cable, bonded link, other route).",
        tuning="Set `expected_bitrate` of the stream.",
    ),
    "StreamBitrateDropped": Guidance(
        impact="Viewers may see a worse picture than an hour ago.",
        diagnosis="""
            Plot the bitrate over a day. A step means a changed encoder setting; a decline means a failing uplink.
        """,
        mitigation="""
            - Lower the encoder's bitrate, or use a better uplink (cable, bonded link, other route).
            - Changed on purpose: nothing to do. The new bitrate becomes the baseline within the hour.
        """,
        tuning="Set `expected_bitrate` of the stream; StreamBitrateLow then replaces this rule.",
    ),
    "StreamBitrateUnstable": Guidance(
        impact="The picture may alternate between sharp and soft.",
        diagnosis="Check whether the encoder adapts its bitrate, and to what: packet loss or round-trip time?",
        mitigation="Lower the encoder's bitrate, or use a better uplink (cable, bonded link, other route).",
        tuning="""
            The threshold is the standard deviation divided by the mean. Raise it for encoders with a variable bitrate.
        """,
    ),
    "StreamUnhealthy": Guidance(
        impact="Viewers see a bad picture, or soon none.",
        diagnosis="""
            1. Read the reasons in the alert's description (`stream_health_reason`).
            2. Read the platform's issues on the stream's page of the exporter.
            3. `docs/health.md` explains how the score is computed.
        """,
        mitigation="""
            - `bitrate_low` or `loss`: lower the encoder's bitrate, or use a better uplink (cable, bonded link, other
              route).
            - `frame_rate_low`: reduce the load of the encoder.
            - `silent`: follow StreamIngestStalled.
            - `transcode_slow`: follow StreamTranscodeBelowRealtime.
            - `verdict` or `issues`: follow the platform's message.
        """,
        tuning="Raise `health_grace` for encoders that start slowly.",
    ),
    "StreamDegraded": Guidance(
        impact="Viewers may notice a worse picture.",
        diagnosis="Follow the steps of StreamUnhealthy.",
        mitigation="Do the same as for StreamUnhealthy, during working hours.",
        tuning="`health_grace`, `expected_bitrate` and `expected_frame_rate` affect the score.",
    ),
    "StreamVerdictUnstable": Guidance(
        impact="""
            The quality may change every few minutes. Other health alerts of this stream may not fire, because each bad
            phase is too short.
        """,
        diagnosis="""
            1. Plot `stream_healthy` over an hour next to bitrate, packet loss and frame rate. Which of them changes
               together with the verdict?
            2. Read the platform's issues on the stream's page of the exporter.
            3. Check other streams of the upstream. All changing together suggests the platform.
        """,
        mitigation="""
            - Bitrate or packet loss changes too: lower the encoder's bitrate, or use a better uplink (cable, bonded
              link, other route).
            - Nothing else changes: report it to the platform, with times.
        """,
        tuning="The threshold is the number of changes within the window.",
    ),
    "StreamFrameRateLow": Guidance(
        impact="Motion stutters.",
        diagnosis="""
            1. Check the encoder's CPU, GPU and temperature.
            2. Check the camera's shutter and output mode.
        """,
        mitigation="Use a faster preset or a smaller picture, and stop other programs on the encoder.",
        tuning="Set `expected_frame_rate` of the stream.",
    ),
    "StreamDroppedFramesCritical": Guidance(
        impact="Motion stutters all the time.",
        diagnosis="""
            Find out where frames are lost: at the encoder (high load) or on the way (packet loss, bitrate above the
            uplink).
        """,
        mitigation="""
            - On the way: lower the encoder's bitrate, or use a better uplink (cable, bonded link, other route).
            - At the encoder: use a faster preset.
        """,
        tuning="The threshold is the share of frames that are dropped.",
    ),
    "StreamDroppedFramesHigh": Guidance(
        impact="Motion stutters every few seconds.",
        diagnosis="Follow the steps of StreamDroppedFramesCritical.",
        mitigation="Do the same as for StreamDroppedFramesCritical, during working hours.",
        tuning="The threshold is the share of frames that are dropped.",
    ),
    "StreamPacketLossCritical": Guidance(
        impact="Viewers see blocks and freezes, and hear gaps.",
        diagnosis="""
            1. Check round-trip time and jitter of the stream.
            2. Check other streams of the same site.
            3. Trace the route to the ingest server (`mtr`).
        """,
        mitigation="""
            - Use another route, or raise the SRT latency to four to six times the round-trip time.
            - Lower the encoder's bitrate, or use a better uplink (cable, bonded link, other route).
        """,
        tuning="The threshold is the share of packets, as the platform reports it.",
    ),
    "StreamPacketLossHigh": Guidance(
        impact="Usually none, as long as retransmission keeps up.",
        diagnosis="Follow the steps of StreamPacketLossCritical.",
        mitigation="Raise the SRT latency before it gets worse.",
        tuning="The threshold is the share of packets, as the platform reports it.",
    ),
    "StreamRoundTripTimeHigh": Guidance(
        impact="Interaction lags, and retransmitted packets arrive too late.",
        diagnosis="""
            1. Check whether the ingest server is on another continent.
            2. Plot round-trip time and bitrate together. If they rise together, the uplink is full.
        """,
        mitigation="Use an ingest server nearby, or raise the SRT latency to at least four round trips.",
        tuning="Satellite links need about 0.7 s.",
    ),
    "StreamJitterHigh": Guidance(
        impact="Gaps in sound and picture where buffers are short.",
        diagnosis="Check for Wi-Fi or mobile links, and for other traffic on the uplink.",
        mitigation="Use a cable, prioritize the stream's traffic, or enlarge the receive buffer.",
        tuning="Mobile uplinks may need 0.1 s.",
    ),
    "StreamLatencyHigh": Guidance(
        impact="Viewers see the programme later than promised.",
        diagnosis="""
            1. Plot `stream_latency_seconds`. A steady rise means that a transcoder or player falls behind; a jump means
               a larger buffer.
            2. Check for StreamTranscodeBelowRealtime.
        """,
        mitigation="Restart the encoder's connection to drop the backlog.",
        tuning="The threshold is a multiple of the platform's target latency. Correct the target if it is wrong.",
    ),
    "StreamTranscodeBelowRealtime": Guidance(
        impact="Players run out of data: the picture stops every few seconds.",
        diagnosis="""
            1. Check whether one stream is slow or all streams of the platform are.
            2. Check the number of renditions (`stream_renditions`) and the source (4K, 60 frames/s).
        """,
        mitigation="""
            - One stream: use fewer or smaller renditions, or a smaller source.
            - All streams: contact the platform.
        """,
        tuning="Use a longer `for` if the transcoder catches up after each dip.",
    ),
    "StreamTranscodeErrors": Guidance(
        impact="Some renditions stop or are missing.",
        diagnosis="Check the source for unusual codecs or profiles, missing keyframes, and changes of resolution.",
        mitigation="""
            - Restart the encoder with plain settings: H.264, a keyframe every 2 s.
            - Still failing: contact the platform.
        """,
        tuning="Needs `health_details`; the value changes at that interval.",
    ),
}
