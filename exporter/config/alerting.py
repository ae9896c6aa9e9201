"""The settings of alerting: thresholds, and the sidecar that sends alerts by itself."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from exporter.config.auth import BEARER, LOGIN, NONE, AuthSettings, TlsSettings
from exporter.config.fields import (
    Between,
    ConfigPath,
    Described,
    Duration,
    Flag,
    Matching,
    Number,
    Text,
    format_duration,
    read_number,
)
from exporter.config.reading import refuse, refuse_all
from exporter.config.secrets import Secret
from exporter.config.section import Section
from exporter.config.upstream import HttpUrl

AlertName = Annotated[Text, Matching("Stream[A-Z][A-Za-z0-9]{0,63}", "the name of a rule, such as StreamUnhealthy")]
LabelName = Annotated[Text, Matching("(?!__|alertname$)[a-zA-Z_][a-zA-Z0-9_]*", "a label's name, not alertname")]
_OWN_HEADERS = "host|content-length|content-type|content-encoding|transfer-encoding|connection|authorization"
HeaderName = Annotated[
    Text,
    Matching(f"(?i:(?!({_OWN_HEADERS})$)[!#$%&'*+.^_`|~0-9a-z-]+)", "a header's name, none that is set anyway"),
]


class Threshold(Section):
    """What one rule goes by, instead of its own figures."""

    value: Number | None = Field(default=None, description="The limit, in the base unit of the rule's metric.")
    for_: Annotated[Duration, Between(0, 30 * 86_400, format_duration)] | None = Field(
        default=None, alias="for", description="How long the condition must hold."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Threshold:
        if self.value is None and self.for_ is None:
            raise refuse("value, for, or both", found="neither")
        return self


def _bare_number(value: Any) -> Any:
    if isinstance(value, dict | Threshold):
        return value
    try:
        return {"value": read_number(value)}
    except (TypeError, ValueError):
        raise refuse("a number, or a mapping of value and for") from None


class AlertmanagerSettings(Section):
    """One Alertmanager that alerts are sent to."""

    auth_kinds: ClassVar[frozenset[str]] = frozenset({NONE, BEARER, LOGIN})

    url: HttpUrl = Field(description="Its base URL; `/api/v2/alerts` is added.")
    auth: AuthSettings = Field(default_factory=AuthSettings, description="How requests prove who they are.")
    tls: TlsSettings = Field(default_factory=TlsSettings, description="How its certificate is checked.")
    headers: dict[HeaderName, Secret] = Field(
        default_factory=dict, description="Headers to send besides; their values are treated as secrets."
    )
    resolve_dns: Flag = Field(
        default=False, description="Send to every address of the host, for a cluster behind one name."
    )

    @field_validator("auth")
    @classmethod
    def _usable_auth(cls, auth: AuthSettings) -> AuthSettings:
        if auth.kind not in cls.auth_kinds:
            raise refuse("nothing, bearer_token, or username with password", found="api_key")
        return auth


class WaveEvents(Section):
    """Alerts written back into WAVE as its own events."""

    upstream: Text | None = Field(default=None, description="The name of an upstream of platform wave.")
    enabled: Flag = Field(default=False, description="Write them.")

    @model_validator(mode="after")
    def _knows_where(self) -> WaveEvents:
        if self.enabled and self.upstream is None:
            raise refuse_all("wave_events", {("upstream",): refuse("the name of a wave upstream", found="nothing")})
        return self


Thresholds = dict[AlertName, Annotated[Threshold, BeforeValidator(_bare_number), Described("number, or a mapping")]]


def _short_values(labels: dict[str, str]) -> dict[str, str]:
    return dict(sorted(labels.items()))


class AlertingSettings(Section):
    """Thresholds of the rules, and where the sidecar sends alerts."""

    thresholds: Thresholds = Field(
        default_factory=dict,
        description="By the name of a rule: a number in the base unit of its metric, or the mapping below.",
    )
    alertmanagers: tuple[AlertmanagerSettings, ...] = Field(
        default=(), description="Where the sidecar sends alerts; without one there is no sidecar."
    )
    external_labels: Annotated[dict[LabelName, Text], AfterValidator(_short_values)] = Field(
        default_factory=dict, description="Labels that every alert of the sidecar gets."
    )
    state_file: ConfigPath | None = Field(
        default=None,
        description="Where the sidecar remembers alerts over a restart. Absent: in `$STATE_DIRECTORY`, else in the "
        "user's state folder.",
    )
    wave_events: WaveEvents = Field(default_factory=WaveEvents, description="Alerts written back into WAVE.")
