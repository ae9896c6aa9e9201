"""stream-exporter: a Prometheus exporter and alerting sidecar for streaming servers."""

__version__ = "0.1.0"
