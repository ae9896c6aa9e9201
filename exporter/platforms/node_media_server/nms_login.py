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

from exporter.http.auth import Login, SendRequest
from exporter.http.errors import UpstreamError
from exporter.model import Reason
from exporter.platforms.parsing import DropCounter, Record

LOGIN = "POST /api/v1/login"
LOCKED = 429
"""Also the answer to more than ten login requests in a minute from one address; that one says how long to wait."""
TOKEN_LIFE_SECONDS = 24 * 3600.0
"""The server's default, for a token that does not say."""


class NodeMediaServerLogin(Login):
    """Five refused logins lock the user for 15 minutes, for people at the same address too: so they come far apart."""

    max_logins_per_minute = 2
    refused_wait_seconds = 300.0
    longest_refused_wait_seconds = 900.0

    async def login(self, send: SendRequest) -> tuple[str, float]:
        """Return a new token and its life in seconds."""
        try:
            token = await self._token(send, self.password.get())
        except UpstreamError as error:
            if error.status == LOCKED and error.retry_after is None:
                raise UpstreamError(Reason.AUTH, f"{LOGIN}: status {LOCKED}, too many wrong passwords") from None
            raise
        return token, token_life(token)

    async def _token(self, send: SendRequest, secret: str) -> str:
        """The password itself is sent only to servers that have no challenge (all but 4.2.7 to 4.2.x)."""
        challenge = await self._challenge(send)
        if challenge:
            response = hmac.new(secret.encode(), challenge.encode(), hashlib.sha256).hexdigest()
            body = {"username": self.username, "challenge": challenge, "response": response}
        else:
            body = {"username": self.username, "password": secret}
        answer = await send(LOGIN, body=body)
        token = _data_text(answer.data, "token")
        if not token or not token.isascii() or not token.isprintable():
            raise UpstreamError(Reason.BAD_RESPONSE, f"{LOGIN}: no token in the answer")
        return token

    async def _challenge(self, send: SendRequest) -> str:
        """What the server wants signed; empty where it answers, with 400, that it wants the password."""
        try:
            answer = await send(LOGIN, body={"username": self.username})
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
        record = Record.from_response(claims, DropCounter())
    except (IndexError, binascii.Error, msgspec.DecodeError, UnicodeDecodeError, UpstreamError):
        return TOKEN_LIFE_SECONDS
    issued, expires = record.number("iat"), record.number("exp")
    if issued is None or expires is None or expires <= issued:
        return TOKEN_LIFE_SECONDS
    return expires - issued


def _data_text(answer: Any, name: str) -> str:
    """A text of the envelope's ``data``."""
    data = Record.from_response(answer, DropCounter()).record("data")
    return data.text(name) if data else ""
