"""Login of node-media-server 4, which exchanges username and password for a JSON Web Token.

Source: node-media-server 4.2.4, 4.2.8, 4.3.2 and 4.4.3, ``src/api/handlers/auth.js``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Any

import msgspec

from exporter.platforms.api import DropCounter, Login, Reason, Record, SendRequest, UpstreamError

ENDPOINT = "POST /api/v1/login"
LOCKED = 429
"""Status when the user is locked. More than ten logins per minute from one address also give it, with ``Retry-After``.
"""
TOKEN_LIFE_SECONDS = 24 * 3600.0
"""Lifetime of a token that does not contain one: the server's default."""


class NodeMediaServerLogin(Login):
    """Logs in rarely, because five wrong passwords lock the user for 15 minutes for everyone at the same address."""

    max_logins_per_minute = 2
    refused_wait_seconds = 300.0
    longest_refused_wait_seconds = 900.0

    async def login(self, send: SendRequest) -> tuple[str, float]:
        """Return a new token and its lifetime in seconds."""
        try:
            token = await self._request_token(send, self.password.get())
        except UpstreamError as error:
            if error.status == LOCKED and error.retry_after is None:
                raise UpstreamError(Reason.AUTH, f"{ENDPOINT}: status {LOCKED}, too many wrong passwords") from None
            raise
        return token, token_life(token)

    async def _request_token(self, send: SendRequest, secret: str) -> str:
        """Send the password itself only to servers without a challenge (all but 4.2.7 to 4.2.x)."""
        challenge = await self._request_challenge(send)
        if challenge:
            signature = hmac.new(secret.encode(), challenge.encode(), hashlib.sha256).hexdigest()
            body = {"username": self.username, "challenge": challenge, "response": signature}
        else:
            body = {"username": self.username, "password": secret}
        response = await send(ENDPOINT, body=body)
        token = _data_text(response.data, "token")
        if not token or not token.isascii() or not token.isprintable():
            raise UpstreamError(Reason.BAD_RESPONSE, f"{ENDPOINT}: the response has no usable token")
        return token

    async def _request_challenge(self, send: SendRequest) -> str:
        """Return the challenge to sign; empty if the server has none and responds with 400 to a missing password."""
        try:
            response = await send(ENDPOINT, body={"username": self.username})
        except UpstreamError as error:
            if error.status == 400:
                return ""
            raise
        return _data_text(response.data, "challenge")


def token_life(token: str) -> float:
    """Return a token's lifetime in seconds, from its claims ``iat`` and ``exp``."""
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


def _data_text(response: Any, name: str) -> str:
    """Return a string field of the envelope's ``data``."""
    data = Record.from_response(response, DropCounter()).record("data")
    return data.text(name) if data else ""
