"""Every metric family, once, as data: rendering, the reference page and the checks on dashboards and rules read it."""

from exporter.catalogue.exporter import EXPORTER_FAMILIES, SIDECAR_FAMILIES
from exporter.catalogue.family import Family
from exporter.catalogue.sampled import SAMPLED_FAMILIES
from exporter.catalogue.streams import STREAM_FAMILIES
from exporter.catalogue.upstreams import POLLING_FAMILIES, UPSTREAM_FAMILIES

FAMILIES: tuple[Family, ...] = (
    *STREAM_FAMILIES,
    *SAMPLED_FAMILIES,
    *UPSTREAM_FAMILIES,
    *POLLING_FAMILIES,
    *EXPORTER_FAMILIES,
    *SIDECAR_FAMILIES,
)
