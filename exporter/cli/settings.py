"""Load the configuration with the platforms, rules and metric families of this installation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from exporter.alerting.rules import RULES
from exporter.config.loading import load
from exporter.config.root import Settings
from exporter.config.validation import ConfigSchema, RuleLimits
from exporter.metrics.families import EXCLUDABLE, FAMILIES
from exporter.metrics.families.stream_families import HEALTH_SCORE
from exporter.platforms.registry import registry
from exporter.runtime.lazy_mapping import LazyMapping


def load_settings(path: Path, environ: Mapping[str, str]) -> Settings:
    """Load the settings from the file; environment variables take precedence. Raises ``ConfigError``."""
    return load(path, environ, config_schema())


@cache
def config_schema() -> ConfigSchema:
    """Return the platforms, rules and metric families that a configuration may refer to."""
    platforms, warnings = registry()
    return ConfigSchema(
        platforms=LazyMapping(platforms, lambda name: platforms[name].settings_class),
        rules={
            rule.name: RuleLimits(rule.threshold, rule.threshold_max, bool(rule.for_seconds), rule.scope.value)
            for rule in RULES
        },
        families=EXCLUDABLE,
        health_histogram=HEALTH_SCORE.name,
        health_bounds=HEALTH_SCORE.bounds,
        labels=frozenset(label for family in FAMILIES for label in family.labels),
        warnings=warnings,
    )
