"""What users rely on besides metric families, as sorted lines: configuration keys, flags, keys of JSON answers.

``python -m tests.interface.listed`` (in ``make generate``) adds new keys and flags to the committed lists; it takes
none away: that is for somebody to decide.
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
    """``data.alerts[].labels``; what stands below a key in ``data`` that is a list is of all its items."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            place = f"{path}.{key}".removeprefix(".")
            yield place
            yield from json_keys(value, place)
    elif isinstance(data, list):
        for item in data:
            yield from json_keys(item, f"{path}[]")


def changes(committed: Path, found: Iterable[str]) -> str:
    """What to say when a list is not what was found; "" when it is."""
    listed, there = set(committed.read_text().splitlines()), set(found)
    told = []
    if removed := sorted(listed - there):
        told.append(f"gone, which breaks what users have written, an interface change: {removed}")
    if added := sorted(there - listed):
        told.append(f"new, to be listed (make generate does it for keys and flags): {added}")
    return "".join(f"{committed.name}: {line}\n" for line in told)


def add(committed: Path, found: Iterable[str]) -> None:
    """List what is new."""
    listed = committed.read_text().splitlines() if committed.exists() else []
    committed.write_text("".join(f"{line}\n" for line in sorted({*listed, *found})))


if __name__ == "__main__":
    add(CONFIGURATION, configuration_keys())
    add(FLAGS, flags())
