"""Bitrates from byte totals, as far as the platforms' own tests do not show them."""

import tracemalloc

from exporter.upstreams.rates import ByteRate

RATES = 5000


def test_a_rate_remembers_its_window_and_no_more() -> None:
    rate = ByteRate(window_seconds=60.0, stall_seconds=300.0)
    measured = [rate.update(total, 10.0 * number) for number, total in enumerate([0.0, *range(1000, 13_000, 1000)])]
    assert measured[:6] == [None] * 6
    assert measured[6:] == [100.0] * 7
    assert rate.update(22_000.0, 130.0) == (22_000 - 7_000) / 60


def test_a_rate_takes_less_than_half_a_kilobyte() -> None:
    tracemalloc.start()
    try:
        rates = [ByteRate(window_seconds=120.0, stall_seconds=75.0) for _ in range(RATES)]
        for at in map(float, range(0, 1000, 50)):
            seen = [rate.update(1e11 + at * 1e6 + number, at) for number, rate in enumerate(rates)]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(rate is not None and abs(rate - 1e6) < 1 for rate in seen)
    assert held / RATES < 500
