"""Commands on a session of WAVE.

Source: WAVE API reference, Streaming, "Update session settings" and "End and delete session". A session that is live
can't be deleted: it has to be ended first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exporter.http.manual_request import ManualRequest
from exporter.platforms.capabilities import (
    CommandOption,
    InvalidCommandError,
    SessionAction,
    SessionCommand,
    SessionCommands,
)
from exporter.platforms.wave.wave_sessions import SESSION

UPDATE = "PATCH /streaming/sessions/{id}"
DELETE = "DELETE /streaming/sessions/{id}"
_OPTIONS = (
    CommandOption("--status", "the status to have", choices=("idle", "live", "paused", "ended")),
    CommandOption("--metadata", "an entry of metadata"),
    CommandOption("--quality", "an entry of quality, as targetLatency=200"),
    CommandOption("--custom-property", "an entry of the custom properties"),
)


def update_session(
    session_id: str,
    *,
    status: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    quality: Mapping[str, Any] | None = None,
    custom_properties: Mapping[str, Any] | None = None,
) -> ManualRequest:
    """Change the given settings and leave the rest."""
    settings = {"status": status, "metadata": metadata, "quality": quality, "customProperties": custom_properties}
    return ManualRequest(UPDATE, {"id": session_id}, {name: value for name, value in settings.items() if value})


def end_session(session_id: str) -> ManualRequest:
    """End the broadcast; the session stays."""
    return update_session(session_id, status="ended")


def delete_session(session_id: str) -> ManualRequest:
    """Delete a session that is not live."""
    return ManualRequest(
        DELETE,
        {"id": session_id},
        notice="A session that is live is not deleted: the platform refuses it until the session has ended.",
        refusal_meaning="the platform refuses to delete it; while it is live, end it first: session end",
    )


def _update(session_id: str, options: Mapping[str, Any]) -> tuple[ManualRequest]:
    request = update_session(
        session_id,
        status=options["status"],
        metadata=options["metadata"],
        quality=options["quality"],
        custom_properties=options["custom_property"],
    )
    if not request.body:
        flags = [option.flag for option in _OPTIONS]
        raise InvalidCommandError(f"nothing to update: give {', '.join(flags[:-1])} or {flags[-1]}")
    return (request,)


SESSION_COMMANDS = SessionCommands(
    {
        SessionAction.SHOW: SessionCommand(lambda session_id, _: (ManualRequest(SESSION, {"id": session_id}),)),
        SessionAction.UPDATE: SessionCommand(_update, options=_OPTIONS, help="change its settings (PATCH)"),
        SessionAction.END: SessionCommand(
            lambda session_id, _: (end_session(session_id),),
            help="end the broadcast (PATCH with status ended); the session stays",
        ),
        SessionAction.DELETE: SessionCommand(
            lambda session_id, _: (delete_session(session_id),), help="delete a session that is not live (DELETE)"
        ),
    }
)
