"""HTTP server of the exporter: metrics, probes, JSON API and page."""
