"""The runbook's prose on the exporter, its upstreams and the SLO; ``stream_guidance.py`` has that on streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """What a rule tells the person whom it wakes. Markdown."""

    viewers: str
    """What it means to viewers."""
    look: str
    """What to look at first."""
    act: str
    """What to do."""
    tune: str
    """How to make it fit, besides the threshold."""


_BURN_LOOK = (
    "The page of the exporter, sorted by health: is it one stream that is bad all the time, or many that are bad at "
    "times? `stream_health_reason` says why; a stream that should be live and is not counts as health 0."
)
_BURN_TUNE = (
    "`alerting.health_slo`: `goal` (an observation is good above it), `objective` (the share that should be good), "
    "`minimum_observations`. The threshold is the burn rate."
)

GUIDANCE: Mapping[str, Guidance] = {
    "StreamExporterDown": Guidance(
        viewers="Nothing by itself. But nobody would notice if streams went down.",
        look="Is the process running (`systemctl status`, `kubectl get pods`)? Does `/-/healthy` answer on its host? "
        "Does Prometheus list the target, and with which error?",
        act="Start it again; its log says why it ended. With the target gone from Prometheus, mend the scrape "
        "configuration: the job must have the name that the rules were made with.",
        tune="`stream-exporter rules --selector` where the job has another name. Two replicas make it rarer.",
    ),
    "StreamExporterReloadFailed": Guidance(
        viewers="Nothing. Streams and thresholds that were added since are not watched.",
        look="The log line `configuration not reloaded`: it has every error with its line.",
        act="Mend the file, try it with `stream-exporter --config.check`, and reload once more.",
        tune="A longer `for` where people edit files in place for longer.",
    ),
    "StreamAlertPushFailing": Guidance(
        viewers="Nothing by itself. But outages that the sidecar sees reach nobody.",
        look="`stream_exporter_notifications_errors_total` by `alertmanager`, and the exporter's log: refused, "
        "unreachable, or a bad certificate?",
        act="Mend the Alertmanager or the way to it. The sidecar sends its whole state again by itself. Until then "
        "load the rules of `stream-exporter rules --evaluator all` into Prometheus.",
        tune="It counts the scrapes at which errors had grown; with a scrape interval of minutes lower the threshold.",
    ),
    "StreamWatchdog": Guidance(
        viewers="Nothing: it fires always. Only its absence is news.",
        look="When the dead man's receiver misses it: is Prometheus up, does it evaluate rules, does it reach the "
        "Alertmanager, and the Alertmanager the receiver?",
        act="Mend the first link that is broken. Route it to a service that pages when it does not hear from you.",
        tune="The receiver's patience: two or three times the route's `repeat_interval`.",
    ),
    "StreamSidecarWatchdog": Guidance(
        viewers="Nothing: it is sent always, while the sidecar is on. Only its absence is news.",
        look="When the dead man's receiver misses it: does the exporter run, does its configuration name the "
        "Alertmanager, what does StreamAlertPushFailing say?",
        act="As for StreamWatchdog, with the exporter in the place of Prometheus.",
        tune="As for StreamWatchdog. It belongs to a receiver of its own, or one would hide the other.",
    ),
    "StreamUpstreamDown": Guidance(
        viewers="Unknown: the API is gone, the streams may run on. Often both went down.",
        look="`stream_upstream_failing` has the reason (timeout, connect, tls, server_error, …), the exporter's page "
        "and log the platform's words. Does the platform's status page speak of it? Do players still play?",
        act="Connect or timeout: network, firewall, the server itself. TLS: the certificate has run out, or `ca_file` "
        "is missing. Rate limited: raise `interval`, see `stream-exporter --config.check`. The alerts of its streams "
        "are silent until it answers, so watch the pictures by eye.",
        tune="A longer `for` where an API is known to restart. Below two polls, single failures would page.",
    ),
    "StreamUpstreamAuthFailing": Guidance(
        viewers="Unknown: the streams may run on, nobody is told how.",
        look="Was the key rotated, revoked, or has it run out? `auth` is 401, `forbidden` 403: the key is known, its "
        "rights are too small.",
        act="Put the new secret into its file: it is read again with the next poll. From the environment or inline it "
        "needs a restart or a reload. It comes together with StreamUpstreamDown, which it inhibits.",
        tune="Nothing to tune but `for`.",
    ),
    "StreamUpstreamErrorRatioHigh": Guidance(
        viewers="Nothing yet. What is shown of some streams may be older than usual.",
        look="`sum by (endpoint, code) (rate(stream_upstream_requests_total[15m]))`: one endpoint or all, which code?",
        act="429: the rate limit; raise `interval` or watch fewer streams. 5xx: the platform's fault, tell them. One "
        "endpoint alone: its feature may be off for your account; switch its option off.",
        tune="The threshold is the share of requests. 404 counts as an answer, and so does a redirect.",
    ),
    "StreamUpstreamDataStale": Guidance(
        viewers="Nothing by itself. All other alerts of this upstream rest on old data.",
        look="The exporter's log: is its poller stuck or restarting (`stream_upstream_poller_restarts_total`)? Is its "
        "process starved of CPU? Do the clocks of exporter and Prometheus agree?",
        act="Restart the exporter, and keep its log: this should not happen, and is worth an issue.",
        tune="The threshold counts intervals. Clocks that differ by more than an interval need NTP, not tuning.",
    ),
    "StreamSeriesLimitReached": Guidance(
        viewers="Nothing. Streams beyond `max_streams` are not watched; expected and live ones are kept first.",
        look="`stream_upstream_streams`: did the number grow slowly, or does something create streams in a loop?",
        act="Raise `max_streams` if Prometheus can bear it, or leave streams out with `exclude`.",
        tune="`max_streams` of the upstream.",
    ),
    "StreamHealthBudgetBurnFast": Guidance(
        viewers="Many of them have a bad picture right now: about a seventh of all observations or more.",
        look=_BURN_LOOK,
        act="Treat it as an incident of the upstream; the alerts of its streams lead to the cause.",
        tune=_BURN_TUNE,
    ),
    "StreamHealthBudgetBurnSteady": Guidance(
        viewers="For hours a part of them has had a bad picture.",
        look=_BURN_LOOK,
        act="As for the fast one, without haste by the minute: several smaller faults may add up.",
        tune=_BURN_TUNE,
    ),
    "StreamHealthBudgetBurnSlow": Guidance(
        viewers="A few have had a bad picture for a day.",
        look=_BURN_LOOK,
        act="In working hours: find the streams that cost most, and what they have in common (site, encoder, hour).",
        tune=_BURN_TUNE,
    ),
    "StreamHealthBudgetBurnCreeping": Guidance(
        viewers="Hardly noticed by anyone, but over three days more was bad than the objective allows.",
        look=_BURN_LOOK,
        act="Plan repairs, or agree on an objective that fits what is wanted.",
        tune=_BURN_TUNE,
    ),
}
