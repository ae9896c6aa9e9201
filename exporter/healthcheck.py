"""``python -m exporter.healthcheck``: the health check of the container image (``exporter.cli.healthcheck``)."""

import sys

from exporter.cli.healthcheck import main

if __name__ == "__main__":
    sys.exit(main())
