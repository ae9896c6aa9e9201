"""Generate ``docs/configuration.md`` from the settings classes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from exporter.config import introspection
from exporter.config.alerting import (
    AlertingSettings,
    AlertmanagerSettings,
    HealthSlo,
    Threshold,
    WaveEvents,
    WebhookSettings,
)
from exporter.config.auth import API_KEY, BEARER, LOGIN, NONE, AuthSettings, TlsSettings
from exporter.config.calendars import CalendarSettings
from exporter.config.control import MaintenanceWindow
from exporter.config.groups import GroupMember, GroupSettings
from exporter.config.root import HistogramSettings, Settings
from exporter.config.secrets import SOURCE_SUFFIXES
from exporter.config.section import Section
from exporter.config.streams import LiveHours, StreamSettings
from exporter.config.types import Between, Computed, Matching, format_duration
from exporter.config.upstream import SharedSettings, UpstreamSettings

Model = type[BaseModel]
Platforms = Mapping[str, type[UpstreamSettings]]
"""The settings classes by platform name."""

_AUTH_WORDS = {
    NONE: "nothing",
    LOGIN: "`username` with `password`",
    BEARER: "`bearer_token`",
    API_KEY: "`api_key`",
}
_HEAD = "| key | type | default | meaning |\n|---|---|---|---|\n"

_INTRODUCTION = """\
# Configuration

<!-- Generated from the settings classes by `make generate`; edit exporter/config/ and exporter/platforms/ instead. -->

`stream-exporter --config.file=config.yaml` reads one YAML file; [config.example.yaml](../config.example.yaml) shows
every key. `stream-exporter --config.check` validates it and estimates the number of requests. `GET /config` shows the
effective configuration, without secrets.

## Format

- **Errors** are all reported at once, each as `FILE:LINE:COL: path.to.key: message`. Unknown and duplicate keys are
  errors. Values under `auth`, `url` and `headers`, and all other secrets, are never shown.
- **YAML 1.2** rules apply: `14:00` and `no` are strings. Where a boolean is expected, `true`, `yes` and `on` are true,
  and `false`, `no` and `off` are false. Where a string is expected, put numbers in quotes. `null` counts as an absent
  key. Anchors, aliases and `<<` are supported; tags are not.
- **Durations** are written as in Prometheus: `500ms`, `15s`, `1m30s`, `7d` (units `ms s m h d w y`). **Sizes**:
  `512kB`, `10MB`, `16MiB`, or a number of bytes. **Bitrates** are in bits per second: `800kbps`, `2.5Mbps`.
- **Relative paths** are resolved against the folder of the configuration file.
- **Precedence**: an upstream's own key overrides `defaults`, which overrides the platform's default. Mappings such as
  `tls` are not merged.
- **Reload** with SIGHUP or, with `--web.enable-lifecycle`, `POST /-/reload`. The new configuration is validated first;
  if it is invalid, nothing changes. Upstreams with unchanged settings are not interrupted.

### Secrets

A secret `X` can be given in three ways:

| key | meaning |
|---|---|
| `X_file` | path of a file with the secret; a newline at the end is ignored. No reload is needed after a change |
| `X_env` | name of an environment variable that contains the secret |
| `X` | the secret itself |

A platform may repeat secrets in its responses, so the exporter redacts them. Use secrets with 16 or more characters:
they are replaced everywhere. In names and ids, a shorter secret is replaced only if it is the whole name. A secret with
fewer than 8 characters is not replaced in anything that the platform sends, and causes a warning.

A missing or empty file is an error. A secrets file that is readable by every user causes a warning, and so does such a
configuration file if it contains a secret. For systemd credentials and secrets mounted by Kubernetes, use `X_file`. The
`url` of a playback check may hold a token: it is never shown, but causes no warning if it has no query and nothing that
looks like a token.

### Environment

