import io
import json
import logging
import re
import warnings
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from exporter.runtime.logging import configure
from exporter.runtime.redaction import redactor

CANARY = "canary-4711-of-the-log"


@pytest.fixture(autouse=True)
def _untouched_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def lines(level: str = "info", format: str = "logfmt") -> io.StringIO:  # noqa: A002
    stream = io.StringIO()
    configure(level, format, stream)
    return stream


def test_event_is_a_logfmt_line() -> None:
    stream = lines()
    structlog.get_logger().info(
        "poll failed", upstream="edge", seconds=1.5, live=True, gone=False, error=None, names=["a"]
    )
    line = stream.getvalue()
    assert line.startswith("ts=2")
    assert line.endswith(
        ' level=info msg="poll failed" upstream=edge seconds=1.5 live=true gone=false error= names="[\\"a\\"]"\n'
    )


def test_event_is_a_json_line() -> None:
    stream = lines(format="json")
    structlog.get_logger().warning("poll failed", upstream="edge", seconds=1.5, nested={"a": ["b", 1]})
    event = json.loads(stream.getvalue())
    assert list(event)[:3] == ["ts", "level", "msg"]
    assert event["level"] == "warning"
    assert event["nested"] == {"a": ["b", 1]}


@pytest.mark.parametrize(("level", "seen"), [("debug", 4), ("info", 3), ("warn", 2), ("error", 1)])
def test_level_applies_to_events_and_records(level: str, seen: int) -> None:
    stream = lines(level)
    for log in (structlog.get_logger(), logging.getLogger("some.library")):
        log.debug("d")
        log.info("i")
        log.warning("w")
        log.error("e")
    assert len(stream.getvalue().splitlines()) == 2 * seen


def test_standard_library_records_and_warnings_are_logged_too() -> None:
    stream = lines()
    logging.getLogger("asyncio").warning("a task of %s was lost", "ours")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("beware", stacklevel=1)
        logging.captureWarnings(capture=False)
    first, second = stream.getvalue().splitlines()
    assert first.endswith('level=warning msg="a task of ours was lost" logger=asyncio')
    assert "beware" in second
    assert second.endswith("logger=py.warnings")


def fail_with(text: str) -> None:
    raise ValueError(f"failed with {text}")


@pytest.mark.parametrize("format", ["logfmt", "json"])
def test_no_secret_reaches_a_line(format: str) -> None:  # noqa: A002
    redactor.add(CANARY)
    stream = lines(format=format)
    log = structlog.get_logger()
    log.info("said %s", CANARY, url=f"http://x/?k={CANARY}", deep=[{"a": (CANARY,)}], error=ValueError(CANARY))
    log.info("by key", token="unknown to anyone", headers={"Authorization": "Bearer unknown to anyone"})
    logging.getLogger("aiohttp.server").error("record of %s", CANARY)
    try:
        fail_with(CANARY)
    except ValueError:
        log.exception("caught")
        logging.getLogger("aiohttp.server").exception("caught")
    text = stream.getvalue()
    assert CANARY not in text
    assert "unknown to anyone" not in text
    assert text.count("<secret>") >= 8
    assert "ValueError: failed with <secret>" in text
    assert len(text.splitlines()) == 5


# C0 and C1 control characters, DEL, line and paragraph separators, bidi controls
UNSAFE = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F)])) + (
    "\u2066\u2067\u2068\u2069"
)


@given(st.text() | st.text(UNSAFE + 'a ="\\'))
def test_any_value_is_one_json_line_that_parses_back(value: str) -> None:
    stream = lines(format="json")
    structlog.get_logger().info("m", stream=value, nested={value: [value]})
    line = stream.getvalue().removesuffix("\n")
    assert not set(line) & set(UNSAFE)
    assert len(line.splitlines()) == 1
    event = json.loads(line)
    assert (event["stream"], event["nested"]) == (value, {value: [value]})


@given(st.text() | st.text(UNSAFE + 'a ="\\'))
def test_any_value_is_one_logfmt_line(value: str) -> None:
    stream = lines()
    structlog.get_logger().info("m", stream=value, nested={value: [value]}, after=1)
    line = stream.getvalue().removesuffix("\n")
    assert not set(line) & set(UNSAFE)
    assert len(line.splitlines()) == 1
    assert re.fullmatch(
        r'ts=\S+ level=info msg=m stream=([^ ="]*|"(\\.|[^"\\])*") nested="(\\.|[^"\\])*" after=1', line
    )


@pytest.mark.parametrize(("format", "told"), [("logfmt", r"a\u001b[2Jb\u202ec"), ("json", r'"a\u001b[2Jb\u202ec"')])
def test_control_characters_are_escaped(format: str, told: str) -> None:  # noqa: A002
    stream = lines(format=format)
    structlog.get_logger().info("m", stream="a\x1b[2Jb\u202ec")
    assert told in stream.getvalue()


@pytest.mark.parametrize("format", ["logfmt", "json"])
@given(key=st.text(UNSAFE + 'k ="\\'))
def test_any_key_can_be_logged(format: str, key: str) -> None:  # noqa: A002
    stream = lines(format=format)
    structlog.get_logger().info("m", **{f"k{key}": "value"})
    line = stream.getvalue().removesuffix("\n")
    assert not set(line) & set(UNSAFE)
    if format == "json":
        assert json.loads(line)[f"k{key}"] == "value"
    else:
        assert re.fullmatch(r'ts=\S+ level=info msg=m k[^ ="]*=value', line)


@pytest.mark.parametrize("format", ["logfmt", "json"])
def test_text_with_lone_surrogates_can_be_logged(format: str) -> None:  # noqa: A002
    stream = lines(format=format)
    structlog.get_logger().warning("bad \udce9", name="caf\udce9", names=["\ud800"], **{"key\udfff": {"a": "\udbff"}})
    logging.getLogger("x").warning("caf%s", "\udce9")
    text = stream.getvalue()
    assert text.encode().count(b"\n") == 2
    assert {"\\udce9", "\\ud800", "\\udfff", "\\udbff"} <= set(re.findall(r"\\ud[0-9a-f]{3}", text))
    if format == "json":
        assert json.loads(text.splitlines()[0])["name"] == "caf\udce9"
