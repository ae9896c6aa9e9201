"""The request limit: how many requests may be sent without the platform refusing any."""

import asyncio
import math
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from multidict import CIMultiDict

from exporter.http.rate_limit import RateLimit, Ticket

NOW = 1_726_000_000.0
"""The platform's time and, by default, ours; the origin of a steady clock is arbitrary."""
NUMBERS = r"[0-9]{1,16}(\.[0-9]{1,3})?(, ?[0-9]{1,6}(; ?(w|q)=[0-9]{1,6}){0,2}){0,2}"


def headers(remaining: object, limit: object = 60, reset: object = NOW + 30, window: object = 60) -> dict[str, str]:
    names = {"Remaining": remaining, "Limit": limit, "Reset": reset, "Window": window}
    return {f"X-RateLimit-{name}": str(value) for name, value in names.items() if value is not None}


def limit_after(*answers: Mapping[str, str], platform_time: float = NOW) -> RateLimit:
    """Return the limit after these responses, one after another, at ``NOW``."""
    limit = RateLimit()
    for answer in answers:
        ticket = limit.start_request()
        limit.update(ticket, answer, NOW, platform_time)
        limit.finish_request()
    return limit


def test_no_limit_is_known_without_headers() -> None:
    limit = limit_after({})
    assert limit.budget(NOW) is None
    assert limit.is_unknown
    assert (limit.limit, limit.remaining, limit.reset_at, limit.window_seconds, limit.paused_until) == (None,) * 5


@pytest.mark.parametrize(
    ("limit", "remaining", "budget"),
    [(60, 60, 57), (60, 3, 0), (60, 0, 0), (1000, 1000, 950), (10, 10, 9), (1, 1, 1), (1, 0, 0), (None, 5, 4)],
)
def test_reserve_is_left_unused(limit: int | None, remaining: int, budget: int) -> None:
    assert limit_after(headers(remaining, limit)).budget(NOW) == budget


def test_new_window_restores_the_limit() -> None:
    limit = limit_after(headers(0, reset=NOW + 30))
    assert (limit.budget(NOW + 29.9), limit.until_reset(NOW + 10)) == (0, 20.0)
    assert limit.budget(NOW + 30) == 57
    assert limit.until_reset(NOW + 40) == 50.0


def test_failing_requests_do_not_exhaust_the_limit_forever() -> None:
    limit = limit_after(headers(60, reset=NOW + 30))
    assert limit.budget(NOW + 30) == 57
    for _ in range(100):
        limit.start_request()
        limit.finish_request()
    assert (limit.budget(NOW + 89), limit.until_reset(NOW + 89)) == (0, 1.0)
    assert limit.budget(NOW + 90) == 57


def test_remainder_without_a_limit_is_forgotten_at_the_end_of_the_window() -> None:
    assert limit_after(headers(0, limit=None)).budget(NOW + 30) is None


@pytest.mark.parametrize("skew", [-3600.0, 5.0, 3600.0])
@pytest.mark.parametrize("reset", [f"{NOW + 30:.0f}", f"{(NOW + 30) * 1000:.0f}", f"{NOW + 30:.3f}", "30", "30;w=60"])
def test_reset_is_a_platform_time_or_a_number_of_seconds(reset: str, skew: float) -> None:
    text = reset if reset.startswith("30") else f"{float(reset) + skew * (1000 if len(reset) == 13 else 1):.0f}"
    assert limit_after(headers(0, reset=text), platform_time=NOW + skew).reset_at == NOW + 30


@pytest.mark.parametrize("reset", ["86400", NOW + 86_400, (NOW + 86_400) * 1000, NOW + 10**8, 99999999999, 10**9 - 1])
def test_reset_far_ahead_pauses_for_15_minutes_only(reset: float | str) -> None:
    text = reset if isinstance(reset, str) else f"{reset:.0f}"
    limit = limit_after(headers(0, reset=text, window=86_400))
    assert (limit.budget(NOW + 899), limit.until_reset(NOW)) == (0, 900.0)
    assert limit.budget(NOW + 900) == 57


def test_long_window_without_a_reset_pauses_for_15_minutes_only() -> None:
    assert limit_after(headers(0, reset=None, window=86_400)).until_reset(NOW) == 900.0


def test_headers_of_the_ietf_draft_are_ignored() -> None:
    """node-media-server 4 uses the headers of the IETF draft, without ``X-``, for its limit of logins."""
    limit = limit_after({"RateLimit-Limit": "10", "RateLimit-Remaining": "0", "RateLimit-Reset": "60"})
    assert (limit.limit, limit.remaining, limit.budget(NOW)) == (None, None, None)


def test_reset_of_zero_means_soon() -> None:
    assert limit_after(headers(0, reset=0)).reset_at == NOW + 1


