"""Settings of alerting: thresholds, and the sidecar that sends alerts itself."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from exporter.config.auth import BEARER, LOGIN, NONE, AuthSettings, TlsSettings
from exporter.config.secrets import Secret
from exporter.config.section import Section
from exporter.config.types import (
    Between,
    ConfigPath,
    Count,
    Described,
    Duration,
    Flag,
    Matching,
    Number,
    Text,
    format_duration,
    read_number,
)
from exporter.config.upstream import HttpUrl, check_http_url
from exporter.config.validation import Place, RuleLimits, load_context, refuse, refuse_all
from exporter.runtime.suggestions import similar_words


def _check_rule_name(name: str) -> str:
    schema = load_context().schema
    if schema is not None and name not in schema.rules:
        near = similar_words(name, schema.rules)
        raise refuse("the name of a rule, such as " + (near[0] if near else "StreamUnhealthy"))
    return name


AlertName = Annotated[Text, AfterValidator(_check_rule_name), Described("name of a rule")]
LabelName = Annotated[Text, Matching("(?!__|alertname$)[a-zA-Z_][a-zA-Z0-9_]*", "a label's name, not alertname")]
_OWN_HEADERS = "host|content-length|content-type|content-encoding|transfer-encoding|connection|authorization"
HeaderName = Annotated[
    Text,
    Matching(f"(?i:(?!({_OWN_HEADERS})$)[!#$%&'*+.^_`|~0-9a-z-]+)", "a header's name, none that is set anyway"),
]


class Threshold(Section):
    """Values that replace the defaults of one rule."""

    value: Number | None = Field(default=None, description="The limit, in the base unit of the rule's metric.")
    for_: Annotated[Duration, Between(0, 30 * 86_400, format_duration)] | None = Field(
        default=None, alias="for", description="How long the condition must hold."
    )

    @model_validator(mode="after")
    def _require_a_value(self) -> Threshold:
        if self.value is None and self.for_ is None:
            raise refuse("value, for, or both", found="neither")
        return self


def _wrap_number(value: Any) -> Any:
    if isinstance(value, dict | Threshold):
        return value
    try:
        return {"value": read_number(value)}
    except (TypeError, ValueError):
        raise refuse("a number, or a mapping of value and for") from None


TENANT_HEADER = "x-scope-orgid"
"""Name, in lower case, of the header that selects the tenant in Mimir and Cortex. Its value is not a secret."""
TargetName = Annotated[Text, Matching("[a-zA-Z0-9_.-]{1,64}", "1 to 64 of letters, digits, _ . and -")]


def _check_auth_kind(auth: AuthSettings) -> AuthSettings:
    if auth.kind not in (NONE, BEARER, LOGIN):
        raise refuse("nothing, bearer_token, or username with password", found="api_key")
    return auth


TargetAuth = Annotated[AuthSettings, AfterValidator(_check_auth_kind)]


class AlertmanagerSettings(Section):
    """One Alertmanager that alerts are sent to."""

    name: TargetName | None = Field(
        default=None, description="Its name in logs and metrics; by default its URL, with the tenant if there is one."
    )
    url: HttpUrl = Field(description="Its base URL; `/api/v2/alerts` is added.")
    auth: TargetAuth = Field(default_factory=AuthSettings, description="How requests prove who they are.")
    tls: TlsSettings = Field(default_factory=TlsSettings, description="How its certificate is checked.")
    headers: dict[HeaderName, Secret] = Field(
        default_factory=dict,
        description="Headers to send besides; their values are treated as secrets, except that of `X-Scope-OrgID`.",
    )
    resolve_dns: Flag = Field(
        default=False, description="Send to every address of the host, for a cluster behind one name."
    )

    @field_validator("headers", mode="before")
    @classmethod
    def _keep_tenant_readable(cls, headers: Any) -> Any:
        if not isinstance(headers, dict):
            return headers
        return {
            name: Secret(text=value) if _is_tenant(name) and _is_plain(value) else value
            for name, value in headers.items()
        }

    @property
    def tenant(self) -> str:
        """Value of the tenant header; empty without one."""
        return next((secret.get() for name, secret in self.headers.items() if _is_tenant(name)), "")

    @property
    def identity(self) -> str:
        """What distinguishes it from all others in logs and metrics."""
        return self.name or (f"{self.url} (tenant {self.tenant})" if self.tenant else self.url)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and value != ""


def _is_tenant(header: Any) -> bool:
    return isinstance(header, str) and header.lower() == TENANT_HEADER


def _check_webhook_url(secret: Secret) -> Secret:
    check_http_url(secret.get())
    return secret


class WebhookSettings(Section):
    """One receiver of notifications in Alertmanager's webhook format."""

    name: TargetName = Field(description="Its name in logs, metrics and, as `receiver`, in notifications.")
    url: Annotated[Secret, AfterValidator(_check_webhook_url)] = Field(
        description="Where notifications are sent. It may contain a token, so it is treated as a secret."
    )
    auth: TargetAuth = Field(default_factory=AuthSettings, description="How requests prove who they are.")
    tls: TlsSettings = Field(default_factory=TlsSettings, description="How its certificate is checked.")
    headers: dict[HeaderName, Secret] = Field(
        default_factory=dict, description="Headers to send besides; their values are treated as secrets."
    )
    minimum_severity: Literal["critical", "warning", "info"] = Field(
        default="warning", description="Lowest severity of the alerts that are sent."
    )


