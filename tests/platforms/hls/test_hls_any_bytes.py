"""Any bytes as playlist, initialization section or segment give a verdict, and a healthy stream recovers from them."""

from __future__ import annotations

import asyncio
import random
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.model import Reason
from tests.media.media_files import DOCUMENTS, SEGMENTS
from tests.platforms.hls.check_world import (
    TS,
    Answer,
    CheckWorld,
    LivePackager,
    check_world,
    master_playlist,
    media_playlist,
)

PLAYLISTS = sorted(path.read_bytes() for path in DOCUMENTS.rglob("*.m3u8"))
MEDIA = sorted(path.read_bytes()[:20_000] for path in SEGMENTS.iterdir() if path.suffix != ".sh")
SECONDS = 20.0
"""CPU seconds that one hostile document may take at most, on a slow machine."""
MEBIBYTE = 2**20


def damaged(originals: list[bytes]) -> st.SearchStrategy[bytes]:
    """Return documents that are cut, joined, changed in single bytes or in numbers, or nothing but noise."""

    def change(arguments: tuple[bytes, int, str, bytes]) -> bytes:
        data, seed, kind, more = arguments
        chance = random.Random(seed)
        if kind == "cut":
            return data[: chance.randrange(len(data) + 1)]
        if kind == "insert":
            at = chance.randrange(len(data) + 1)
            return data[:at] + more + data[at:]
        if kind == "numbers":
            huge = chance.choice([b"-1", b"0", b"1e999", b"nan", b"9" * 400, b"18446744073709551616", b"0x10"])
            found = [index for index, char in enumerate(data) if chr(char).isdigit()]
            at = chance.choice(found) if found else 0
            return data[:at] + huge + data[at + 1 :]
        changed = bytearray(data)
        for _ in range(chance.randrange(1, 20)):
            if changed:
                changed[chance.randrange(len(changed))] = chance.randrange(256)
        return bytes(changed)

    kinds = st.sampled_from(["cut", "insert", "numbers", "bytes"])
    return st.one_of(
        st.binary(max_size=300),
        st.tuples(st.sampled_from(originals), st.integers(0, 2**32), kinds, st.binary(max_size=50)).map(change),
    )


async def poll(world: CheckWorld) -> None:
    await world.poll()
    state = world.state()
    assert state.up is True
    assert state.last_error_reason is not Reason.INTERNAL
    # an unexpected error of one stream is counted
    assert not [line for line in world.text().splitlines() if 'reason="internal"' in line and not line.endswith(" 0.0")]


async def survive(answers: Callable[[str, str], Answer | None], polls: int = 4) -> None:
    """Poll a stream with these answers (None: the usual one), and then without them."""
    async with check_world(lambda *_: Answer()) as world:
        packager = LivePackager(world.clock)
        is_hostile = True

        def respond(url: str, what: str, _now: float) -> Answer:
            answer = answers(url, what) if is_hostile else None
            if answer is not None:
                return answer
            return Answer(packager.playlist() if what == "playlist" else TS)

        world.respond = respond
        for _ in range(polls):
            await poll(world)
            await world.wait(5.0)
        is_hostile = False
        for _ in range(8):
            await poll(world)
            await world.wait(5.0)
        assert world.report().playable is True, world.report()
        assert world.report().live is True


@settings(max_examples=40)
@given(st.lists(damaged(PLAYLISTS), min_size=1, max_size=4))
def test_any_bytes_as_playlist(documents: list[bytes]) -> None:
    served = iter(documents * 20)
    asyncio.run(survive(lambda _url, what: Answer(next(served)) if what == "playlist" else None, len(documents)))


@settings(max_examples=20)
@given(damaged(PLAYLISTS), damaged(PLAYLISTS))
def test_any_bytes_as_rendition(first: bytes, second: bytes) -> None:
    def answers(url: str, what: str) -> Answer | None:
        if what != "playlist":
            return None
        if url.endswith("main.m3u8"):
            return Answer(master_playlist("a.m3u8", "b.m3u8", audio={"en": "c.m3u8"}))
        return Answer(first if url.endswith("a.m3u8") else second)

    asyncio.run(survive(answers))


