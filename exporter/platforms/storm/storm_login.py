"""Storm's login: user name and password for a bearer token of 900 s.

Source: Storm Streaming Server 3.x, RESTful API, page Login.
"""

from __future__ import annotations

from exporter.http.auth import Login, SendRequest
from exporter.http.errors import UpstreamError
from exporter.model import Reason
from exporter.platforms.parsing import DropCounter
from exporter.platforms.storm.envelope import data_of

LOGIN = "POST /auth/login"
TOKEN_LIFE_SECONDS = 900.0
"""The documented life of a token, for answers that do not say."""


class StormLogin(Login):
    """Storm allows five logins a minute per address."""

    max_logins_per_minute = 5

    async def login(self, send: SendRequest) -> tuple[str, float]:
        """Return a new token and its life in seconds."""
        credentials = {"username": self.username, "password": self.password.get()}
        answer = await send(LOGIN, body=credentials)
        record = data_of(answer, LOGIN, DropCounter())
        token = record.text("accessToken")
        if not token or not token.isascii() or not token.isprintable():
            raise UpstreamError(Reason.BAD_RESPONSE, f"{LOGIN}: no access token in the answer")
        life = record.number("remainingTime", unit=0.001, low=1.0, high=30 * 86400.0)
        return token, life or TOKEN_LIFE_SECONDS
