"""Settings of the whole configuration file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import Annotated, Any, Union

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    PrivateAttr,
    SerializeAsAny,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from exporter.config.alerting import AlertingSettings
from exporter.config.groups import GroupSettings
from exporter.config.introspection import TAG_PREFIX, join_or
from exporter.config.pairing import pairing_errors, refuse_unknown
from exporter.config.secrets import Secret, SecretError
from exporter.config.section import Section
from exporter.config.types import ConfigPath, Flag
from exporter.config.upstream import Defaults, SharedSettings, StreamSettings, UpstreamName, UpstreamSettings
from exporter.config.validation import (
    ConfigSchema,
    Place,
    load_context,
    refuse,
    refuse_all,
    refuse_because,
    validate_with_errors,
)
from exporter.runtime.redaction import HIDDEN, MIN_TEXT_CHARACTERS

FINGERPRINT_BYTES = 6
"""Length of the fingerprint; a float represents 48 bits exactly."""


class HistogramSettings(Section):
    """Settings of the histograms of sampled values."""

    per_stream: Flag = Field(
        default=False, description="Export histograms per stream, not only per upstream. This adds many series."
    )


class _LayerSource(PydanticBaseSettingsSource):
    """Settings source for one layer of the current load."""

    def __init__(self, settings_cls: type[BaseSettings], layer: Mapping[str, Any]) -> None:
        super().__init__(settings_cls)
        self._layer = layer

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - the interface's
        """Return the layer's value for a field."""
        return self._layer.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the whole layer, including unknown keys, which validation reports."""
        return dict(self._layer)


def _require_upstreams(upstreams: tuple[Any, ...]) -> tuple[Any, ...]:
    if not upstreams:
        raise refuse("at least one upstream", found="an empty list")
    return upstreams


class Settings(BaseSettings):
    """All settings, with every default resolved."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    defaults: Defaults = Field(default_factory=Defaults, description="Settings for all upstreams, unless overridden.")
    histograms: HistogramSettings = Field(
        default_factory=HistogramSettings, description="Histograms of sampled values."
    )
    upstreams: Annotated[tuple[SerializeAsAny[UpstreamSettings], ...], AfterValidator(_require_upstreams)] = Field(
        description="Servers and accounts to watch."
    )
    retired: tuple[UpstreamName, ...] = Field(
        default=(),
        description="Names of upstreams that were removed on purpose; StreamUpstreamUnwatched does not fire for them.",
    )
    groups: tuple[GroupSettings, ...] = Field(
        default=(), description="Streams that belong together, such as main and backup of one event."
    )
    state_dir: ConfigPath | None = Field(
        default=None,
        description="Folder that keeps alert state and manual maintenance across restarts. Without it, "
        "`$STATE_DIRECTORY` or, if that is not set, a folder in the user's state folder.",
    )
    alerting: AlertingSettings = Field(
        default_factory=AlertingSettings, description="Alert thresholds, and the sidecar that sends alerts."
    )

    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about a valid configuration."""
        return self._warnings

    def model_post_init(self, context: Any, /) -> None:
        """Store the warnings of the current load, and the platforms of the playback checks' sources."""
        super().model_post_init(context)
        platforms = {upstream.name: upstream.platform for upstream in self.upstreams}
        for source in (stream.source for upstream in self.upstreams for stream in upstream.configured_streams()):
            if source is not None:
                source.set_platform(platforms.get(source.upstream, ""))
        load = load_context()
        short = (warning for upstream in self.upstreams for warning in _short_secrets(upstream))
        self._warnings = (*(load.schema.warnings if load.schema else ()), *load.warnings, *short)

    def redacted_yaml(self) -> str:
        """Return the effective settings without secrets and, with ``stream_label: hash``, without stream ids."""
        dumped = self._redacted()
        dumped["upstreams"] = [
            {key: shown[key] for key in sorted(shown, key=lambda key: key in SharedSettings.known_keys())}
            for shown in dumped["upstreams"]
        ]
        return yaml.safe_dump(dumped, sort_keys=False, allow_unicode=True, width=120)

    def fingerprint(self) -> int:
        """Return a 48-bit hash of what ``redacted_yaml`` shows; a float represents it exactly.

        It ignores ``state_dir`` and ``alerting.state_file``, which differ between processes, and ``alerting.webhooks``,
        which only one of several replicas has.
        """
        shown = self._redacted()
        shown.pop("state_dir", None)
        for key in ("state_file", "webhooks"):
            shown["alerting"].pop(key, None)
        canonical = json.dumps(shown, sort_keys=True, separators=(",", ":"))
        return int.from_bytes(hashlib.sha256(canonical.encode()).digest()[:FINGERPRINT_BYTES], "big")

    def _redacted(self) -> dict[str, Any]:
        dumped: dict[str, Any] = _without_nulls(self.model_dump(mode="json", by_alias=True))
        for upstream, shown in zip(self.upstreams, dumped["upstreams"], strict=True):
            if upstream.stream_label == "hash":
                _hide_identities(upstream, shown)
        return dumped

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use the layers of the current load, because the library's own sources silently drop unknown keys."""
        del env_settings, dotenv_settings, file_secret_settings
        layers = (_LayerSource(settings_cls, layer) for layer in load_context().layers)
        return (init_settings, *layers)

    @model_validator(mode="wrap")
    @classmethod
    def _validate_as_a_whole(cls, data: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        """Apply ``defaults``, and report errors across sections together with errors within them."""
        data = {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}
        return validate_with_errors(cls.__name__, lambda: validate(_apply_defaults(data)), dict(_cross_errors(data)))


def _short_secrets(upstream: UpstreamSettings) -> Iterator[str]:
    """Yield a warning if a secret sent to the upstream is too short to be redacted in its responses."""
    for secret in _sent_secrets(upstream):
        with suppress(SecretError):
            if not secret.is_plain and len(secret.get()) < MIN_TEXT_CHARACTERS:
                yield (
                    f"the secret of upstream {upstream.name} has fewer than {MIN_TEXT_CHARACTERS} characters, so it "
                    "cannot be redacted in the platform's responses"
                )
                return


def _sent_secrets(section: Section) -> Iterator[Secret]:
    for field in type(section).model_fields:
        value = getattr(section, field)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Secret) and field != "stream_hash_key":
                yield item
            elif isinstance(item, Section):
                yield from _sent_secrets(item)


