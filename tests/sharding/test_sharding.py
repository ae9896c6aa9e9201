"""Assignment of streams to shards, and the flag ``--shard``."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cli import main
from exporter.sharding import GroupShards, Shard, ShardFilter, owner, parse_shard

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


# -- groups ------------------------------------------------------------------------------------------------------------

places = st.tuples(st.sampled_from(["edge", "origin"]), st.sampled_from(["a", "b", "c", "d", "d#0123abcd"]))
groups = st.dictionaries(st.text("fghi", min_size=1, max_size=3), st.sets(places, min_size=1, max_size=3), max_size=6)


def owner_of(shards: GroupShards, place: tuple[str, str], count: int) -> int:
    """Return the only shard that polls a stream."""
    upstream, label = place
    keys = shards.of_upstream(upstream)
    owns = [ShardFilter(Shard(n, count), upstream, group_keys=keys).owns("some id", label) for n in range(count)]
    assert owns.count(True) == 1
    return owns.index(True)


@given(groups, counts)
def test_all_streams_of_a_group_belong_to_the_shard_that_watches_it(
    streams: dict[str, set[tuple[str, str]]], count: int
) -> None:
    """So groups that share a stream belong to one shard, whatever chain of groups connects them."""
    shards = GroupShards(streams)
    for group, members in streams.items():
        watching = [n for n in range(count) if shards.owns(Shard(n, count), group)]
        assert len(watching) == 1
        assert {owner_of(shards, place, count) for place in members} == set(watching)


@given(groups, st.integers(1, 12))
def test_added_shard_only_takes_groups(streams: dict[str, set[tuple[str, str]]], count: int) -> None:
    shards = GroupShards(streams)
    for group in streams:
        before, after = (next(n for n in range(m) if shards.owns(Shard(n, m), group)) for m in (count, count + 1))
        assert after in (before, count)


@given(groups, st.randoms(use_true_random=False))
def test_assignment_does_not_depend_on_the_order_of_groups(
    streams: dict[str, set[tuple[str, str]]], random: Random
) -> None:
    shuffled = [(name, sorted(members)) for name, members in streams.items()]
    random.shuffle(shuffled)
    one, other = GroupShards(streams), GroupShards(dict(shuffled))
    for group in streams:
        assert [one.owns(Shard(n, 7), group) for n in range(7)] == [other.owns(Shard(n, 7), group) for n in range(7)]


@given(groups, names, counts)
def test_stream_in_no_group_stays_in_its_shard(streams: dict[str, set[tuple[str, str]]], name: str, count: int) -> None:
    alone = f"not in a group: {name}"
    assert owner_of(GroupShards(streams), ("edge", alone), count) == owner("edge", alone, count)


def test_owners_of_groups_are_the_same_in_every_version() -> None:
    shards = GroupShards({f"group-{n}": [("edge", f"live/{n}")] for n in range(12)})
    assert [owner_of(shards, ("edge", f"live/{n}"), 3) for n in range(12)] == VERSION_1_GROUPS_OF_3


VERSION_1_GROUPS_OF_3 = [0, 2, 2, 0, 0, 1, 0, 1, 1, 2, 1, 0]


def test_hashed_and_configured_labels_are_found() -> None:
    shards = GroupShards({"final": [("edge", "hashed(key)"), ("edge", "Main")]})
    keys = shards.of_upstream("edge")
    for count in range(2, 9):
        watching = next(n for n in range(count) if shards.owns(Shard(n, count), "final"))
        shard_filter = ShardFilter(
            Shard(watching, count), "edge", by_name=False, group_keys=keys, label_of=lambda key: f"hashed({key})"
        )
        shard_filter.configure({"id": "Main"})
        assert shard_filter.owns("key", "ignored")
        assert shard_filter.owns("id")


def test_primary_shard_of_an_upstream_does_not_depend_on_groups() -> None:
    keys = GroupShards({"final": [("edge", "edge")]}).of_upstream("edge")
    for count in range(1, 9):
        primary = [n for n in range(count) if ShardFilter(Shard(n, count), "edge", group_keys=keys).is_primary]
        assert primary == [owner("edge", "edge", count)]


# -- playback checks and their sources -----------------------------------------------------------------------------

chains = st.lists(places, max_size=6, unique=True)


@given(chains, groups, counts)
def test_checks_belong_to_the_shard_of_their_source(
    chain: list[tuple[str, str]], streams: dict[str, set[tuple[str, str]]], count: int
) -> None:
    """Wherever these are in groups, all streams of a chain and of their groups belong to one shard."""
    shards = GroupShards(streams, pairwise(chain))
    assert len({owner_of(shards, place, count) for place in chain}) <= 1
    for group, members in streams.items():
        watching = [n for n in range(count) if shards.owns(Shard(n, count), group)]
        assert {owner_of(shards, place, count) for place in members} == set(watching)
        if members & set(chain):
            assert owner_of(shards, chain[0], count) == watching[0]


@given(st.lists(st.sampled_from(["b", "c", "d", "e"]), min_size=1, unique=True), counts)
def test_checks_do_not_move_their_source(names_of_checks: list[str], count: int) -> None:
    chain = [*(("cdn", name) for name in names_of_checks), ("edge", "live/main")]
    shards = GroupShards({}, pairwise(chain))
    assert {owner_of(shards, place, count) for place in chain} == {owner("edge", "live/main", count)}
    assert owner_of(shards, ("cdn", "unpaired"), count) == owner("cdn", "unpaired", count)


@given(groups, chains, st.randoms(use_true_random=False))
def test_assignment_does_not_depend_on_the_order_of_pairs(
    streams: dict[str, set[tuple[str, str]]], chain: list[tuple[str, str]], random: Random
) -> None:
    pairs = list(pairwise(chain))
    random.shuffle(pairs)
    one, other = GroupShards(streams, pairwise(chain)), GroupShards(streams, pairs)
    assert [owner_of(one, place, 7) for place in chain] == [owner_of(other, place, 7) for place in chain]


def test_check_of_a_stream_with_a_hashed_label_belongs_to_its_shard() -> None:
    shards = GroupShards({}, [(("cdn", "main"), ("edge", "hashed(key)"))])
    for count in range(2, 9):
        filters = [
            ShardFilter(
                Shard(n, count),
                "edge",
                by_name=False,
                group_keys=shards.of_upstream("edge"),
                label_of=lambda key: f"hashed({key})",
            )
            for n in range(count)
        ]
        (owning,) = (n for n in range(count) if filters[n].owns("key"))
        assert owning == owner_of(shards, ("cdn", "main"), count)


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
