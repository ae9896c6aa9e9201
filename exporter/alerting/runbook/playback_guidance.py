"""Runbook text for the rules about playback checks."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.alerting.runbook import Guidance

_REASONS = """
    The reason in the alert is that of `stream_unplayable_reason`: `stale` (no new media), `ended`, `playlist_missing`
    (404), `playlist_failed`, `playlist_invalid`, `segment_missing`, `segment_invalid`, `gap` or `renditions_missing`.
    The sidecar adds the status of the response.
"""

PLAYBACK_GUIDANCE: Mapping[str, Guidance] = {
    "StreamPlaybackVantageDown": Guidance(
        impact="Unknown. The exporter sees nothing of what viewers get, because its own network seems to be down.",
        diagnosis="""
            1. Check whether StreamUpstreamDown fires for platforms, too.
            2. On the exporter's host, check the network: name resolution, the default route, the firewall, the proxy.
            3. Play a stream from somewhere else.
        """,
        mitigation="Restore the network of the exporter's host. Until then, rely on exporters at other places.",
        tuning="""
            Use a longer `for` if the exporter's network has short outages. Run an exporter at a second place, so that
            viewers are not unobserved meanwhile.
        """,
    ),
    "StreamViewersGetNothing": Guidance(
        impact="Viewers cannot start the stream, or see a frozen picture, although the encoder delivers it.",
        diagnosis=f"""
            1. Read the reason. {" ".join(_REASONS.split())}
            2. Open the stream's page: it shows each hop of the chain. This is the first one that is broken; the fault
               lies between it and its source.
            3. Fetch the playlist yourself: `curl -i URL`. Compare with the origin, past the content delivery network.
        """,
        mitigation="""
            - `stale`, `gap`: restart the packager or transcoder.
            - `playlist_missing`, `renditions_missing`: check that the packager writes to the place that the server
              serves, and for disk space and permissions.
            - `segment_missing`: check the origin's storage and the cache's rules for 404. Purge the cache.
            - `playlist_failed`: check the server or content delivery network; switch to another one.
            - `ended`: the packager wrote the end of the stream. Restart it.
        """,
        tuning="""
            Set `stale_media` for a stream whose segments arrive irregularly. Check that `of` names the right stream.
        """,
    ),
    "StreamUnplayable": Guidance(
        impact="Viewers cannot start the stream, or see a frozen picture.",
        diagnosis=f"""
            1. Read the reason. {" ".join(_REASONS.split())}
            2. Find out whether the encoder delivers media: the platform's page, or its own log. The exporter does not
               know, because the check has no source (`of`), or the source's upstream is not answering.
            3. Fetch the playlist yourself: `curl -i URL`.
        """,
        mitigation="""
            - Encoder is off air: call its operator, or switch to the backup.
            - Encoder delivers: proceed as for StreamViewersGetNothing.
            - Ended on purpose: set `end_ok: true`, or restrict `expected` to hours.
        """,
        tuning="""
            Pair the check with the platform's stream (`of`): then the exporter can tell whether the encoder or the way
            to the viewers is at fault. Set hours under `expected`, and `start_grace` for encoders that start late.
        """,
    ),
    "StreamAudioMissing": Guidance(
        impact="Viewers see a picture without sound.",
        diagnosis="""
            1. Play the stream. Is it silent in all languages?
            2. Check whether the source has sound: the encoder's level meters, and `stream_info` of the platform's
               stream.
        """,
        mitigation="""
            - Source without sound: check the encoder's audio input.
            - Source with sound: restart the transcoder or packager, and check its audio mapping.
        """,
        tuning="""
            `audio: none` for a stream without sound, `required` for one that must always have it. `auto` alerts only if
            sound was seen before.
        """,
    ),
    "StreamVideoMissing": Guidance(
        impact="Viewers hear sound without a picture.",
        diagnosis="""
            1. Play the stream.
            2. Check whether the source has a picture: the encoder's preview, and `stream_video_frames_per_second` of
               the platform's stream.
        """,
        mitigation="""
            - Source without picture: check the encoder's video input.
            - Source with picture: restart the transcoder or packager.
        """,
        tuning="`video: none` for a radio stream, `required` for one that must always have a picture.",
    ),
    "StreamMediaShortage": Guidance(
        impact="Players stall again and again, because less media arrives than they play.",
        diagnosis="""
            1. Compare `rate(stream_media_seconds_total[2m])` of this check with that of the origin's check. If only
               this one is below 1, a cache in between serves old playlists.
            2. Check `stream_segments_missed_total`: segments that left the playlist before the cache renewed it.
            3. Fetch the playlist every few seconds, and read `Age`, `Cache-Control` and the sequence numbers.
        """,
        mitigation="""
            - Cache that keeps playlists for too long: at most half a segment, and purge it.
            - Origin short of media, too: check the encoder and the transcoder.
        """,
        tuning="""
            Poll at least every 40 s. An encoder that often stops for a while needs a lower threshold.
        """,
    ),
    "StreamDeliverySlow": Guidance(
        impact="Players switch to a lower quality, then stall.",
        diagnosis="""
            1. Check whether the checks of other servers are slow, too. Then the exporter's own connection is the
               bottleneck.
            2. Compare `stream_segment_first_byte_seconds`: a slow first byte points to the server or its cache, a fast
               one to bandwidth.
        """,
        mitigation="""
            - Server overloaded: add capacity, or move viewers to another one.
            - Exporter's connection: check less often (`whole_segment_every`), or from another place.
        """,
        tuning="""
            `whole_segment_every` of at most 100 s, otherwise there is no verdict. Raise the threshold for an exporter
            behind a slow line.
        """,
    ),
    "StreamRenditionMissing": Guidance(
        impact="Viewers with a slow or a fast connection lose their quality. Some players stop at a missing rendition.",
        diagnosis="""
            1. The exporter's page shows `stream_renditions_playable` and `stream_expected_renditions`. Fetch the master
               playlist, and each rendition in it.
            2. Check the transcoder's log.
        """,
        mitigation="Restart the rendition at the transcoder, or remove it from the master playlist.",
        tuning="""
            Set `expected_renditions`. Without it, the largest number listed within an hour is expected, so a ladder
            that shrank on purpose alerts for an hour.
        """,
    ),
    "StreamSequenceUnsteady": Guidance(
        impact="Some players stop, repeat media or skip it; others get over it.",
        diagnosis="""
            1. Find out which total rises. `stream_sequence_regressions_total`: origins out of step, or stale caches.
               `stream_sequence_resets_total`: a packager that restarts. `stream_sequence_conflicts_total`: two
               packagers for one stream. `stream_segments_missed_total`: a cache that keeps playlists for too long.
            2. Fetch the playlist several times from each origin, and compare the sequence numbers.
        """,
        mitigation="""
            - Origins out of step: bind each viewer to one of them, or synchronize their numbering.
            - Restarts: read the packager's log.
            - Cache: shorten the time for which it keeps playlists.
        """,
        tuning="The threshold is the number of faults within the window.",
    ),
    "StreamPlaybackForbidden": Guidance(
        impact="Unknown. The server refuses the exporter, and perhaps viewers, too.",
        diagnosis="""
            1. Play the stream from another network.
            2. Check whether the check's URL contains a token that has expired, and whether the server limits countries
               or addresses.
        """,
        mitigation="""
            - Expired token: write the new URL to its file. For tokens that change often, ask for a permanent one.
            - Blocked address: allow the exporter's address.
        """,
        tuning="Switch it off (`alerts`) for a stream that the exporter can never fetch, or remove the check.",
    ),
    "StreamViewersSeeOther": Guidance(
        impact="Viewers may see something else than the programme, such as a slate, a loop or an old recording.",
        diagnosis="""
            1. Play the stream.
            2. Check that `of` names the stream that is played there.
        """,
        mitigation="""
            - Wrong pair: correct `of`.
            - Slate or loop after the end: nothing to do, or stop the packager.
        """,
        tuning="Route `info` alerts to a chat, or drop them.",
    ),
}
