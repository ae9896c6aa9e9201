"""``python -m exporter.alerting`` prints the runbook."""

from exporter.alerting.runbook.page import render_runbook

if __name__ == "__main__":
    print(render_runbook(), end="")
