"""Every metric family, once, as data: rendering, the reference page and the checks on dashboards and rules read it."""

from exporter.catalogue.analytics import ANALYTICS_FAMILIES, PLATFORM_METRIC
from exporter.catalogue.exporter import EXPORTER_FAMILIES, SIDECAR_FAMILIES
from exporter.catalogue.family import Family
from exporter.catalogue.sampled import SAMPLED_FAMILIES
from exporter.catalogue.streams import STREAM_FAMILIES
from exporter.catalogue.upstreams import FOREIGN_SERIES_DROPPED, POLLING_FAMILIES, UPSTREAM_FAMILIES

FAMILIES: tuple[Family, ...] = (
    *STREAM_FAMILIES,
    *ANALYTICS_FAMILIES,
    PLATFORM_METRIC,
    *SAMPLED_FAMILIES,
    *UPSTREAM_FAMILIES,
    FOREIGN_SERIES_DROPPED,
    *POLLING_FAMILIES,
    *EXPORTER_FAMILIES,
    *SIDECAR_FAMILIES,
)
