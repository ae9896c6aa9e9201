"""``python -m exporter.alerting`` prints the runbook."""

from exporter.alerting.runbook import page

if __name__ == "__main__":
    print(page(), end="")