def _apply_defaults(data: dict[str, Any]) -> dict[str, Any]:
    """Copy each valid value of ``defaults`` into every upstream that does not set it.

    Invalid values are not copied, because they would be reported for every upstream.
    """
    written = _as_mapping(data.get("defaults"))
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
    return {**data, "upstreams": [_with_defaults(upstream, good, known) for upstream in upstreams]}


def _with_defaults(upstream: Any, good: Mapping[str, Any], known: Mapping[str, str]) -> Any:
    if not isinstance(upstream, dict):
        return upstream
    own = {known.get(key) for key, value in upstream.items() if value is not None}
    return upstream | {key: value for key, value in good.items() if known[key] not in own}


def _without_nulls(dumped: Any) -> Any:
    if isinstance(dumped, dict):
        return {key: _without_nulls(value) for key, value in dumped.items() if value is not None}
    return [_without_nulls(item) for item in dumped] if isinstance(dumped, list) else dumped


def _cross_errors(data: Mapping[str, Any]) -> Iterator[tuple[Place, PydanticCustomError]]:
    """Yield errors across sections. They are found in the raw data, to be reported together with all others."""
    upstreams = list(map(_as_keys, _as_list(data.get("upstreams"))))
    names: list[Any] = []
    for index, upstream in enumerate(upstreams):
        name = upstream.get("name")
        if isinstance(name, str) and name in names:
            yield ("upstreams", index, "name"), refuse_because("another upstream has the same name")
        names.append(name)
    retired = _as_list(data.get("retired"))
    for index, name in enumerate(retired):
        if isinstance(name, str) and name in names:
            yield ("retired", index), refuse_because("this upstream is configured; remove it here or under upstreams")
        elif isinstance(name, str) and name in retired[:index]:
            yield ("retired", index), refuse_because("duplicate name")
    yield from _group_errors(_as_list(data.get("groups")), names)
    checking = [_has_playback_checks(item) for item in _as_list(data.get("upstreams"))]
    yield from pairing_errors(upstreams, checking)
    target = _as_mapping(_as_mapping(data.get("alerting")).get("wave_events")).get("upstream")
    schema = load_context().schema
    platforms = schema.platforms if schema else {}
    targets = [item.get("name") for item in upstreams if _accepts_events(platforms, item.get("platform"))]
    if platforms and isinstance(target, str) and target not in targets:
        accepting = [name for name in platforms if _accepts_events(platforms, name)]
        allowed = f"the name of an upstream of platform {join_or(accepting)}"
        yield ("alerting", "wave_events", "upstream"), refuse(allowed)


