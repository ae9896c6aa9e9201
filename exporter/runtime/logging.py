"""Logging: structlog events and the standard library's records, as one stream of logfmt or JSON lines.

Whatever reaches a line passes the redaction first: known secrets are replaced wherever they stand, values under a
telling key altogether. Values may come from a platform, so control characters are escaped: one event is one line.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from exporter.runtime.redaction import HIDDEN, redactor

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
"""The values of ``--log.level``."""
FORMATS: Final = ("logfmt", "json")
"""The values of ``--log.format``."""

_TELLING_KEY = re.compile(r"token|passw|secret|authorization|api_?key|credential|cookie", re.IGNORECASE)
_FIRST_KEYS = ("ts", "level", "msg")


def configure(level: str = "info", format: str = "logfmt", stream: TextIO | None = None) -> None:  # noqa: A002
    """Send structlog's events, the standard library's records and warnings to ``stream`` (default: stderr)."""
    structlog.configure(
        processors=[*_common_processors(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: logging.getLogger("stream_exporter"),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *_common_processors()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.EventRenamer("msg"),
                redact,
                render_json if format == "json" else render_logfmt,
            ],
        )
    )
    logging.basicConfig(level=LEVELS[level], handlers=[handler], force=True)
    logging.captureWarnings(capture=True)


def _common_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.StackInfoRenderer(),
        # The plain traceback: no local variables, which hold tokens and bodies.
        structlog.processors.format_exc_info,
    ]


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace known secrets in every value, and every value whose key names a secret."""
    return {key: _redacted(key, value) for key, value in event.items()}


def _redacted(key: str, value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if _TELLING_KEY.search(key):
        return HIDDEN
    if isinstance(value, int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): _redacted(str(name), item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted("", item) for item in value]
    return redactor.scrub(str(value))


def render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """One JSON object, the time, level and message first."""
    return json.dumps(_ordered(event), ensure_ascii=False, default=str)


def render_logfmt(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """``key=value`` pairs; a value is quoted as in JSON where it could be misread."""
    return " ".join(f"{key}={_logfmt_value(value)}" for key, value in _ordered(event).items())


def _ordered(event: EventDict) -> dict[str, Any]:
    first = {key: event[key] for key in _FIRST_KEYS if key in event}
    return first | {key: value for key, value in event.items() if key not in first}


def _logfmt_value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
    if not text.isprintable():
        return json.dumps(text)
    if not text or any(character in text for character in ' ="\\'):
        return json.dumps(text, ensure_ascii=False)
    return text
