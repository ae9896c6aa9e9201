"""Settings of alerting: thresholds, and the sidecar with its receivers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from exporter.config.auth import BEARER, LOGIN, NONE, AuthSettings, TlsSettings
from exporter.config.control import AlertName, threshold_error
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
    Name,
    Number,
    Text,
    format_duration,
    read_number,
)
from exporter.config.urls import HttpUrl, check_secret_url
from exporter.config.validation import Place, RuleLimits, load_context, refuse, refuse_all, refuse_because

LabelName = Annotated[
    Text, Matching("(?!__|alertname$)[a-zA-Z_][a-zA-Z0-9_]*", "a label name other than alertname, not starting with __")
]
_OWN_HEADERS = "host|content-length|content-type|content-encoding|transfer-encoding|connection|authorization"
HeaderName = Annotated[
    Text,
    Matching(
        f"(?i:(?!({_OWN_HEADERS})$)[!#$%&'*+.^_`|~0-9a-z-]+)",
        "a header name, but not of a header that the exporter sets itself",
    ),
]


class Threshold(Section):
    """Overrides for one rule."""

    value: Number | None = Field(default=None, description="Threshold, in the base unit of the rule's metric.")
    for_: Annotated[Duration, Between(0, 30 * 86_400, format_duration)] | None = Field(
        default=None, alias="for", description="How long the condition must hold before the alert fires."
    )

    @model_validator(mode="after")
    def _require_a_value(self) -> Threshold:
        if self.value is None and self.for_ is None:
            raise refuse("value, for, or both", found="an empty mapping")
        return self


def _wrap_number(value: Any) -> Any:
    if isinstance(value, dict | Threshold):
        return value
    try:
        return {"value": read_number(value)}
    except (TypeError, ValueError):
        raise refuse("a number, or a mapping with value and for") from None


TENANT_HEADER = "x-scope-orgid"
"""Header (in lower case) that selects the tenant in Mimir and Cortex. Its value is not a secret."""


def _check_auth_kind(auth: AuthSettings) -> AuthSettings:
    if auth.kind not in (NONE, BEARER, LOGIN):
        raise refuse_because("api_key is not supported here; use bearer_token, or username with password")
    return auth


TargetAuth = Annotated[AuthSettings, AfterValidator(_check_auth_kind)]


class AlertmanagerSettings(Section):
    """One Alertmanager that alerts are sent to."""

    name: Name | None = Field(
        default=None, description="Name in logs and metrics. Without it, the URL, with the tenant if there is one."
    )
    url: HttpUrl = Field(description="Base URL; the exporter appends `/api/v2/alerts`.")
    auth: TargetAuth = Field(default_factory=AuthSettings, description="Authentication.")
    tls: TlsSettings = Field(default_factory=TlsSettings, description="How its certificate is verified.")
    headers: dict[HeaderName, Secret] = Field(
        default_factory=dict,
        description="Additional headers. Their values are treated as secrets, except for `X-Scope-OrgID`.",
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
        """Value of the tenant header; empty if it is not set."""
        return next((secret.get() for name, secret in self.headers.items() if _is_tenant(name)), "")

    @property
    def identity(self) -> str:
        """Unique name in logs and metrics."""
        return self.name or (f"{self.url} (tenant {self.tenant})" if self.tenant else self.url)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and value != ""


def _is_tenant(header: Any) -> bool:
    return isinstance(header, str) and header.lower() == TENANT_HEADER


class WebhookSettings(Section):
    """One receiver of notifications in Alertmanager's webhook format."""

    name: Name = Field(description="Name in logs and metrics, and the `receiver` in notifications.")
    url: Annotated[Secret, AfterValidator(check_secret_url)] = Field(
        description="Where notifications are sent. It may contain a token, so it is treated as a secret."
    )
    auth: TargetAuth = Field(default_factory=AuthSettings, description="Authentication.")
    tls: TlsSettings = Field(default_factory=TlsSettings, description="How its certificate is verified.")
    headers: dict[HeaderName, Secret] = Field(
        default_factory=dict, description="Additional headers. Their values are treated as secrets."
    )
    minimum_severity: Literal["critical", "warning", "info"] = Field(
        default="warning", description="Lowest severity of the alerts to send."
    )


class WaveEvents(Section):
    """Settings of writing alerts to WAVE as events."""

    upstream: Text | None = Field(default=None, description="Name of an upstream of platform `wave`.")
    enabled: Flag = Field(default=False, description="Whether to write events.")

    @model_validator(mode="after")
    def _require_upstream(self) -> WaveEvents:
        if self.enabled and self.upstream is None:
            raise refuse_all("wave_events", {("upstream",): refuse("the name of a wave upstream", found="nothing")})
        return self


