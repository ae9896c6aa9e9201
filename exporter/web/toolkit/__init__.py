"""Web configuration file in the format of exporter-toolkit: TLS, users, headers and rate limit."""
