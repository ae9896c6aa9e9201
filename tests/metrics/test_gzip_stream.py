"""The compressed exposition: one gzip member, whose prefix is cached until the states change."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.metrics.exposition import Exposition, GzipStream
from exporter.metrics.self_metrics import ExporterMetrics
from exporter.model import Reason, UpstreamState
from exporter.polling.self_metrics import PollingMetrics
from tests.metrics.generated_views import ALL, stream, view

PIECES = st.lists(st.binary(max_size=2000), max_size=5)


def decompress(pieces: Sequence[bytes]) -> bytes:
    """Decompress; fail if there is anything after the first gzip member."""
    reader = zlib.decompressobj(31)
    text = reader.decompress(b"".join(pieces))
    assert reader.eof
    assert not reader.unused_data
    return text


@given(PIECES, PIECES, PIECES)
def test_prefix_can_be_continued_twice(first: list[bytes], one: list[bytes], other: list[bytes]) -> None:
    stream_ = GzipStream()
    for text in first:
        stream_.write(text)
    prefix = stream_.end_prefix()
    for rest in (one, other):
        stream_ = GzipStream(prefix)
        for text in rest:
            stream_.write(text)
        assert decompress(stream_.finish()) == b"".join(first + rest)


class Served:
    """An exposition of states that the test changes."""

    def __init__(self) -> None:
        metrics = ExporterMetrics()
        self.polling_metrics = PollingMetrics(metrics.upstreams)
        self.polling_metrics.add_upstream("livepeer", "studio")
        self.views: tuple[UpstreamState, ...] = (view(stream(viewers=1), up=True),)
        self.exposition = Exposition(lambda: self.views, metrics)

    def packed(self, parts: frozenset[str] = ALL) -> list[str]:
        """Return the lines, without process metrics, which change all the time."""
        return _lines(decompress(self.exposition.packed(parts)))

    def plain(self, parts: frozenset[str] = ALL) -> list[str]:
        return _lines(self.exposition.render(parts))


def _lines(text: bytes) -> list[str]:
    return [line for line in text.decode().splitlines() if not line.startswith(("process_", "python_"))]


@pytest.fixture
def served() -> Served:
    return Served()


@pytest.mark.parametrize(
    "parts", [ALL, frozenset({"streams"}), frozenset({"upstreams"}), frozenset({"exporter"}), ALL - {"exporter"}]
)
def test_compressed_text_equals_the_plain_text(served: Served, parts: frozenset[str]) -> None:
    for _ in range(3):
        assert served.packed(parts) == served.plain(parts)


def test_new_states_replace_the_cached_prefix(served: Served) -> None:
    served.packed()
    served.views = (view(stream(viewers=2), stream("second"), up=True),)
    assert served.packed() == served.plain()
    assert any(line.startswith("stream_viewers{") and line.endswith(" 2") for line in served.packed())
    served.views = ()
    assert served.packed() == served.plain()


def test_counters_change_although_the_prefix_is_cached(served: Served) -> None:
    before = served.packed()
    served.polling_metrics.count_stream_failure("livepeer", "studio", reason=Reason.TIMEOUT)
    after = served.packed()
    assert after == served.plain()
    assert after != before
