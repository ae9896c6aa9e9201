"""The good answers of each platform: the simulator's, or recorded ones where there is no simulator.

An ``Api`` also knows where in an answer its streams stand, so that a fault can spoil one of them.
"""

from __future__ import annotations

import base64
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any, ClassVar

import aiohttp

from exporter.runtime.clock import Clock
from exporter.simulator.context import TOKEN
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulated_streams import Platform, Stream
from tests.http.raw_server import Request
from tests.platforms.scripted_api import fixture

USERNAME = "exporter"
STREAMS = 3
"""Of each platform; the first is the one that faults of single streams spoil."""
FLEET = Fleet(3 * STREAMS, seed=2)
TEN_YEARS_SECONDS = 10 * 365.25 * 86_400

Row = dict[str, Any]
_FURTHER_PAGE = re.compile(r"(?<=[?&])(cursor|page|since)=[^&]*&?")


class Ahead(Clock):
    """A clock that is ten years off."""

    def now(self) -> float:
        return super().now() + TEN_YEARS_SECONDS


@dataclass(frozen=True)
class Good:
    """An answer as the platform means it."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Any:
        return json.loads(self.body)

    def with_data(self, data: Any, **headers: str) -> Good:
        return replace(self, body=json.dumps(data).encode(), headers={**self.headers, **headers})


def made(data: Any, status: int = 200) -> Good:
    """An answer now."""
    return Good(json.dumps(data).encode(), status, {"Date": formatdate(usegmt=True)})


class Api(ABC):
    """One platform."""

    name: ClassVar[str]
    is_alone: ClassVar[bool] = False
    """Whether an answer is the record of a single stream."""
    identity: ClassVar[frozenset[str]]
    """The fields without which nobody could tell which stream a record is about."""
    labels: tuple[str, ...]
    """Of its streams; the first one is spoilt."""

    @abstractmethod
    def upstream(self, url: str, secret_file: Path) -> dict[str, Any]:
        """Its settings, but for the name; ``url``: where the fault server serves it."""

    @abstractmethod
    async def answer(self, request: Request, path: str, *, ahead: bool = False) -> Good:
        """The good answer to a request that is allowed; ``path``: below the upstream's URL, with its query."""

    def allowed(self, request: Request, path: str, secret: str) -> bool:
        """Whether the request carries the secret that is good now."""
        return request.headers.get("authorization") == f"Bearer {secret}"

    @abstractmethod
    def rows(self, path: str, data: Any) -> list[Row] | None:
        """The records of streams in an answer, to be changed in place; None: this one has none."""

    @abstractmethod
    def is_victim(self, row: Row) -> bool:
        """Whether it is the record that faults of single streams spoil."""

    @abstractmethod
    def called(self, row: Row, text: str) -> Row:
        """The record under another id and name."""

    def twice(self, row: Row) -> Iterable[Row]:
        """What stands in place of a record whose id comes twice."""
        return row, row


class Simulated(Api):
    """A platform of the simulator, asked over HTTP with the simulator's own token."""

    def __init__(self, session: aiohttp.ClientSession, base: str, base_ahead: str) -> None:
        """``base``, ``base_ahead``: where the platform stands in the simulator of now, and of ten years ahead."""
        self._session = session
        self._base, self._base_ahead = base, base_ahead
        self.streams: list[Stream] = FLEET.streams(Platform(self.name))
        self.labels = tuple(stream.id if self.name == "storm" else stream.name for stream in self.streams)

    async def answer(self, request: Request, path: str, *, ahead: bool = False) -> Good:
        # everything fits on the first page: a further one is a fault's doing
        url = (self._base_ahead if ahead else self._base) + _FURTHER_PAGE.sub("", path)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with self._session.request(
            request.method, url, headers=headers, data=request.body, allow_redirects=False
        ) as response:
            kept = {name: response.headers[name] for name in ("Date", "Link") if name in response.headers}
            return Good(await response.read(), response.status, kept)

    def upstream(self, url: str, secret_file: Path) -> dict[str, Any]:
        return {"platform": self.name, "url": url, "auth": {"bearer_token_file": str(secret_file)}}


class Livepeer(Simulated):
    name = "livepeer"
    identity = frozenset({"id"})

    def upstream(self, url: str, secret_file: Path) -> dict[str, Any]:
        return {**super().upstream(url, secret_file), "viewership": False}

    def rows(self, path: str, data: Any) -> list[Row] | None:
        return data if path.startswith("/stream?") else None

    def is_victim(self, row: Row) -> bool:
        return bool(row["id"] == self.streams[0].id)

    def called(self, row: Row, text: str) -> Row:
        return {**row, "id": text, "name": text}


