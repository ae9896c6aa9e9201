"""``stream-exporter rules``: list the alert rules, or write rule files for Prometheus."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from exporter.alerting import DEFAULT_RUNBOOK_URL, DEFAULT_SELECTOR
from exporter.cli.command import (
    Commands,
    add_command,
    add_config_file,
    decimal_number,
    load_or_fail,
    typed,
    write_files,
)
from exporter.web.options import RUNBOOK_PATH, external_origin

_EPILOG = """\
Without --output-dir, prints a table of the rules. With it, writes rule files for Prometheus:
  stream-alerts.yaml       alerting rules
  stream-recordings.yaml   recording rules that some of the alerts need
If the alerting sidecar is enabled, use --evaluator=prometheus. Otherwise the alerts that the sidecar evaluates would
be sent twice.
"""


def add_parser(commands: Commands) -> None:
    """Add the command's parser."""
    parser = add_command(
        commands,
        "rules",
        run,
        summary="list the alert rules, or write rule files for Prometheus",
        description="List the alert rules, or write rule files for Prometheus.",
        epilog=_EPILOG,
    )
    add_config_file(
        parser,
        default=None,
        help_="configuration file to take thresholds from; StreamUpstreamUnwatched then covers all of its upstreams "
        "(default: none)",
    )
    parser.add_argument(
        "--evaluator",
        choices=("prometheus", "sidecar", "all"),
        default="all",
        help="which rules: those left to Prometheus if the sidecar is enabled, those that the sidecar evaluates, or "
        "all (default: all)",
    )
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="folder to write the rule files to")
    parser.add_argument(
        "--selector",
        default=DEFAULT_SELECTOR,
        metavar="MATCHERS",
        help=f"label matchers that select the exporter's series (default: {DEFAULT_SELECTOR})",
    )
    parser.add_argument(
        "--time-scale",
        type=decimal_number(lambda number: 0.001 <= number <= 3600, "a number from 0.001 to 3600"),
        default=1.0,
        metavar="X",
        help="divide all durations by X, for tests and demos (default: 1)",
    )
    parser.add_argument(
        "--runbook-url",
        metavar="URL",
        help=f"URL of the runbook (default: /runbook below --web.external-url, otherwise {DEFAULT_RUNBOOK_URL})",
    )
    parser.add_argument(
        "--web.external-url",
        dest="external",
        type=typed(external_origin),
        metavar="URL",
        help="URL at which users reach the exporter, for links in alerts",
    )
    prometheus = parser.add_argument_group("Prometheus that evaluates the rules")
    prometheus.add_argument(
        "--scrape-interval",
        type=_scrape_interval,
        default="60s",
        metavar="DURATION",
        help="its scrape interval; a series counts as gone after 2.5 times this (default: 60s, which also works with "
        "shorter intervals)",
    )
    prometheus.add_argument(
        "--replica-labels",
        type=_label_names,
        default=("instance", "pod"),
        metavar="NAMES",
        help="comma-separated labels by which replicas of an exporter differ (default: instance,pod)",
    )
    prometheus.add_argument(
        "--target-labels",
        type=_label_names,
        default=(),
        metavar="NAMES",
        help="comma-separated labels, such as site, that distinguish exporters in addition to job and cluster "
        "(default: none)",
    )
    prometheus.add_argument(
        "--without-keep-firing",
        action="store_true",
        help="omit keep_firing_for, which vmalert before 1.92 does not support",
    )


def _scrape_interval(text: str) -> float:
    from exporter.config.types import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("expected a duration from 1s to 1h")
    return seconds


def _label_names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(re.fullmatch(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*", name) for name in names):
        raise argparse.ArgumentTypeError("expected label names separated by commas")
    return names


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    from exporter.alerting.promql import ConfiguredUpstream, Dialect
    from exporter.alerting.rule_files import (
        ALERTS_FILE,
        RECORDINGS_FILE,
        alerts_file,
        listing,
        needs_recordings,
        recordings_file,
    )
    from exporter.alerting.rules import Owner
    from exporter.alerting.rules.active_rules import rules_in_force
    from exporter.config.alerting import AlertingSettings

    owners = {
        "prometheus": (Owner.PROMETHEUS,),
        "sidecar": (Owner.BOTH, Owner.SIDECAR),
        "all": tuple(Owner),
    }[options.evaluator]
    settings = load_or_fail(options.config_file) if options.config_file else None
    alerting, upstreams = (settings.alerting, settings.upstreams) if settings else (AlertingSettings(), ())
    rules = rules_in_force(alerting, owners=owners, time_scale=options.time_scale)
    if options.output_dir is None:
        print(listing(rules), end="")
        return 0
    page = options.external.page_url if options.external else ""
    dialect = Dialect(
        selector=options.selector,
        time_scale=options.time_scale,
        runbook=options.runbook_url or (page + RUNBOOK_PATH[1:] if page else DEFAULT_RUNBOOK_URL),
        page=page,
        slo=alerting.health_slo,
        scrape_interval_seconds=options.scrape_interval,
        replica_labels=options.replica_labels,
        target_labels=options.target_labels,
        keep_firing=not options.without_keep_firing,
        upstreams=tuple(
            ConfiguredUpstream(upstream.platform, upstream.name, upstream.label_pairs)
            for upstream in upstreams
            if upstream.alerts.get("StreamUpstreamUnwatched") is not False
        ),
    )
    files = {ALERTS_FILE: alerts_file(rules, dialect)}
    if needs_recordings(rules):
        files[RECORDINGS_FILE] = recordings_file(dialect)
    write_files(options.output_dir, files)
    return 0
