"""The exporter, with a log of what its playback checks fetched: run like ``python -m exporter``.

Each line of ``wire.jsonl``, in the current folder, is a poll of a check, a fetch, or what a segment shows.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[2]))

from exporter.cli import main
from exporter.http.media import CookieJar, Fetched, FetchError, MediaFetcher
from exporter.http.media_fetch import Wanted
from exporter.media.facts import MediaFacts
from exporter.media.fmp4 import InitFacts
from exporter.platforms.api import DropCounter, FetchResult, Requests
from exporter.platforms.hls import Hls
from exporter.platforms.playback.segment_checks import SegmentChecker

_upstream: ContextVar[str] = ContextVar("upstream")
_poll, _fetch, _inspect = Hls.fetch, MediaFetcher._fetch, SegmentChecker._inspect
_log = open("wire.jsonl", "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - open until the process ends


def _write(entry: dict[str, Any]) -> None:
    _log.write(json.dumps({"upstream": _upstream.get(), **entry}) + "\n")


async def poll(self: Hls, requests: Requests, drops: DropCounter) -> FetchResult:
    # the tasks of the poll's fetches inherit it
    _upstream.set(self.settings.name)
    _write({"poll": time.time()})
    return await _poll(self, requests, drops)


async def fetch(self: MediaFetcher, url: str, cookies: CookieJar, wanted: Wanted) -> Fetched:
    entry: dict[str, Any] = {"time": time.time(), "what": wanted.what, "path": urlsplit(url).path}
    if not wanted.is_playlist:
        entry["whole"] = wanted.byte_range is wanted.whole_range
    try:
        fetched = await _fetch(self, url, cookies, wanted)
    except FetchError as error:
        entry |= {"error": error.fetch_reason.value, "status": error.status, "seconds": round(error.seconds, 4)}
        _write(entry | {"is_inconclusive": error.is_inconclusive or None})
        raise
    entry |= {
        "status": fetched.status,
        "type": fetched.content_type,
        "date": fetched.date,
        "age": fetched.age,
        "first_byte": round(fetched.first_byte_seconds, 4),
        "seconds": round(fetched.seconds, 4),
    }
    if wanted.is_playlist:
        entry["body"] = fetched.body.decode()
    else:
        entry |= {"bytes": len(fetched.body), "is_cut": fetched.is_cut, "total_bytes": fetched.total_bytes}
        entry["sha256"] = hashlib.sha256(fetched.body[:16_384]).hexdigest()[:12]
    _write(entry)
    return fetched


async def inspect(self: SegmentChecker, fetched: Fetched, init: InitFacts | None, *, is_opaque: bool) -> MediaFacts:
    facts = await _inspect(self, fetched, init, is_opaque=is_opaque)
    tracks = [
        [track.kind, track.codec, track.packets, track.width_pixels, track.height_pixels] for track in facts.tracks
    ]
    entry = {"container": facts.container, "audio": facts.audio, "video": facts.video, "tracks": tracks}
    _write({"time": time.time(), "facts": entry, "path": urlsplit(fetched.url).path})
    return facts


Hls.fetch = poll  # type: ignore[method-assign]
MediaFetcher._fetch = fetch  # type: ignore[method-assign]
SegmentChecker._inspect = inspect  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
