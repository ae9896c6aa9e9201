"""What scrapes need of streams is made once for each poll, out of what was there before."""

from __future__ import annotations

import math
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.metrics.exposition import Exposition, LabelTexts
from exporter.metrics.rendering import render_cache as prepared
from exporter.metrics.rendering.render_cache import RenderCache
from exporter.metrics.self_metrics import ExporterMetrics
from exporter.model import Identity, StreamState, UpstreamState
from tests.metrics.generated_views import rendered, stream, view
from tests.metrics.reference_renderer import plain
from tests.metrics.test_exposition_reading import the_same_bytes_as_in_the_plain_way


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of three streams; no more than two streams are together."""
    monkeypatch.setattr(prepared, "STREAMS_AT_ONCE", 3)
    monkeypatch.setattr(prepared, "STREAMS_TOGETHER", 2)


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
def test_the_same_bytes_slice_by_slice() -> None:
    """Slices are so small that each has some of the streams that come and go."""
    the_same_bytes_as_in_the_plain_way()


def test_streams_that_come_and_go_between_polls() -> None:
    texts = LabelTexts()
    for names in ("abcdefg", "bcdefgh", "h", "", "habcdefgijk"):
        for number, viewers in ((1, 5), (2, None)):
            facts = {"viewers": viewers, "health_conditions": {f"c{number}": True, "other": False}}
            views = (of("one", *names, **facts), of("two", "x", protocol="srt" * number))
            assert rendered(*views, texts=texts).text.decode() == plain(views).text


VALUES = st.one_of(st.none(), st.floats(0.0, 9.0), st.sampled_from([math.nan, math.inf]))


def test_values_that_come_and_go_between_polls() -> None:
    @given(st.lists(st.lists(VALUES, max_size=7), min_size=2, max_size=4))
    @example([[1.0, None], [1.0, None, 2.0]])
    @example([[1.0, None, 2.0], [1.0, None]])
    @example([[1.0, None, 2.0], [1.0, 3.0, 2.0], [1.0, None, math.inf]])
    def of_polls(polls: list[list[float | None]]) -> None:
        texts = LabelTexts()
        for values in polls:
            streams = [stream(str(n), ingest_bitrate_bytes_per_second=value) for n, value in enumerate(values)]
            assert rendered(view(*streams), texts=texts).text.decode() == plain([view(*streams)]).text

    of_polls()


def test_of_many_upstreams_the_small_ones_are_together_and_the_others_alone() -> None:
    views = [of("a", "1"), of("b", "1"), of("c", "1", "2", "3", "4"), of("d"), of("e", "1", "2"), of("f", "1")]
    found = RenderCache().of(views)
    assert [len(block.slices) for block in found] == [1, 2, 1, 1]
    assert [sum(len(part.closed) for part in block.slices) for block in found] == [2, 4, 2, 1]
    assert rendered(*views).text.decode() == plain(views).text


def test_what_did_not_change_is_not_prepared_again() -> None:
    known = RenderCache()
    first, second = of("one", "a", "b", "c"), of("two", "a", "b", "c")
    before = known.of([first, second])
    assert all(new is old for new, old in zip(known.of([first, second]), before, strict=True))
    after = known.of([first, of("two", "a", "b", "c")])
    assert after[0] is before[0]
    assert after[1] is not before[1]


def test_label_texts_are_made_once() -> None:
    known = RenderCache()
    facts = {"health_grade": "Good", "health_conditions": {"bitrate": True}}
    (before,) = known.of([of("one", "a", "b", "c", **facts)])
    (after,) = known.of([of("one", "a", "b", "c", "d", **facts)])
    old, new, added = before.slices[0], *after.slices
    assert new.closed is old.closed
    assert new.words["stream_health_condition"] is old.words["stream_health_condition"]
    assert new.columns["stream_health_condition"] is old.columns["stream_health_condition"]
    assert new.owners is old.owners
    assert added.closed == [b'platform="livepeer",upstream="one",stream="d"} ']
    (moved,) = known.of([of("one", "b", "c", "a", **facts)])
    assert {id(text) for text in moved.slices[0].closed} == {id(text) for text in old.closed}


def test_what_many_say_is_kept_once() -> None:
    facts = {"health_conditions": {"bitrate": True}, "health_grade": "Good"}
    ((part,),) = [block.slices for block in RenderCache().of([of("one", "a", "b", "c", **facts)])]
    for family in ("stream_health_condition", "stream_health_grade"):
        assert len({id(text) for text in part.words[family].texts}) == 1
        assert len({id(key) for key in part.words[family].columns[0]}) == 1


def test_a_series_that_stands_in_two_upstreams_is_rendered_once() -> None:
    views = (of("one", "a", "b", "c"), view(*of("one", "b", "c", "d").streams, upstream="two"))
    rendering, reference = rendered(*views), plain(views)
    assert rendering.text.decode() == reference.text
    assert rendering.duplicates == reference.duplicates == 2


@pytest.mark.parametrize("names", [["a", "b", "c", "a"], ["a", "b", "c", "c", "b", "a", "d"], ["a"] * 7])
def test_a_slice_of_which_nothing_is_left_is_nothing(names: list[str]) -> None:
    views = (of("one", *names, health_conditions={"bitrate": True}, viewers=3),)
    rendering, reference = rendered(*views), plain(views)
    assert rendering.text.decode() == reference.text
    assert rendering.duplicates == reference.duplicates > 0


def test_an_upstream_that_is_published_is_prepared_before_it_is_asked_for() -> None:
    large, little = of("one", "a", "b", "c"), of("two", "a")
    exposition = Exposition(lambda: (large, little), ExporterMetrics())
    for each in (large, little):
        exposition.prepare(each)
    known = dict(exposition._texts.streams._known)
    assert list(known) == [("one",)]
    exposition.render()
    assert exposition._texts.streams._known[("one",)] is known[("one",)]


def test_threads_wait_for_each_other() -> None:
    known, views = RenderCache(), [of("one", *map(str, range(300)))]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: known.of(views), range(8)))
    assert len({id(block) for blocks in found for block in blocks}) == 1


def test_nothing_is_kept_alive() -> None:
    known = RenderCache()
    lost = of("one", "a", "b", "c", health_conditions={"bitrate": True})
    known.of([lost])
    reference = weakref.ref(lost)
    del lost
    assert reference() is None
    assert known.of([]) == []
    assert known._known == {}
