"""Every metric family, once, as data: rendering, the reference page and the checks on dashboards and rules read it."""

from exporter.metrics.families.analytics_families import ANALYTICS_FAMILIES, PLATFORM_METRIC
from exporter.metrics.families.exporter_families import EXPORTER_FAMILIES, SIDECAR_FAMILIES
from exporter.metrics.families.family import Family
from exporter.metrics.families.sampled_families import SAMPLED_FAMILIES
from exporter.metrics.families.stream_families import STREAM_FAMILIES
from exporter.metrics.families.upstream_families import PASSTHROUGH_SERIES_DROPPED, POLLING_FAMILIES, UPSTREAM_FAMILIES

FAMILIES: tuple[Family, ...] = (
    *STREAM_FAMILIES,
    *ANALYTICS_FAMILIES,
    PLATFORM_METRIC,
    *SAMPLED_FAMILIES,
    *UPSTREAM_FAMILIES,
    PASSTHROUGH_SERIES_DROPPED,
    *POLLING_FAMILIES,
    *EXPORTER_FAMILIES,
    *SIDECAR_FAMILIES,
)
