"""Settings that control alerts: labels, overrides of rules, and maintenance windows."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Collection
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_core import PydanticCustomError

from exporter.config.section import Section
from exporter.config.types import Described, Text, read_number
from exporter.config.validation import (
    Place,
    RuleLimits,
    load_context,
    refuse,
    refuse_all,
    refuse_because,
    validate_with_errors,
)
from exporter.runtime.suggestions import similar_words

MAX_LABELS = 8
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,63}")
_ALERT_LABELS = frozenset(
    {
        "alertname", "alertstate", "severity", "scope", "source", "test", "rule", "status", "reason", "le", "quantile",
        "group",
    }
)  # fmt: skip
"""Labels of alerts, groups and histograms."""
_TARGET_LABELS = frozenset(
    {
        "endpoint", "service", "container", "namespace", "pod", "node", "job", "instance", "cluster", "prometheus",
        "prometheus_replica", "replica", "shard", "region",
    }
)  # fmt: skip
"""Labels that service discovery and Prometheus attach to series."""


# -- labels ------------------------------------------------------------------------------------------------------------


def _refusal_of_label(name: str, own_labels: Collection[str]) -> str | None:
    """Return why a label name cannot be used; None if it can."""
    if not _LABEL_NAME.fullmatch(name):
        return "a label name consists of 1 to 64 letters, digits and _, and does not start with a digit"
    if name.startswith("__"):
        return "names that start with __ are reserved for Prometheus"
    if name.startswith("exported_"):
        return "names that start with exported_ are reserved: Prometheus renames conflicting labels to them"
    if name in _TARGET_LABELS:
        return "this name is reserved: service discovery or Prometheus attaches a label of this name"
    if name in _ALERT_LABELS or name in own_labels:
        return "this name is reserved: the exporter's own series or alerts have a label of this name"
    return None


def _check_labels(labels: dict[str, str]) -> dict[str, str]:
    schema = load_context().schema
    own_labels = schema.labels if schema is not None else ()
    errors: dict[Place, PydanticCustomError] = {}
    for name in labels:
        refusal = _refusal_of_label(name, own_labels)
        if refusal is not None:
            errors[name,] = refuse_because(refusal)
    if len(labels) > MAX_LABELS:
        errors[()] = refuse(f"at most {MAX_LABELS} labels", found=str(len(labels)))
    if errors:
        raise refuse_all("labels", errors)
    return dict(sorted(labels.items()))


Labels = Annotated[dict[Text, Text], AfterValidator(_check_labels), Described("mapping of label names to values")]
"""Labels for the series and alerts of an upstream, sorted by name."""


# -- overrides of rules ------------------------------------------------------------------------------------------------


def check_rule_name(name: str) -> str:
    """Refuse a name that no rule has."""
    schema = load_context().schema
    if schema is not None and name not in schema.rules:
        near = similar_words(name, schema.rules)
        hint = f'did you mean "{near[0]}"?' if near else 'run "stream-exporter rules" for the list'
        raise refuse_because(f"unknown rule; {hint}")
    return name


def threshold_error(value: float, rule: RuleLimits) -> PydanticCustomError | None:
    """Return the error of a threshold that the rule would ignore; None if it is valid."""
    if rule.threshold is None:
        return refuse_because("this rule has no threshold")
    if not 0 < value <= rule.threshold_max:
        upper = "" if math.isinf(rule.threshold_max) else f" and at most {rule.threshold_max:g}"
        return refuse(f"a number above 0{upper}", found=f"{value:g}")
    return None


def _read_override(value: Any) -> bool | float:
    if isinstance(value, bool):
        return value
    if value in ("off", "on"):
        return bool(value == "on")
    if isinstance(value, dict) and value.keys() == {"value"}:
        value = value["value"]
    elif isinstance(value, dict) and "for" in value:
        raise refuse_because("`for` is the same for all streams; set it in alerting.thresholds")
    try:
        return read_number(value)
    except (TypeError, ValueError):
        raise refuse("off, on, or a number") from None


def _write_override(value: bool | float) -> str | float:
    return ("off", "on")[value] if isinstance(value, bool) else value


AlertName = Annotated[Text, AfterValidator(check_rule_name), Described("rule name")]
Overrides = dict[
    AlertName,
    Annotated[
        bool | float,
        BeforeValidator(_read_override),
        PlainSerializer(_write_override),
        Described("off, on, or a number"),
    ],
]
"""By rule: a threshold in the base unit of the rule's metric, False for ``off``, or True for the rule's default."""


def check_overrides(data: Any, validate: ValidatorFunctionWrapHandler, *, scopes: Collection[str]) -> Any:
    """Refuse overrides that their rule would ignore. ``scopes``: the scopes of the rules that may be overridden."""
    schema = load_context().schema
    rules = {} if schema is None else schema.rules
    errors: dict[Place, PydanticCustomError] = {}
    for name, value in data.items() if isinstance(data, dict) else ():
        rule = rules.get(name)
        error = None if rule is None else _override_error(value, rule, scopes)
        if error is not None:
            errors[name,] = error
    return validate_with_errors("alerts", lambda: validate(data), errors)


def _override_error(value: Any, rule: RuleLimits, scopes: Collection[str]) -> PydanticCustomError | None:
    if rule.scope not in scopes:
        kinds = " or ".join(f"{scope}s" for scope in scopes)
        return refuse_because(f"this rule is about the {rule.scope}; only rules about {kinds} can be set here")
    try:
        override = _read_override(value)
    except PydanticCustomError:
        # reported together with its type
        return None
    return None if isinstance(override, bool) else threshold_error(override, rule)


# -- maintenance -------------------------------------------------------------------------------------------------------


def _read_moment(value: Any) -> datetime.datetime:
    allowed = 'a time with its UTC offset, such as "2026-12-06T22:00+01:00" or "2026-12-06T21:00Z"'
    try:
        moment = value if isinstance(value, datetime.datetime) else datetime.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise refuse(allowed) from None
    if moment.tzinfo is None:
        raise refuse(allowed)
    if not 1970 < moment.year < datetime.MAXYEAR:
        # in UTC, it may be in a year that cannot be shown
        raise refuse(f"a year from 1971 to {datetime.MAXYEAR - 1}")
    return moment


Moment = Annotated[
    datetime.datetime,
    BeforeValidator(_read_moment),
    PlainSerializer(lambda moment: moment.isoformat(timespec="seconds")),
    Described("time with UTC offset"),
]


class MaintenanceWindow(Section):
    """One period of planned work."""

    from_: Moment = Field(alias="from", description="Start, with its UTC offset.")
    to: Moment = Field(description="End, with its UTC offset.")
    reason: Text | None = Field(default=None, description="Reason, shown on the page and in the alert.")

    @field_validator("to")
    @classmethod
    def _check_end(cls, to: datetime.datetime, info: ValidationInfo) -> datetime.datetime:
        start = info.data.get("from_")
        if start is not None and to <= start:
            raise refuse("a time after `from`")
        return to
