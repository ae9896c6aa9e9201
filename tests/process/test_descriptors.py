"""The limit on open file descriptors."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator

import pytest
import structlog.testing

from exporter.runtime.descriptors import descriptor_limit, raise_descriptor_limit


@pytest.fixture
def hard_limit() -> Iterator[int]:
    """Lower the soft limit for the test, and return the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard - 1, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_soft_limit_is_raised_to_the_hard_limit(hard_limit: int) -> None:
    for _ in range(2):
        raise_descriptor_limit()
        assert descriptor_limit() == hard_limit


def test_limit_that_cannot_be_raised_is_a_warning(hard_limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_which: int, _limits: tuple[int, int]) -> None:
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    with structlog.testing.capture_logs() as logs:
        raise_descriptor_limit()
    monkeypatch.undo()
    assert [(line["event"], line["limit"], line["error"]) for line in logs] == [
        ("file descriptor limit cannot be raised", hard_limit - 1, "not allowed")
    ]


def test_unlimited_descriptors_are_a_large_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert descriptor_limit() == sys.maxsize
