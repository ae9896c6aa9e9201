"""The whole configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Union

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PrivateAttr,
    SerializeAsAny,
    Tag,
    ValidatorFunctionWrapHandler,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from exporter.alerting.affected_rules import rules_that_read
from exporter.config.alerting import AlertingSettings
from exporter.config.inheritance import handed_down, mapping
from exporter.config.schema import TAG_PREFIX, any_of
from exporter.config.section import Section
from exporter.config.types import Flag
from exporter.config.upstream import Defaults, SharedSettings, StreamSettings, UpstreamSettings
from exporter.config.validation import Place, load_context, refuse, refuse_all, validate_besides
from exporter.metrics.families.exclusion import excluded, said
from exporter.platforms.registry import registry
from exporter.runtime.redaction import HIDDEN


class HistogramSettings(Section):
    """What the histograms of sampled values tell apart."""

    per_stream: Flag = Field(
        default=False, description="Histograms of sampled values per stream, not only per upstream: many series."
    )


class _LayerSource(PydanticBaseSettingsSource):
    """One of the mappings that the settings are made from, as the load that is going on has read it."""

    def __init__(self, settings_cls: type[BaseSettings], layer: Mapping[str, Any]) -> None:
        super().__init__(settings_cls)
        self._layer = layer

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - the interface's
        """The layer's value of one field."""
        return self._layer.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """The whole layer, unknown keys included: they are errors."""
        return dict(self._layer)


def _not_empty(upstreams: tuple[Any, ...]) -> tuple[Any, ...]:
    if not upstreams:
        raise refuse("at least one upstream", found="an empty list")
    return upstreams


class Settings(BaseSettings):
    """All settings, every default resolved."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    defaults: Defaults = Field(default_factory=Defaults, description="What every upstream may override.")
    histograms: HistogramSettings = Field(
        default_factory=HistogramSettings, description="What the histograms of sampled values tell apart."
    )
    upstreams: Annotated[tuple[SerializeAsAny[UpstreamSettings], ...], AfterValidator(_not_empty)] = Field(
        description="The servers and accounts to watch."
    )
    alerting: AlertingSettings = Field(
        default_factory=AlertingSettings, description="Thresholds of the rules, and the sidecar that sends alerts."
    )

    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed and yet worth a word."""
        return self._warnings

    def model_post_init(self, context: Any, /) -> None:
        """Keep what reading had to say."""
        super().model_post_init(context)
        self._warnings = (*registry().warnings, *load_context().warnings, *_unread(self))

    def redacted_yaml(self) -> str:
        """Everything as it is in effect, without a secret and, under ``stream_label: hash``, without stream ids."""
        dumped = _without_nulls(self.model_dump(mode="json", by_alias=True))
        for upstream, shown in zip(self.upstreams, dumped["upstreams"], strict=True):
            if upstream.stream_label == "hash":
                _hide_identities(upstream, shown)
        dumped["upstreams"] = [
            {key: shown[key] for key in sorted(shown, key=lambda key: key in SharedSettings.known_keys())}
            for shown in dumped["upstreams"]
        ]
        return yaml.safe_dump(dumped, sort_keys=False, allow_unicode=True, width=120)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The layers of the load that is going on, strongest first; the library's own sources drop unknown keys."""
        del env_settings, dotenv_settings, file_secret_settings
        layers = (_LayerSource(settings_cls, layer) for layer in load_context().layers)
        return (init_settings, *layers)

    @model_validator(mode="wrap")
    @classmethod
    def _checked_as_a_whole(cls, data: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        """Hand the defaults down, and report what concerns several parts together with the errors of each."""
        data = {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}
        return validate_besides(cls.__name__, lambda: validate(handed_down(data)), dict(_cross_errors(data)))


def _unread(settings: Settings) -> Iterator[str]:
    """A word on the rules that go without a family that they read."""
    known = registry().platforms
    for upstream in settings.upstreams:
        if upstream.platform not in known:
            # settings that were made by hand, of no platform
            continue
        without = said(excluded(upstream.exclude_families), known[upstream.platform].feeds)
        rules = list(rules_that_read(without, settings.alerting)) if without else []
        if rules:
            yield f"upstream {upstream.name}: exclude_families leaves out what these rules of Prometheus read: " + (
                ", ".join(rules)
            )


def _without_nulls(dumped: Any) -> Any:
    if isinstance(dumped, dict):
        return {key: _without_nulls(value) for key, value in dumped.items() if value is not None}
    return [_without_nulls(item) for item in dumped] if isinstance(dumped, list) else dumped


def _cross_errors(data: Mapping[str, Any]) -> Iterator[tuple[Place, PydanticCustomError]]:
    """What two parts say against each other, read from what is written: it is found beside all other errors."""
    upstreams = [item if isinstance(item, dict) else {} for item in _list(data.get("upstreams"))]
    names: list[Any] = []
    for index, upstream in enumerate(upstreams):
        name = upstream.get("name")
        if isinstance(name, str) and name in names:
            yield ("upstreams", index, "name"), refuse("a name that no other upstream has")
        names.append(name)
    events = mapping(mapping(data.get("alerting")).get("wave_events")).get("upstream")
    if isinstance(events, str) and events not in [
        item.get("name") for item in upstreams if item.get("platform") == "wave"
    ]:
        yield ("alerting", "wave_events", "upstream"), refuse("the name of an upstream of platform wave")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


@cache
def settings_class() -> type[Settings]:
    """``Settings`` with the union of the settings of every platform that is installed."""
    platforms = registry().platforms
    choices = {name: platform.settings_class for name, platform in platforms.items()}
    tagged: Any = Union[tuple(Annotated[model, Tag(TAG_PREFIX + name)] for name, model in choices.items())]  # noqa: UP007
    item = Annotated[tagged, Discriminator(_platform_of), BeforeValidator(_known_platform(tuple(choices)))]
    field = Settings.model_fields["upstreams"]
    upstreams = Annotated[tuple[item, ...], AfterValidator(_not_empty)]
    return create_model("Settings", __base__=Settings, upstreams=(upstreams, Field(description=field.description)))


def _platform_of(upstream: Any) -> str:
    return TAG_PREFIX + str(upstream["platform"] if isinstance(upstream, dict) else upstream.platform)


def _known_platform(names: tuple[str, ...]) -> Callable[[Any], Any]:
    def check(upstream: Any) -> Any:
        if isinstance(upstream, UpstreamSettings):
            return upstream
        if not isinstance(upstream, dict):
            raise refuse("a mapping")
        if upstream.get("platform") not in names:
            raise refuse_all("upstream", {("platform",): refuse(any_of(names))})
        return upstream

    return check


def _hide_identities(upstream: UpstreamSettings, shown: dict[str, Any]) -> None:
    for field in type(upstream).model_fields:
        items = getattr(upstream, field)
        for index, stream in enumerate(items if isinstance(items, tuple) else ()):
            if isinstance(stream, StreamSettings):
                shown[field][index] |= {key: HIDDEN for key in stream.identity_fields if key in shown[field][index]}
