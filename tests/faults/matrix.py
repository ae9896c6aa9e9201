"""The faults, and what must come of each on each platform.

``otherwise`` is what most platforms do; a platform that does something else says so in its recording, under ``faults``.
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
"""The faults that are none of a single answer."""

UNHARMED: Final = "unharmed"
BESIDE: Final = "unharmed, one more beside them"
SCORELESS: Final = "one without a score"
UNKNOWN: Final = "one unknown"
ALL_UNKNOWN: Final = "all unknown"
ABSENT: Final = "one taken for ended, after two polls"
OFF: Final = "one taken for idle"


@dataclass(frozen=True)
class Outcome:
    """What comes of a fault: the upstream is down for a reason, or up and something happens to its streams."""

    down: Reason | None = None
    streams: str = UNHARMED
    of_stream: Reason | None = None
    """Why a request or record of one stream is counted as failed."""

    def __str__(self) -> str:
        if self.down is not None:
            return f"`{self.down}`"
        failed = "" if self.of_stream is None else f" (`{self.of_stream}` of a stream)"
        return f"up; {self.streams}{failed}"


@dataclass(frozen=True)
class Fault:
    """One row of the table."""

    name: str
    done: str
    """What the server does, for people."""
    otherwise: Outcome
    answer: Break | None = None
    """How a request is answered meanwhile; None: it is something else that breaks."""
    needs: str = ""
    """What a recording must have for the fault to be possible: ``streams``, ``list``, ``evidence``, ``pages`` or
    ``auth``."""
    is_constant: bool = False
    """Whether it must be there from the start on every platform."""

    def outcome(self, recording: PlatformRecording) -> Outcome | None:
        """Return what must come of it; None: the platform has nothing that could break so."""
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
                streams=differs.get("streams", UNHARMED),
                of_stream=None if failure is None else Reason(failure),
            )
        return self.otherwise

    def recording(self, recording: PlatformRecording) -> PlatformRecording:
        """Return the recording of the same platform that shows the fault."""
        name = self._own(recording).get("recording")
        return recording if name is None else recording_of(recording.platform.name, name)

    def is_from_start(self, recording: PlatformRecording) -> bool:
        """Whether it must be there from the start, as what it breaks is requested only then."""
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
    Fault(REFUSED, "nobody listens on the port", down(Reason.CONNECT)),
    Fault("reset", "the connection is reset", down(Reason.CONNECT), response_faults.reset),
    Fault("black-hole", "the request is read, nothing is said", down(Reason.TIMEOUT), response_faults.black_hole),
    Fault(DNS, "the host's name is gone", down(Reason.CONNECT), is_constant=True),
    Fault(TLS, "the certificate is of another authority", down(Reason.TLS)),
    Fault("slow-bytes", "five bytes a second", down(Reason.TIMEOUT), response_faults.slow_bytes),
    Fault("half-a-body", "the connection ends in the middle", down(Reason.BAD_RESPONSE), response_faults.half_a_body),
    Fault("chunked-lies", "a chunk is longer than it says", down(Reason.BAD_RESPONSE), response_faults.chunked_lies),
    Fault("gzip-bomb", "100 MiB, packed into 100 kB", down(Reason.TOO_LARGE), response_faults.gzip_bomb),
    Fault("100-megabytes", "a body of 100 MiB", down(Reason.TOO_LARGE), response_faults.a_hundred_megabytes),
    Fault("endless-list", "a list that never ends", down(Reason.TOO_LARGE), response_faults.endless_list),
    Fault("html", "a maintenance page, with 200", down(Reason.BAD_RESPONSE), instead(response_faults.html)),
    Fault("invalid-utf8", "bytes that are no UTF-8", down(Reason.BAD_RESPONSE), instead(response_faults.invalid_utf8)),
    Fault(
        "deep-json", "200,000 lists in each other", down(Reason.BAD_RESPONSE), instead(response_faults.deeply_nested)
    ),
    Fault("nan", "NaN and Infinity in place of numbers", UP, response_faults.no_numbers),
    _of_rows(
        "huge-numbers",
        "one stream's numbers are beyond every float",
        Outcome(streams=SCORELESS),
        one_stream(response_faults.huge),
    ),
    _of_rows("duplicate-ids", "one stream's id comes twice", UP, one_stream(response_faults.twice)),
    _of_rows("long-ids", "an id of 10 kB", UP, one_stream(response_faults.long_id)),
    _of_rows(
        "control-characters",
        "every control character in a name",
        Outcome(streams=BESIDE),
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
        "all numbers of one stream below zero",
        Outcome(streams=SCORELESS),
        one_stream(response_faults.negative),
    ),
    _of_content(
        "wrong-units", "one stream's times in another unit", UP, one_stream(response_faults.times_in_another_unit)
    ),
    _of_content(
        "unreadable-health",
        "a word in place of all that one stream's score is made from",
        Outcome(streams=SCORELESS),
        one_stream(response_faults.unreadable_health),
    ),
    _of_content(
        "unknown-state",
        "a word without a known meaning for the state of one stream, whose total moves",
        UP,
        one_stream(response_faults.unknown_state),
    ),
    Fault(
        "two-states",
        "one stream comes twice, live and off air",
        UP,
        one_stream(response_faults.off_air_too),
        needs="list",
    ),
    Fault(
        "no-identity",
        "one row does not tell which stream it is about",
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
        "something else in place of the list",
        down(Reason.BAD_RESPONSE),
        response_faults.object_for_a_list,
        needs="list",
    ),
    Fault(
        "error-list",
        '`{"errors": ["temporarily unavailable"]}`, with 200',
        down(Reason.BAD_RESPONSE),
        instead(response_faults.envelope({"errors": ["temporarily unavailable"]})),
    ),
    Fault(
        "error-object",
        '`{"error": {"status": {"code": 503}}}`, with 200',
        down(Reason.BAD_RESPONSE),
        instead(response_faults.envelope({"error": {"status": {"code": 503}}})),
    ),
    Fault(
        "other-data",
        '`{"data": {"something": "else"}}`, with 200',
        down(Reason.BAD_RESPONSE),
        instead(response_faults.envelope({"data": {"something": "else"}})),
    ),
    Fault("html-404", "404 with a page of HTML", down(Reason.NOT_FOUND), instead(response_faults.html_404)),
    Fault("date-ahead", "a `Date` five minutes ahead", UP, response_faults.clock_off_by(300.0)),
    Fault("date-behind", "a `Date` five minutes behind", UP, response_faults.clock_off_by(-300.0)),
    Fault(
        "endless-pages",
        "further pages without end, slowly",
        down(Reason.TIMEOUT),
        response_faults.endless_pages,
        needs="pages",
    ),
    Fault(
        "paging-loop",
        "the same page again and again",
        down(Reason.BAD_RESPONSE),
        response_faults.same_page,
        needs="pages",
    ),
    Fault(CLOCK, "its clock is ten years ahead", UP),
    Fault(TOKEN, "401 from now on, until the secret's file has a new one", down(Reason.AUTH), needs="auth"),
    Fault(
        "429-storm",
        "429 for everything",
        down(Reason.RATE_LIMITED),
        instead(response_faults.refusal(429, **{"Retry-After": "1"})),
    ),
    Fault("5xx", "500 for everything", down(Reason.SERVER_ERROR), instead(response_faults.refusal(500))),
    Fault("5xx-flapping", "every other answer is 502, 503 or 504", UP, response_faults.flapping),
    Fault("redirect", "redirects to elsewhere", down(Reason.BAD_RESPONSE), instead(response_faults.redirect)),
)
