"""Pairs of playback checks and their sources, in files and in settings created in code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from exporter.cli.settings import config_schema
from exporter.config.loading import ConfigError, load
from exporter.config.pairing import MAX_HOPS, pairing_errors
from exporter.config.playback import PlaybackSettings
from exporter.config.root import Settings
from exporter.config.upstream import UpstreamSettings


class CheckSettings(PlaybackSettings):
    """Settings of a platform with playback checks."""

    platform: Literal["check"] = "check"


class ServerSettings(UpstreamSettings):
    """Settings of a streaming server."""

    platform: Literal["server"] = "server"


SCHEMA = replace(config_schema(), platforms={"check": CheckSettings, "server": ServerSettings})
ENCODER = {"name": "encoder", "platform": "server", "url": "http://127.0.0.1:1"}


def checks(name: str, **sources: str | None) -> dict[str, Any]:
    """Return an upstream with these checks, each with its source as ``upstream/stream``."""
    streams: list[dict[str, Any]] = []
    for stream, source in sources.items():
        streams.append({"name": stream, "url": f"/{stream}.m3u8"})
        if source is not None:
            streams[-1]["of"] = dict(zip(("upstream", "stream"), source.split("/", 1), strict=True))
    return {"name": name, "platform": "check", "url": "http://127.0.0.1:1", "streams": streams}


def load_from(folder: Path, *upstreams: dict[str, Any]) -> Settings:
    file = folder / "config.yaml"
    file.write_text(json.dumps({"upstreams": upstreams}))
    return load(file, {}, SCHEMA)


def errors_of(folder: Path, *upstreams: dict[str, Any]) -> list[str]:
    """Return the errors of a configuration, without the file and the position."""
    with pytest.raises(ConfigError) as caught:
        load_from(folder, *upstreams)
    return [line.split(": ", 1)[1] for line in caught.value.errors]


def test_source_knows_the_platform_of_its_upstream(tmp_path: Path) -> None:
    settings = load_from(tmp_path, checks("cdn", main="origin/main"), checks("origin", main="encoder/live"), ENCODER)
    sources = [stream.source for upstream in settings.upstreams for stream in upstream.configured_streams()]
    assert [source and (source.platform, source.upstream, source.stream) for source in sources] == [
        ("check", "origin", "main"),
        ("server", "encoder", "live"),
    ]
    assert "platform: check" in settings.redacted_yaml()


def test_platform_of_a_source_is_part_of_the_settings(tmp_path: Path) -> None:
    """So a reload with another platform replaces the check, which serves the platform as a label."""
    one, same = (load_from(tmp_path, ENCODER, checks("cdn", main="encoder/main")) for _ in range(2))
    other = load_from(tmp_path, checks("encoder", main=None), checks("cdn", main="encoder/main"))
    assert one.upstreams[1] == same.upstreams[1]
    assert one.upstreams[1] != other.upstreams[1]


def test_unknown_upstream_and_unknown_check_are_refused(tmp_path: Path) -> None:
    cdn = checks("cdn", one="encodr/live", two="origin/mian", three="encoder/any name", four="zzz/x")
    assert errors_of(tmp_path, ENCODER, checks("origin", main=None), cdn) == [
        'upstreams[2].streams[0].of.upstream: unknown upstream; did you mean "encoder"?',
        'upstreams[2].streams[1].of.stream: this upstream has no stream with this name; did you mean "main"?',
        "upstreams[2].streams[3].of.upstream: unknown upstream",
    ]


def test_cycle_is_refused_once(tmp_path: Path) -> None:
    upstreams = [
        checks("a", own="a/own", loop="b/loop", outside="b/loop"),
        checks("b", loop="a/back"),
    ]
    upstreams[0]["streams"] += checks("a", back="a/loop")["streams"]
    assert errors_of(tmp_path, *upstreams) == [
        "upstreams[0].streams[0].of: a stream cannot be its own source",
        "upstreams[0].streams[1].of: the sources of these streams form a cycle: a/loop, b/loop, a/back, a/loop",
    ]


def test_chain_of_more_than_five_hops_is_refused(tmp_path: Path) -> None:
    def chain(length: int) -> list[dict[str, Any]]:
        names = ["encoder/live", *(f"hop{number}/main" for number in range(2, length + 1))]
        return [ENCODER, *(checks(f"hop{at}", main=names[at - 2]) for at in range(2, length + 1))]

    assert len(load_from(tmp_path, *chain(MAX_HOPS)).upstreams) == MAX_HOPS
    # one error, however much too long the chain is
    for length in (MAX_HOPS + 1, MAX_HOPS + 3):
        assert errors_of(tmp_path, *chain(length)) == [
            "upstreams[5].streams[0].of: this chain of streams has more than 5 hops"
        ]


def test_settings_created_in_code_are_checked() -> None:
    encoder = ServerSettings(name="encoder", url="http://127.0.0.1:1")
    cdn = CheckSettings.model_validate(checks("cdn", main="encoder/live"))
    settings = Settings(upstreams=(encoder, cdn))
    (stream,) = settings.upstreams[1].configured_streams()
    assert stream.source is not None
    assert stream.source.platform == "server"
    for wrong in (checks("cdn", main="encodr/live"), checks("cdn", main="cdn/man")):
        with pytest.raises(ValidationError, match="did you mean"):
            Settings(upstreams=(encoder, CheckSettings.model_validate(wrong)))


@pytest.mark.parametrize("of", [None, "text", [], {}, {"upstream": 1, "stream": []}, {"upstream": {}, "stream": None}])
@pytest.mark.parametrize("name", ["main", None, 1, []])
def test_unreadable_pairs_are_left_to_the_validation(of: Any, name: Any, tmp_path: Path) -> None:
    upstream = checks("cdn", main=None)
    upstream["streams"] = [{"name": name, "url": "/x", "of": of}, 1, None]
    assert not [line for line in errors_of(tmp_path, upstream) if "unknown upstream" in line]


names = st.sampled_from("abcdefgh")


@given(st.dictionaries(names, names, max_size=8))
def test_pairs_without_errors_form_short_chains(sources: dict[str, str]) -> None:
    """And a configuration is only refused if one of its chains is a cycle or too long."""
    streams = [{"name": name, "of": {"upstream": "x", "stream": source}} for name, source in sources.items()]
    streams += [{"name": name} for name in set("abcdefgh") - sources.keys()]
    errors = list(pairing_errors([{"name": "x", "streams": streams}], [True]))

    def hops(name: str) -> int:
        count = 1
        while name in sources and count <= 9:
            name, count = sources[name], count + 1
        return count

    assert bool(errors) is any(hops(name) > MAX_HOPS for name in sources)
