"""JSON API of the groups of streams (``/api/v1/groups``). Unknown values have no key."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from exporter.web.json_api import json_response
from exporter.web.protocols import ServedState
from exporter.web.serializers import group_entry

GROUPS_PATH: Final = "/api/v1/groups"


class GroupsApi:
    """Handler of the groups."""

    def __init__(self, served: ServedState) -> None:
        self._served = served

    def add_routes(self, app: web.Application) -> None:
        """Add the handler to an application."""
        app.router.add_get(GROUPS_PATH, self.groups)

    async def groups(self, _request: web.Request) -> web.Response:
        """Return the groups whose streams this process polls, in the order of the configuration."""
        groups = [group_entry(state) for state in self._served.store.groups()]
        return json_response({"generated_at": self._served.clock.now(), "groups": groups})
