"""Lists of what users rely on besides metric families: configuration keys, flags, keys of JSON responses.

``python -m tests.interface.listed`` (in ``make generate``) adds new keys and flags to the committed lists. It removes
none, because that needs a decision.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from exporter.cli import make_parser
from exporter.cli.command import CommandParser
from exporter.cli.settings import config_schema
from exporter.config import introspection
from exporter.config.root import settings_class
from exporter.platforms.registry import platforms

FOLDER = Path(__file__).parent
CONFIGURATION, FLAGS, ANSWERS = FOLDER / "configuration.txt", FOLDER / "flags.txt", FOLDER / "answers.txt"


def configuration_keys() -> Iterator[str]:
    """``defaults.interval``, ``upstreams[storm].streams[].key``, ``alerting.thresholds.*.for``."""
    own = {platform.settings_class: name for name, platform in platforms().items()}

    def below(annotation: Any, path: str) -> Iterator[str]:
        for member in introspection.union_members(annotation):
            origin, arguments = get_origin(member), get_args(member)
            if isinstance(member, type) and issubclass(member, BaseModel):
                place = f"{path.removesuffix('[]')}[{own[member]}]" if member in own else path
                for key, type_ in (introspection.known_keys(member) or {}).items():
                    found = f"{place}.{key}".removeprefix(".")
                    yield found
                    yield from below(type_, found)
            elif origin in (tuple, list, frozenset):
                yield from below(arguments[0], f"{path}[]")
            elif origin is dict:
                yield from below(arguments[1], f"{path}.*")

    yield from below(settings_class(config_schema()), "")


def flags() -> Iterator[str]:
    """``--web.max-requests``, ``demo --streams``, ``session show ID`` with positionals in capitals."""
    return _flags_of(make_parser(), "")


def _flags_of(parser: argparse.ArgumentParser, command: str) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                if isinstance(inner, CommandParser):
                    inner.complete()
                if command:
                    yield f"{command} {name}"
                yield from _flags_of(inner, f"{command} {name}".strip())
        elif action.option_strings:
            yield from (f"{command} {flag}".strip() for flag in action.option_strings if flag not in ("-h", "--help"))
        else:
            yield f"{command} {action.dest.upper()}"


def json_keys(data: Any, path: str = "") -> Iterator[str]:
    """Yield paths such as ``data.alerts[].labels``."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            place = f"{path}.{key}".removeprefix(".")
            yield place
            yield from json_keys(value, place)
    elif isinstance(data, list):
        for item in data:
            yield from json_keys(item, f"{path}[]")


def changes(committed: Path, found: Iterable[str]) -> str:
    """Describe how a list differs from what was found; empty if it does not."""
    listed, present = set(committed.read_text().splitlines()), set(found)
    lines = []
    if removed := sorted(listed - present):
        lines.append(f"removed, which is a breaking change: {removed}")
    if added := sorted(present - listed):
        lines.append(f"new, to be added to the list (make generate does this for keys and flags): {added}")
    return "".join(f"{committed.name}: {line}\n" for line in lines)


def add(committed: Path, found: Iterable[str]) -> None:
    """Add new lines to a list."""
    listed = committed.read_text().splitlines() if committed.exists() else []
    committed.write_text("".join(f"{line}\n" for line in sorted({*listed, *found})))


if __name__ == "__main__":
    add(CONFIGURATION, configuration_keys())
    add(FLAGS, flags())
