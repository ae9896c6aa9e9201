"""The generated page docs/metrics.md."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import ClassVar

import pytest

from exporter.metrics.families import FAMILIES
from exporter.metrics.families.reference import page, reference, unit
from exporter.metrics.families.stream_families import STREAM_FAMILIES
from exporter.model import StreamReport
from exporter.platforms.registry import platforms

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


class FakePlatform:
    """A platform that fills two fields: one family with one series, and two about renditions."""

    feeds: ClassVar[frozenset[str]] = frozenset({"viewers", "renditions"})
    health_score: ClassVar[str] = "reported"


def row(text: str, family: str) -> list[str]:
    """Return the cells of the family's last row, which is in the table of platforms."""
    rows = [line for line in text.splitlines() if line.startswith(f"| `{family}` ")]
    return [cell.strip() for cell in rows[-1].strip("|").split("|")]


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), "run: make generate"


def test_page_lists_every_family() -> None:
    text = page({})
    assert [family.name for family in FAMILIES if f"| `{family.name}` |" not in text] == []


def test_table_of_platforms_marks_available_families() -> None:
    text = page({"fake": FakePlatform})
    assert row(text, "stream_viewers")[1:] == ["✓"]
    assert row(text, "stream_renditions")[1:] == ["✓"]
    assert row(text, "stream_latency_seconds")[1:] == [""]
    assert row(text, "stream_health_score_ratio")[1:] == ["reported"]


def test_series_per_stream_are_counted() -> None:
    everywhere = [f for f in STREAM_FAMILIES if f.source != "platform" and not f.each]
    fed = 2
    assert f"| fake | {len(everywhere) + fed} | active reason, rendition |" in page({"fake": FakePlatform})


def test_table_rows_have_as_many_cells_as_the_head() -> None:
    lines = reference().splitlines()
    for above, line in itertools.pairwise(lines):
        if above.startswith("|") and line.startswith("|"):
            assert above.count("|") - above.count(r"\|") == line.count("|") - line.count(r"\|")


@pytest.mark.parametrize("name", sorted(platforms()))
def test_feeds_of_a_platform_are_fields_of_a_report(name: str) -> None:
    assert platforms()[name].feeds <= {*StreamReport.__struct_fields__, "analytics"}


def test_unit_follows_from_the_name() -> None:
    units = {family.name: unit(family) for family in FAMILIES}
    assert units["stream_ingest_bitrate_bytes_per_second"] == "bytes/s"
    assert units["stream_start_timestamp_seconds"] == "Unix seconds"
    assert units["stream_source_media_seconds_total"] == "seconds"
    assert units["stream_viewers"] == ""