@pytest.mark.parametrize("prefix", ["x-ratelimit-", "X-RateLimit-"])
@pytest.mark.parametrize(
    ("quotas", "limit", "window"),
    [
        ("2, 2;w=1", 2, 1),
        ("10, 10;w=1, 1000;w=3600", 10, 1),
        ("1000, 10;w=1, 1000;w=3600", 1000, 3600),
        ('2, 2;name="x";w=1', 2, 1),
        ("2 , 2 ; w=1;burst=5", 2, 1),
        ("2;w=1", 2, 1),
        ("2, 3;w=9", 2, None),
        ("2, 2;w=0", 2, None),
        ("2, 2;w=999999", 2, None),
        ("2", 2, None),
    ],
)
def test_window_is_read_from_the_quota(prefix: str, quotas: str, limit: int, window: int | None) -> None:
    known = limit_after(CIMultiDict({f"{prefix}limit": quotas, f"{prefix}remaining": "1", f"{prefix}reset": "1"}))
    assert (known.limit, known.remaining, known.window_seconds, known.reset_at) == (limit, 1, window, NOW + 1)


@pytest.mark.parametrize("remaining", [0, 7, "0, 0;w=60"])
@pytest.mark.parametrize("others", [{}, {"limit": "many", "reset": "soon"}, {"window": 60}, {"limit": 0, "reset": 30}])
def test_remainder_without_limit_and_reset_is_ignored(remaining: object, others: dict[str, object]) -> None:
    limit = limit_after(headers(remaining, **{"limit": None, "reset": None, "window": None, **others}))
    assert (limit.budget(NOW), limit.until_reset(NOW), limit.is_unknown) == (None, None, True)


@pytest.mark.parametrize("reset", [None, "", "soon", NOW - 3600, -5, "nan", "1e9", 10**15])
def test_invalid_reset_counts_as_a_window_from_now(reset: object) -> None:
    assert limit_after(headers(0, reset=reset)).reset_at == NOW + 60
    assert limit_after(headers(0, reset=reset, window=10)).reset_at == NOW + 10
    assert limit_after(headers(0, reset=reset, window=-1)).reset_at == NOW + 60
    assert limit_after(headers(9, reset=NOW + 30), headers(8, reset=reset)).reset_at == NOW + 30


@pytest.mark.parametrize("remaining", [None, "", "-1", "many", "1e3", "٣", "9" * 30])
def test_invalid_remainder_is_ignored(remaining: object) -> None:
    assert limit_after(headers(remaining)).budget(NOW) is None
    assert limit_after(headers(50), headers(remaining)).budget(NOW) == 46


def test_responses_out_of_order_do_not_raise_the_budget() -> None:
    limit = limit_after(headers(60))
    tickets = [limit.start_request() for _ in range(5)]
    assert limit.budget(NOW) == 52
    for ticket, remaining in zip(tickets[1:], (56, 55, 58, 57), strict=True):
        limit.update(ticket, headers(remaining), NOW, NOW)
        limit.finish_request()
    assert limit.budget(NOW) == 52


def test_requests_of_other_clients_lower_the_budget() -> None:
    limit = limit_after(headers(60))
    tickets = [limit.start_request() for _ in range(2)]
    limit.update(tickets[1], headers(40), NOW, NOW)
    assert limit.budget(NOW) == 37


def test_later_reset_starts_a_new_window() -> None:
    limit = limit_after(headers(10, reset=NOW + 30))
    tickets = [limit.start_request() for _ in range(2)]
    limit.update(tickets[1], headers(58, reset=NOW + 90), NOW, NOW)
    assert (limit.budget(NOW), limit.reset_at) == (55, NOW + 90)


def test_late_response_of_the_old_window_does_not_start_a_new_one() -> None:
    limit = limit_after(headers(0, reset=NOW + 30))
    now = NOW + 30
    assert limit.budget(now) == 57
    # the platform's clock is slightly behind
    limit.update(limit.start_request(), headers(0, reset=NOW + 30), now, now)
    assert (limit.budget(now), limit.budget(now + 0.5)) == (0, 0)
    assert limit.budget(now + 1.0) == 57


def test_longest_pause_applies_up_to_15_minutes() -> None:
    limit = limit_after(headers(60))
    limit.pause_for(10, NOW)
    limit.pause_for(5, NOW)
    assert (limit.pause(NOW), limit.pause(NOW + 4), limit.pause(NOW + 11)) == (10, 6, 0)
    assert (limit.budget(NOW), limit.budget(NOW + 10)) == (0, 56 + 1)
    assert not limit.is_unknown
    limit.pause_for(math.inf, NOW)
    assert limit.paused_until == NOW + 900


