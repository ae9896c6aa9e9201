from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pytest

from exporter.config.streams import ApplicationStream, StreamSettings
from exporter.model import (
    Analytics,
    PassthroughMetrics,
    PlatformMetric,
    PollResult,
    Reason,
    Rendition,
    StreamReport,
)
from exporter.polling.result_redaction import ITEMS_PER_STEP, redact_result
from exporter.runtime.redaction import HIDDEN, redactor

SECRET = "canary-of-a-platform-1"
ENCODED = base64.b64encode(SECRET.encode()).decode()
SHORT = "canary-2"


class LearnedStream(StreamSettings):
    """A stream whose id comes from the platform."""

    id: str


@pytest.fixture(autouse=True)
def known_secrets() -> None:
    redactor.add(SECRET)
    redactor.add(SHORT)


async def redacted(result: PollResult, *own_streams: StreamSettings) -> PollResult:
    return (await redact_result(result, own_streams, own_streams))[0]


async def redacted_report(**fields: Any) -> StreamReport:
    (report,) = (await redacted(PollResult(streams=(StreamReport(**{"id": "1"} | fields),)))).streams
    return report


def filled(kind: Any, text: str) -> Any:
    """Return a value of this type with the text in every place that can contain one."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = get_type_hints(kind)
        return kind(**{field: filled(hints[field], text) for field in kind.__struct_fields__})
    if kind is str:
        return text
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        return (filled(arguments[0], text),)
    if origin is frozenset:
        return frozenset({filled(arguments[0], text)})
    if origin is Mapping:
        return {filled(arguments[0], text): filled(arguments[1], text)}
    if origin is not None:
        return filled(next(argument for argument in arguments if argument is not type(None)), text)
    return 1 if kind in (int, float, bool) else next(iter(kind))


@pytest.mark.parametrize("text", [SECRET, f"a {SECRET} b", ENCODED])
async def test_no_field_of_a_result_keeps_a_secret(text: str) -> None:
    result = filled(PollResult, text)
    result = msgspec.structs.replace(
        result,
        # pass-through metrics are redacted before they are parsed, and the name comes from the configuration
        passthrough=None,
        analytics=tuple(msgspec.structs.replace(analytics, name="") for analytics in result.analytics),
    )
    assert repr(result).count(text) > 20
    shown = repr(await redacted(result))
    assert text not in shown
    assert SECRET not in shown


async def test_result_without_a_secret_is_unchanged() -> None:
    passthrough = PassthroughMetrics(prefix="p_", families=(), dropped=0, stale_at=1.0)
    reports = tuple(StreamReport(id=str(number), issues=("bad",)) for number in range(2 * ITEMS_PER_STEP))
    result = PollResult(streams=reports, passthrough=passthrough, list_names={"1": "a name of some length"})
    streams = (ApplicationStream(application="live", key=SECRET),)
    clean, configured = await redact_result(result, (), streams)
    assert clean == result
    assert configured == ()


async def test_short_secret_stays_in_a_longer_name_but_not_in_a_text() -> None:
    report = await redacted_report(id=f"{SHORT}/final", application=SHORT, name=f"a {SHORT}", kind=f"a {SHORT}")
    assert (report.id, report.application) == (f"{SHORT}/final", HIDDEN)
    assert (report.name, report.kind) == (f"a {SHORT}", f"a {HIDDEN}")


async def test_texts_inside_a_report_are_redacted() -> None:
    report = await redacted_report(
        issues=("good", f"bad {SECRET}"),
        health_conditions={f"a {SECRET}": True},
        renditions=(Rendition(SECRET, 1.0),),
        platform_metrics=(PlatformMetric(f"a.{SECRET}", 2.0),),
    )
    assert report.issues == ("good", f"bad {HIDDEN}")
    assert report.health_conditions == {f"a {HIDDEN}": True}
    assert report.renditions == (Rendition(HIDDEN, 1.0),)
    assert report.platform_metrics == (PlatformMetric(f"a.{HIDDEN}", 2.0),)


async def test_ids_that_become_equal_are_numbered_in_any_order() -> None:
    ids = [SECRET, ENCODED, HIDDEN, "other"]
    for order in (ids, ids[::-1]):
        result = await redacted(PollResult(streams=tuple(StreamReport(id=id_) for id_ in order)))
        by_id = dict(zip(order, [report.id for report in result.streams], strict=True))
        assert by_id == {SECRET: f"{HIDDEN}#3", ENCODED: f"{HIDDEN}#2", HIDDEN: HIDDEN, "other": "other"}


async def test_id_is_replaced_consistently() -> None:
    id_, shown = f"a-{SECRET}", f"a-{HIDDEN}"
    result = await redacted(
        PollResult(
            streams=(StreamReport(id=id_),),
            failures={id_: Reason.TIMEOUT},
            postponed=frozenset({id_}),
            list_names={id_: SECRET},
            analytics=(Analytics(stream=id_, name=SECRET, period="7d", stale_at=1.0),),
        )
    )
    assert result.streams[0].id == shown
    assert result.failures == {shown: Reason.TIMEOUT}
    assert result.postponed == {shown}
    assert result.list_names == {shown: HIDDEN}
    # the name comes from the configuration
    assert (result.analytics[0].stream, result.analytics[0].name) == (shown, SECRET)


async def test_configured_names_and_ids_are_kept() -> None:
    stream = ApplicationStream(application="live", key=SECRET, name=f"the {SECRET}")
    report = StreamReport(id=stream.id, name=f"the {SECRET}", session=SECRET)
    result = await redacted(PollResult(streams=(report,)), stream)
    (shown,) = result.streams
    assert (shown.id, shown.name, shown.session) == (f"live/{SECRET}", f"the {SECRET}", HIDDEN)


async def test_configured_stream_with_an_id_from_the_platform_follows_its_report() -> None:
    session = LearnedStream(id="configured", name="main")
    learned = session.model_copy(update={"id": f"stream-{SECRET}"})
    result = PollResult(streams=(StreamReport(id=learned.id),))
    shown, streams = await redact_result(result, (learned,), (session,))
    assert [stream.id for stream in streams] == [shown.streams[0].id] == [f"stream-{HIDDEN}"]
    assert streams[0].name == "main"


async def test_counts_of_fields_that_become_equal_are_added() -> None:
    result = await redacted(PollResult(dropped_fields={f"a.{SECRET}": 1, f"a.{HIDDEN}": 2, "b": 3}))
    assert result.dropped_fields == {f"a.{HIDDEN}": 3, "b": 3}


async def test_secret_in_one_of_many_reports_is_redacted() -> None:
    reports = [StreamReport(id=str(number)) for number in range(3 * ITEMS_PER_STEP)]
    reports[0] = StreamReport(id="0", kind=SECRET)
    result = await redacted(PollResult(streams=tuple(reports)))
    assert result.streams[0].kind == HIDDEN
    assert result.streams[1:] == tuple(reports[1:])
