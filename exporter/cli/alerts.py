"""``stream-exporter alerts``: show the alerts of a running exporter, or send a test alert."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from exporter.cli.command import PROGRAM, CommandError, Commands, add_command, add_config_file, load_or_fail
from exporter.cli.running_exporter import add_running_exporter, check_running_exporter, format_table, request_exporter

if TYPE_CHECKING:
    from exporter.config.alerting import AlertingSettings, AlertmanagerSettings, WebhookSettings

_ENDPOINT = "GET /api/v1/sidecar"
_HEADINGS = ("STATE", "SEVERITY", "ALERT", "GROUP", "UPSTREAM", "STREAM", "SINCE", "VALUE", "REASONS", "NOTE")
_EPILOG = """\
Shows the pending and firing alerts of a running exporter. Its alerting sidecar must be enabled: alerting.alertmanagers
or alerting.webhooks is set.

With --test NAME, sends an alert with the labels of that rule and test="true" to every Alertmanager and webhook in the
configuration, and prints their responses. The exit code is 1 if any of them did not accept it. Alertmanager resolves
the alert after its resolve_timeout (5 minutes by default).
"""


def add_parser(commands: Commands) -> None:
    """Add the command's parser."""
    parser = add_command(
        commands,
        "alerts",
        run,
        summary="show pending and firing alerts, or send a test alert",
        description="Show the alerts of a running exporter, or send a test alert to all receivers.",
        epilog=_EPILOG,
    )
    parser.add_argument("--format", choices=("table", "json"), default="table", help="output format (default: table)")
    add_running_exporter(parser)
    test = parser.add_argument_group("test alert")
    test.add_argument(
        "--test", type=_rule_name, metavar="NAME", help="send a test alert of this rule, for example StreamUnhealthy"
    )
    add_config_file(test, help_="configuration with the receivers (default: config.yaml in the current directory)")


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    if options.test is not None:
        return _test(options)
    check_running_exporter(options)
    _show(options)
    return 0


def _rule_name(name: str) -> str:
    from exporter.alerting.rules import RULES_BY_NAME

    if name not in RULES_BY_NAME:
        raise argparse.ArgumentTypeError(f'unknown rule {name!r}; run "{PROGRAM} rules" for the list')
    return name


# -- alerts of a running exporter --------------------------------------------------------------------------------------


def _show(options: argparse.Namespace) -> None:
    import msgspec

    data = request_exporter(options, _ENDPOINT, what="get alerts from")
    is_own = isinstance(data, dict) and isinstance(data.get("active"), bool) and isinstance(data.get("alerts"), list)
    if not is_own:
        text = f"{_ENDPOINT}: not a response of stream-exporter; check --url"
        raise CommandError(f"cannot get alerts from {options.url}: {text}")
    if options.format == "json":
        print(msgspec.json.format(msgspec.json.encode(data)).decode())
    elif not data["active"]:
        print("The alerting sidecar is disabled: alerting.alertmanagers and alerting.webhooks are empty.")
    else:
        print(table(data["alerts"]), end="")


def table(alerts: Sequence[Mapping[str, Any]]) -> str:
    """Format alerts as a table, firing ones first."""
    if not alerts:
        return "No alerts are pending or firing.\n"
    rows = sorted((_row(alert) for alert in alerts), key=lambda row: (row[0] != "firing", row))
    return format_table([_HEADINGS, *rows])


def _row(alert: Mapping[str, Any]) -> tuple[str, ...]:
    labels, annotations = alert.get("labels", {}), alert.get("annotations", {})
    since = alert.get("firedAt") or alert.get("activeAt", "")
    label_cells = [labels.get(name, "") for name in ("severity", "alertname", "group", "upstream", "stream")]
    annotation_cells = [annotations.get(name, "") for name in ("value", "reasons", "cleared")]
    return (
        alert.get("state", ""),
        *label_cells,
        since.removesuffix("Z").partition(".")[0].replace("T", " "),
        *annotation_cells,
    )


# -- test alert --------------------------------------------------------------------------------------------------------


def _test(options: argparse.Namespace) -> int:
    import asyncio

    alerting = load_or_fail(options.config_file).alerting
    if not (alerting.alertmanagers or alerting.webhooks):
        raise CommandError("no receivers configured: alerting.alertmanagers and alerting.webhooks are empty")
    answers = asyncio.run(_send_test(alerting, options.test))
    for receiver, (text, _) in answers.items():
        print(f"{receiver}: {text}")
    return 0 if all(is_accepted for _, is_accepted in answers.values()) else 1


async def _send_test(alerting: AlertingSettings, name: str) -> dict[str, tuple[str, bool]]:
    """Return each receiver's result in words, and whether it accepted the alert."""
    import asyncio

    from exporter.alerting.alertmanager import Alertmanager, target_label
    from exporter.alerting.payload import AlertFormatter
    from exporter.alerting.rules.active_rules import rules_in_force
    from exporter.alerting.webhook_client import WebhookClient, notification
    from exporter.http.errors import UpstreamError
    from exporter.runtime.clock import Clock

    clock = Clock()
    formatter = AlertFormatter(rules_in_force(alerting), alerting.external_labels)
    payload = formatter.test_payload(name, clock.now(), 0.0)
    answers: dict[str, tuple[str, bool]] = {}

    async def send(receiver: str, deliver: Callable[[], Awaitable[int]], close: Callable[[], Awaitable[None]]) -> None:
        try:
            status = await deliver()
        except UpstreamError as error:
            answers[receiver] = f"failed ({error.reason.value}): {error}", False
        else:
            answers[receiver] = f"accepted (status {status})", True
        finally:
            await close()

    async def send_to_alertmanager(settings: AlertmanagerSettings) -> None:
        try:
            addresses = await _addresses(settings)
        except OSError:
            answers[target_label(settings)] = "failed: the host name cannot be resolved", False
            return
        alertmanagers = [Alertmanager(settings, clock, address=address) for address in addresses]
        # without times, so that it fires even if Alertmanager's clock is wrong
        body = [payload.to_json_without_times()]
        await asyncio.gather(*(send(am.label, partial(am.post, body), am.close) for am in alertmanagers))

    async def send_to_webhook(settings: WebhookSettings) -> None:
        client = WebhookClient(settings, clock)
        label = "group" if "group" in payload.labels else "upstream"
        body = notification(settings.name, label, "test", [payload], external_url="")
        await send(f"webhook {settings.name}", partial(client.post, body), client.close)

    await asyncio.gather(*map(send_to_alertmanager, alerting.alertmanagers), *map(send_to_webhook, alerting.webhooks))
    return dict(sorted(answers.items()))


async def _addresses(settings: AlertmanagerSettings) -> list[str | None]:
    from exporter.alerting.notifier import resolve_addresses

    if not settings.resolve_dns:
        return [None]
    return [*await resolve_addresses(settings)]
