"""Runbook text for the rules about groups of streams."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.alerting.runbook import Guidance

GROUP_GUIDANCE: Mapping[str, Guidance] = {
    "StreamGroupDown": Guidance(
        impact="""
            Critical: the event is off air, or runs without streams that it needs. Warning: it may be; the state of some
            of its streams is unknown.
        """,
        diagnosis="""
            1. The alert names the streams that are off air and those in an unknown state, with their roles. The
               exporter's page shows all of them under *Groups*.
            2. Check whether they fail together: the same encoder, site, network or upstream.
            3. Unknown streams: check for StreamUpstreamDown, StreamUpstreamAuthFailing and StreamExpectedUnknown. Play
               the stream to see whether viewers are affected.
        """,
        mitigation="""
            - Start any of the streams that are off air; `need` of them are enough. The alerts of the streams
              (StreamExpectedOffline) tell what to do about each.
            - Planned work on a stream: start maintenance for it. It is then not needed.
            - Event over: end it in the configuration (`expected` of the group, or of its streams).
        """,
        tuning="""
            `need` is the number of streams that must be live; without it, all of them. While streams are in
            maintenance, at most the others are needed. `expected` and `start_grace` work as for a stream; without
            `expected`, a group is expected while one of its streams is.
        """,
    ),
    "StreamGroupRedundancyLost": Guidance(
        impact="None yet. If another stream of the group fails, the event may be off air.",
        diagnosis="""
            1. The alert names the streams that are off air, with their roles.
            2. Their own alerts are warnings while the group is up without them: StreamExpectedOffline, StreamError.
        """,
        mitigation="""
            - Bring the stream back before the event needs it.
            - Planned work: start maintenance for the stream.
        """,
        tuning="""
            Streams in maintenance and in an unknown state do not count. Remove a stream from the group if it need not
            be live together with the others.
        """,
    ),
}
