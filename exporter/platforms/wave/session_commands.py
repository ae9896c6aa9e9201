"""What can be done to a session of WAVE.

Source: WAVE API reference, Streaming, "Update session settings" and "End and delete session". A session that is live
can't be deleted: it has to be ended first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exporter.http.prepared_request import ManualRequest

UPDATE = "PATCH /streaming/sessions/{id}"
DELETE = "DELETE /streaming/sessions/{id}"
STATUSES = ("idle", "live", "paused", "ended")


def update_session(
    session_id: str,
    *,
    status: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    quality: Mapping[str, Any] | None = None,
    custom_properties: Mapping[str, Any] | None = None,
) -> ManualRequest:
    """Change what is given, and leave the rest. ``status``: one of ``STATUSES``."""
    settings = {"status": status, "metadata": metadata, "quality": quality, "customProperties": custom_properties}
    return ManualRequest(UPDATE, {"id": session_id}, {name: value for name, value in settings.items() if value})


def end_session(session_id: str) -> ManualRequest:
    """End the broadcast; the session stays."""
    return update_session(session_id, status="ended")


def delete_session(session_id: str) -> ManualRequest:
    """Delete a session that is not live."""
    return ManualRequest(DELETE, {"id": session_id})
