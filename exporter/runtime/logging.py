"""Logging of structlog events and standard library records as logfmt or JSON lines.

Known secrets are replaced wherever they occur, and values under keys such as ``token`` are replaced completely. Keys
and values may come from a platform, so control characters are escaped: each event is one line and cannot affect a
terminal.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from exporter.runtime.redaction import HIDDEN, redactor

_SECRET_KEY = re.compile(r"token|passw|secret|authorization|api_?key|credential|cookie", re.IGNORECASE)
_FIRST_KEYS = ("ts", "level", "msg")
_NOT_IN_LOGFMT_KEYS = re.compile(r'[\s\x00-\x20="]')
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 and C1 control characters, DEL, line and paragraph separators, bidi controls, and lone surrogates."""


def configure(level: str = "info", format: str = "logfmt", stream: TextIO | None = None) -> None:  # noqa: A002
    """Send structlog events, standard library records and warnings to ``stream`` (default: stderr)."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*_common_processors(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
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
                *_renderers(format),
                escape_control_characters,
            ],
        )
    )
    logging.basicConfig(level=threshold, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)


def describe_exception(error: BaseException) -> str:
    """Return class and location of an exception: ``KeyError in livepeer.py:42 (_sample)``.

    Its message is left out because it may contain data from a platform.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    last = frames[-1]
    return f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno} ({last.name})"


def _common_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.StackInfoRenderer(),
        # A traceback without local variables, which may contain tokens and bodies.
        structlog.processors.format_exc_info,
    ]


def _renderers(format: str) -> list[Processor]:  # noqa: A002
    if format == "json":
        return [structlog.processors.JSONRenderer(ensure_ascii=False)]
    return [flatten, structlog.processors.LogfmtRenderer(bool_as_flag=False)]


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Redact secrets, and move time, level and message to the front."""
    keys = [*_FIRST_KEYS, *(key for key in event if key not in _FIRST_KEYS)]
    return {key: _redacted(key, event[key]) for key in keys if key in event}


def _redacted(key: str, value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if _SECRET_KEY.search(key):
        return HIDDEN
    if isinstance(value, int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): _redacted(str(name), item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted("", item) for item in value]
    return redactor.scrub(str(value))


def flatten(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Prepare an event for logfmt: convert lists and mappings to JSON, and replace separators in keys."""
    return {
        _NOT_IN_LOGFMT_KEYS.sub("_", key): json.dumps(value, ensure_ascii=False)
        if isinstance(value, dict | list)
        else value
        for key, value in event.items()
    }


def escape_control_characters(_logger: WrappedLogger, _method: str, line: Any) -> str:
    """Escape control characters as ``\\uXXXX``, which is valid in JSON too."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", line)
