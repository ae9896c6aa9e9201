"""The runbook's prose on streams."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.alerting.runbook.exporter_guidance import Guidance

_UPLINK = "Lower the encoder's bitrate, or give it a better uplink (cable for Wi-Fi, a bonded link, another route)."

STREAM_GUIDANCE: Mapping[str, Guidance] = {
    "StreamExpectedOffline": Guidance(
        viewers="They see nothing, or the last picture standing still.",
        look="`stream_status`: idle or ended means that nobody publishes, connecting that the encoder tries, error "
        "that the platform gave up. `stream_end_timestamp_seconds` says since when.",
        act="Call the encoder's operator, or switch to the backup. Check the publish key and "
        "`stream_publish_allowed`. On WAVE `stream-exporter session` starts a session anew. If it was ended on "
        "purpose: `end_ok: true`, or hours.",
        tune="`expected` takes hours, `start_grace` minutes for the encoder to start; a paused stream never pages.",
    ),
    "StreamError": Guidance(
        viewers="They see nothing, or soon will.",
        look="The platform's own message on the exporter's page and in its dashboard.",
        act="Publish anew; a session that stays in error is ended (`stream-exporter session` on WAVE) and made again.",
        tune="A stream with `expected: true` pages as StreamExpectedOffline instead; leave test streams out by "
        "`exclude`.",
    ),
    "StreamExpectedUnknown": Guidance(
        viewers="Unknown: the platform answers, but not about this stream.",
        look="`stream_upstream_stream_failures_total` by `reason`, and the log: forbidden, bad_response, "
        "server_error? Is the id or the key in the configuration right?",
        act="Mend the id or the rights of the key. Where the platform's answer itself is broken, tell them, and keep "
        "it.",
        tune="It needs `for` above `stale_after` and a few polls; with polls minutes apart make it longer.",
    ),
    "StreamVanished": Guidance(
        viewers="Probably nothing: it was renamed or removed. At worst it broke off without a word.",
        look="Does the platform still know it, under another name? Was the configuration reloaded with another "
        "`include`, `exclude` or `stream_label`, or did the exporter restart while the stream ended?",
        act="Nothing, where the change was meant. A stream that matters deserves `expected`.",
        tune="It is only for the record: route `info` to nobody, or to a chat.",
    ),
    "StreamFlapping": Guidance(
        viewers="The picture breaks off and comes back, again and again.",
        look="`stream_restarts_total` and the encoder's log: does it lose the connection, or crash? Do two encoders "
        "push to one key and throw each other out?",
        act="Stop the second encoder. Lower the bitrate on a weak uplink. Some encoders reconnect too eagerly: raise "
        "their delay.",
        tune="The threshold is the number of restarts in the window.",
    ),
    "StreamMultistreamTargetDown": Guidance(
        viewers="Those on that target (YouTube, Twitch, …) see nothing; those on the platform itself are fine.",
        look="The target's own console: is its event live, is its key still the same? Several targets at once point to "
        "the platform.",
        act="Put the new key into the platform's target, and restart the target there.",
        tune="Disable a target on the platform rather than leave it failing.",
    ),
    "StreamViewersDropped": Guidance(
        viewers="Four of five left within ten minutes: perhaps their players failed, perhaps the programme is over.",
        look="Play it yourself, on a phone too. `stream_viewer_error_ratio`, CDN and player statistics.",
        act="Where players fail: CDN, certificates, geo-blocks, DRM.",
        tune="Route `info` to nobody if your programmes end often.",
    ),
    "StreamIngestStalled": Guidance(
        viewers="A standing picture or a spinner; the platform still calls it live.",
        look="The encoder: is its input black, its process hung, its connection half open? "
        "`stream_ingest_bitrate_bytes_per_second` shows when it fell.",
        act="Restart the encoder. On WAVE `stream-exporter session` ends the dead session so that a new one can begin.",
        tune="The threshold is in bytes per second; raise it for streams that should never be that quiet. Livepeer's "
        "figure falls to 0 only 75 s after the last bytes.",
    ),
    "StreamBitrateCritical": Guidance(
        viewers="A broken, blocky or stuttering picture.",
        look="Bitrate against `stream_expected_ingest_bitrate_bytes_per_second`; loss and round trip where the "
        "platform has them; the encoder's own view of its output.",
        act=_UPLINK,
        tune="`expected_bitrate` of the stream; variable bitrates (slides, night pictures) need a lower one.",
    ),
    "StreamBitrateLow": Guidance(
        viewers="A softer picture than it should be.",
        look="As for StreamBitrateCritical.",
        act=_UPLINK,
        tune="`expected_bitrate` of the stream.",
    ),
    "StreamBitrateDropped": Guidance(
        viewers="A worse picture than an hour ago, unless the content needs less.",
        look="The bitrate over a day: is it a step (someone changed the encoder) or a decline (the uplink)?",
        act=_UPLINK + " Where the change was meant, it becomes the usual within the hour.",
        tune="Give the stream an `expected_bitrate`: this rule then leaves it to StreamBitrateLow.",
    ),
    "StreamBitrateUnstable": Guidance(
        viewers="Perhaps a picture that swings between sharp and soft.",
        look="Does the encoder adapt its bitrate, and to what? Loss and round trip.",
        act=_UPLINK,
        tune="The threshold is the standard deviation over the mean. Encoders of variable bitrate exceed it by nature.",
    ),
    "StreamUnhealthy": Guidance(
        viewers="A bad picture, or soon none.",
        look="The reasons in the description (`stream_health_reason`), the platform's issues on the exporter's page; "
        "`docs/health.md` explains the score.",
        act="Follow the reason: `bitrate_low` and `loss` the uplink, `transcode_slow` the platform, `frame_rate_low` "
        "the encoder, `silent` StreamIngestStalled, `verdict` and `issues` the platform's words.",
        tune="`health_grace` for encoders that start slowly.",
    ),
    "StreamDegraded": Guidance(
        viewers="Perhaps nothing yet.",
        look="As for StreamUnhealthy.",
        act="As for StreamUnhealthy, in working hours.",
        tune="`health_grace`, `expected_bitrate` and `expected_frame_rate` all enter the score.",
    ),
    "StreamFrameRateLow": Guidance(
        viewers="Motion stutters.",
        look="The encoder's load: CPU, GPU, temperature; the camera's shutter and mode.",
        act="A faster preset, a smaller picture, fewer programmes beside it.",
        tune="`expected_frame_rate` of the stream.",
    ),
    "StreamDroppedFramesCritical": Guidance(
        viewers="Motion stutters all the time.",
        look="Where the frames are lost: at the encoder (load) or on the way (loss, bitrate above the uplink).",
        act=_UPLINK + " For an overloaded encoder a faster preset.",
        tune="The threshold is the share of frames.",
    ),
    "StreamDroppedFramesHigh": Guidance(
        viewers="A stutter every few seconds.",
        look="As for StreamDroppedFramesCritical.",
        act="As for StreamDroppedFramesCritical, in working hours.",
        tune="The threshold is the share of frames.",
    ),
    "StreamPacketLossCritical": Guidance(
        viewers="Blocks, freezes, gaps in the sound.",
        look="Round trip and jitter beside it; other streams of the same site; a traceroute to the ingest.",
        act="Another route, or more SRT latency (four to six times the round trip). " + _UPLINK,
        tune="The threshold is the share of packets before repair, where the platform counts so.",
    ),
    "StreamPacketLossHigh": Guidance(
        viewers="Mostly nothing while retransmission keeps up.",
        look="As for StreamPacketLossCritical.",
        act="More SRT latency, before it gets worse.",
        tune="The threshold is the share of packets.",
    ),
    "StreamRoundTripTimeHigh": Guidance(
        viewers="Interaction lags; repairs of lost packets come too late.",
        look="Is the ingest on another continent? Does the round trip rise with the bitrate (a full uplink)?",
        act="A nearer ingest, or SRT latency of at least four round trips.",
        tune="Satellite links need about 0.7 s.",
    ),
    "StreamJitterHigh": Guidance(
        viewers="Gaps in sound and picture where buffers are short.",
        look="Wi-Fi and mobile links; what else uses the uplink.",
        act="Cable, priority for the stream, a larger receive buffer.",
        tune="Mobile uplinks may need 0.1 s.",
    ),
    "StreamLatencyHigh": Guidance(
        viewers="They are later than promised: the goal is heard next door first.",
        look="Does the delay grow (a transcoder or player falls behind), or did it jump (a buffer)?",
        act="Restart the publish to drop what has piled up; check StreamTranscodeBelowRealtime.",
        tune="The threshold is a multiple of the platform's target latency; mend the target where it is not meant.",
    ),
    "StreamTranscodeBelowRealtime": Guidance(
        viewers="Buffers run dry: the picture stops every few seconds.",
        look="One stream or all of the platform? `stream_renditions`, and what the source sends (4K, 60 frames/s).",
        act="Fewer or smaller renditions; a smaller source. For all streams: the platform, tell them.",
        tune="A transcoder that catches up after each dip needs a longer `for`.",
    ),
    "StreamTranscodeErrors": Guidance(
        viewers="Some renditions break off or are missing.",
        look="The source: codec, profile, key frames, changes of size in mid-stream.",
        act="Restart the encoder with plain settings (H.264, a key frame every 2 s); else tell the platform.",
        tune="Only with `health_details`, at whose interval it changes.",
    ),
}
