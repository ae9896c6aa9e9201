"""The web configuration file: TLS, users, limits, as exporter-toolkit has them."""
