"""The faults, and the expected result of each on each platform.

``otherwise`` is the result on most platforms. Exceptions are in a platform's recording, under ``faults``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from exporter.model import Reason
from tests.faults import response_faults
from tests.faults.response_faults import Break, every_stream, instead, one_stream
from tests.platforms.recordings import PlatformRecording, recording_of

HEALTHY: Final = "healthy"
REFUSED, DNS, TLS, CLOCK, TOKEN = "refused", "dns", "tls", "clock", "token-ends"
"""The faults that do not affect a single response."""

UNAFFECTED: Final = "unaffected"
EXTRA: Final = "unaffected, plus an extra one"
SCORELESS: Final = "one without a score"
UNKNOWN: Final = "one unknown"
ALL_UNKNOWN: Final = "all unknown"
ENDED: Final = "one ended, after two polls"
IDLE: Final = "one idle"


@dataclass(frozen=True)
class Outcome:
    """The result of a fault: the upstream is down for a reason, or it is up and its streams are affected."""

    down: Reason | None = None
    streams: str = UNAFFECTED
    of_stream: Reason | None = None
    """Reason with which a request or record of one stream is counted as failed."""

    def __str__(self) -> str:
        if self.down is not None:
            return f"`{self.down}`"
        failed = "" if self.of_stream is None else f" (`{self.of_stream}` for a stream)"
        return f"up; {self.streams}{failed}"


@dataclass(frozen=True)
class Fault:
    """One row of the table."""

    name: str
    done: str
    """Description for the table."""
    otherwise: Outcome
    answer: Break | None = None
    """How requests are answered during the fault; None if something else breaks."""
    needs: str = ""
    """What a recording must have for the fault to be possible: ``streams``, ``list``, ``evidence``, ``pages`` or
    ``auth``."""
    is_constant: bool = False
    """Whether the fault exists from the start on every platform."""

    def outcome(self, recording: PlatformRecording) -> Outcome | None:
        """Return the expected result; None if the platform does not have what the fault breaks."""
        given = {
            "streams": recording.streams,
            "pages": recording.pages,
            "list": recording.has_list,
            "evidence": recording.evidence,
            "auth": recording.recording.settings.get("auth"),
        }
        if self.needs and not given[self.needs]:
            return None
        differs = self._own(recording)
        if differs.keys() & {"down", "streams", "failure"}:
            reason, failure = differs.get("down"), differs.get("failure")
            return Outcome(
                down=None if reason is None else Reason(reason),
                streams=differs.get("streams", UNAFFECTED),
                of_stream=None if failure is None else Reason(failure),
            )
        return self.otherwise

    def recording(self, recording: PlatformRecording) -> PlatformRecording:
        """Return the platform's recording to use for this fault."""
        name = self._own(recording).get("recording")
        return recording if name is None else recording_of(recording.platform.name, name)

    def is_from_start(self, recording: PlatformRecording) -> bool:
        """Return whether the fault exists from the start, because what it breaks is requested only then."""
        return self.is_constant or bool(self._own(recording).get("from_start"))

    def _own(self, recording: PlatformRecording) -> Mapping[str, Any]:
        return recording.faults.get(self.name, {})


def down(reason: Reason) -> Outcome:
    return Outcome(down=reason)


def _of_content(name: str, done: str, otherwise: Outcome, answer: Break) -> Fault:
    return Fault(name, done, otherwise, answer, needs="evidence")


def _of_rows(name: str, done: str, otherwise: Outcome, answer: Break) -> Fault:
    return Fault(name, done, otherwise, answer, needs="streams")


UP = Outcome()

