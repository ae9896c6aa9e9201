"""Streams have no derived score while a value that it depends on is unreadable, for every value of every platform.

The platforms come from the registry, and the values from their recordings; nothing is listed here.
"""

from __future__ import annotations

import pytest

from tests.faults.health_facts import HEALTH_FIELDS, Spoilt, spoilt_facts
from tests.platforms.recordings import PlatformRecording, all_recordings, recorded_platforms

pytestmark = pytest.mark.slow

PLATFORMS = [platform.name for platform in recorded_platforms()]


def has_a_derived_score(spoilt: Spoilt) -> bool:
    """Return whether there is a score that is not the platform's own."""
    score = spoilt.after.health_score_ratio
    return score is not None and score != spoilt.after.report.health_score_ratio


@pytest.mark.parametrize("recording", all_recordings(), ids=str)
def test_stream_has_no_derived_score_while_a_health_fact_is_unreadable(recording: PlatformRecording) -> None:
    spoilt_facts_ = spoilt_facts(recording.platform.name, recording.name)
    wrong = {str(spoilt): sorted(spoilt.lost) for spoilt in spoilt_facts_ if has_a_derived_score(spoilt)}
    assert wrong == {}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_recordings_of_a_platform_have_every_health_fact_that_it_feeds(platform: str) -> None:
    """Otherwise the test above proves nothing about it."""
    recordings = [recording for recording in all_recordings() if recording.platform.name == platform]
    found = [spoilt for recording in recordings for spoilt in spoilt_facts(platform, recording.name)]
    lost = {field for spoilt in found for field in spoilt.lost}
    # a rate measured from a total needs more than one poll
    measured = {rate.rate for rate in recordings[0].platform.rates if rate.is_derived and rate.total in lost}
    assert set(HEALTH_FIELDS) & recordings[0].platform.feeds - lost - measured == set()
    if lost & set(HEALTH_FIELDS):
        assert any(spoilt.before.health_score_ratio is not None for spoilt in found)
