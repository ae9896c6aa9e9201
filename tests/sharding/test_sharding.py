"""Assignment of streams to shards, and the flag ``--shard``."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cli import main
from exporter.sharding import Shard, ShardFilter, owner, parse_shard

names = st.text(max_size=30)
counts = st.integers(1, 40)
rules = st.sampled_from(["name", "id", "hash"])


@given(names, names, names, rules, counts)
def test_every_stream_belongs_to_exactly_one_shard(
    upstream: str, stream_id: str, name: str, rule: str, count: int
) -> None:
    filters = [ShardFilter(Shard(ordinal, count), upstream, by_name=rule == "name") for ordinal in range(count)]
    assert [shard_filter.owns(stream_id, name) for shard_filter in filters].count(True) == 1
    assert [shard_filter.is_primary for shard_filter in filters].count(True) == 1
    for shard_filter in filters:
        shard_filter.configure({"a": "first", "b": "b"})
    for known_id in ("a", "b", stream_id):
        assert [shard_filter.owns(known_id, name) for shard_filter in filters].count(True) == 1


@given(names, names, counts)
def test_added_shard_only_takes_streams(upstream: str, name: str, count: int) -> None:
    assert owner(upstream, name, count + 1) in (owner(upstream, name, count), count)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 15, 16])
def test_added_shard_takes_its_share_of_each_shard(count: int) -> None:
    streams = [f"live/stream-{number}" for number in range(4000)]
    before = Counter(owner("edge", name, count) for name in streams)
    moved = Counter(owner("edge", name, count) for name in streams if owner("edge", name, count + 1) == count)
    share = len(streams) / (count + 1)
    assert 0.75 * share < moved.total() < 1.25 * share
    assert moved.keys() == before.keys()


def test_owners_are_the_same_in_every_version() -> None:
    """Two versions run side by side during a rollout, so a change here would move streams."""
    assert [owner("edge", f"live/{number}", 3) for number in range(12)] == VERSION_1_OF_3
    assert [owner("edge", f"live/{number}", 20) for number in range(12)] == VERSION_1_OF_20


VERSION_1_OF_3 = [0, 0, 0, 2, 1, 2, 0, 2, 0, 0, 1, 1]
VERSION_1_OF_20 = [3, 10, 0, 12, 3, 8, 11, 8, 16, 19, 18, 9]


@given(st.text(min_size=1, max_size=20), names, names, counts)
def test_streams_with_the_same_label_share_a_shard(name: str, one: str, other: str, count: int) -> None:
    for ordinal in range(count):
        shard_filter = ShardFilter(Shard(ordinal, count), "studio")
        assert shard_filter.owns(one, name) == shard_filter.owns(other, name) == shard_filter.owns(name)
        owned = shard_filter.owns("found", "x")
        shard_filter.configure({"configured": "x"})
        assert shard_filter.owns("configured") == owned


def test_name_is_ignored_for_hashed_labels() -> None:
    shard_filter = ShardFilter(Shard(0, 2), "studio", by_name=False)
    assert len({shard_filter.owns("an-id", f"name {number}") for number in range(50)}) == 1


@pytest.mark.parametrize(
    ("text", "host", "shard"),
    [
        ("0/1", "h", Shard(0, 1)),
        ("2/3", "h", Shard(2, 3)),
        ("auto/3", "stream-exporter-2", Shard(2, 3)),
        ("auto/20", "stream-exporter-b-11", Shard(11, 20)),
    ],
)
def test_valid_shard_flag_is_parsed(text: str, host: str, shard: Shard) -> None:
    assert parse_shard(text, host) == shard
    assert str(shard) == f"{shard.ordinal}/{shard.count}"


@pytest.mark.parametrize(
    ("text", "host", "message"),
    [
        *(
            (text, "stream-exporter-0", "expected N/M, or auto/M")
            for text in ("", "1", "/", "a/2", "-1/2", "1/0", "0/1001", "1/2/3", "1 / 2", "²/3", "auto", "0/1\n")
        ),
        ("3/3", "h", "N is 3; expected 0 to 2"),
        ("auto/2", "stream-exporter-2", "host name 'stream-exporter-2' is 2; expected 0 to 1"),
        ("auto/2", "laptop", "'laptop' does not end in a hyphen and a number"),
    ],
)
def test_invalid_shard_flag_is_refused(text: str, host: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_shard(text, host)


def test_invalid_shard_flag_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--shard", "2/2"])
    assert ended.value.code == 2
    assert "argument --shard: '2/2': N is 2; expected 0 to 1" in capsys.readouterr().err
