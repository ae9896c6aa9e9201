"""The recordings of all platforms, used by the suites for faults, fuzzing and unreadable lists.

A platform's recordings are the YAML files in ``responses/<platform>/``; the fault matrix uses ``recorded.yaml``.
``docs/development/adding-a-platform.md`` explains the keys.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from exporter.config.playback import PlaybackSettings
from exporter.platforms.base import Platform
from exporter.platforms.registry import shipped
from exporter.platforms.testing import RecordedResponse, Recording, expose_async
from tests.platforms.row_documents import Document, document_of

RESPONSES = Path(__file__).parent / "responses"
MAIN = "recorded"
STREAMS = 3
"""Number of streams in a recording with ``three_streams``; faults of single streams affect the first one."""
_LIVE = re.compile(r'^stream_live\{.*stream="((?:[^"\\]|\\.)*)"\} 1$', re.MULTILINE)


@dataclass(frozen=True)
class Rows:
    """Where the rows are in the responses; each row is the record of a stream."""

    rows: Mapping[str, str]
    """Path by request."""
    identity: Sequence[str]
    """Fields that identify the stream of a row; the last one differs between streams of a list."""
    names: Sequence[str] = ()
    """Further fields with a name."""
    count: str = ""
    """Path of the number of rows in the same response."""


@dataclass(frozen=True)
class Pages:
    """How a response announces a next page."""

    rows: Rows
    link: str = ""
    """The target of a ``Link`` header, with ``{page}`` for the page's name."""
    set: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Values to set in its JSON, by path."""


@dataclass(frozen=True)
class LoginRequest:
    """The request that exchanges a password for a bearer token."""

    request: str
    password: str
    """The field of the request's JSON."""
    token: str
    """The path in the response's JSON."""


@dataclass(frozen=True)
class Evidence:
    """How to change what a row reports, for the lifecycle suite. Paths such as ``a/b`` are relative to a row."""

    off_air: Mapping[str, Any]
    """Values, by path, that make the first (live) row off air; None removes the value."""
    unknown: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Values that make the state unknown; empty if the platform has none."""
    ingest_total: str = ""
    """Path of the running total of received bytes."""
    heartbeat: str = ""
    """Path of the heartbeat, in unix milliseconds."""
    page_count: str = ""
    """Path of the number of pages in the response."""
    without_streams: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Values of the response, by path, while no stream is listed."""


@dataclass(frozen=True)
class PlatformRecording:
    """A recording, with the further keys of its YAML file."""

    platform: type[Platform[Any]]
    name: str
    recording: Recording
    streams: Rows | None = None
    pages: Pages | None = None
    login: LoginRequest | None = None
    public: Sequence[str] = ()
    """Requests that need no credentials."""
    secrets: Sequence[str] = ()
    """Strings in the responses that must never be shown."""
    evidence: Evidence | None = None
    faults: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """Results of faults that differ from the usual ones (``tests/faults/matrix.py``)."""

    def __str__(self) -> str:
        return f"{self.platform.name} {self.name}"

    @property
    def rows(self) -> Rows:
        """Where the streams are. Fails if the recording has no such key."""
        assert self.streams is not None, f"{self}: the key streams is missing"
        return self.streams

    @property
    def proofs(self) -> Evidence:
        """How to change what a row reports. Fails if the recording has no such key."""
        assert self.evidence is not None, f"{self}: the key evidence is missing"
        return self.evidence

    @property
    def has_list(self) -> bool:
        """Whether the responses are lists of streams, rather than single streams."""
        rows = self.streams.rows.items() if self.streams else ()
        return bool(rows) and not any(self.document(request).is_alone(path) for request, path in rows)

    @property
    def content_type(self) -> str:
        """Content type of the responses with the streams."""
        requests = self.recording.responses if self.streams is None else self.streams.rows
        return self.response(next(iter(requests))).content_type

    def response(self, request: str) -> RecordedResponse:
        """Return the response to a request; if there is a sequence of responses, the last one."""
        content = self.recording.responses[request]
        return RecordedResponse.of(content[-1] if isinstance(content, list) else content)

    def document(self, request: str) -> Document:
        """Decode the response to a request with rows."""
        return document_of(self.response(request))

    def with_bodies(self, bodies: Mapping[str, bytes]) -> PlatformRecording:
        """Return a copy with other bodies in some responses."""
        changed = {request: dataclasses.replace(self.response(request), body=body) for request, body in bodies.items()}
        recording = dataclasses.replace(self.recording, responses={**self.recording.responses, **changed})
        return dataclasses.replace(self, recording=recording)

    def three_streams(self) -> PlatformRecording:
        """Return a copy with three streams in each list, which differ only in identity and names.

        Responses with a single stream are not changed.
        """
        rows, bodies = self.rows, {}
        for request, path in rows.rows.items():
            document = self.document(request)
            if not document.is_alone(path):
                first, *others = document.rows(path)
                for row in others:
                    document.replace_row(path, row, [])
                copies = [self._other(document, first, number) for number in range(2, STREAMS + 1)]
                document.replace_row(path, first, [first, *copies])
                document.count_rows(path, rows.count)
                bodies[request] = document.body()
        return self.with_bodies(bodies)

    def _other(self, document: Document, row: Any, number: int) -> Any:
        fields = (self.rows.identity[-1], *self.rows.names)
        return document.with_texts(row, {field: f"{document.read(row, field)}-{number}" for field in fields})

    def live_labels(self) -> set[str]:
        """Return the labels of the streams that are live after one poll, from the exposition."""
        return set(_LIVE.findall(asyncio.run(expose_async(self.platform, self.recording))))

    def without_first(self) -> PlatformRecording:
        """Return a copy with an unreadable first row: all its fields are renamed."""
        request, path = next(iter(self.rows.rows.items()))
        document = self.document(request)
        first = document.rows(path)[0]
        document.replace_row(path, first, [document.renamed(first)])
        return self.with_bodies({request: document.body()})