class WaveEvents(Section):
    """Alerts written back into WAVE as its own events."""

    upstream: Text | None = Field(default=None, description="The name of an upstream of platform wave.")
    enabled: Flag = Field(default=False, description="Write them.")

    @model_validator(mode="after")
    def _require_upstream(self) -> WaveEvents:
        if self.enabled and self.upstream is None:
            raise refuse_all("wave_events", {("upstream",): refuse("the name of a wave upstream", found="nothing")})
        return self


Thresholds = dict[AlertName, Annotated[Threshold, BeforeValidator(_wrap_number), Described("number, or a mapping")]]


def _check_thresholds(thresholds: dict[str, Threshold]) -> dict[str, Threshold]:
    """Refuse values that a rule has no use for: the rule would silently keep its default."""
    schema = load_context().schema
    errors: dict[Place, PydanticCustomError] = {}
    if schema is not None:
        for name, threshold in thresholds.items():
            errors |= _threshold_errors(name, threshold, schema.rules[name])
    if errors:
        raise refuse_all("thresholds", errors)
    return thresholds


def _threshold_errors(name: str, threshold: Threshold, rule: RuleLimits) -> dict[Place, PydanticCustomError]:
    errors: dict[Place, PydanticCustomError] = {}
    if threshold.value is not None and rule.threshold is None:
        errors[name,] = refuse("only `for`: this rule has no threshold", found=f"{threshold.value:g}")
    elif threshold.value is not None and not 0 < threshold.value <= rule.threshold_max:
        upper = "" if math.isinf(rule.threshold_max) else f", at most {rule.threshold_max:g}"
        errors[name,] = refuse(f"a number above 0{upper}", found=f"{threshold.value:g}")
    if threshold.for_ is not None and not rule.has_for:
        errors[name, "for"] = refuse("only `value`: this rule looks back over a window instead")
    return errors


def _check_goal(goal: float) -> float:
    schema = load_context().schema
    if schema is not None and goal not in schema.health_bounds:
        raise refuse(f"a bound of {schema.health_histogram}: {', '.join(map(str, schema.health_bounds))}")
    return goal


class HealthSlo(Section):
    """The goal for the health of an upstream's streams that the burn-rate rules watch."""

    goal: Annotated[Number, AfterValidator(_check_goal)] = Field(
        default=0.8, description="An observation of health is good above this; it must be a bound of the histogram."
    )
    objective: Annotated[Number, Between(0.5, 0.9999)] = Field(
        default=0.99, description="The share of observations that should be good."
    )
    minimum_observations: Annotated[Count, Between(1, 1_000_000)] = Field(
        default=60, description="With fewer in the longer window of a rule, it keeps silent."
    )

    @property
    def budget_ratio(self) -> float:
        """The share of observations that may be bad."""
        return round(1 - self.objective, 9)


def _sort_labels(labels: dict[str, str]) -> dict[str, str]:
    return dict(sorted(labels.items()))


def _check_identities(alertmanagers: tuple[AlertmanagerSettings, ...]) -> tuple[AlertmanagerSettings, ...]:
    """Refuse different Alertmanagers with one identity: their metrics and log lines could not be told apart."""
    known: dict[str, AlertmanagerSettings] = {}
    errors: dict[Place, PydanticCustomError] = {}
    for index, settings in enumerate(alertmanagers):
        if known.setdefault(settings.identity, settings) != settings:
            errors[index, "name"] = refuse("a name that no other Alertmanager has", found=settings.identity)
    if errors:
        raise refuse_all("alertmanagers", errors)
    return alertmanagers


def _check_webhook_names(webhooks: tuple[WebhookSettings, ...]) -> tuple[WebhookSettings, ...]:
    names = [settings.name for settings in webhooks]
    errors: dict[Place, PydanticCustomError] = {
        (index, "name"): refuse("a name that no other webhook has")
        for index, name in enumerate(names)
        if name in names[:index]
    }
    if errors:
        raise refuse_all("webhooks", errors)
    return webhooks


class AlertingSettings(Section):
    """Thresholds of the rules, and where the sidecar sends alerts."""

    thresholds: Annotated[Thresholds, AfterValidator(_check_thresholds)] = Field(
        default_factory=dict,
        description="By the name of a rule: a number in the base unit of its metric, or the mapping below.",
    )
    health_slo: HealthSlo = Field(
        default_factory=HealthSlo, description="What the burn-rate rules hold the health of streams to."
    )
    alertmanagers: Annotated[tuple[AlertmanagerSettings, ...], AfterValidator(_check_identities)] = Field(
        default=(), description="Where the sidecar sends alerts. The sidecar runs if this, or `webhooks`, is not empty."
    )
    resolve: Literal["send", "lapse"] = Field(
        default="send",
        description="How an alert ends in Alertmanager: with `send`, at once; with `lapse`, a few minutes after the "
        "last sidecar has stopped repeating it. Use `lapse` where two replicas run the sidecar.",
    )
    webhooks: Annotated[tuple[WebhookSettings, ...], AfterValidator(_check_webhook_names)] = Field(
        default=(), description="Receivers of notifications, for stations without Alertmanager."
    )
    external_labels: Annotated[dict[LabelName, Text], AfterValidator(_sort_labels)] = Field(
        default_factory=dict, description="Labels that every alert of the sidecar gets."
    )
    state_file: ConfigPath | None = Field(
        default=None,
        description="Where the sidecar remembers alerts over a restart. Absent: in `$STATE_DIRECTORY`, else in the "
        "user's state folder.",
    )
    wave_events: WaveEvents = Field(default_factory=WaveEvents, description="Alerts written back into WAVE.")