Thresholds = dict[AlertName, Annotated[Threshold, BeforeValidator(_wrap_number), Described("number, or a mapping")]]


def _check_thresholds(thresholds: dict[str, Threshold]) -> dict[str, Threshold]:
    """Refuse values that a rule would ignore."""
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
        errors[name,] = refuse_because("this rule has no threshold; only `for` can be set")
    elif threshold.value is not None and (error := threshold_error(threshold.value, rule)) is not None:
        errors[name,] = error
    if threshold.for_ is not None and not rule.has_for:
        message = "this rule evaluates a window and has no `for`; only `value` can be set"
        errors[name, "for"] = refuse_because(message)
    return errors


def _check_goal(goal: float) -> float:
    schema = load_context().schema
    if schema is not None and goal not in schema.health_bounds:
        raise refuse(f"a bucket bound of {schema.health_histogram}: {', '.join(map(str, schema.health_bounds))}")
    return goal


class HealthSlo(Section):
    """Service level objective for stream health per upstream; the burn-rate rules alert on it."""

    goal: Annotated[Number, AfterValidator(_check_goal)] = Field(
        default=0.8,
        description="A health observation above this score is good. It must be a bucket bound of the histogram.",
    )
    objective: Annotated[Number, Between(0.5, 0.9999)] = Field(
        default=0.99, description="Share of observations that should be good."
    )
    minimum_observations: Annotated[Count, Between(1, 1_000_000)] = Field(
        default=60, description="A rule does not fire with fewer observations in its longer window."
    )

    @property
    def budget_ratio(self) -> float:
        """Share of observations that may be bad (the error budget)."""
        return round(1 - self.objective, 9)


def _sort_labels(labels: dict[str, str]) -> dict[str, str]:
    return dict(sorted(labels.items()))


def _check_identities(alertmanagers: tuple[AlertmanagerSettings, ...]) -> tuple[AlertmanagerSettings, ...]:
    """Refuse different Alertmanagers with the same identity, which labels their metrics and logs."""
    known: dict[str, AlertmanagerSettings] = {}
    errors: dict[Place, PydanticCustomError] = {}
    for index, settings in enumerate(alertmanagers):
        if known.setdefault(settings.identity, settings) != settings:
            message = f"another Alertmanager is also identified as {settings.identity}; give each a unique name"
            errors[index, "name"] = refuse_because(message)
    if errors:
        raise refuse_all("alertmanagers", errors)
    return alertmanagers


def _check_webhook_names(webhooks: tuple[WebhookSettings, ...]) -> tuple[WebhookSettings, ...]:
    names = [settings.name for settings in webhooks]
    errors: dict[Place, PydanticCustomError] = {
        (index, "name"): refuse_because("another webhook has the same name")
        for index, name in enumerate(names)
        if name in names[:index]
    }
    if errors:
        raise refuse_all("webhooks", errors)
    return webhooks


class AlertingSettings(Section):
    """Thresholds of the rules, and receivers of the sidecar's alerts."""

    thresholds: Annotated[Thresholds, AfterValidator(_check_thresholds)] = Field(
        default_factory=dict,
        description="By rule name: a number in the base unit of the rule's metric, or the mapping below.",
    )
    health_slo: HealthSlo = Field(
        default_factory=HealthSlo, description="Service level objective for stream health, for the burn-rate rules."
    )
    alertmanagers: Annotated[tuple[AlertmanagerSettings, ...], AfterValidator(_check_identities)] = Field(
        default=(), description="Where the sidecar sends alerts. The sidecar runs if this or `webhooks` is not empty."
    )
    resolve: Literal["send", "lapse"] = Field(
        default="send",
        description="How the sidecar ends an alert: `send` resolves it at once; with `lapse` it expires a few minutes "
        "after the last sidecar has stopped repeating it. Use `lapse` if two replicas run the sidecar.",
    )
    webhooks: Annotated[tuple[WebhookSettings, ...], AfterValidator(_check_webhook_names)] = Field(
        default=(), description="Receivers of notifications, for stations without Alertmanager."
    )
    external_labels: Annotated[dict[LabelName, Text], AfterValidator(_sort_labels)] = Field(
        default_factory=dict, description="Labels to add to every alert of the sidecar."
    )
    state_file: ConfigPath | None = Field(
        default=None,
        description="File that keeps the sidecar's alert state across restarts. Without it, `alerts.json` in "
        "`state_dir`.",
    )
    wave_events: WaveEvents = Field(default_factory=WaveEvents, description="Writing alerts to WAVE as events.")

    @property
    def has_receivers(self) -> bool:
        """Whether the sidecar has anywhere to send alerts, and so runs."""
        return bool(self.alertmanagers or self.webhooks or self.wave_events.enabled)
