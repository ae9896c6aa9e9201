"""The recordings of all platforms, which the suites for faults, fuzzing and unreadable lists run over.

A platform's recordings are the YAML files in ``responses/<platform>/``; ``recorded.yaml`` is the one that is broken in
every way that the fault matrix has. ``docs/development/adding-a-platform.md`` explains the keys.
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

from exporter.platforms.base import Platform
from exporter.platforms.registry import shipped
from exporter.platforms.testing import RecordedResponse, Recording, expose_async
from tests.platforms.row_documents import Document, document_of

RESPONSES = Path(__file__).parent / "responses"
MAIN = "recorded"
STREAMS = 3
"""Number of streams in a recording with ``three_streams``; faults of single streams spoil the first one."""
_LIVE = re.compile(r'^stream_live\{.*stream="((?:[^"\\]|\\.)*)"\} 1$', re.MULTILINE)


@dataclass(frozen=True)
class Rows:
    """Where in the responses the rows are, each of which is the record of a stream."""

    rows: Mapping[str, str]
    """Path by request."""
    identity: Sequence[str]
    """The fields of a row that tell which stream it is about; the last one differs between streams of one list."""
    names: Sequence[str] = ()
    """Further fields of a row that hold a name."""


@dataclass(frozen=True)
class Pages:
    """How a response announces a next page."""

    rows: Rows
    link: str = ""
    """The target of a ``Link`` header, with ``{page}`` for the page's name."""
    set: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Values in its JSON, by their paths."""


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
    """What a row proves, for the suites that make up the life of a stream. Paths lead through a row, as in ``a/b``."""

    off_air: Mapping[str, Any]
    """Values, by path, with which the first row, which is live, is that of a stream that is off air; None: no value."""
    unknown: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Values with which nobody can tell whether it is live; empty: there are none."""
    ingest_total: str = ""
    """Path of the running total of received bytes."""
    heartbeat: str = ""
    """Path of the last sign of life, in unix milliseconds."""
    list_total: str = ""
    """Path, in the response, of the number of rows in the whole list."""
    page_count: str = ""
    """Path, in the response, of the number of pages."""


@dataclass(frozen=True)
class PlatformRecording:
    """A recording, and what its YAML file tells the suites besides."""

    platform: type[Platform[Any]]
    name: str
    recording: Recording
    streams: Rows | None = None
    pages: Pages | None = None
    login: LoginRequest | None = None
    public: Sequence[str] = ()
    """Requests that need no credentials."""
    secrets: Sequence[str] = ()
    """Texts in the responses that must never be shown."""
    evidence: Evidence | None = None
    faults: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """What this platform does under a fault, where it is not what most do (``tests/faults/matrix.py``)."""

    def __str__(self) -> str:
        return f"{self.platform.name} {self.name}"

    @property
    def rows(self) -> Rows:
        """Where the streams are; raises where the recording does not tell."""
        assert self.streams is not None, f"{self}: the key streams is missing"
        return self.streams

    @property
    def proofs(self) -> Evidence:
        """What a row proves; raises where the recording does not tell."""
        assert self.evidence is not None, f"{self}: the key evidence is missing"
        return self.evidence

    @property
    def has_list(self) -> bool:
        """Whether a response is a list of streams, not the record of a single one."""
        rows = self.streams.rows.items() if self.streams else ()
        return bool(rows) and not any(self.document(request).is_alone(path) for request, path in rows)

    @property
    def content_type(self) -> str:
        """The type of the responses with the streams."""
        requests = self.recording.responses if self.streams is None else self.streams.rows
        return self.response(next(iter(requests))).content_type

    def response(self, request: str) -> RecordedResponse:
        """Return the response to a request; of several in turn, the last one."""
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
        """Return a copy with three streams in each list, which differ in nothing but their identity and names.

        Where each stream has a response of its own, these stay as they are.
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
                bodies[request] = document.body()
        return self.with_bodies(bodies)

    def _other(self, document: Document, row: Any, number: int) -> Any:
        fields = (self.rows.identity[-1], *self.rows.names)
        return document.with_texts(row, {field: f"{document.read(row, field)}-{number}" for field in fields})

    def live_labels(self) -> set[str]:
        """Return the labels of the streams that are live after one poll, as the exposition has them."""
        return set(_LIVE.findall(asyncio.run(expose_async(self.platform, self.recording))))

    def without_first(self) -> PlatformRecording:
        """Return a copy in which the first row can't be read: all its fields have other names."""
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
            assert found is not None, "pages of what? rows and identity, here or under streams"
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
def all_recordings() -> tuple[PlatformRecording, ...]:
    """Return every recording of every platform of this repository; a platform may have none."""
    return tuple(
        _load(platform, file)
        for platform in sorted(shipped(), key=lambda platform: platform.name)
        for file in sorted((RESPONSES / platform.name).glob("*.yaml"))
    )


def recording_of(platform: str, name: str = MAIN) -> PlatformRecording:
    """Return one recording; raises ``LookupError`` where it is missing."""
    for recording in all_recordings():
        if (recording.platform.name, recording.name) == (platform, name):
            return recording
    raise LookupError(
        f"platform {platform} has no recording {name}: write {RESPONSES.name}/{platform}/{name}.yaml below "
        "tests/platforms (docs/development/adding-a-platform.md)"
    )


def main_recordings() -> dict[str, PlatformRecording]:
    """Return the recording that the fault matrix uses, by platform."""
    return {platform.name: recording_of(platform.name) for platform in sorted(shipped(), key=lambda kind: kind.name)}
