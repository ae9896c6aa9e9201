"""``docs/configuration.md``, generated from the settings classes."""

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
"""Described once, not with every platform."""
_AUTH_WORDS = {
    NONE: "nothing",
    LOGIN: "`username` with `password`",
    BEARER: "`bearer_token`",
    API_KEY: "`api_key`",
}
_HEAD = "| key | type | default | meaning |\n|---|---|---|---|\n"

_INTRODUCTION = """\
# Configuration

<!-- Made from the settings' classes by `make generate`; edit exporter/config/ and exporter/platforms/ instead. -->

`stream-exporter --config.file=config.yaml` reads one YAML file; [config.example.yaml](../config.example.yaml) shows
every key. `stream-exporter --config.check` checks it and says what it costs in requests. `GET /config` shows what is in
effect, without secrets.

## How it is read

- **Every error is reported at once**, each as `FILE:LINE:COL: path.to.key: found X, allowed Y`. Unknown and repeated
  keys are errors. What stands under `auth`, `url` and `headers`, and any other secret, is never shown.
- **YAML** is read by the rules of YAML 1.2: `14:00` and `no` are text where text is wanted; `true`, `yes` and `on`
  are all true where a truth value is wanted. A number where text is wanted needs quotes. `null` counts as if the key
  were not there. Anchors, aliases and `<<` work; tags do not.
- **Durations** are written as in Prometheus: `500ms`, `15s`, `1m30s`, `7d`; units `ms s m h d w y`. **Sizes**:
  `512kB`, `10MB`, `16MiB`, or a number of bytes. **Bitrates** are in bits per second: `800kbps`, `2.5Mbps`.
- **Paths** that are relative begin at the folder of the configuration file.
- **A value in `defaults`** beats a platform's own default; an upstream's own value beats both. A mapping such as
  `tls` is taken as a whole.
- **Reload** by SIGHUP or, with `--web.enable-lifecycle`, `POST /-/reload`. All is checked first; a bad file changes
  nothing. An upstream whose settings did not change goes on as it is.

### Secrets

A secret `X` is given in one of three ways:

| key | meaning |
|---|---|
| `X_file` | a file that holds it, without one newline at its end; read again when it changes, without a reload |
| `X_env` | the name of an environment variable that holds it |
| `X` | the secret itself |

A platform may send back what it was sent, so a secret of an upstream should have 16 or more characters: it is then
replaced wherever it appears. In names and ids, a shorter one is replaced only if it is the whole name. With fewer than
8 characters it is not replaced in anything that the platform sends, and causes a warning.

A file that is missing or empty is an error; one that every user of the machine may read is a warning, and so is
such a configuration file with a secret in it. Systemd
credentials and secrets that Kubernetes mounts are files.

### Environment

A variable overrides the file: `STREAM_EXPORTER_` and the path of the key in capitals, with `__` between its parts.
`STREAM_EXPORTER_DEFAULTS__INTERVAL=30s` is `defaults.interval`. It reaches keys of mappings; items of lists have no
such path, but a whole list can be given as YAML (`STREAM_EXPORTER_UPSTREAMS='[{name: …}]'`). Names of rules and
labels keep their case (`STREAM_EXPORTER_ALERTING__THRESHOLDS__StreamUnhealthy=0.5`). An empty variable counts as not
set, `null` takes the file's value away, and an unknown `STREAM_EXPORTER_` variable is an error. Variables that
Kubernetes sets for a Service of this name, and those that an `…_env` key names, are left alone.
"""

_AUTH = """\
One of: nothing, `username` with a password, a bearer token, an API key. What a platform can't use is refused: see
there.
"""

_HOURS = """\
One item of a list under `expected`. Hours that end before they begin pass midnight and belong to the day on which
they began. They follow the wall clock: a local time that is skipped when the clock is set forward becomes the next
existing minute; where a local time occurs twice, hours begin at the first occurrence and end at the second.
"""

_STREAMS = """\
What may be said of each stream (or session) that an upstream names, besides what identifies it on its platform.
"""

_UPSTREAMS = """\
A list with at least one item. Each has the keys below, those of `defaults`, and those of its platform.
"""

_THRESHOLDS = """\
By the name of a rule: a number in the base unit of its metric, or this mapping.
"""


def page(platforms: Mapping[str, type[UpstreamSettings]]) -> str:
    """Return the whole page. ``platforms``: settings classes by platform name."""
    parts = [
        _INTRODUCTION,
        _section("## The file", Settings),
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
    """The fields, here and below, that have no description."""
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
    """Whether the field is the base's, or `platform`, which the heading says."""
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
    """What ``Annotated`` adds, at any depth of unions."""
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
    """The field's, or what it overrides says."""
    fields = [base.model_fields.get(name) for base in model.__mro__ if issubclass(base, BaseModel)]
    return next((field.description for field in fields if field and field.description), "")


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if not text or text.endswith((".", "!")) else ".")