FAULTS: Final = (
    Fault(REFUSED, "no server listens on the port", down(Reason.CONNECT)),
    Fault("reset", "the connection is reset", down(Reason.CONNECT), response_faults.reset),
    Fault("black-hole", "the request is read, but not answered", down(Reason.TIMEOUT), response_faults.black_hole),
    Fault(DNS, "the host name does not exist", down(Reason.CONNECT), is_constant=True),
    Fault(TLS, "the certificate is from another authority", down(Reason.TLS)),
    Fault("slow-bytes", "five bytes per second", down(Reason.TIMEOUT), response_faults.slow_bytes),
    Fault("half-a-body", "the connection closes halfway", down(Reason.BAD_RESPONSE), response_faults.half_a_body),
    Fault("chunked-lies", "a chunk is longer than its size", down(Reason.BAD_RESPONSE), response_faults.chunked_lies),
    Fault("gzip-bomb", "100 MiB, compressed to 100 kB", down(Reason.TOO_LARGE), response_faults.gzip_bomb),
    Fault("100-megabytes", "a body of 100 MiB", down(Reason.TOO_LARGE), response_faults.a_hundred_megabytes),
    Fault("endless-list", "a list that never ends", down(Reason.TOO_LARGE), response_faults.endless_list),
    Fault("html", "a maintenance page, with status 200", down(Reason.BAD_RESPONSE), instead(response_faults.html)),
    Fault("invalid-utf8", "not UTF-8", down(Reason.BAD_RESPONSE), instead(response_faults.invalid_utf8)),
    Fault("deep-json", "200,000 nested lists", down(Reason.BAD_RESPONSE), instead(response_faults.deeply_nested)),
    Fault("nan", "NaN and Infinity instead of numbers", UP, response_faults.no_numbers),
    _of_rows(
        "huge-numbers",
        "one stream's numbers are too large for a float",
        Outcome(streams=SCORELESS),
        one_stream(response_faults.huge),
    ),
    _of_rows("duplicate-ids", "one stream's id appears twice", UP, one_stream(response_faults.twice)),
    _of_rows("long-ids", "an id of 10 kB", UP, one_stream(response_faults.long_id)),
    _of_rows(
        "control-characters",
        "every control character in a name",
        Outcome(streams=EXTRA),
        one_stream(response_faults.control_characters),
    ),
    _of_rows(
        "renamed-fields",
        "all fields of one stream have other names",
        Outcome(streams=UNKNOWN),
        one_stream(response_faults.renamed),
    ),
    _of_rows("nulls", "all fields of one stream are null", Outcome(streams=UNKNOWN), one_stream(response_faults.nulls)),
    _of_rows(
        "renamed-everywhere",
        "all fields of all streams have other names",
        down(Reason.BAD_RESPONSE),
        every_stream(response_faults.renamed),
    ),
    _of_content("text-numbers", "all numbers of one stream as text", UP, one_stream(response_faults.numbers_as_text)),
    _of_content(
        "negative-numbers",
        "all numbers of one stream are negative",
        Outcome(streams=SCORELESS),
        one_stream(response_faults.negative),
    ),
    _of_content(
        "wrong-units", "one stream's times are in another unit", UP, one_stream(response_faults.times_in_another_unit)
    ),
    _of_content(
        "unreadable-health",
        "a word instead of each value that one stream's score depends on",
        Outcome(streams=SCORELESS),
        one_stream(response_faults.unreadable_health),
    ),
    _of_content(
        "unknown-state",
        "an unknown word as the state of one stream, whose total moves",
        UP,
        one_stream(response_faults.unknown_state),
    ),
    Fault(
        "two-states",
        "one stream appears twice, live and off air",
        UP,
        one_stream(response_faults.off_air_too),
        needs="list",
    ),
    Fault(
        "no-identity",
        "one row does not identify its stream",
        Outcome(streams=UNKNOWN),
        one_stream(response_faults.without_identity),
        needs="list",
    ),
    Fault(
        "no-identities",
        "no row identifies its stream",
        down(Reason.BAD_RESPONSE),
        every_stream(response_faults.without_identity),
        needs="list",
    ),
    Fault(
        "no-list",
        "something else instead of the list",
        down(Reason.BAD_RESPONSE),
        response_faults.object_for_a_list,
        needs="list",
    ),
    Fault(
        "error-list",
        '`{"errors": ["temporarily unavailable"]}`, with status 200',
        down(Reason.BAD_RESPONSE),
        instead(response_faults.envelope({"errors": ["temporarily unavailable"]})),
    ),
    Fault(
        "error-object",
        '`{"error": {"status": {"code": 503}}}`, with status 200',
        down(Reason.BAD_RESPONSE),
        instead(response_faults.envelope({"error": {"status": {"code": 503}}})),
    ),
    Fault(
        "other-data",
        '`{"data": {"something": "else"}}`, with status 200',
        down(Reason.BAD_RESPONSE),
        instead(response_faults.envelope({"data": {"something": "else"}})),
    ),
    Fault("html-404", "404 with an HTML page", down(Reason.NOT_FOUND), instead(response_faults.html_404)),
    Fault("date-ahead", "a `Date` five minutes ahead", UP, response_faults.clock_off_by(300.0)),
    Fault("date-behind", "a `Date` five minutes behind", UP, response_faults.clock_off_by(-300.0)),
    Fault(
        "endless-pages",
        "endless further pages, slowly",
        down(Reason.TIMEOUT),
        response_faults.endless_pages,
        needs="pages",
    ),
    Fault(
        "paging-loop",
        "the same page repeatedly",
        down(Reason.BAD_RESPONSE),
        response_faults.same_page,
        needs="pages",
    ),
    Fault(CLOCK, "the platform's clock is ten years ahead", UP),
    Fault(TOKEN, "401 until the secrets file has a new secret", down(Reason.AUTH), needs="auth"),
    Fault(
        "429-storm",
        "429 for everything",
        down(Reason.RATE_LIMITED),
        instead(response_faults.refusal(429, **{"Retry-After": "1"})),
    ),
    Fault("5xx", "500 for everything", down(Reason.SERVER_ERROR), instead(response_faults.refusal(500))),
    Fault("5xx-flapping", "every other response is 502, 503 or 504", UP, response_faults.flapping),
    Fault("redirect", "redirects to another server", down(Reason.BAD_RESPONSE), instead(response_faults.redirect)),
)