def _load(platform: type[Platform[Any]], file: Path) -> PlatformRecording:
    written = yaml.safe_load(file.read_text(encoding="utf-8"))
    given = {key: value for key, value in written.items() if key not in ("recorded_at", "settings", "responses")}
    try:
        streams = Rows(**given.pop("streams")) if "streams" in given else None
        pages = None
        if "pages" in given:
            keys = given.pop("pages")
            own = {key: keys.pop(key) for key in ("rows", "identity") if key in keys}
            found = Rows(**own) if own else streams
            assert found is not None, "key pages: rows and identity are required here or under streams"
            pages = Pages(found, **keys)
        login = LoginRequest(**given.pop("login")) if "login" in given else None
        evidence = Evidence(**given.pop("evidence")) if "evidence" in given else None
        return PlatformRecording(
            platform,
            file.stem,
            Recording.from_file(file),
            streams=streams,
            pages=pages,
            login=login,
            evidence=evidence,
            **given,
        )
    except (AssertionError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: {error}") from error


@cache
def recorded_platforms() -> tuple[type[Platform[Any]], ...]:
    """Return the platforms whose API is recorded, by name.

    Playback checks have no API and no list of streams: a failed fetch is a finding about a stream, not a failed poll.
    ``tests/platforms/hls`` has their damaged documents, faults and histories instead.
    """
    recorded = (kind for kind in shipped() if not issubclass(kind.settings_class, PlaybackSettings))
    return tuple(sorted(recorded, key=lambda kind: kind.name))


@cache
def all_recordings() -> tuple[PlatformRecording, ...]:
    """Return all recordings of all platforms in this repository."""
    return tuple(
        _load(platform, file)
        for platform in recorded_platforms()
        for file in sorted((RESPONSES / platform.name).glob("*.yaml"))
    )


def recording_of(platform: str, name: str = MAIN) -> PlatformRecording:
    """Return one recording. Raises ``LookupError`` if it is missing."""
    for recording in all_recordings():
        if (recording.platform.name, recording.name) == (platform, name):
            return recording
    raise LookupError(
        f"platform {platform} has no recording {name}: write {RESPONSES.name}/{platform}/{name}.yaml below "
        "tests/platforms (docs/development/adding-a-platform.md)"
    )


def main_recordings() -> dict[str, PlatformRecording]:
    """Return the recording that the fault matrix uses, by platform."""
    return {platform.name: recording_of(platform.name) for platform in recorded_platforms()}