@settings(max_examples=20)
@given(damaged(MEDIA), damaged(MEDIA))
def test_any_bytes_as_segment_and_init(segment: bytes, init: bytes) -> None:
    playlist = media_playlist(10, head='#EXT-X-MAP:URI="init.mp4"')

    def answers(_url: str, what: str) -> Answer | None:
        return Answer({"playlist": playlist, "init": init}.get(what, segment))

    asyncio.run(survive(answers))


def large_playlist(size: int) -> bytes:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:6", "#EXT-X-MEDIA-SEQUENCE:7"]
    body = "\n".join([*lines, ""]).encode()
    entry = b"#EXTINF:6,\na.ts\n"
    return body + entry * ((size - len(body)) // len(entry))


HOSTILE: dict[str, Callable[[], bytes]] = {
    "just below the limit": lambda: large_playlist(2 * MEBIBYTE),
    "just above the limit": lambda: large_playlist(2 * MEBIBYTE + 100),
    "one long line": lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6," + b"x" * (2 * MEBIBYTE - 100),
    "only line breaks": lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n" + b"\n" * (2 * MEBIBYTE - 100),
    "only unknown tags": lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n" + b"#EXT-X-Z:1\n" * 190_000,
    "only discontinuities": lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n" + b"#EXT-X-DISCONTINUITY\n" * 99_000,
    "many parts": lambda: media_playlist(1) + b'#EXT-X-PART:DURATION=1,URI="p"\n' * 60_000,
    "many keys": lambda: media_playlist(1) + b'#EXT-X-KEY:METHOD=AES-128,URI="k"\n#EXTINF:1,\nx.ts\n' * 40_000,
    "a thousand variants": lambda: master_playlist(*(f"v{number}.m3u8" for number in range(1000))),
    "five thousand variants": lambda: master_playlist(*(f"v{number}.m3u8" for number in range(5000))),
    "many audio renditions": lambda: master_playlist("v.m3u8", audio={str(n): f"a{n}.m3u8" for n in range(900)}),
    "variables in variables": lambda: (
        b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n"
        + b"".join(b'#EXT-X-DEFINE:NAME="v%d",VALUE="{$v%d}{$v%d}"\n' % (n + 1, n, n) for n in range(60))
        + b"#EXTINF:6,\n{$v60}.ts\n"
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_large_documents_take_bounded_time_and_requests(name: str) -> None:
    body = HOSTILE[name]()
    async with check_world(lambda *_: Answer(), renditions="all") as world:
        packager = LivePackager(world.clock)

        def respond(url: str, what: str, _now: float) -> Answer:
            if url.endswith("main.m3u8"):
                return Answer(body)
            return Answer(packager.playlist() if what == "playlist" else TS)

        world.respond = respond
        began = time.process_time()
        for _ in range(2):
            await poll(world)
            await world.wait(5.0)
        assert time.process_time() - began < SECONDS
        # the master playlist, at most 20 variants and 10 audio renditions, and a segment of each
        assert len(world.urls()) <= 2 * 31
        assert len(world.urls("segment")) <= 2 * 30


async def test_largest_playlist_takes_bounded_memory() -> None:
    body = large_playlist(2 * MEBIBYTE)
    async with check_world(lambda *_: Answer(body)) as world:
        world.respond = lambda _url, what, _now: Answer(body if what == "playlist" else TS)
        tracemalloc.start()
        try:
            for _ in range(3):
                await poll(world)
                await world.wait(5.0)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 100 * MEBIBYTE


@pytest.mark.parametrize(
    "path", sorted(SEGMENTS.glob("*.ts")) + sorted(SEGMENTS.glob("*.m4s")), ids=lambda path: path.name
)
async def test_every_recorded_segment_is_media(path: Path) -> None:
    await survive(lambda _url, what: Answer(path.read_bytes()) if what == "segment" else None)
