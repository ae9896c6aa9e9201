"""The platforms: each module knows one API and the model, and nothing of Prometheus."""
