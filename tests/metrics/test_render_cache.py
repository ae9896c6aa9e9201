"""The render cache: text reused from the previous poll equals text rendered from scratch."""

from __future__ import annotations

import math
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.metrics.exposition import ExpositionCache
from exporter.metrics.rendering import render_cache
from exporter.metrics.rendering.render_cache import RenderCache
from exporter.model import Identity, StreamState, UpstreamState
from tests.metrics.generated_views import rendered, stream, view
from tests.metrics.reference_renderer import render_reference
from tests.metrics.test_exposition_reading import check_text_equals_the_reference


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use chunks of at most three streams and shared blocks of at most two."""
    monkeypatch.setattr(render_cache, "CHUNK_STREAMS", 3)
    monkeypatch.setattr(render_cache, "SHARED_BLOCK_STREAMS", 2)


def make_upstream(upstream: str, *names: str, **facts: object) -> UpstreamState:
    """Return an upstream with streams of these names."""
    found: list[StreamState] = []
    for name in names:
        state = stream(name, **facts)  # type: ignore[arg-type]
        found.append(_with_upstream(state, upstream))
    return view(*found, upstream=upstream)


def _with_upstream(state: StreamState, upstream: str) -> StreamState:
    identity = Identity(state.identity.platform, upstream, state.identity.stream)
    return StreamState(identity=identity, report=state.report, status=state.status, live=state.live)


@pytest.mark.no_cover
def test_text_of_small_chunks_equals_the_reference() -> None:
    check_text_equals_the_reference()


def test_text_is_correct_while_streams_come_and_go() -> None:
    cache = ExpositionCache()
    for names in ("abcdefg", "bcdefgh", "h", "", "habcdefgijk"):
        for number, viewers in ((1, 5), (2, None)):
            facts = {"viewers": viewers, "health_conditions": {f"c{number}": True, "other": False}}
            views = (make_upstream("one", *names, **facts), make_upstream("two", "x", protocol="srt" * number))
            assert rendered(*views, cache=cache).text.decode() == render_reference(views).text


VALUES = st.one_of(st.none(), st.floats(0.0, 9.0), st.sampled_from([math.nan, math.inf]))


def test_text_is_correct_while_values_come_and_go() -> None:
    @given(st.lists(st.lists(VALUES, max_size=7), min_size=2, max_size=4))
    @example([[1.0, None], [1.0, None, 2.0]])
    @example([[1.0, None, 2.0], [1.0, None]])
    @example([[1.0, None, 2.0], [1.0, 3.0, 2.0], [1.0, None, math.inf]])
    def check_polls(polls: list[list[float | None]]) -> None:
        cache = ExpositionCache()
        for values in polls:
            streams = [stream(str(n), ingest_bitrate_bytes_per_second=value) for n, value in enumerate(values)]
            assert rendered(view(*streams), cache=cache).text.decode() == render_reference([view(*streams)]).text

    check_polls()


def test_small_upstreams_share_a_block_and_large_ones_do_not() -> None:
    views = [
        make_upstream("a", "1"),
        make_upstream("b", "1"),
        make_upstream("c", "1", "2", "3", "4"),
        make_upstream("d"),
        make_upstream("e", "1", "2"),
        make_upstream("f", "1"),
    ]
    found = RenderCache().blocks(views)
    assert [len(block.chunks) for block in found] == [1, 2, 1, 1]
    assert [sum(len(part.closed) for part in block.chunks) for block in found] == [2, 4, 2, 1]
    assert rendered(*views).text.decode() == render_reference(views).text


def test_stream_of_two_upstreams_is_rendered_once() -> None:
    views = (make_upstream("one", "a", "b", "c"), view(*make_upstream("one", "b", "c", "d").streams, upstream="two"))
    rendering, reference = rendered(*views), render_reference(views)
    assert rendering.text.decode() == reference.text
    assert rendering.duplicates == reference.duplicates == 2


@pytest.mark.parametrize("names", [["a", "b", "c", "a"], ["a", "b", "c", "c", "b", "a", "d"], ["a"] * 7])
def test_duplicates_in_several_chunks_are_dropped(names: list[str]) -> None:
    views = (make_upstream("one", *names, health_conditions={"bitrate": True}, viewers=3),)
    rendering, reference = rendered(*views), render_reference(views)
    assert rendering.text.decode() == reference.text
    assert rendering.duplicates == reference.duplicates > 0


def test_concurrent_renderings_are_equal() -> None:
    cache, views = ExpositionCache(), (make_upstream("one", *map(str, range(300))),)
    with ThreadPoolExecutor(4) as threads:
        texts = set(threads.map(lambda _: rendered(*views, cache=cache).text.decode(), range(8)))
    assert texts == {render_reference(views).text}


def test_render_cache_keeps_no_state_alive() -> None:
    known = RenderCache()
    lost = make_upstream("one", "a", "b", "c", health_conditions={"bitrate": True})
    known.blocks([lost])
    reference = weakref.ref(lost)
    del lost
    assert reference() is None
    assert known.blocks([]) == []