def _group_errors(groups: list[Any], upstreams: Collection[Any]) -> Iterator[tuple[Place, PydanticCustomError]]:
    """Yield errors of groups: duplicate names, and streams of unknown upstreams."""
    seen: list[Any] = []
    for index, group in enumerate(map(_as_mapping, groups)):
        name = group.get("name")
        if isinstance(name, str) and name in seen:
            yield ("groups", index, "name"), refuse_because("another group has the same name")
        seen.append(name)
        for position, member in enumerate(map(_as_mapping, _as_list(group.get("streams")))):
            upstream = member.get("upstream")
            if isinstance(upstream, str) and upstream not in upstreams:
                place = ("groups", index, "streams", position, "upstream")
                yield place, refuse_unknown("unknown upstream", upstream, upstreams)


def _accepts_events(platforms: Mapping[str, type[BaseModel]], name: Any) -> bool:
    """Return whether the platform accepts alerts as events."""
    model = platforms.get(name) if isinstance(name, str) else None
    return model is not None and issubclass(model, UpstreamSettings) and model.accepts_alert_events


def _has_playback_checks(upstream: Any) -> bool:
    """Return whether an upstream, given as settings or in raw data, has playback checks."""
    model: Any = type(upstream)
    if isinstance(upstream, dict):
        schema, name = load_context().schema, upstream.get("platform")
        model = schema.platforms.get(name) if schema and isinstance(name, str) else None
    return isinstance(model, type) and issubclass(model, UpstreamSettings) and model.has_playback_checks


def _as_keys(upstream: Any) -> dict[str, Any]:
    """Return an upstream as raw data; of settings created in code, only what errors across sections depend on."""
    if not isinstance(upstream, UpstreamSettings):
        return _as_mapping(upstream)
    streams = [
        {"name": stream.name, "of": None if stream.source is None else stream.source.model_dump()}
        for stream in upstream.configured_streams()
    ]
    return {"name": upstream.name, "platform": upstream.platform, "streams": streams}


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _as_mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


@cache
def settings_class(schema: ConfigSchema, used: frozenset[str] | None = None) -> type[Settings]:
    """Return the ``Settings`` class for the schema's platforms. With ``used``, it accepts only these."""
    choices = {name: schema.platforms[name] for name in schema.platforms if not used or name in used}
    tagged: Any = Union[tuple(Annotated[model, Tag(TAG_PREFIX + name)] for name, model in choices.items())]  # noqa: UP007
    item = Annotated[tagged, Discriminator(_platform_tag), BeforeValidator(_checking_platform(tuple(schema.platforms)))]
    field = Settings.model_fields["upstreams"]
    upstreams = Annotated[tuple[item, ...], AfterValidator(_require_upstreams)]
    built = create_model("Settings", __base__=Settings, upstreams=(upstreams, Field(description=field.description)))
    _drop_schemas()
    return built


def _drop_schemas() -> None:
    """Drop the schemas of all settings classes, 0.7 MB; pydantic makes them again to nest a class in another one."""
    classes: list[type[BaseModel]] = [Section, Settings]
    while classes:
        found = classes.pop()
        classes += found.__subclasses__()
        if "__pydantic_core_schema__" in vars(found):
            del found.__pydantic_core_schema__


def _platform_tag(upstream: Any) -> str:
    return TAG_PREFIX + str(upstream["platform"] if isinstance(upstream, dict) else upstream.platform)


def _checking_platform(names: tuple[str, ...]) -> Callable[[Any], Any]:
    def check(upstream: Any) -> Any:
        if isinstance(upstream, UpstreamSettings):
            return upstream
        if not isinstance(upstream, dict):
            raise refuse("a mapping")
        if upstream.get("platform") not in names:
            raise refuse_all("upstream", {("platform",): refuse(join_or(names))})
        return upstream

    return check


def _hide_identities(upstream: UpstreamSettings, shown: dict[str, Any]) -> None:
    for field in type(upstream).model_fields:
        items = getattr(upstream, field)
        for index, stream in enumerate(items if isinstance(items, tuple) else ()):
            if isinstance(stream, StreamSettings):
                shown[field][index] |= {key: HIDDEN for key in stream.identity_fields if key in shown[field][index]}
