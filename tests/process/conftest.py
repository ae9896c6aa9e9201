"""Fixtures for tests of the exporter process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.process.process_environment import STREAMS, Alertmanager, Platform, running_environment


@pytest.fixture(scope="module")
def environment() -> Iterator[tuple[Platform, Alertmanager]]:
    with running_environment(STREAMS) as both:
        yield both
