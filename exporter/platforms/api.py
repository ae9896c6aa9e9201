"""The public platform API: everything a platform needs, importable from one place. Unstable until version 1.0.

``docs/development/adding-a-platform.md`` explains it with a complete example.
"""

from __future__ import annotations

from pydantic import Field

from exporter.config.auth import API_KEY, BEARER, LOGIN, NONE
from exporter.config.secrets import Secret
from exporter.config.section import Section
from exporter.config.streams import ApplicationStream, StreamSettings, application_stream_id
from exporter.config.types import (
    Between,
    ConfigPath,
    Count,
    Described,
    Duration,
    Flag,
    Matching,
    MetricPrefix,
    OffOrDuration,
    Text,
    format_duration,
)
from exporter.config.upstream import UpstreamSettings
from exporter.config.urls import HttpUrl
from exporter.config.validation import refuse, refuse_all, refuse_because
from exporter.http.auth import Auth, Basic, Header, Login, NoAuth, SendRequest
from exporter.http.client import Requests, UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.http.rate_limit import DEFAULT_WINDOW_SECONDS
from exporter.http.response import Response
from exporter.model import (
    Analytics,
    HealthReason,
    PassthroughMetrics,
    PassthroughText,
    PlatformMetric,
    Reason,
    Rendition,
    Status,
    StreamReport,
)
from exporter.platforms.base import (
    FetchResult,
    ListPlatform,
    Platform,
    ResponseFormat,
    ServerFacts,
    decode_document,
    slim_report,
)
from exporter.platforms.cached_fetch import STALE_AFTER_INTERVALS, CachedFetch
from exporter.platforms.capabilities import (
    AlertChange,
    AlertSink,
    CommandOption,
    DeliveryCounts,
    InvalidCommandError,
    ManualRequest,
    SessionAction,
    SessionCommand,
    SessionCommands,
)
from exporter.platforms.documents import decode_lines, decode_xml, require_list
from exporter.platforms.heartbeats import HeartbeatTracker, SignOfLife
from exporter.platforms.lists import REPORTS_PER_STEP, ListFacts, Paging, RowReader
from exporter.platforms.parsing import (
    BITS_PER_SECOND,
    BYTES_PER_SECOND,
    KILOBITS_PER_SECOND,
    KILOBYTES_PER_SECOND,
    LARGEST,
    MEGABITS_PER_SECOND,
    MICROSECONDS,
    MILLISECONDS,
    NANOSECONDS,
    PERCENT,
    SECONDS,
    DropCounter,
    Record,
    meanings,
    normalised,
)
from exporter.platforms.rates import Rate
from exporter.runtime.clock import Clock
from exporter.runtime.files import FileError, WatchedFile, read_file_within
from exporter.sharding import ALL_STREAMS, ShardFilter

__all__ = [
    "ALL_STREAMS",
    "API_KEY",
    "BEARER",
    "BITS_PER_SECOND",
    "BYTES_PER_SECOND",
    "DEFAULT_WINDOW_SECONDS",
    "KILOBITS_PER_SECOND",
    "KILOBYTES_PER_SECOND",
    "LARGEST",
    "LOGIN",
    "MEGABITS_PER_SECOND",
    "MICROSECONDS",
    "MILLISECONDS",
    "NANOSECONDS",
    "NONE",
    "PERCENT",
    "REPORTS_PER_STEP",
    "SECONDS",
    "STALE_AFTER_INTERVALS",
    "AlertChange",
    "AlertSink",
    "Analytics",
    "ApplicationStream",
    "Auth",
    "Basic",
    "Between",
    "CachedFetch",
    "Clock",
    "CommandOption",
    "ConfigPath",
    "Count",
    "DeliveryCounts",
    "Described",
    "DropCounter",
    "Duration",
    "FetchResult",
    "Field",
    "FileError",
    "Flag",
    "Header",
    "HealthReason",
    "HeartbeatTracker",
    "HttpUrl",
    "InvalidCommandError",
    "ListFacts",
    "ListPlatform",
    "Login",
    "ManualRequest",
    "Matching",
    "MetricPrefix",
    "NoAuth",
    "OffOrDuration",
    "Paging",
    "PassthroughMetrics",
    "PassthroughText",
    "Platform",
    "PlatformMetric",
    "Rate",
    "Reason",
    "Record",
    "Rendition",
    "Requests",
    "Response",
    "ResponseFormat",
    "RowReader",
    "Secret",
    "Section",
    "SendRequest",
    "ServerFacts",
    "SessionAction",
    "SessionCommand",
    "SessionCommands",
    "ShardFilter",
    "SignOfLife",
    "Status",
    "StreamReport",
    "StreamSettings",
    "Text",
    "UpstreamClient",
    "UpstreamError",
    "UpstreamSettings",
    "WatchedFile",
    "application_stream_id",
    "decode_document",
    "decode_lines",
    "decode_xml",
    "format_duration",
    "meanings",
    "normalised",
    "read_file_within",
    "refuse",
    "refuse_all",
    "refuse_because",
    "require_list",
    "slim_report",
]  # fmt: skip
