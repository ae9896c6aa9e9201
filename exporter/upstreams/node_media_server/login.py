"""The login of node-media-server 4: user name and password for a JSON Web Token.

Source: node-media-server 4.2.4, 4.2.8, 4.3.2 and 4.4.3, ``src/api/handlers/auth.js``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Any

import msgspec

from exporter.clock import Clock
from exporter.config.upstream import AuthSettings
from exporter.model import Reason
from exporter.upstreams.auth import Login
from exporter.upstreams.client import Requests
from exporter.upstreams.errors import UpstreamError
from exporter.upstreams.records import Fields, Record

LOGIN = "POST /api/v1/login"
REFUSED = frozenset({401, 429})
"""401: wrong name or password; 429: locked, for 15 minutes after five of those, or more than ten requests in a minute."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 300.0, 900.0
TOKEN_LIFE_SECONDS = 24 * 3600.0
"""The server's default, for a token that does not say."""


class NodeMediaServerLogin(Login):
    """Logs in rarely: five refused logins lock the user, for people at the same address too."""

    max_logins_per_minute = 2

    def __init__(self, settings: AuthSettings, clock: Clock) -> None:
        super().__init__(settings, clock)
        self._time = clock
        self._refused_secret = ""
        self._wait = 0.0
        self._next_attempt = 0.0

    async def login(self, requests: Requests) -> tuple[str, float]:
        """A new token and its life in seconds."""
        secret = self.password.get()
        left = self._next_attempt - self._time.monotonic()
        if secret == self._refused_secret and left > 0:
            raise UpstreamError(
                Reason.AUTH, f"{LOGIN}: refused before, asked again in {left:.0f} s or with another secret"
            )
        try:
            token = await self._token(requests, secret)
        except UpstreamError as error:
            if error.status in REFUSED:
                self._note_refusal(secret)
                raise UpstreamError(Reason.AUTH, f"{LOGIN}: status {error.status}", status=error.status) from None
            raise
        self._refused_secret, self._wait = "", 0.0
        return token, token_life(token)

    def _note_refusal(self, secret: str) -> None:
        known = secret == self._refused_secret
        self._wait = min(LONGEST_WAIT_SECONDS, 2 * self._wait) if known else FIRST_WAIT_SECONDS
        self._refused_secret = secret
        self._next_attempt = self._time.monotonic() + self._wait

    async def _token(self, requests: Requests, secret: str) -> str:
        """The password itself is sent only to servers that have no challenge (all but 4.2.7 to 4.2.x)."""
        challenge = await self._challenge(requests)
        if challenge:
            response = hmac.new(secret.encode(), challenge.encode(), hashlib.sha256).hexdigest()
            body = {"username": self.username, "challenge": challenge, "response": response}
        else:
            body = {"username": self.username, "password": secret}
        answer = await requests.post(LOGIN, body=body, auth=False)
        token = _data_text(answer.data, "token")
        if not token or not token.isascii() or not token.isprintable():
            raise UpstreamError(Reason.BAD_RESPONSE, f"{LOGIN}: no token in the answer")
        return token

    async def _challenge(self, requests: Requests) -> str:
        """What the server wants signed; empty where it answers, with 400, that it wants the password."""
        try:
            answer = await requests.post(LOGIN, body={"username": self.username}, auth=False)
        except UpstreamError as error:
            if error.status == 400:
                return ""
            raise
        return _data_text(answer.data, "challenge")


def token_life(token: str) -> float:
    """Seconds from a token's issue to its expiry, by its own claims ``iat`` and ``exp``."""
    try:
        payload = token.split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        record = Record.of(claims, Fields())
    except (IndexError, binascii.Error, msgspec.DecodeError, UnicodeDecodeError, UpstreamError):
        return TOKEN_LIFE_SECONDS
    issued, expires = record.number("iat"), record.number("exp")
    if issued is None or expires is None or expires <= issued:
        return TOKEN_LIFE_SECONDS
    return expires - issued


def _data_text(answer: Any, name: str) -> str:
    """A text of the envelope's ``data``."""
    data = Record.of(answer, Fields()).record("data")
    return data.text(name) if data else ""
