"""``docs/configuration.md``, made from the settings' classes: ``python -m exporter.config.reference`` prints it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from exporter.config import reference_text, schema
from exporter.config.alerting import AlertingSettings, AlertmanagerSettings, HealthSlo, Threshold, WaveEvents
from exporter.config.auth import API_KEY, BEARER, LOGIN, NONE, AuthSettings, TlsSettings
from exporter.config.root import HistogramSettings, Settings
from exporter.config.secrets import SOURCE_SUFFIXES
from exporter.config.section import Section
from exporter.config.streams import LiveHours, StreamSettings
from exporter.config.types import Between, Computed, Matching, format_duration
from exporter.config.upstream import SharedSettings, UpstreamSettings
from exporter.platforms.registry import platforms

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


def page() -> str:
    """The whole page."""
    parts = [
        reference_text.INTRODUCTION,
        _section("## The file", Settings),
        _section("## `defaults`", SharedSettings),
        _section("## `upstreams`", UpstreamSettings, reference_text.UPSTREAMS, without=SharedSettings),
        _section("### `auth`", AuthSettings, reference_text.AUTH),
        _section("### `tls`", TlsSettings),
        _section("### `streams`", StreamSettings, reference_text.STREAMS),
        _section("### `expected`", LiveHours, reference_text.HOURS),
        *(part for name in platforms() for part in _platform(name)),
        _section("## `histograms`", HistogramSettings),
        _section("## `alerting`", AlertingSettings),
        _section("### `alerting.thresholds`", Threshold, reference_text.THRESHOLDS),
        _section("### `alerting.health_slo`", HealthSlo),
        _section("### `alerting.alertmanagers`", AlertmanagerSettings),
        _section("### `alerting.wave_events`", WaveEvents),
    ]
    return "\n".join(parts)


def undescribed(model: Model) -> Iterator[str]:
    """The fields, here and below, that have no description."""
    for name, info in model.model_fields.items():
        if not _description(model, name):
            yield f"{model.__name__}.{name}"
        for below in _sections(schema.annotation_of(info)):
            yield from undescribed(below)


def _platform(name: str) -> Iterator[str]:
    model = platforms()[name].settings_class
    kinds = [words for kind, words in _AUTH_WORDS.items() if kind in model.auth_kinds]
    text = f"`interval` defaults to {format_duration(model.default_interval)}. `auth` is {schema.any_of(kinds)}.\n"
    yield _section(f"## Platform `{name}`", model, text, without=UpstreamSettings)
    for info in model.model_fields.values():
        for below in _sections(schema.annotation_of(info)):
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
    annotation = schema.annotation_of(info)
    key = f"`{info.alias or name}`"
    if issubclass(model, Section) and name in model.secret_fields:
        key += "".join(f", `{name}{suffix}`" for suffix in SOURCE_SUFFIXES)
    bounds = [item.words for item in _metadata(annotation) if isinstance(item, Between | Matching)]
    kind = ", ".join([schema.words(annotation), *bounds])
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
    for member in schema.members(annotation):
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


if __name__ == "__main__":
    sys.stdout.write(page())
