"""Reading columns from structs of one or several types."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from exporter.metrics.rendering.columns import read_columns
from exporter.model import StreamReport
from exporter.platforms.base import slim_report

Slim = slim_report({"viewers"})
SLIM = [Slim(id="a", viewers=1), Slim(id="b"), Slim(id="c", viewers=3)]
FULL = StreamReport(id="d", viewers=4, name="main", jitter_seconds=0.5)
NAMES = frozenset({"id", "viewers", "name", "jitter_seconds", "health_conditions"})


@pytest.mark.parametrize(
    "samples",
    [SLIM, [], [FULL], [*SLIM, FULL], [FULL, FULL, SLIM[0]], [SLIM[0], FULL]],
    ids=["one type", "empty", "single", "mostly slim", "mostly full", "one of each"],
)
def test_columns_equal_the_attributes(samples: Sequence[StreamReport]) -> None:
    found = read_columns(samples, NAMES)
    assert {name: list(column) for name, column in found.items()} == {
        name: [getattr(sample, name) for sample in samples] for name in NAMES
    }
