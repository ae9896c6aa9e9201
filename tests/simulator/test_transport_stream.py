"""The generated segments: what the exporter's own inspection, and a real decoder, find in them."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.media.facts import MediaFacts, Track, TrackKind
from exporter.media.segment import inspect_segment
from exporter.simulator.elementary_streams import key_picture, repeated_picture
from exporter.simulator.transport_stream import RENDITIONS, SEGMENT_SECONDS, Rendition, make_segment

EVERY_RENDITION = pytest.mark.parametrize("rendition", RENDITIONS, ids=[rendition.name for rendition in RENDITIONS])


def inspect(data: bytes) -> MediaFacts:
    """Inspect a whole segment without any damage."""
    facts = inspect_segment(data, whole=True)
    transport = facts.transport
    assert transport is not None
    assert (transport.has_pat, transport.has_pmt, transport.packets) == (True, True, len(data) // 188)
    damages = (transport.continuity_errors, transport.transport_errors, transport.sync_losses)
    assert damages == (0, 0, 0)
    assert not facts.truncated
    assert not facts.encrypted
    return facts


def track(facts: MediaFacts, kind: TrackKind) -> Track:
    [found] = [track for track in facts.tracks if track.kind is kind]
    assert found.declared
    return found


@EVERY_RENDITION
def test_segment_has_audio_and_video_and_no_damage(rendition: Rendition) -> None:
    for number in range(5):
        data = make_segment(rendition, number)
        facts = inspect(data)
        assert (facts.audio, facts.video, facts.key_frame_at_start) == (True, True, True)
        assert facts.codecs == ("aac", "h264")
        assert len(data) == rendition.size == rendition.bitrate * SEGMENT_SECONDS / 8


@EVERY_RENDITION
def test_segment_without_audio_still_declares_it(rendition: Rendition) -> None:
    facts = inspect(make_segment(rendition, 3, with_audio=False))
    assert (facts.audio, facts.video) == (False, True)
    assert track(facts, TrackKind.AUDIO).codec == "aac"


@given(first=st.integers(0, 10**6), gaps=st.lists(st.booleans(), min_size=2, max_size=6))
def test_segments_follow_each_other_without_gaps(first: int, gaps: list[bool]) -> None:
    rendition = RENDITIONS[-1]
    segments = [make_segment(rendition, first + n, with_audio=audio) for n, audio in enumerate(gaps)]
    inspect(b"".join(segments))
    starts = [track(inspect(segment), TrackKind.VIDEO).first_seconds or 0.0 for segment in segments]
    for earlier, later in pairwise(starts):
        assert (later - earlier) % (2**33 / 90_000) == pytest.approx(SEGMENT_SECONDS)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 99, 10**9])
def test_audio_is_in_step_with_video(number: int) -> None:
    facts = inspect(make_segment(RENDITIONS[-1], number))
    video, audio = track(facts, TrackKind.VIDEO), track(facts, TrackKind.AUDIO)
    assert video.first_seconds is not None
    assert audio.first_seconds is not None
    assert 0 <= audio.first_seconds - video.first_seconds < 1024 / 48_000


def test_start_of_a_large_segment_shows_only_its_key_frame() -> None:
    facts = inspect_segment(make_segment(RENDITIONS[0], 0)[: 16 * 1024], whole=False)
    assert (facts.audio, facts.video) == (None, True)


def test_segment_is_made_quickly() -> None:
    make_segment(RENDITIONS[0], 0)
    begin = time.process_time()
    for number in range(0, 400, 4):
        make_segment(RENDITIONS[0], number)
    assert time.process_time() - begin < 1.0


@pytest.mark.parametrize(("width", "size"), [(24, 1000), (1280, 100)])
def test_picture_that_cannot_be_made_is_refused(width: int, size: int) -> None:
    with pytest.raises(ValueError, match="picture"):
        key_picture(width, 720, size)


def test_picture_has_the_requested_size() -> None:
    assert len(key_picture(1280, 720, 5000)) == 5000
    assert len(repeated_picture(1280, 720, 31, 100)) == 100
