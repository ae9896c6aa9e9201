"""``stream-exporter alerts``: show the alerts of a running exporter, or send a test alert."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exporter.cli.command import PROGRAM, CommandError, Commands, add_command, add_config_file, load_or_fail

if TYPE_CHECKING:
    from exporter.config.alerting import AlertingSettings, AlertmanagerSettings, WebhookSettings
    from exporter.config.auth import AuthSettings, TlsSettings

_DEFAULT_URL: Final = "http://127.0.0.1:10071"
_TIMEOUT_SECONDS: Final = 10.0
_MAX_BODY_BYTES = 64 * 2**20
_ENDPOINT = "GET /api/v1/sidecar"
_HEADINGS = ("STATE", "SEVERITY", "ALERT", "UPSTREAM", "STREAM", "SINCE", "VALUE", "REASONS", "NOTE")
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
    running = parser.add_argument_group("running exporter")
    running.add_argument(
        "--url",
        type=_exporter_url,
        default=_DEFAULT_URL,
        metavar="URL",
        help=f"base URL of the exporter (default: {_DEFAULT_URL})",
    )
    running.add_argument("--username", metavar="NAME", help="user name, if its --web.config.file has users")
    running.add_argument("--password-file", type=Path, metavar="FILE", help="file with the user's password")
    running.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="CA certificates to trust instead of the system's"
    )
    test = parser.add_argument_group("test alert")
    test.add_argument(
        "--test", type=_rule_name, metavar="NAME", help="send a test alert of this rule, for example StreamUnhealthy"
    )
    add_config_file(test, help_="configuration with the receivers (default: config.yaml in the current directory)")


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    if options.test is not None:
        return _test(options)
    if (options.username is None) != (options.password_file is None):
        options.parser.error("--username and --password-file must be given together")
    _show(options)
    return 0


def _exporter_url(text: str) -> str:
    from exporter.config.urls import http_url

    try:
        return http_url(text)
    except ValueError:
        # The text is not shown because it may contain credentials.
        raise argparse.ArgumentTypeError("expected an http:// or https:// URL without credentials") from None


def _rule_name(name: str) -> str:
    from exporter.alerting.rules import RULES_BY_NAME

    if name not in RULES_BY_NAME:
        raise argparse.ArgumentTypeError(f'unknown rule {name!r}; run "{PROGRAM} rules" for the list')
    return name


# -- alerts of a running exporter --------------------------------------------------------------------------------------


def _show(options: argparse.Namespace) -> None:
    import asyncio

    import msgspec

    from exporter.config.auth import AuthSettings, TlsSettings
    from exporter.config.secrets import Secret
    from exporter.http.errors import UpstreamError

    auth = AuthSettings()
    if options.username is not None:
        auth = AuthSettings(username=options.username, password=Secret.from_file(options.password_file))
    try:
        data = asyncio.run(_fetch_alerts(options.url, auth, TlsSettings(ca_file=options.ca_file)))
    except UpstreamError as error:
        raise CommandError(f"cannot get alerts from {options.url}: {error}") from error
    if options.format == "json":
        print(msgspec.json.format(msgspec.json.encode(data)).decode())
    elif not data["active"]:
        print("The alerting sidecar is disabled: alerting.alertmanagers and alerting.webhooks are empty.")
    else:
        print(table(data["alerts"]), end="")


async def _fetch_alerts(url: str, auth: AuthSettings, tls: TlsSettings) -> dict[str, Any]:
    """Return the sidecar's state. Raises ``UpstreamError``."""
    from exporter.http.auth import auth_from_settings
    from exporter.http.client import UpstreamClient
    from exporter.http.errors import UpstreamError
    from exporter.http.retry import ResponseLimits
    from exporter.model import Reason
    from exporter.platforms.parsing import DropCounter, Record
    from exporter.runtime.clock import Clock

    client = UpstreamClient(
        upstream="",
        platform="",
        url=url,
        auth=auth_from_settings(auth),
        tls=tls,
        max_concurrent_requests=1,
        limits=ResponseLimits(_MAX_BODY_BYTES),
        clock=Clock(),
        observe=lambda *_: None,
    )
    try:
        answer = await client.requests(_TIMEOUT_SECONDS).get(_ENDPOINT)
    finally:
        await client.close()
    data = Record.from_response(answer.data, DropCounter()).raw
    if not isinstance(data.get("active"), bool) or not isinstance(data.get("alerts"), list):
        raise UpstreamError(Reason.BAD_RESPONSE, f"{_ENDPOINT}: not a response of stream-exporter; check --url")
    return data


def table(alerts: Sequence[Mapping[str, Any]]) -> str:
    """Format alerts as a table, firing ones first."""
    if not alerts:
        return "No alerts are pending or firing.\n"
    rows = [_HEADINGS, *sorted((_row(alert) for alert in alerts), key=lambda row: (row[0] != "firing", row))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "".join(f"{line}\n" for line in lines)


def _row(alert: Mapping[str, Any]) -> tuple[str, ...]:
    labels, annotations = alert.get("labels", {}), alert.get("annotations", {})
    since = alert.get("firedAt") or alert.get("activeAt", "")
    label_cells = [labels.get(name, "") for name in ("severity", "alertname", "upstream", "stream")]
    annotation_cells = [annotations.get(name, "") for name in ("value", "reasons", "cleared")]
    cells = (
        alert.get("state", ""),
        *label_cells,
        since.removesuffix("Z").partition(".")[0].replace("T", " "),
        *annotation_cells,
    )
    return tuple(_printable(cell) for cell in cells)


def _printable(text: str) -> str:
    """Replace control characters, which a stream's name may contain."""
    return "".join(character if character.isprintable() else "�" for character in text)


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
        body = notification(settings.name, "test", [payload], external_url="")
        await send(f"webhook {settings.name}", partial(client.post, body), client.close)

    await asyncio.gather(*map(send_to_alertmanager, alerting.alertmanagers), *map(send_to_webhook, alerting.webhooks))
    return dict(sorted(answers.items()))


async def _addresses(settings: AlertmanagerSettings) -> list[str | None]:
    from exporter.alerting.notifier import resolve_addresses

    if not settings.resolve_dns:
        return [None]
    return [*await resolve_addresses(settings)]
