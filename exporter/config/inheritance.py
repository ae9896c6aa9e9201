"""What `defaults` says, handed down to every upstream that does not say it itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from exporter.config.upstream import Defaults, SharedSettings


def mapping(value: Any) -> dict[str, Any]:
    """The value where it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def handed_down(data: dict[str, Any]) -> dict[str, Any]:
    """The data with each good value of ``defaults`` in every upstream that has none of its own.

    Bad ones stay where they are: they are reported once, there.
    """
    written = mapping(data.get("defaults"))
    known = SharedSettings.known_keys()
    try:
        Defaults.model_validate(written)
        bad: set[Any] = set()
    except ValidationError as error:
        bad = {line["loc"][0] for line in error.errors() if line["loc"]}
    good = {
        key: value for key, value in written.items() if key in known and known[key] not in bad and value is not None
    }
    upstreams = data.get("upstreams")
    if not good or not isinstance(upstreams, list):
        return data
    return {**data, "upstreams": [_inherit(upstream, good, known) for upstream in upstreams]}


def _inherit(upstream: Any, good: Mapping[str, Any], known: Mapping[str, str]) -> Any:
    if not isinstance(upstream, dict):
        return upstream
    own = {known.get(key) for key, value in upstream.items() if value is not None}
    return upstream | {key: value for key, value in good.items() if known[key] not in own}
