"""Streams are rendered once per poll, reusing the text of the poll before."""

from __future__ import annotations

import math
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.metrics.exposition import Exposition, ExpositionCache
from exporter.metrics.rendering import render_cache
from exporter.metrics.rendering.render_cache import RenderCache
from exporter.metrics.self_metrics import ExporterMetrics
from exporter.model import Identity, StreamState, UpstreamState
from tests.metrics.generated_views import rendered, stream, view
from tests.metrics.reference_renderer import render_plainly
from tests.metrics.test_exposition_reading import check_text_equals_the_reference


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of three streams; no more than two streams are together."""
    monkeypatch.setattr(render_cache, "CHUNK_STREAMS", 3)
    monkeypatch.setattr(render_cache, "SHARED_BLOCK_STREAMS", 2)


def of(upstream: str, *names: str, **facts: object) -> UpstreamState:
    """A view with streams of these names."""
    found: list[StreamState] = []
    for name in names:
        state = stream(name, **facts)  # type: ignore[arg-type]
        found.append(_replaced(state, upstream))
    return view(*found, upstream=upstream)


def _replaced(state: StreamState, upstream: str) -> StreamState:
    identity = Identity(state.identity.platform, upstream, state.identity.stream)
    return StreamState(identity=identity, report=state.report, status=state.status, live=state.live)


@pytest.mark.no_cover
def test_text_of_small_chunks_equals_the_reference() -> None:
    """Chunks are so small that each has some of the streams that come and go."""
    check_text_equals_the_reference()


def test_streams_that_come_and_go_are_rendered() -> None:
    cache = ExpositionCache()
    for names in ("abcdefg", "bcdefgh", "h", "", "habcdefgijk"):
        for number, viewers in ((1, 5), (2, None)):
            facts = {"viewers": viewers, "health_conditions": {f"c{number}": True, "other": False}}
            views = (of("one", *names, **facts), of("two", "x", protocol="srt" * number))
            assert rendered(*views, cache=cache).text.decode() == render_plainly(views).text


VALUES = st.one_of(st.none(), st.floats(0.0, 9.0), st.sampled_from([math.nan, math.inf]))


def test_values_that_come_and_go_are_rendered() -> None:
    @given(st.lists(st.lists(VALUES, max_size=7), min_size=2, max_size=4))
    @example([[1.0, None], [1.0, None, 2.0]])
    @example([[1.0, None, 2.0], [1.0, None]])
    @example([[1.0, None, 2.0], [1.0, 3.0, 2.0], [1.0, None, math.inf]])
    def of_polls(polls: list[list[float | None]]) -> None:
        cache = ExpositionCache()
        for values in polls:
            streams = [stream(str(n), ingest_bitrate_bytes_per_second=value) for n, value in enumerate(values)]
            assert rendered(view(*streams), cache=cache).text.decode() == render_plainly([view(*streams)]).text

    of_polls()


def test_small_upstreams_share_a_block_and_large_ones_do_not() -> None:
    views = [of("a", "1"), of("b", "1"), of("c", "1", "2", "3", "4"), of("d"), of("e", "1", "2"), of("f", "1")]
    found = RenderCache().blocks(views)
    assert [len(block.chunks) for block in found] == [1, 2, 1, 1]
    assert [sum(len(part.closed) for part in block.chunks) for block in found] == [2, 4, 2, 1]
    assert rendered(*views).text.decode() == render_plainly(views).text


def test_unchanged_upstream_keeps_its_block() -> None:
    known = RenderCache()
    first, second = of("one", "a", "b", "c"), of("two", "a", "b", "c")
    before = known.blocks([first, second])
    assert all(new is old for new, old in zip(known.blocks([first, second]), before, strict=True))
    after = known.blocks([first, of("two", "a", "b", "c")])
    assert after[0] is before[0]
    assert after[1] is not before[1]


def test_label_texts_are_reused() -> None:
    known = RenderCache()
    facts = {"health_grade": "Good", "health_conditions": {"bitrate": True}}
    (before,) = known.blocks([of("one", "a", "b", "c", **facts)])
    (after,) = known.blocks([of("one", "a", "b", "c", "d", **facts)])
    old, new, added = before.chunks[0], *after.chunks
    assert new.closed is old.closed
    assert new.label_texts["stream_health_condition"] is old.label_texts["stream_health_condition"]
    assert new.columns["stream_health_condition"] is old.columns["stream_health_condition"]
    assert new.owners is old.owners
    assert added.closed == [b'platform="livepeer",upstream="one",stream="d"} ']
    (moved,) = known.blocks([of("one", "b", "c", "a", **facts)])
    assert {id(text) for text in moved.chunks[0].closed} == {id(text) for text in old.closed}


def test_equal_values_are_kept_once() -> None:
    facts = {"health_conditions": {"bitrate": True}, "health_grade": "Good"}
    ((part,),) = [block.chunks for block in RenderCache().blocks([of("one", "a", "b", "c", **facts)])]
    for family in ("stream_health_condition", "stream_health_grade"):
        assert len({id(text) for text in part.label_texts[family].texts}) == 1
        assert len({id(key) for key in part.label_texts[family].columns[0]}) == 1


def test_series_of_two_upstreams_is_rendered_once() -> None:
    views = (of("one", "a", "b", "c"), view(*of("one", "b", "c", "d").streams, upstream="two"))
    rendering, reference = rendered(*views), render_plainly(views)
    assert rendering.text.decode() == reference.text
    assert rendering.duplicates == reference.duplicates == 2


@pytest.mark.parametrize("names", [["a", "b", "c", "a"], ["a", "b", "c", "c", "b", "a", "d"], ["a"] * 7])
def test_chunk_of_duplicates_only_is_empty(names: list[str]) -> None:
    views = (of("one", *names, health_conditions={"bitrate": True}, viewers=3),)
    rendering, reference = rendered(*views), render_plainly(views)
    assert rendering.text.decode() == reference.text
    assert rendering.duplicates == reference.duplicates > 0


def test_published_upstream_is_prepared_before_the_scrape() -> None:
    large, little = of("one", "a", "b", "c"), of("two", "a")
    exposition = Exposition(lambda: (large, little), ExporterMetrics())
    for each in (large, little):
        exposition.prepare(each)
    known = dict(exposition._cache.streams._known)
    assert list(known) == [("one",)]
    exposition.render()
    assert exposition._cache.streams._known[("one",)] is known[("one",)]


def test_threads_share_one_rendering() -> None:
    known, views = RenderCache(), [of("one", *map(str, range(300)))]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: known.blocks(views), range(8)))
    assert len({id(block) for blocks in found for block in blocks}) == 1


def test_render_cache_keeps_no_state_alive() -> None:
    known = RenderCache()
    lost = of("one", "a", "b", "c", health_conditions={"bitrate": True})
    known.blocks([lost])
    reference = weakref.ref(lost)
    del lost
    assert reference() is None
    assert known.blocks([]) == []
    assert known._known == {}
