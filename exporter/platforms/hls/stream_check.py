"""One stream: its master playlist, its renditions, and the report of what a new viewer would get."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from copy import copy
from itertools import chain
from typing import Final, NamedTuple

from exporter.config.playback import CheckedStream, PlaybackSettings
from exporter.http.media import Fetched, MediaFetcher
from exporter.media.facts import TrackKind
from exporter.media.hls_playlist import MasterPlaylist, MediaPlaylist
from exporter.model import HealthReason, Rendition, Status, StreamReport, UnplayableReason
from exporter.platforms.hls import playlist_notes, renditions
from exporter.platforms.hls.playlist_history import GAP_SHARE
from exporter.platforms.hls.rendition_check import UNKNOWN, RenditionCheck, Verdict, combine, first_codec
from exporter.platforms.hls.segment_looks import SegmentLooks, StartTask
from exporter.platforms.hls.stream_trends import StreamTrends
from exporter.platforms.hls.totals import Totals
from exporter.platforms.playback.fetch_log import FetchLog
from exporter.platforms.playback.segment_checks import SegmentChecker
from exporter.runtime.clock import Clock

MASTER_SECONDS: Final = 600.0
"""Time after which the master playlist is requested again. Each request may open a viewer's session."""
LADDER_SECONDS: Final = 3600.0
"""Time for which the largest number of renditions is remembered."""
LONGEST_MASTER_WAIT_SECONDS: Final = 60.0
"""Longest time between two requests for the master playlist while renditions are missing or not playable."""


class _Look(NamedTuple):
    """A finished request for a playlist."""

    rendition: RenditionCheck
    fetched: Fetched | None
    playlist: MediaPlaylist | None
    at: float
    """Steady seconds."""
    wall: float
    """Unix seconds."""


