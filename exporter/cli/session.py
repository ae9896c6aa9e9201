"""``stream-exporter session``: looks at one session of a platform, or changes it, by hand."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence

from exporter.cli.session_text import failure, shown_answer
from exporter.cli.settings import load_settings
from exporter.config.loading import ConfigError
from exporter.config.secrets import redactor
from exporter.config.upstream import UpstreamSettings
from exporter.http.client import UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.http.prepared_request import ManualRequest
from exporter.model import Reason
from exporter.platforms.livepeer.session_requests import SESSION as LIVEPEER_SESSION
from exporter.platforms.registry import platforms
from exporter.platforms.storm.stream_requests import STREAM as STORM_STREAM
from exporter.platforms.wave.session_commands import DELETE, delete_session, end_session, update_session
from exporter.platforms.wave.wave_sessions import SESSION as WAVE_SESSION
from exporter.runtime.clock import Clock
from exporter.runtime.logging import configure

LIVEPEER_STREAM = "GET /stream/{id}"
DONE, FAILED, USAGE = 0, 1, 2


class _UsageError(Exception):
    """What was asked for can't be meant; the text says why."""


class _Target:
    """The upstream that was named, and how to ask it; nothing is opened before the first request."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self.settings = settings
        self.client = UpstreamClient.from_settings(settings, Clock(), _uncounted)
        # a platform may have credentials of its own kind, and sessions besides those of the configuration
        self._streams = platforms()[settings.platform](settings, self.client, self.client.clock).configured_streams()

    def identity(self, given: str) -> str:
        """The platform's id of what was named by it, or by the name that the configuration gives."""
        if given in {stream.id for stream in self._streams}:
            return given
        return next((stream.id for stream in self._streams if stream.name == given), given)


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    configure("warn")
    try:
        target = _target(options)
        orders = _orders(options, target)
        for order in orders:
            if order.changes_something and not _is_agreed(order, target, said_yes=options.yes):
                return FAILED
        return asyncio.run(_send(orders, target))
    except ConfigError as error:
        for line in error.errors:
            _say(line)
        return FAILED
    except _UsageError as error:
        _say(f"{options.parser.prog}: {error}")
        return USAGE


# -- what to send ------------------------------------------------------------------------------------------------------


def _target(options: argparse.Namespace) -> _Target:
    upstreams = {upstream.name: upstream for upstream in load_settings(options.config_file, os.environ).upstreams}
    if options.upstream not in upstreams:
        raise _UsageError(
            f"no upstream {options.upstream!r} in {options.config_file}: there are {', '.join(upstreams)}"
        )
    return _Target(upstreams[options.upstream])


def _orders(options: argparse.Namespace, target: _Target) -> Sequence[ManualRequest]:
    """The requests to send in turn, until one finds what it is about."""
    by_platform, settings = _BY_ACTION[options.action], target.settings
    if settings.platform not in by_platform:
        known = ", ".join(by_platform)
        raise _UsageError(f"{options.action} works on {known} alone, and {settings.name} is of {settings.platform}")
    orders = by_platform[settings.platform](target.identity(options.id), options)
    try:
        for order in orders:
            order.url(target.client)
    except UpstreamError:
        raise _UsageError(f"{options.id!r} is no id") from None
    return orders


def _show_livepeer(id_: str, _: argparse.Namespace) -> Sequence[ManualRequest]:
    return ManualRequest(LIVEPEER_SESSION, {"id": id_}), ManualRequest(LIVEPEER_STREAM, {"id": id_})


def _show_storm(id_: str, _: argparse.Namespace) -> Sequence[ManualRequest]:
    application, _slash, key = id_.partition("/")
    if not application or not key:
        raise _UsageError(f"{id_!r}: a stream of storm is named as application/key")
    return (ManualRequest(STORM_STREAM, {"app": application, "key": key}),)


def _update(id_: str, options: argparse.Namespace) -> Sequence[ManualRequest]:
    order = update_session(
        id_,
        status=options.status,
        metadata=dict(options.metadata),
        quality=dict(options.quality),
        custom_properties=dict(options.custom_property),
    )
    if not order.body:
        raise _UsageError("nothing to update: give --status, --metadata, --quality or --custom-property")
    return (order,)


_Orders = Callable[[str, argparse.Namespace], Sequence[ManualRequest]]
_BY_ACTION: Mapping[str, Mapping[str, _Orders]] = {
    "show": {
        "livepeer": _show_livepeer,
        "storm": _show_storm,
        "wave": lambda id_, _: (ManualRequest(WAVE_SESSION, {"id": id_}),),
    },
    "update": {"wave": _update},
    "end": {"wave": lambda id_, _: (end_session(id_),)},
    "delete": {"wave": lambda id_, _: (delete_session(id_),)},
}


# -- sending it --------------------------------------------------------------------------------------------------------


def _is_agreed(order: ManualRequest, target: _Target, *, said_yes: bool) -> bool:
    """Show the request, and ask whether to send it."""
    _say(_announced(order, target))
    if order.endpoint == DELETE:
        _say("A session that is live is not deleted: the platform refuses it until the session has ended.")
    if said_yes:
        return True
    if not sys.stdin.isatty():
        raise _UsageError("standard input is no terminal, so nobody can be asked: --yes sends without asking")
    print(f"Send it to upstream {target.settings.name}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    _say("nothing was sent")
    return False


async def _send(orders: Sequence[ManualRequest], target: _Target) -> int:
    requests = target.client.requests(target.settings.timeout)
    try:
        for order, others in zip(orders, range(len(orders) - 1, -1, -1), strict=True):
            if not order.changes_something:
                _say(_announced(order, target))
            try:
                answer = await order.send(requests)
            except UpstreamError as error:
                if error.reason is Reason.NOT_FOUND and others:
                    continue
                for line in failure(error, order):
                    _say(line)
                return FAILED
            if answer.data is None:
                _say(f"done (status {answer.status})")
            else:
                print(shown_answer(answer.data, order))
            break
    finally:
        await target.client.close()
    return DONE


def _announced(order: ManualRequest, target: _Target) -> str:
    body = "" if order.body is None else "\n" + json.dumps(order.body, ensure_ascii=True)
    return f"{order.method} {order.url(target.client)}{body}"


def _say(line: str) -> None:
    """To standard error, without secrets."""
    print(redactor.scrub(line), file=sys.stderr)


def _uncounted(_endpoint: str, _code: str, _seconds: float) -> None:
    """Requests by hand are counted nowhere."""