async def test_first_request_after_a_reset_is_sent_alone() -> None:
    limit = limit_after(headers(0, reset=NOW + 30))
    assert limit.budget(NOW + 30) == 57
    await limit.wait_for_turn()
    first = limit.start_request()
    others = [asyncio.create_task(limit.wait_for_turn()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(other.done() for other in others)
    limit.update(first, headers(1, reset=NOW + 31), NOW + 30, NOW + 30)
    limit.finish_request()
    await asyncio.gather(*others)
    assert limit.budget(NOW + 30) == 0


@pytest.mark.no_cover
@given(
    st.dictionaries(st.sampled_from(list(headers(0))), st.text(max_size=20) | st.from_regex(NUMBERS)),
    st.floats(-1e10, 1e10),
)
def test_any_header_is_accepted_and_waits_at_most_15_minutes(answer: dict[str, str], platform_time: float) -> None:
    limit = RateLimit()
    limit.update(limit.start_request(), answer, NOW, platform_time)
    limit.finish_request()
    budget = limit.budget(NOW)
    assert budget is None or budget >= 0
    assert 0 <= (limit.until_reset(NOW) or 0) <= 900
    assert limit.budget(NOW + 900) != 0


class Platform:
    """A platform that refuses more than ``limit`` requests in a window, which slides or restarts every minute."""

    window = 60.0

    def __init__(self, limit: int, slides: bool) -> None:
        self.limit = limit
        self.slides = slides
        self.seen: deque[float] = deque()
        self.refused = 0

    def answer(self, now: float) -> dict[str, str]:
        begin = now - self.window if self.slides else now - now % self.window
        while self.seen and (self.seen[0] <= begin if self.slides else self.seen[0] < begin):
            self.seen.popleft()
        if len(self.seen) >= self.limit:
            self.refused += 1
        else:
            self.seen.append(now)
        reset = (self.seen[0] if self.slides else begin) + self.window
        return headers(self.limit - len(self.seen), self.limit, math.ceil(reset), int(self.window))


class Polling(RuleBasedStateMachine):
    """Requests are sent as the limit allows, and responses arrive in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.client = RateLimit()
        self.platform = Platform(60, slides=True)
        self.under_way: list[Ticket] = []
        self.answers: list[tuple[Ticket, dict[str, str]]] = []

    def may_send(self) -> bool:
        # the condition of RateLimit.wait_for_turn, and the maximum number of connections
        alone = self.client._guessing and self.client._under_way
        return not alone and self.client._under_way < 3 and self.client.budget(self.now) != 0

    @rule(times=st.integers(1, 70))
    def send(self, times: int) -> None:
        for _ in range(times):
            if not self.may_send():
                return
            self.under_way.append(self.client.start_request())
            if self.client._guessing:
                return

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        ticket = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        self.answers.append((ticket, self.platform.answer(self.now)))

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        ticket, answer = self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1)))
        self.client.update(ticket, answer, self.now, self.now)
        self.client.finish_request()

    @rule(rounds=st.integers(1, 60))
    def poll(self, rounds: int) -> None:
        for _ in range(rounds):
            if self.under_way or self.answers or not self.may_send():
                return
            ticket = self.client.start_request()
            self.client.update(ticket, self.platform.answer(self.now), self.now, self.now)
            self.client.finish_request()

    @precondition(lambda self: not self.under_way and not self.answers)
    @rule(seconds=st.sampled_from([0.1, 1.0, 14.9, 15.0, 30.0, 59.0, 60.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def nothing_is_refused(self) -> None:
        assert self.platform.refused == 0


class PollingByTheMinute(Polling):
    def __init__(self) -> None:
        super().__init__()
        self.platform = Platform(60, slides=False)


TestPolling: Any = Polling.TestCase
TestPollingByTheMinute: Any = PollingByTheMinute.TestCase


# -- polls on demand ---------------------------------------------------------------------------------------------------


class SharedPlatform(Platform):
    """A platform with a window of any length, which counts the requests that our own limit refused."""

    def __init__(self, limit: int, window: float, slides: bool) -> None:
        super().__init__(limit, slides)
        self.window = window
        self.client = RateLimit(INTERVAL)
        self.sent: dict[bool, list[float]] = {False: [], True: []}
        self.held_back = {False: 0, True: 0}

    def poll(self, requests: int, now: float, *, on_demand: bool) -> None:
        for _ in range(requests):
            if self.client.budget(now, on_demand=on_demand) == 0:
                self.held_back[on_demand] += 1
                return
            ticket = self.client.start_request(on_demand=on_demand)
            self.client.update(ticket, self.answer(now), now, now)
            self.client.finish_request()
            self.sent[on_demand].append(now)

    def most_in_a_window(self, *, on_demand: bool) -> int:
        windows = Counter(int(now // self.window) for now in self.sent[on_demand])
        return max(windows.values(), default=0)


INTERVAL = 15.0
SCENARIOS = [
    pytest.param(limit, window, requests, slides, id=f"{limit} in {window} s, {requests} a poll, slides={slides}")
    for limit, window, requests in ((60, 60, 3), (60, 60, 7), (60, 60, 12), (1000, 3600, 3), (10_000, 86_400, 1))
    for slides in (False, True)
]


@pytest.mark.parametrize(("limit", "window", "requests", "slides"), SCENARIOS)
def test_polls_on_demand_take_no_request_that_scheduled_polls_need(
    limit: int, window: int, requests: int, slides: bool
) -> None:
    platform = SharedPlatform(limit, window, slides)
    begin = NOW - NOW % window
    for number in range(int(3 * window / INTERVAL)):
        now = begin + number * INTERVAL
        platform.poll(requests, now, on_demand=False)
        for after in (0.1, INTERVAL / 2 + 0.1):
            platform.poll(requests, now + after, on_demand=True)
    assert platform.refused == 0
    assert platform.held_back[False] == 0
    assert platform.sent[True]
    if not slides:
        assert platform.most_in_a_window(on_demand=True) <= (limit + 1) // 2


def test_polls_on_demand_may_use_half_of_an_unneeded_limit() -> None:
    limit = RateLimit(INTERVAL)
    limit.update(limit.start_request(), headers(60), NOW, NOW)
    limit.finish_request()
    assert (limit.budget(NOW), limit.budget(NOW, on_demand=True)) == (57, 29)
    for left in range(28, -1, -1):
        limit.update(limit.start_request(on_demand=True), headers(60 - 29 + left), NOW, NOW)
        limit.finish_request()
        assert limit.budget(NOW, on_demand=True) == left
    assert limit.budget(NOW) == 28


def test_polls_on_demand_share_what_is_left_before_any_scheduled_poll() -> None:
    limit = RateLimit(INTERVAL)
    assert limit.budget(NOW, on_demand=True) is None
    limit.update(limit.start_request(on_demand=True), headers(11, limit=None), NOW, NOW)
    limit.finish_request()
    assert (limit.budget(NOW), limit.budget(NOW, on_demand=True)) == (10, 5)


def test_limit_that_scheduled_polls_use_up_leaves_only_the_rest_to_polls_on_demand() -> None:
    platform = SharedPlatform(60, 60, slides=False)
    begin = NOW - NOW % 60
    for number in range(40):
        platform.poll(14, begin + number * INTERVAL, on_demand=False)
        if number:
            platform.poll(14, begin + number * INTERVAL + 0.1, on_demand=True)
    assert platform.held_back == {False: 0, True: 39}
    assert platform.most_in_a_window(on_demand=True) <= 57 - 4 * 14


def test_past_needs_of_scheduled_polls_are_forgotten() -> None:
    platform = SharedPlatform(60, 60, slides=False)
    begin = NOW - NOW % 60
    platform.poll(14, begin, on_demand=False)
    for number in range(1, 20):
        platform.poll(1, begin + number * INTERVAL, on_demand=False)
    assert platform.client.budget(begin + 20 * INTERVAL, on_demand=True) == 29


def test_later_reset_restores_the_share_of_polls_on_demand() -> None:
    limit = RateLimit(INTERVAL)
    for _ in range(10):
        limit.update(limit.start_request(on_demand=True), headers(20), NOW, NOW)
        limit.finish_request()
    assert limit.budget(NOW, on_demand=True) == 4
    limit.update(limit.start_request(on_demand=True), headers(59, reset=NOW + 90), NOW, NOW)
    assert limit.budget(NOW, on_demand=True) == 28


def test_waiting_scheduled_request_goes_first() -> None:
    limit = RateLimit(INTERVAL)
    limit.update(limit.start_request(), headers(1, limit=2, reset=1, window=1), NOW, NOW)
    limit.finish_request()
    assert limit.budget(NOW + 1, on_demand=True) == 1
    with limit.waiting(on_demand=False), limit.waiting(on_demand=True):
        assert (limit.budget(NOW + 1), limit.budget(NOW + 1, on_demand=True)) == (1, 0)
    with limit.waiting(on_demand=True):
        assert limit.budget(NOW + 1, on_demand=True) == 1


def test_pause_applies_to_polls_on_demand() -> None:
    limit = limit_after(headers(60))
    limit.pause_for(10, NOW)
    assert (limit.budget(NOW + 9, on_demand=True), limit.budget(NOW + 10, on_demand=True)) == (0, 29)
