"""Runbook text for the rules about upstreams and their health budgets."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.alerting.runbook import Guidance

_BURN_RATE_DIAGNOSIS = """
    1. Open the exporter's page and sort the streams by health. Find out whether one stream is bad all the time or many
       are bad occasionally.
    2. Find the causes in `stream_health_reason`. An expected stream that is off air counts as health 0.
"""
_BURN_RATE_TUNING = """
    Under `alerting.health_slo`, set `goal` (an observation is good if its health is above it), `objective` (share of
    observations that must be good) and `minimum_observations`. The threshold is the burn rate. The rule needs an
    upstream that was answering for half of the window, and observations in a twelfth of it. At least three streams, or
    5 % of them, must not be above the goal now.
"""

UPSTREAM_GUIDANCE: Mapping[str, Guidance] = {
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
            - Until the API is back, watch the streams in a player: their alerts are paused. A stream that died during
              the outage alerts afterwards.
        """,
        tuning="""
            Use a longer `for` for an API that restarts regularly. Do not go below two poll intervals, or single failed
            polls will page. With a playback check of every expected stream, it is a warning while all of them play.
        """,
    ),
    "StreamUpstreamAuthFailing": Guidance(
        impact="Unknown. The streams may still be running, but the exporter is not allowed to read their state.",
        diagnosis="""
            1. Check whether the key was rotated or revoked, or has expired.
            2. Read the reason in `stream_upstream_failing`: `auth` (401) means wrong credentials; `forbidden` (402,
               403) means that the key is valid but lacks permission.
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
            - Exporter down: read its log, then restart it, or start it on another host.
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
            - `connect`: look for a server that keeps restarting, a flapping link, or a bad node behind a load balancer.
            - `server_error` or `bad_response`: contact the platform, with the times of the failures.
        """,
        tuning="The threshold is the share of failed polls. A complete outage is StreamUpstreamDown.",
    ),
    "StreamUpstreamErrorRatioHigh": Guidance(
        impact="None yet. Data of some streams may be older than usual.",
        diagnosis="""
            Show the failures: `sum by (request, code) (rate(stream_upstream_requests_total[15m]))`. Is it one kind of
            request or all of them, and with which status code?
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
            1. Search the exporter's log for poller errors, and check `stream_upstream_poller_restarts_total`.
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
            2. Search the log for `platform reports unknown values`. New status words are typical of a platform upgrade.
            3. Check `stream_upstream_stream_failures_total` by `reason` for failed requests of single streams.
            4. Compare `version` in `stream_upstream_info` with the version of last week.
        """,
        mitigation="""
            - Watch the streams in a player: in an unknown state they do not page as offline.
            - New status words: upgrade the exporter, or roll the platform back. Report the words if the newest release
              does not know them.
            - Failed requests: fix the key's permissions or the configured ids; contact the platform for 5xx.
        """,
        tuning="""
            The threshold is the share of streams. At least three streams must be unknown. Exclude streams without a
            usable state (`exclude`).
        """,
    ),
    "StreamUpstreamListDoubtful": Guidance(
        impact="""
            Viewers are not affected. A stream that disappears becomes unknown instead of ended, so
            StreamExpectedUnknown fires later instead of StreamExpectedOffline.
        """,
        diagnosis="""
            1. Search the log for `stream list may be incomplete`. It gives the reason.
            2. `stream_upstream_streams_dropped` above 0 means that the list was cut at `max_streams`.
            3. Check `stream_upstream_fields_dropped_total` by `field` for rows and paging fields that cannot be read.
        """,
        mitigation="""
            - Cut at `max_streams`: raise it, or narrow the list with `include` and `exclude`.
            - Unreadable rows or paging fields: check whether the platform was upgraded. Report the bug with a response;
              remove stream keys from it first.
            - Streams that matter: configure them under `streams`. Where the platform supports it, the exporter then
              requests them one by one.
        """,
        tuning="Use a longer `for` if the list is doubtful only while many streams start.",
    ),
    "StreamUpstreamStatisticsFrozen": Guidance(
        impact="""
            Unknown. The byte totals of all live streams stopped rising at once: either the platform's statistics hang,
            or its ingest does. The alert is critical if an expected stream is live on it.
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
            - Until then, bitrates and health scores are absent and their alerts cannot fire. Watch the streams in a
              player.
        """,
        tuning="Only `for`, which starts after the platform's stall time of 45 s to 3 min.",
    ),
    "StreamCalendarUnreadable": Guidance(
        impact="""
            None at first. An event that was added, moved or cancelled since the last successful read is missing, so its
            stream pages at the wrong time, or does not page.
        """,
        diagnosis="""
            1. Read the cause in the exporter's log: `calendar cannot be read`.
            2. If the last successful read is `never`, `stream_expected` is absent for the calendar's streams: watch
               them by hand until the calendar can be read.
            3. File: open it with a calendar program, and check its permissions for the exporter's user. URL: open it
               from the exporter's host; it must return an iCalendar file, not a login page or a redirect.
        """,
        mitigation="""
            - `status 404` or `403`: the secret address was reset, or sharing was switched off. Write the new URL to its
              file; no reload is needed.
            - `too long to compute`: an event recurs every second, or the calendar is very large. Export a smaller one.
            - Until it can be read, do not restart the exporter: the last good copy is lost with the process. With
              `calendar_file`, the exporter does not start without a valid file.
        """,
        tuning="`refresh` of the calendar; failed reads are repeated after a minute, then at longer intervals.",
    ),
    "StreamMaintenance": Guidance(
        impact="""
            None by itself. Alerts of the stream, or of the upstream and all of its streams, are not sent while the
            window is active, so nobody is paged for a real fault either.
        """,
        diagnosis="""
            1. Run `stream-exporter maintenance list`, or open the page: both show the end and the reason.
            2. Look at the inhibited alerts in Alertmanager (filter "Inhibited") or on the page.
        """,
        mitigation="""
            - Work done: `stream-exporter maintenance end UPSTREAM [STREAM]`, or change the configured window and
              reload.
            - More time needed: start another window before this one ends; overlapping windows count as one.
        """,
        tuning="Windows under `maintenance` in the configuration, or started by hand.",
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
        impact="Many viewers have a bad picture now: at least one in seven health observations is bad.",
        diagnosis=_BURN_RATE_DIAGNOSIS,
        mitigation="""
            - Start with the alerts of the upstream's streams, which name the cause.
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
        impact="Hardly noticeable, but over three days, more observations were bad than the objective allows.",
        diagnosis=_BURN_RATE_DIAGNOSIS,
        mitigation="Plan repairs, or agree on an objective that matches what viewers need.",
        tuning=_BURN_RATE_TUNING,
    ),
}
