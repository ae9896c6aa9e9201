"""Runbook text for the rules about the state of streams."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.alerting.runbook import Guidance

STREAM_GUIDANCE: Mapping[str, Guidance] = {
    "StreamExpectedOffline": Guidance(
        impact="Viewers see nothing, or a frozen picture.",
        diagnosis="""
            1. Check `stream_status`. `idle` or `ended`: the encoder is not sending. `connecting`: it is connected but
               sends no media. `error`: the platform reports a fault.
            2. Find out when it began: `stream_status_last_change_timestamp_seconds` and
               `stream_end_timestamp_seconds`.
            3. Check other streams of the same site, encoder and upstream.
        """,
        mitigation="""
            - Call the encoder's operator, or switch to the backup.
            - Encoder is sending but rejected: check the publish key, and `stream_publish_allowed`.
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
            1. Read the platform's message, on the exporter's page for the stream and in the platform's own dashboard.
            2. Check whether the stream matters now: an event may be missing from the configuration.
        """,
        mitigation="""
            - Restart the encoder. If the session stays in error on WAVE, end it with
              `stream-exporter session end --upstream NAME ID` and create a new one.
            - Stream that matters: set `expected`, so that it pages as StreamExpectedOffline.
        """,
        tuning="Exclude test streams (`exclude`).",
    ),
    "StreamExpectedUnknown": Guidance(
        impact="Unknown. The platform answers, but does not report whether this stream is live.",
        diagnosis="""
            1. Play the stream to see whether viewers are affected.
            2. Check `stream_upstream_stream_failures_total` by `reason`, and the log: `forbidden`, `not_found`,
               `bad_response`, `server_error`?
            3. Compare the id or key in the configuration with the platform.
            4. Check for StreamUpstreamStatesUnknown and StreamUpstreamListDoubtful.
        """,
        mitigation="""
            - Fix the id in the configuration, or the permissions of the key.
            - Invalid response: keep it, and report it to the platform.
        """,
        tuning="Keep `for` above `stale_after` and a few poll intervals.",
    ),
    "StreamExpectedPaused": Guidance(
        impact="Viewers see a paused stream although a live one is scheduled.",
        diagnosis="""
            1. Ask the operator whether the pause is intended. `stream_status_last_change_timestamp_seconds` shows when
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
        impact="Viewers may see something that is not meant for them, and the stream uses bandwidth.",
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
        impact="Probably none: the stream was renamed or removed. At worst, it has failed.",
        diagnosis="""
            1. Look for the stream on the platform, also under another name.
            2. Check whether `include`, `exclude` or `stream_label` changed, or whether the exporter restarted while the
               stream ended.
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
}
