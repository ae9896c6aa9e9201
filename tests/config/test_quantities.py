from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.types import (
    format_bitrate,
    format_duration,
    format_size,
    parse_bitrate,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("500ms", 0.5),
        ("15s", 15),
        ("1m30s", 90),
        ("1h30m", 5400),
        ("24h", 86_400),
        ("7d", 604_800),
        ("1w", 604_800),
        ("1y", 31_536_000),
        ("1y2w3d4h5m6s7ms", 31_536_000 + 1_209_600 + 259_200 + 14_400 + 300 + 6 + 0.007),
    ],
)
def test_prometheus_duration_is_parsed(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "15", "1.5s", "-1s", "30s1m", "1s1s", "15 s", "15S", "s", "1m\n", "١s"])
def test_invalid_prometheus_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (90, "1m30s"), (86_400, "1d"), (90_000, "25h"), (604_800, "1w"), (0.25, "250ms")]
)
def test_duration_is_formatted_like_prometheus(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(min_value=0, max_value=10**14))
def test_formatted_duration_parses_to_the_same_value(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.text())
def test_any_text_is_parsed_or_refused_with_value_error(text: str) -> None:
    for parse in (parse_duration, parse_size, parse_bitrate):
        with contextlib.suppress(ValueError):
            assert parse(text) >= 0


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1024", 1024),
        ("0B", 0),
        ("512kB", 512_000),
        ("512KB", 512_000),
        ("10MB", 10_000_000),
        ("16MiB", 2**24),
        ("1.5GiB", 3 * 2**29),
        ("2GB", 2 * 10**9),
        ("3KiB", 3072),
    ],
)
def test_size_is_parsed(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "1.5", "MB", "1 MB", "1mb", "-1B", "1TB", "1e3"])
def test_invalid_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=2**40))
def test_formatted_size_parses_to_the_same_value(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("text", "rate"),
    [("4Mbps", 500_000), ("2.5Mbps", 312_500), ("800kbps", 100_000), ("64000bps", 8000), ("1Gbps", 125e6)],
)
def test_bitrate_is_parsed_to_bytes_per_second(text: str, rate: float) -> None:
    assert parse_bitrate(text) == rate


@pytest.mark.parametrize("text", ["", "4", "4MBps", "4mbps", "4 Mbps", "-1bps", "4Mbit"])
def test_invalid_bitrate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a bitrate"):
        parse_bitrate(text)


@given(st.integers(min_value=1, max_value=999_999))
def test_formatted_bitrate_parses_to_the_same_value(kilobits: int) -> None:
    assert parse_bitrate(format_bitrate(kilobits * 125)) == pytest.approx(kilobits * 125)


def test_small_bitrate_is_formatted_in_bits() -> None:
    assert format_bitrate(100) == "800bps"