class Storm(Simulated):
    name = "storm"
    identity = frozenset({"application", "streamKey"})

    def rows(self, path: str, data: Any) -> list[Row] | None:
        return data["data"]["list"] if path.startswith("/api/streams?") else None

    def is_victim(self, row: Row) -> bool:
        return f"{row['application']}/{row['streamKey']}" == self.labels[0]

    def called(self, row: Row, text: str) -> Row:
        return {**row, "streamKey": text}

    def upstream(self, url: str, secret_file: Path) -> dict[str, Any]:
        return {**super().upstream(url, secret_file), "discover": True}


class Wave(Simulated):
    name = "wave"
    identity = frozenset({"sessionId"})
    is_alone = True

    def upstream(self, url: str, secret_file: Path) -> dict[str, Any]:
        sessions = [{"id": stream.id, "name": stream.name} for stream in self.streams]
        return {**super().upstream(url, secret_file), "sessions": sessions, "ice_candidates": False}

    def rows(self, path: str, data: Any) -> list[Row] | None:
        return [data] if path.count("/") == 3 else None

    def is_victim(self, row: Row) -> bool:
        return bool(row["sessionId"] == self.streams[0].id)

    def called(self, row: Row, text: str) -> Row:
        return {**row, "protocol": text, "region": text, **({"sessionId": text} if len(text) > 1000 else {})}

    def twice(self, row: Row) -> Iterable[Row]:
        return ({**row, "sessionId": self.streams[1].id},)


class NodeMediaServer(Api):
    """Version 4 with a login, from recorded answers."""

    name = "node_media_server"
    identity = frozenset({"app", "name"})
    labels = ("live/one", "live/two", "live/three")

    def upstream(self, url: str, secret_file: Path) -> dict[str, Any]:
        auth = {"username": USERNAME, "password_file": str(secret_file)}
        return {"platform": self.name, "url": url, "auth": auth}

    async def answer(self, request: Request, path: str, *, ahead: bool = False) -> Good:
        good = self._version_4(request, path)
        if ahead:
            date = formatdate(Ahead().now(), usegmt=True)
            good = replace(good, headers={**good.headers, "Date": date})
        return good

    def _version_4(self, request: Request, path: str) -> Good:
        if path == "/api/v1/health":
            return made(fixture("node_media_server/4.4.3-health.json"))
        if path == "/api/v1/login":
            body = json.loads(request.body)
            if "password" not in body:
                return made({"success": False, "data": {}}, 400)
            return made({"success": True, "data": {"token": login_token(body["password"])}})
        answer = fixture("node_media_server/4.4.3-streams.json")
        pattern = answer["data"]["streams"][0]
        answer["data"]["streams"] = [{**pattern, "name": label.partition("/")[2]} for label in self.labels]
        return made(answer)

    def allowed(self, request: Request, path: str, secret: str) -> bool:
        if path == "/api/v1/health":
            return True
        if path == "/api/v1/login":
            return json.loads(request.body).get("password") in (None, secret)
        return request.headers.get("authorization") == f"Bearer {login_token(secret)}"

    def rows(self, path: str, data: Any) -> list[Row] | None:
        return data["data"]["streams"] if path == "/api/v1/streams" else None

    def is_victim(self, row: Row) -> bool:
        return bool(row["name"] == "one")

    def called(self, row: Row, text: str) -> Row:
        return {**row, "name": text}


class NodeMediaServer2(NodeMediaServer):
    """Version 2 with Basic: its password counts in every request."""

    def _version_4(self, request: Request, path: str) -> Good:
        if path == "/api/server":
            return made(fixture("node_media_server/2.7.4-server.json"))
        if path == "/api/streams":
            pattern = fixture("node_media_server/2.7.4-streams.json")["live"]["test"]
            return made({"live": {label.partition("/")[2]: pattern for label in self.labels}})
        return made({}, 404)

    def allowed(self, request: Request, path: str, secret: str) -> bool:
        return path == "/api/v1/health" or request.headers.get("authorization") == f"Basic {basic(secret)}"


def login_token(password: str) -> str:
    """The token that a login with this password gives."""
    return f"{password}-logged-in"


def basic(password: str) -> str:
    return base64.b64encode(f"{USERNAME}:{password}".encode()).decode()
