"""The platforms. Each module knows one API and the model, but nothing about Prometheus."""