Environment variables override the file. A variable's name is `STREAM_EXPORTER_` and the path of the key in capitals,
with `__` between the parts: `STREAM_EXPORTER_DEFAULTS__INTERVAL=30s` sets `defaults.interval`. Rule and label names
keep their case (`STREAM_EXPORTER_ALERTING__THRESHOLDS__StreamUnhealthy=0.5`). Items of a list cannot be set one by one,
but a whole list can be set as YAML (`STREAM_EXPORTER_UPSTREAMS='[{name: …}]'`).

An empty variable counts as unset, and `null` removes the file's value. An unknown `STREAM_EXPORTER_` variable is an
error, except for those that Kubernetes sets for a Service named `stream-exporter` and those named by an `…_env` key.
"""

_AUTH = """\
At most one of `username` with `password`, `bearer_token` and `api_key`. The platforms' sections list what they support.
"""

_HOURS = """\
An item of a list under `expected`. If `to` is before `from`, the hours end on the next day. Hours follow the wall
clock: a local time that a clock change skips becomes the next existing minute; if a local time occurs twice, hours
start at the first occurrence and end at the second.
"""

_CALENDAR = """\
A mapping under `expected`: the hours are the events of an [event calendar](calendars.md). Needs the extra
`stream-exporter[calendar]`.
"""

_MAINTENANCE = """\
Items of the list under `maintenance` of an upstream or stream. See [Maintenance](alerting.md#maintenance).
"""

_GROUPS = """\
Streams that belong together. See [Groups](alerting.md#groups).
"""

_STREAMS = """\
Keys of each configured stream (or session), besides those that identify it on its platform.
"""

_UPSTREAMS = """\
A list with at least one item. Each has the keys below, those of `defaults`, and those of its platform.
"""

_THRESHOLDS = """\
By rule name: a number in the base unit of the rule's metric, or this mapping.
"""


class Table(NamedTuple):
    """A section of the page that describes the keys of one class."""

    heading: str
    model: Model
    text: str = ""
    base: Model | None = None
    """Class whose keys are described in another section."""

    def render(self) -> str:
        """Return the section as Markdown."""
        names = [name for name in self.model.model_fields if not _is_same(self.model, self.base, name)]
        rows = "".join(_row(self.model, name) for name in names)
        text = f"{self.text}\n" if self.text and rows else self.text
        return f"{self.heading}\n\n{text}{_HEAD + rows if rows else ''}"


_COMMON = (
    Table("## Top level", Settings),
    Table("## `defaults`", SharedSettings),
    Table("## `upstreams`", UpstreamSettings, _UPSTREAMS, base=SharedSettings),
    Table("### `auth`", AuthSettings, _AUTH),
    Table("### `tls`", TlsSettings),
    Table("### `streams`", StreamSettings, _STREAMS),
    Table("### `expected`", LiveHours, _HOURS),
    Table("### `expected` with a calendar", CalendarSettings, _CALENDAR),
    Table("### `maintenance`", MaintenanceWindow, _MAINTENANCE),
)
_FURTHER = (
    Table("## `groups`", GroupSettings, _GROUPS),
    Table("### `groups.streams`", GroupMember),
    Table("## `histograms`", HistogramSettings),
    Table("## `alerting`", AlertingSettings),
    Table("### `alerting.thresholds`", Threshold, _THRESHOLDS),
    Table("### `alerting.health_slo`", HealthSlo),
    Table("### `alerting.alertmanagers`", AlertmanagerSettings),
    Table("### `alerting.webhooks`", WebhookSettings),
    Table("### `alerting.wave_events`", WaveEvents),
)
"""Sections after those of the platforms."""


def page(platforms: Platforms) -> str:
    """Return the page as Markdown."""
    return "\n".join([_INTRODUCTION, *(table.render() for table in tables(platforms))])


def tables(platforms: Platforms) -> list[Table]:
    """Return the sections in order, one for each class of settings."""
    return [*_COMMON, *_platform_tables(platforms), *_FURTHER]


def undescribed(model: Model) -> Iterator[str]:
    """Yield the fields of a model and its sections that have no description."""
    for name, info in model.model_fields.items():
        if not _description(model, name):
            yield f"{model.__name__}.{name}"
        for below in _sections(introspection.annotation_of(info)):
            yield from undescribed(below)


def _platform_tables(platforms: Platforms) -> Iterator[Table]:
    """Yield the sections that several platforms share, and those of each platform."""
    common = {table.model for table in _COMMON}
    users: dict[Model, list[tuple[str, str]]] = {}
    """The platforms and keys of each class."""
    for name, model in platforms.items():
        for key, below in _sections_below(model):
            if below not in common:
                users.setdefault(below, []).append((name, f"`{key}`"))
    own: dict[str, list[Table]] = {name: [] for name in platforms}
    for section, places in users.items():
        names, keys = (list(dict.fromkeys(words)) for words in zip(*places, strict=True))
        base = StreamSettings if issubclass(section, StreamSettings) else None
        table = Table(f"### {introspection.join_and(keys)} of {introspection.join_and(names)}", section, base=base)
        if len(names) > 1:
            yield table
        else:
            own[names[0]].append(table)
    for name, model in platforms.items():
        kinds = introspection.join_or([words for kind, words in _AUTH_WORDS.items() if kind in model.auth_kinds])
        text = f"`interval` defaults to {format_duration(model.default_interval)}. `auth` is {kinds}.\n"
        yield Table(f"## Platform `{name}`", model, text, base=UpstreamSettings)
        yield from own[name]


def _sections_below(model: Model, path: str = "") -> Iterator[tuple[str, Model]]:
    """Yield the sections below a class with their keys, such as ``analytics.streams``."""
    for name, info in model.model_fields.items():
        key = f"{path}{info.alias or name}"
        for below in _sections(introspection.annotation_of(info)):
            yield key, below
            yield from _sections_below(below, f"{key}.")


def _is_same(model: Model, base: Model | None, name: str) -> bool:
    """Return whether the base documents the field already; `platform` is in the heading."""
    if base is None or name not in base.model_fields:
        return False
    return name == "platform" or model.model_fields[name].default == base.model_fields[name].default


def _row(model: Model, name: str) -> str:
    info = model.model_fields[name]
    annotation = introspection.annotation_of(info)
    key = f"`{info.alias or name}`"
    if issubclass(model, Section) and name in model.secret_fields:
        key += "".join(f", `{name}{suffix}`" for suffix in SOURCE_SUFFIXES)
    bounds = [item.words for item in _metadata(annotation) if isinstance(item, Between | Matching)]
    kind = ", ".join([introspection.describe_type(annotation), *bounds])
    cells = (key, kind, _default(info, annotation), _sentence(_description(model, name)))
    return "|" + "".join(f" {cell.replace('|', chr(92) + '|')} |" for cell in cells) + "\n"


def _default(info: FieldInfo, annotation: Any) -> str:
    computed = [item.words for item in _metadata(annotation) if isinstance(item, Computed)]
    if computed:
        return computed[0]
    if info.is_required():
        return "required"
    default = info.get_default(call_default_factory=True, validated_data={})
    dumped = TypeAdapter(annotation).dump_python(default, mode="json")
    if isinstance(default, BaseModel) or dumped in (None, [], {}):
        return "–"
    return f"`{dumped if isinstance(dumped, str) else json.dumps(dumped)}`"


def _metadata(annotation: Any) -> Iterator[Any]:
    """Yield the metadata of ``Annotated``, also inside unions."""
    if get_origin(annotation) is Annotated:
        inner, *items = get_args(annotation)
        yield from _metadata(inner)
        yield from items
    else:
        for member in get_args(annotation):
            yield from _metadata(member)


def _sections(annotation: Any) -> Iterator[type[Section]]:
    for member in introspection.union_members(annotation):
        if isinstance(member, type) and issubclass(member, Section):
            yield member
        else:
            for argument in get_args(member):
                yield from _sections(argument)


def _description(model: Model, name: str) -> str:
    """Return the description of a field, or of the field that it overrides."""
    fields = [base.model_fields.get(name) for base in model.__mro__ if issubclass(base, BaseModel)]
    return next((field.description for field in fields if field and field.description), "")


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if not text or text.endswith((".", "!")) else ".")