class StreamCheck:
    """Checks one stream. Each poll is a call of ``fetch``, then one of ``apply``, then one of ``report``."""

    def __init__(
        self,
        stream: CheckedStream,
        settings: PlaybackSettings,
        *,
        fetcher: MediaFetcher,
        clock: Clock,
        log: FetchLog,
    ) -> None:
        self.stream = stream
        self._settings = settings
        self._fetcher = fetcher
        self._clock = clock
        self._log = log
        self._cookies = fetcher.cookie_jar()
        self._segments = SegmentLooks(settings, SegmentChecker(fetcher, self._cookies, clock, log), clock)
        url = settings.playlist_url(stream.url.get())
        self._entry = self._new_rendition(renditions.RenditionAddress(renditions.ONLY_RENDITION, url, None, False))
        self._master: MasterPlaylist | None = None
        self._master_at = 0.0
        """Steady seconds of the last request for it."""
        self._master_wait = 0.0
        """Seconds to wait after that, while renditions are missing or not playable."""
        self._variants: list[RenditionCheck] = []
        self._audio: list[RenditionCheck] = []
        self._lowest = ""
        self._turn = 0
        self._looks: list[_Look] = []
        self._totals = Totals()
        self._trends = StreamTrends()
        self._ladder: tuple[float, int] | None = None
        """When the largest number of variants was last listed, and that number."""

    def _new_rendition(self, address: renditions.RenditionAddress) -> RenditionCheck:
        return RenditionCheck(
            address.name,
            address.url,
            totals=Totals(),
            interval=self._settings.interval,
            stale_media=self.stream.stale_media,
            has_segments=self._settings.segments != "none",
            bandwidth=address.bandwidth,
            is_audio=address.is_audio,
        )

    # -- playlists -----------------------------------------------------------------------------------------------------

    async def fetch(self, deadline: float) -> None:
        """Request the playlists that are due. ``deadline``: steady seconds."""
        now = self._clock.monotonic()
        if self._master is None or self._is_master_due(now):
            await self._fetch_entry(deadline)
        if self._master is not None:
            chosen = self._choose(self._clock.monotonic())
            async with asyncio.TaskGroup() as group:
                for rendition in chosen:
                    group.create_task(self._fetch_rendition(rendition, deadline))

    def _is_master_due(self, now: float) -> bool:
        """Return whether to request the master playlist again: rarely, because that may open a viewer's session.

        A new viewer may be sent to other renditions, so a stream is not dead before that was tried.
        """
        waited = now - self._master_at
        if waited >= MASTER_SECONDS or self._entry.has_failed:
            return True
        has_moved = any(rendition.has_moved for rendition in chain(self._variants, self._audio))
        if not has_moved and self._verdict_of_renditions().playable is not False:
            self._master_wait = 0.0
            return False
        if waited < max(self._master_wait, self._variants[0].history.target_seconds):
            return False
        self._master_wait = min(LONGEST_MASTER_WAIT_SECONDS, 2 * waited)
        return True

    async def _fetch_entry(self, deadline: float) -> None:
        """Request the configured URL: a master playlist, or the only media playlist."""
        entry = self._entry
        if not entry.is_due(self._clock.monotonic()):
            return
        if self._master is not None or entry.has_moved:
            await entry.refresh_url(self.stream.url, self._settings)
        self._master_at = self._clock.monotonic()
        fetched = await entry.fetch(self._fetcher, self._cookies, self._log, self._clock, deadline=deadline)
        playlist = None if fetched is None else await entry.read(fetched, self._log, {})
        now, wall = self._clock.monotonic(), self._clock.now()
        if isinstance(playlist, MasterPlaylist) and playlist.variants and fetched is not None:
            self._use_master(playlist, fetched)
        elif isinstance(playlist, MediaPlaylist):
            self._master, self._variants, self._audio = None, [], []
            self._looks.append(_Look(entry, fetched, playlist, now, wall))
        else:
            if isinstance(playlist, MasterPlaylist):
                entry.problem = "a master playlist without variants"
            self._looks.append(_Look(entry, fetched, None, now, wall))

    def _use_master(self, master: MasterPlaylist, fetched: Fetched) -> None:
        self._master = master
        now = self._clock.monotonic()
        self._entry.note_other_document(now)
        known = {rendition.name: rendition for rendition in chain(self._variants, self._audio)}
        listed = renditions.addresses(master, fetched.url)
        checks = []
        for address in listed:
            check = known.get(address.name) or self._new_rendition(address)
            if check.url != address.url:
                check.move(address.url)
            check.bandwidth = address.bandwidth
            checks.append(check)
        self._variants = [check for check in checks if not check.is_audio]
        self._audio = [check for check in checks if check.is_audio]
        self._lowest = renditions.lowest_with_video(listed)
        self._plan_looks()
        if self._ladder is None or len(self._variants) >= self._ladder[1] or now - self._ladder[0] > LADDER_SECONDS:
            self._ladder = now, len(self._variants)

    @property
    def _turning(self) -> list[RenditionCheck]:
        """Renditions that are looked at in turn: neither the first variant nor the first audio rendition."""
        return [*self._variants[1:], *self._audio[1:]] if self._settings.renditions == "rotate" else []

    def _plan_looks(self) -> None:
        """Tell each rendition how often it will be looked at."""
        turning = self._turning
        for rendition in turning:
            rendition.history.look_interval = self._settings.interval * len(turning)

    def _choose(self, now: float) -> list[RenditionCheck]:
        """Return the renditions whose playlists to request in this poll."""
        first, *others = self._variants
        mode, playable = self._settings.renditions, first.verdict.playable
        if mode == "all" or playable is False or (playable is None and mode == "rotate"):
            chosen = [first, *others, *self._audio]
        else:
            chosen, turning = [first, *self._audio[:1]], self._turning
            if turning:
                self._turn = (self._turn + 1) % len(turning)
                chosen.append(turning[self._turn])
                chosen += [rendition for rendition in turning if rendition.needs_another_look]
            chosen += [rendition for rendition in self._judged() if self._segments.wants_whole(rendition, now)]
        return [rendition for rendition in dict.fromkeys(chosen) if rendition.is_due(now)]

    async def _fetch_rendition(self, rendition: RenditionCheck, deadline: float) -> None:
        fetched = await rendition.fetch(self._fetcher, self._cookies, self._log, self._clock, deadline=deadline)
        variables = self._master.variables if self._master is not None else {}
        playlist = None if fetched is None else await rendition.read(fetched, self._log, variables)
        if isinstance(playlist, MasterPlaylist):
            rendition.problem, playlist = "a master playlist instead of a media playlist", None
        self._looks.append(_Look(rendition, fetched, playlist, self._clock.monotonic(), self._clock.now()))

    def apply(self, start: StartTask) -> list[asyncio.Task[None]]:
        """Apply the finished requests, and start to fetch new segments. Return the tasks that were started."""
        looks, self._looks = self._looks, []
        for look in looks:
            if look.playlist is not None and look.fetched is not None:
                look.rendition.accept(look.playlist, look.fetched, now=look.at, wall=look.wall)
            else:
                look.rendition.note_failure(look.at, self._log)
        now = self._clock.monotonic()
        self._add_totals(now)
        return self._segments.start(
            (look.rendition for look in looks if look.playlist is not None), self._judged(), start
        )

    # -- segments ------------------------------------------------------------------------------------------------------

    def _judged(self) -> list[RenditionCheck]:
        """Return the renditions whose whole segments are fetched: the lowest one with video, and each audio in turn."""
        if self._master is None:
            return [self._entry]
        lowest = [variant for variant in self._variants if variant.name == self._lowest] or self._variants[:1]
        if not self._needs_audio or not self._audio:
            return lowest
        oldest = min(self._audio, key=lambda audio: audio.segments.whole_at or 0.0)
        return [*lowest, oldest]

    @property
    def _needs_audio(self) -> bool:
        return self._master is not None and renditions.needs_audio(self._master)

    # -- totals --------------------------------------------------------------------------------------------------------

    @property
    def _primary(self) -> RenditionCheck:
        """The rendition whose media is counted: the first one that is playable."""
        if self._master is None:
            return self._entry
        return next((variant for variant in self._variants if variant.verdict.playable), self._variants[0])

    def _add_totals(self, now: float) -> None:
        """Add what the primary rendition has counted since the last poll."""
        primary = self._primary
        for rendition in [self._entry] if self._master is None else self._variants:
            current = rendition.history.totals
            if current != rendition.counted:
                if rendition is primary:
                    self._totals.add_growth(rendition.counted, current)
                rendition.counted = copy(current)
        can_see = not (primary.is_missing or primary.is_unknown or primary.history.has_ended)
        self._trends.add(
            self._totals,
            now,
            live=self._live(),
            can_see=can_see,
            target=primary.history.target_seconds,
        )

    # -- report --------------------------------------------------------------------------------------------------------

    @property
    def verdict(self) -> Verdict:
        """Whether a new viewer could start the stream now."""
        entry = self._entry
        if self._master is None or entry.is_missing or entry.history.is_stale:
            return entry.verdict
        if entry.is_forbidden:
            return UNKNOWN
        found = self._verdict_of_renditions()
        if found.reason is UnplayableReason.PLAYLIST_MISSING:
            return found._replace(reason=UnplayableReason.RENDITIONS_MISSING, detail="no rendition exists (404)")
        return found

    def _verdict_of_renditions(self) -> Verdict:
        """Return whether there are renditions that a viewer could play: one with video, and one with audio."""
        video = combine([variant.verdict for variant in self._variants if variant.history.looked_at is not None])
        audio = [rendition.verdict for rendition in self._audio if rendition.history.looked_at is not None]
        if video.playable and self._needs_audio and audio:
            combined = combine(audio)
            if combined.playable is not True:
                return combined._replace(detail=f"audio: {combined.detail}" if combined.detail else "")
        return video

    def report(self) -> StreamReport:
        """Return what is known now."""
        now = self._clock.monotonic()
        verdict, primary = self.verdict, self._primary
        live = self._live()
        history, playlist, totals = primary.history, primary.current_playlist, self._totals
        checks = [self._entry] if self._master is None else [*self._variants, *self._audio]
        is_known = primary.playlist is not None
        judged = self._judged()
        size = next((check.segments.size for check in judged if check.segments.size), None)
        is_looking = self._settings.segments != "none" and any(check.segments.looked_key for check in checks)
        has_wholes = self._segments.totals.media_seconds > 0
        is_ended = live is False and history.has_ended
        status = Status.LIVE if live else Status.UNKNOWN if live is None else Status.IDLE
        return StreamReport(
            id=self.stream.id,
            name=self.stream.name,
            protocol=primary.protocol,
            video_codec=first_codec(judged, TrackKind.VIDEO),
            audio_codec=first_codec(judged, TrackKind.AUDIO),
            resolution=f"{size[0]}x{size[1]}" if size else "",
            status=Status.ENDED if is_ended else status,
            live=live,
            playable=verdict.playable,
            unplayable_reason=verdict.reason.value if verdict.reason else "",
            playback_detail=verdict.detail,
            playback_notes=tuple(chain(renditions.notes(self._master), playlist_notes.find(checks))),
            playback_findings=tuple(self._findings(now)) if live else (),
            playback_forbidden=self._is_forbidden(checks),
            media_changed_timestamp_seconds=history.changed_wall if history.has_advanced else None,
            media_edge_timestamp_seconds=playlist.edge_timestamp_seconds if playlist is not None else None,
            latency_seconds=history.latency.seconds if playlist is not None else None,
            target_latency_seconds=primary.target_latency_seconds,
            segment_target_seconds=playlist.target_duration_seconds if playlist is not None else None,
            window_seconds=playlist.window_seconds if playlist is not None else None,
            media_segments=totals.segments if is_known else None,
            media_seconds=totals.seconds if is_known else None,
            missed_segments=totals.missed if is_known else None,
            sequence_resets=totals.resets if is_known else None,
            sequence_regressions=totals.regressions if is_known else None,
            sequence_conflicts=totals.conflicts if is_known else None,
            discontinuities=totals.discontinuities if is_known else None,
            gap_segments=totals.gaps if is_known else None,
            segment_fetch_failures=self._segments.totals.failures if is_looking else None,
            segment_download_seconds=self._segments.totals.download_seconds if has_wholes else None,
            segment_media_seconds=self._segments.totals.media_seconds if has_wholes else None,
            segment_first_byte_seconds=current.first_byte_seconds if (current := primary.current_segments) else None,
            media_bitrates={
                check.name: current.bitrate
                for check in checks
                if (current := check.current_segments) is not None and current.bitrate is not None
            },
            renditions=self._renditions() if playlist is not None else None,
            playable_renditions=self._count_playable(),
            expected_renditions=self._expected_renditions,
            audio_present=self._present(TrackKind.AUDIO),
            video_present=self._present(TrackKind.VIDEO),
        )

    def _live(self) -> bool | None:
        """Return whether new media arrives in any variant."""
        if self._master is None:
            return self._entry.live
        states = [variant.live for variant in self._variants if variant.history.looked_at is not None]
        if any(states):
            return True
        return False if states and all(state is False for state in states) else None

    def _is_forbidden(self, checks: list[RenditionCheck]) -> bool | None:
        if self._entry.is_forbidden or any(check.is_forbidden or check.segments.is_forbidden for check in checks):
            return True
        return False if any(check.history.looked_at is not None for check in checks) else None

    def _renditions(self) -> tuple[Rendition, ...]:
        return tuple(
            Rendition(name=variant.name, target_bitrate_bytes_per_second=variant.bandwidth)
            for variant in self._variants
            if variant.bandwidth is not None
        )

    def _count_playable(self) -> int | None:
        """Return the number of playable variants; None until all of them are known."""
        variants = [self._entry] if self._master is None else self._variants
        if self._settings.renditions == "first" and len(variants) > 1:
            return None
        verdicts = [variant.verdict.playable for variant in variants]
        return None if None in verdicts else verdicts.count(True)

    @property
    def _expected_renditions(self) -> int | None:
        return self.stream.expected_renditions or (self._ladder[1] if self._ladder else None)

    def _lacks_renditions(self) -> bool:
        playable, expected = self._count_playable(), self._expected_renditions
        return playable is not None and expected is not None and playable < expected

    def _present(self, kind: TrackKind) -> bool | None:
        """Return whether audio or video is present; None if that is unknown, or not checked."""
        is_apart = kind is TrackKind.AUDIO and self._needs_audio
        checks = self._audio if is_apart else [check for check in self._judged() if not check.is_audio]
        requirement = self.stream.audio if kind is TrackKind.AUDIO else self.stream.video
        current = (segments for check in checks if (segments := check.current_segments) is not None)
        found = {segments.presence(kind).verdict(requirement) for segments in current}
        return False if False in found else True if True in found else None

    def _findings(self, now: float) -> Iterator[HealthReason]:
        """Return the findings that lower the health score, in the order of ``HealthReason``."""
        primary = self._primary
        found = {
            HealthReason.SEGMENT_MISSING: primary.segments.are_missing,
            HealthReason.AUDIO_MISSING: self._present(TrackKind.AUDIO) is False,
            HealthReason.VIDEO_MISSING: self._present(TrackKind.VIDEO) is False,
            HealthReason.SLOW: any(check.segments.is_slow for check in self._judged()),
            HealthReason.SHORTAGE: self._trends.is_short_of_media,
            HealthReason.SEQUENCE: self._trends.is_unsteady,
            HealthReason.GAP: primary.history.gap_share > GAP_SHARE,
            HealthReason.RENDITION_MISSING: self._lacks_renditions(),
            HealthReason.LATENCY_GROWING: primary.history.is_latency_growing,
            HealthReason.WINDOW_SHORT: primary.history.is_window_short(now),
        }
        return (reason for reason, is_found in found.items() if is_found)
