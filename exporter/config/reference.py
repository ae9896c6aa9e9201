"""Generate ``docs/configuration.md`` from the settings classes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin

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
from exporter.config.root import HistogramSettings, Settings
from exporter.config.secrets import SOURCE_SUFFIXES
from exporter.config.section import Section
from exporter.config.streams import LiveHours, StreamSettings
from exporter.config.types import Between, Computed, Matching, format_duration
from exporter.config.upstream import SharedSettings, UpstreamSettings

Model = type[BaseModel]

_COMMON: tuple[Model, ...] = (SharedSettings, UpstreamSettings, StreamSettings, LiveHours, AuthSettings, TlsSettings)
"""Described once instead of with each platform."""
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
configuration file if it contains a secret. For systemd credentials and secrets mounted by Kubernetes, use `X_file`.

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

_STREAMS = """\
Keys of each configured stream (or session), besides those that identify it on its platform.
"""

_UPSTREAMS = """\
A list with at least one item. Each has the keys below, those of `defaults`, and those of its platform.
"""

_THRESHOLDS = """\
By rule name: a number in the base unit of the rule's metric, or this mapping.
"""


def page(platforms: Mapping[str, type[UpstreamSettings]]) -> str:
    """Return the page as Markdown. ``platforms`` are the settings classes by platform name."""
    parts = [
        _INTRODUCTION,
        _section("## Top level", Settings),
        _section("## `defaults`", SharedSettings),
        _section("## `upstreams`", UpstreamSettings, _UPSTREAMS, without=SharedSettings),
        _section("### `auth`", AuthSettings, _AUTH),
        _section("### `tls`", TlsSettings),
        _section("### `streams`", StreamSettings, _STREAMS),
        _section("### `expected`", LiveHours, _HOURS),
        *(part for name, model in platforms.items() for part in _platform_sections(name, model)),
        _section("## `histograms`", HistogramSettings),
        _section("## `alerting`", AlertingSettings),
        _section("### `alerting.thresholds`", Threshold, _THRESHOLDS),
        _section("### `alerting.health_slo`", HealthSlo),
        _section("### `alerting.alertmanagers`", AlertmanagerSettings),
        _section("### `alerting.webhooks`", WebhookSettings),
        _section("### `alerting.wave_events`", WaveEvents),
    ]
    return "\n".join(parts)


def undescribed(model: Model) -> Iterator[str]:
    """Yield the fields of a model and its sections that have no description."""
    for name, info in model.model_fields.items():
        if not _description(model, name):
            yield f"{model.__name__}.{name}"
        for below in _sections(introspection.annotation_of(info)):
            yield from undescribed(below)


def _platform_sections(name: str, model: type[UpstreamSettings]) -> Iterator[str]:
    kinds = [words for kind, words in _AUTH_WORDS.items() if kind in model.auth_kinds]
    text = (
        f"`interval` defaults to {format_duration(model.default_interval)}. `auth` is {introspection.join_or(kinds)}.\n"
    )
    yield _section(f"## Platform `{name}`", model, text, without=UpstreamSettings)
    for info in model.model_fields.values():
        for below in _sections(introspection.annotation_of(info)):
            if below not in _COMMON:
                base = StreamSettings if issubclass(below, StreamSettings) else None
                key = info.alias or next(key for key, field in model.model_fields.items() if field is info)
                yield _section(f"### `{key}` of {name}", below, without=base)


def _section(heading: str, model: Model, text: str = "", *, without: Model | None = None) -> str:
    rows = "".join(_row(model, name) for name in model.model_fields if not _is_same(model, without, name))
    return f"{heading}\n\n{text + chr(10) if text else ''}{_HEAD}{rows}" if rows else f"{heading}\n\n{text}"


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
