"""Entry point of the container image's health check, ``python -m exporter.healthcheck``."""

import sys

from exporter.cli.healthcheck import main

if __name__ == "__main__":
    sys.exit(main())
