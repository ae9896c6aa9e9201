"""The Grafana dashboards, as code: ``dashboards/`` is made from it, with the thresholds of the alert rules."""
