"""Metric families as data, and their exposition as text."""

from exporter.runtime.lean_imports import import_html

# prometheus_client imports it
import_html()
