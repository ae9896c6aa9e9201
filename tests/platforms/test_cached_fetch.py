"""Data that is requested at its own interval."""

from exporter.platforms.cached_fetch import CachedFetch
from tests.fake_clock import FakeClock


def test_cached_fetch_is_due_after_its_interval_and_stale_after_three() -> None:
    clock = FakeClock()
    periodic: CachedFetch[str] = CachedFetch(60.0, clock)
    assert (periodic.is_due, periodic.value, periodic.requested_at) == (True, None, None)
    periodic.mark_requested()
    assert (periodic.is_due, periodic.requested_at) == (False, clock.monotonic())
    periodic.store("a")
    clock.advance(56.9)
    assert (periodic.is_due, periodic.value) == (False, "a")
    clock.advance(0.2)
    assert periodic.is_due
    # requested, but without a response
    periodic.mark_requested()
    assert (periodic.is_due, periodic.value) == (False, "a")
    clock.advance(122.8)
    assert periodic.value == "a"
    clock.advance(0.1)
    assert periodic.value is None
    periodic.store("b")
    assert periodic.value == "b"
