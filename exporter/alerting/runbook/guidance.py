"""The runbook's guidance for each rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Guidance for the person on call, as Markdown."""

    impact: str
    """Impact on viewers."""
    diagnosis: str
    """Diagnosis: what to look at first."""
    mitigation: str
    """Mitigation."""
    tuning: str
    """How to tune the rule, besides its threshold."""


_BURN_RATE_DIAGNOSIS = (
    "The page of the exporter, sorted by health: is it one stream that is bad all the time, or many that are bad at "
    "times? `stream_health_reason` says why; a stream that should be live and is not counts as health 0."
)
_BURN_RATE_TUNING = (
    "`alerting.health_slo`: `goal` (an observation is good above it), `objective` (the share that should be good), "
    "`minimum_observations`. The threshold is the burn rate."
)
_UPLINK_MITIGATION = (
    "Lower the encoder's bitrate, or give it a better uplink (cable for Wi-Fi, a bonded link, another route)."
)

GUIDANCE: Mapping[str, Guidance] = {
    "StreamExporterDown": Guidance(
        impact="Nothing by itself. But nobody would notice if streams went down.",
        diagnosis="Is the process running (`systemctl status`, `kubectl get pods`)? Does `/-/healthy` answer on its "
        "host? Does Prometheus list the target, and with which error?",
        mitigation="Start it again; its log says why it ended. With the target gone from Prometheus, mend the scrape "
        "configuration: the job must have the name that the rules were made with.",
        tuning="`stream-exporter rules --selector` where the job has another name. Two replicas make it rarer.",
    ),
    "StreamExporterReloadFailed": Guidance(
        impact="Nothing. Streams and thresholds that were added since are not watched.",
        diagnosis="The log line `configuration not reloaded`: it has every error with its line.",
        mitigation="Mend the file, try it with `stream-exporter --config.check`, and reload once more.",
        tuning="A longer `for` where people edit files in place for longer.",
    ),
    "StreamAlertPushFailing": Guidance(
        impact="Nothing by itself. But outages that the sidecar sees reach nobody.",
        diagnosis="`stream_exporter_notifications_errors_total` by `alertmanager`, and the exporter's log: refused, "
        "unreachable, or a bad certificate?",
        mitigation="Mend the Alertmanager or the way to it. The sidecar sends its whole state again by itself. Until "
        "then load the rules of `stream-exporter rules --evaluator all` into Prometheus.",
        tuning="It counts the scrapes at which errors had grown; with a scrape interval of minutes lower the "
        "threshold.",
    ),
    "StreamWatchdog": Guidance(
        impact="Nothing: it fires always. Only its absence is news.",
        diagnosis="When the dead man's receiver misses it: is Prometheus up, does it evaluate rules, does it reach "
        "the Alertmanager, and the Alertmanager the receiver?",
        mitigation="Mend the first link that is broken. Route it to a service that pages when it does not hear from "
        "you.",
        tuning="The receiver's patience: two or three times the route's `repeat_interval`.",
    ),
    "StreamSidecarWatchdog": Guidance(
        impact="Nothing: it is sent always, while the sidecar is on. Only its absence is news.",
        diagnosis="When the dead man's receiver misses it: does the exporter run, does its configuration name the "
        "Alertmanager, what does StreamAlertPushFailing say?",
        mitigation="As for StreamWatchdog, with the exporter in the place of Prometheus.",
        tuning="As for StreamWatchdog. It belongs to a receiver of its own, or one would hide the other.",
    ),
    "StreamUpstreamDown": Guidance(
        impact="Unknown: the API is gone, the streams may run on. Often both went down.",
        diagnosis="`stream_upstream_failing` has the reason (timeout, connect, tls, server_error, …), the exporter's "
        "page and log the platform's words. Does the platform's status page speak of it? Do players still play?",
        mitigation="Connect or timeout: network, firewall, the server itself. TLS: the certificate has run out, or "
        "`ca_file` is missing. Rate limited: raise `interval`, see `stream-exporter --config.check`. The alerts of "
        "its streams are silent until it answers, so watch the pictures by eye.",
        tuning="A longer `for` where an API is known to restart. Below two polls, single failures would page.",
    ),
    "StreamUpstreamAuthFailing": Guidance(
        impact="Unknown: the streams may run on, nobody is told how.",
        diagnosis="Was the key rotated, revoked, or has it run out? `auth` is 401, `forbidden` 403: the key is known, "
        "its rights are too small.",
        mitigation="Put the new secret into its file: it is read again with the next poll. From the environment or "
        "inline it needs a restart or a reload. It comes together with StreamUpstreamDown, which it inhibits.",
        tuning="Nothing to tune but `for`.",
    ),
    "StreamUpstreamErrorRatioHigh": Guidance(
        impact="Nothing yet. What is shown of some streams may be older than usual.",
        diagnosis="`sum by (request, code) (rate(stream_upstream_requests_total[15m]))`: one endpoint or all, which "
        "code?",
        mitigation="429: the rate limit; raise `interval` or watch fewer streams. 5xx: the platform's fault, tell "
        "them. One endpoint alone: its feature may be off for your account; switch its option off.",
        tuning="The threshold is the share of requests. 404 counts as an answer, and so does a redirect.",
    ),
    "StreamUpstreamDataStale": Guidance(
        impact="Nothing by itself. All other alerts of this upstream rest on old data.",
        diagnosis="The exporter's log: is its poller stuck or restarting (`stream_upstream_poller_restarts_total`)? "
        "Is its process starved of CPU?",
        mitigation="Restart the exporter, and keep its log: this should not happen, and is worth an issue.",
        tuning="Only `for`: the 2.5 intervals are part of `stream_upstream_answering`.",
    ),
    "StreamSeriesLimitReached": Guidance(
        impact="Nothing. Streams beyond `max_streams` are not watched; expected and live ones are kept first.",
        diagnosis="`stream_upstream_streams`: did the number grow slowly, or does something create streams in a loop?",
        mitigation="Raise `max_streams` if Prometheus can bear it, or leave streams out with `exclude`.",
        tuning="`max_streams` of the upstream.",
    ),
    "StreamHealthBudgetBurnFast": Guidance(
        impact="Many of them have a bad picture right now: about a seventh of all observations or more.",
        diagnosis=_BURN_RATE_DIAGNOSIS,
        mitigation="Treat it as an incident of the upstream; the alerts of its streams lead to the cause.",
        tuning=_BURN_RATE_TUNING,
    ),
    "StreamHealthBudgetBurnSteady": Guidance(
        impact="For hours a part of them has had a bad picture.",
        diagnosis=_BURN_RATE_DIAGNOSIS,
        mitigation="As for the fast one, without haste by the minute: several smaller faults may add up.",
        tuning=_BURN_RATE_TUNING,
    ),
    "StreamHealthBudgetBurnSlow": Guidance(
        impact="A few have had a bad picture for a day.",
        diagnosis=_BURN_RATE_DIAGNOSIS,
        mitigation="In working hours: find the streams that cost most, and what they have in common (site, encoder, "
        "hour).",
        tuning=_BURN_RATE_TUNING,
    ),
    "StreamHealthBudgetBurnCreeping": Guidance(
        impact="Hardly noticed by anyone, but over three days more was bad than the objective allows.",
        diagnosis=_BURN_RATE_DIAGNOSIS,
        mitigation="Plan repairs, or agree on an objective that fits what is wanted.",
        tuning=_BURN_RATE_TUNING,
    ),
    "StreamExpectedOffline": Guidance(
        impact="They see nothing, or the last picture standing still.",
        diagnosis="`stream_status`: idle or ended means that nobody publishes, connecting that the encoder tries, "
        "error that the platform gave up. `stream_end_timestamp_seconds` says since when.",
        mitigation="Call the encoder's operator, or switch to the backup. Check the publish key and "
        "`stream_publish_allowed`. On WAVE `stream-exporter session` starts a session anew. If it was ended on "
        "purpose: `end_ok: true`, or hours.",
        tuning="`expected` takes hours, `start_grace` minutes for the encoder to start; a paused stream never pages.",
    ),
    "StreamError": Guidance(
        impact="They see nothing, or soon will.",
        diagnosis="The platform's own message on the exporter's page and in its dashboard.",
        mitigation="Publish anew; a session that stays in error is ended (`stream-exporter session` on WAVE) and made "
        "again.",
        tuning="A stream with `expected: true` pages as StreamExpectedOffline instead; leave test streams out by "
        "`exclude`.",
    ),
    "StreamExpectedUnknown": Guidance(
        impact="Unknown: the platform answers, but not about this stream.",
        diagnosis="`stream_upstream_stream_failures_total` by `reason`, and the log: forbidden, bad_response, "
        "server_error? Is the id or the key in the configuration right?",
        mitigation="Mend the id or the rights of the key. Where the platform's answer itself is broken, tell them, "
        "and keep it.",
        tuning="It needs `for` above `stale_after` and a few polls; with polls minutes apart make it longer.",
    ),
    "StreamVanished": Guidance(
        impact="Probably nothing: it was renamed or removed. At worst it broke off without a word.",
        diagnosis="Does the platform still know it, under another name? Was the configuration reloaded with another "
        "`include`, `exclude` or `stream_label`, or did the exporter restart while the stream ended?",
        mitigation="Nothing, where the change was meant. A stream that matters deserves `expected`.",
        tuning="It is only for the record: route `info` to nobody, or to a chat.",
    ),
    "StreamFlapping": Guidance(
        impact="The picture breaks off and comes back, again and again.",
        diagnosis="`stream_restarts_total` and the encoder's log: does it lose the connection, or crash? Do two "
        "encoders push to one key and throw each other out?",
        mitigation="Stop the second encoder. Lower the bitrate on a weak uplink. Some encoders reconnect too eagerly: "
        "raise their delay.",
        tuning="The threshold is the number of restarts in the window.",
    ),
    "StreamMultistreamTargetDown": Guidance(
        impact="Those on that target (YouTube, Twitch, …) see nothing; those on the platform itself are fine.",
        diagnosis="The target's own console: is its event live, is its key still the same? Several targets at once "
        "point to the platform.",
        mitigation="Put the new key into the platform's target, and restart the target there.",
        tuning="Disable a target on the platform rather than leave it failing.",
    ),
    "StreamViewersDropped": Guidance(
        impact="Four of five left within ten minutes: perhaps their players failed, perhaps the programme is over.",
        diagnosis="Play it yourself, on a phone too. `stream_viewer_error_ratio`, CDN and player statistics.",
        mitigation="Where players fail: CDN, certificates, geo-blocks, DRM.",
        tuning="Route `info` to nobody if your programmes end often.",
    ),
    "StreamIngestStalled": Guidance(
        impact="A standing picture or a spinner; the platform still calls it live.",
        diagnosis="The encoder: is its input black, its process hung, its connection half open? "
        "`stream_ingest_bitrate_bytes_per_second` shows when it fell.",
        mitigation="Restart the encoder. On WAVE `stream-exporter session` ends the dead session so that a new one "
        "can begin.",
        tuning="The threshold is in bytes per second; raise it for streams that should never be that quiet. "
        "Livepeer's figure falls to 0 only 75 s after the last bytes.",
    ),
    "StreamBitrateCritical": Guidance(
        impact="A broken, blocky or stuttering picture.",
        diagnosis="Bitrate against `stream_expected_ingest_bitrate_bytes_per_second`; loss and round trip where the "
        "platform has them; the encoder's own view of its output.",
        mitigation=_UPLINK_MITIGATION,
        tuning="`expected_bitrate` of the stream; variable bitrates (slides, night pictures) need a lower one.",
    ),
    "StreamBitrateLow": Guidance(
        impact="A softer picture than it should be.",
        diagnosis="As for StreamBitrateCritical.",
        mitigation=_UPLINK_MITIGATION,
        tuning="`expected_bitrate` of the stream.",
    ),
    "StreamBitrateDropped": Guidance(
        impact="A worse picture than an hour ago, unless the content needs less.",
        diagnosis="The bitrate over a day: is it a step (someone changed the encoder) or a decline (the uplink)?",
        mitigation=_UPLINK_MITIGATION + " Where the change was meant, it becomes the usual within the hour.",
        tuning="Give the stream an `expected_bitrate`: this rule then leaves it to StreamBitrateLow.",
    ),
    "StreamBitrateUnstable": Guidance(
        impact="Perhaps a picture that swings between sharp and soft.",
        diagnosis="Does the encoder adapt its bitrate, and to what? Loss and round trip.",
        mitigation=_UPLINK_MITIGATION,
        tuning="The threshold is the standard deviation over the mean. Encoders of variable bitrate exceed it by "
        "nature.",
    ),
    "StreamUnhealthy": Guidance(
        impact="A bad picture, or soon none.",
        diagnosis="The reasons in the description (`stream_health_reason`), the platform's issues on the exporter's "
        "page; `docs/health.md` explains the score.",
        mitigation="Follow the reason: `bitrate_low` and `loss` the uplink, `transcode_slow` the platform, "
        "`frame_rate_low` the encoder, `silent` StreamIngestStalled, `verdict` and `issues` the platform's words.",
        tuning="`health_grace` for encoders that start slowly.",
    ),
    "StreamDegraded": Guidance(
        impact="Perhaps nothing yet.",
        diagnosis="As for StreamUnhealthy.",
        mitigation="As for StreamUnhealthy, in working hours.",
        tuning="`health_grace`, `expected_bitrate` and `expected_frame_rate` all enter the score.",
    ),
    "StreamFrameRateLow": Guidance(
        impact="Motion stutters.",
        diagnosis="The encoder's load: CPU, GPU, temperature; the camera's shutter and mode.",
        mitigation="A faster preset, a smaller picture, fewer programmes beside it.",
        tuning="`expected_frame_rate` of the stream.",
    ),
    "StreamDroppedFramesCritical": Guidance(
        impact="Motion stutters all the time.",
        diagnosis="Where the frames are lost: at the encoder (load) or on the way (loss, bitrate above the uplink).",
        mitigation=_UPLINK_MITIGATION + " For an overloaded encoder a faster preset.",
        tuning="The threshold is the share of frames.",
    ),
    "StreamDroppedFramesHigh": Guidance(
        impact="A stutter every few seconds.",
        diagnosis="As for StreamDroppedFramesCritical.",
        mitigation="As for StreamDroppedFramesCritical, in working hours.",
        tuning="The threshold is the share of frames.",
    ),
    "StreamPacketLossCritical": Guidance(
        impact="Blocks, freezes, gaps in the sound.",
        diagnosis="Round trip and jitter beside it; other streams of the same site; a traceroute to the ingest.",
        mitigation="Another route, or more SRT latency (four to six times the round trip). " + _UPLINK_MITIGATION,
        tuning="The threshold is the share of packets before repair, where the platform counts so.",
    ),
    "StreamPacketLossHigh": Guidance(
        impact="Mostly nothing while retransmission keeps up.",
        diagnosis="As for StreamPacketLossCritical.",
        mitigation="More SRT latency, before it gets worse.",
        tuning="The threshold is the share of packets.",
    ),
    "StreamRoundTripTimeHigh": Guidance(
        impact="Interaction lags; repairs of lost packets come too late.",
        diagnosis="Is the ingest on another continent? Does the round trip rise with the bitrate (a full uplink)?",
        mitigation="A nearer ingest, or SRT latency of at least four round trips.",
        tuning="Satellite links need about 0.7 s.",
    ),
    "StreamJitterHigh": Guidance(
        impact="Gaps in sound and picture where buffers are short.",
        diagnosis="Wi-Fi and mobile links; what else uses the uplink.",
        mitigation="Cable, priority for the stream, a larger receive buffer.",
        tuning="Mobile uplinks may need 0.1 s.",
    ),
    "StreamLatencyHigh": Guidance(
        impact="They are later than promised: the goal is heard next door first.",
        diagnosis="Does the delay grow (a transcoder or player falls behind), or did it jump (a buffer)?",
        mitigation="Restart the publish to drop what has piled up; check StreamTranscodeBelowRealtime.",
        tuning="The threshold is a multiple of the platform's target latency; mend the target where it is not meant.",
    ),
    "StreamTranscodeBelowRealtime": Guidance(
        impact="Buffers run dry: the picture stops every few seconds.",
        diagnosis="One stream or all of the platform? `stream_renditions`, and what the source sends (4K, 60 "
        "frames/s).",
        mitigation="Fewer or smaller renditions; a smaller source. For all streams: the platform, tell them.",
        tuning="A transcoder that catches up after each dip needs a longer `for`.",
    ),
    "StreamTranscodeErrors": Guidance(
        impact="Some renditions break off or are missing.",
        diagnosis="The source: codec, profile, key frames, changes of size in mid-stream.",
        mitigation="Restart the encoder with plain settings (H.264, a key frame every 2 s); else tell the platform.",
        tuning="Only with `health_details`, at whose interval it changes.",
    ),
}
