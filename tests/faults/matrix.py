"""The faults, and what must come of each on each platform."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from exporter.model import Reason
from tests.faults import response_faults
from tests.faults.response_faults import Break, every_stream, everywhere, instead, one_stream

PLATFORMS: Final = ("livepeer", "storm", "wave", "node_media_server")
HEALTHY: Final = "healthy"
REFUSED, DNS, TLS, CLOCK, TOKEN = "refused", "dns", "tls", "clock", "token-ends"
"""The faults that are none of a single answer."""

UNHARMED: Final = "unharmed"
BESIDE: Final = "unharmed, one more beside them"
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
    on: dict[str, Outcome | None] = field(default_factory=dict)
    """Outcomes of platforms that differ; None: the platform has nothing that could break so."""
    never_good: frozenset[str] = frozenset()
    """Platforms where it must be there from the start, as what it breaks is asked for only then."""

    @property
    def has_own_port(self) -> bool:
        """Whether its listener is what breaks."""
        return self.name in (REFUSED, TLS)

    def outcome(self, platform: str) -> Outcome | None:
        return self.on.get(platform, self.otherwise)


def down(reason: Reason) -> Outcome:
    return Outcome(down=reason)


UP = Outcome()
_ONE_SESSION = Outcome(streams=UNKNOWN, of_stream=Reason.BAD_RESPONSE)
_NO_PAGES = {"node_media_server": None}
_CANDIDATES = Outcome(of_stream=Reason.BAD_RESPONSE)
_ALL = frozenset(PLATFORMS)

FAULTS: Final = (
    Fault(REFUSED, "nobody listens on the port", down(Reason.CONNECT)),
    Fault("reset", "the connection is reset", down(Reason.CONNECT), response_faults.reset),
    Fault("black-hole", "the request is read, nothing is said", down(Reason.TIMEOUT), response_faults.black_hole),
    Fault(DNS, "the host's name is gone", down(Reason.CONNECT), never_good=_ALL),
    Fault(TLS, "the certificate is of another authority", down(Reason.TLS)),
    Fault("slow-bytes", "five bytes a second", down(Reason.TIMEOUT), response_faults.slow_bytes),
    Fault("half-a-body", "the connection ends in the middle", down(Reason.BAD_RESPONSE), response_faults.half_a_body),
    Fault("chunked-lies", "a chunk is longer than it says", down(Reason.BAD_RESPONSE), response_faults.chunked_lies),
    Fault("gzip-bomb", "100 MiB, packed into 100 kB", down(Reason.TOO_LARGE), response_faults.gzip_bomb),
    Fault("100-megabytes", "a body of 100 MiB", down(Reason.TOO_LARGE), response_faults.a_hundred_megabytes),
    Fault("endless-list", "a list that never ends", down(Reason.TOO_LARGE), response_faults.endless_list),
    Fault("html", "a maintenance page, with 200", down(Reason.BAD_RESPONSE), instead(response_faults.html)),
    Fault("invalid-utf8", "bytes that are no UTF-8", down(Reason.BAD_RESPONSE), instead(response_faults.invalid_utf8)),
    Fault("deep-json", "200,000 lists in each other", down(Reason.BAD_RESPONSE), instead(response_faults.deep_json)),
    Fault(
        "nan", "NaN and Infinity in place of numbers", down(Reason.BAD_RESPONSE), everywhere(response_faults.no_number)
    ),
    Fault(
        "huge-numbers",
        "one stream's numbers are beyond every float",
        UP,
        one_stream(response_faults.huge),
        # its sign of life is a number too
        {"livepeer": Outcome(streams=UNKNOWN)},
    ),
    Fault(
        "duplicate-ids", "one stream's id comes twice", UP, one_stream(response_faults.twice), {"wave": _ONE_SESSION}
    ),
    Fault("long-ids", "an id of 10 kB", UP, one_stream(response_faults.long_id)),
    Fault(
        "control-characters",
        "every control character in a name",
        Outcome(streams=BESIDE),
        one_stream(response_faults.control_characters),
        {"wave": UP},
    ),
    Fault(
        "renamed-fields",
        "all fields of one stream have other names",
        Outcome(streams=ABSENT),
        one_stream(response_faults.renamed),
        {"wave": Outcome(streams=UNKNOWN)},
    ),
    Fault(
        "nulls",
        "all fields of one stream are null",
        Outcome(streams=UNKNOWN),
        one_stream(response_faults.nulls),
        # null has a meaning of its own here: never seen, no publisher
        {"livepeer": Outcome(streams=OFF), "node_media_server": Outcome(streams=OFF)},
    ),
    Fault(
        "renamed-everywhere",
        "all fields of all streams have other names",
        down(Reason.BAD_RESPONSE),
        every_stream(response_faults.renamed),
        {"wave": Outcome(streams=ALL_UNKNOWN)},
    ),
    Fault(
        "endless-pages",
        "further pages without end, slowly",
        down(Reason.TIMEOUT),
        response_faults.endless_pages,
        {"wave": _CANDIDATES, **_NO_PAGES},
        never_good=frozenset({"wave"}),
    ),
    Fault(
        "paging-loop",
        "the same page again and again",
        down(Reason.BAD_RESPONSE),
        response_faults.same_page,
        {"wave": _CANDIDATES, **_NO_PAGES},
        never_good=frozenset({"wave"}),
    ),
    Fault(CLOCK, "its clock is ten years ahead", UP),
    Fault(TOKEN, "401 from now on, until the secret's file has a new one", down(Reason.AUTH)),
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
