"""A ranking that is kept along says what one made anew does."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quota.domain.ranking import NOBODY, Ranking
from quota.domain.rung_entry import RungEntry
from quota.projections.snapshots import decode, encode

# Few values, so that many are equal.
values = st.sampled_from([0.0, 0.5, 1.0, math.inf]) | st.floats(-2, 2)
placings = st.lists(st.tuples(st.integers(0, 12).map(str), values, st.booleans()), max_size=30)


def entries_of(placed: list[tuple[str, float, bool]]) -> list[RungEntry]:
    return [
        RungEntry(trial_id, value, value, position, position, waits=waits)
        for position, (trial_id, value, waits) in enumerate(placed, start=1)
    ]


def last_of_each(entries: list[RungEntry]) -> list[RungEntry]:
    return list({entry.trial_id: entry for entry in entries}.values())


def in_order(entries: list[RungEntry]) -> list[tuple[str, float, int, bool]]:
    ranked = sorted(entries, key=lambda one: (one.rank_value, one.placed_position))
    return [(one.trial_id, one.rank_value, one.placed_position, one.waits) for one in ranked]


@given(placings, st.integers(0, 30))
def test_changes_say_the_same_as_all_entries_at_once(placed: list[tuple[str, float, bool]], before: int) -> None:
    entries = entries_of(placed)
    known = Ranking.of(last_of_each(entries[:before]))
    ranking = known.with_changes(last_of_each(entries[before:]))
    assert list(ranking.rows()) == in_order(last_of_each(entries))
    assert len(ranking) == len(ranking.ranks)
    assert [ranking.ranks[trial_id] for trial_id in ranking.trial_ids] == list(range(1, len(ranking) + 1))


@given(placings)
def test_of_equals_the_best_rank_counts(placed: list[tuple[str, float, bool]]) -> None:
    entries = last_of_each(entries_of(placed))
    better = [1 + sum(other.rank_value < one.rank_value for other in entries) for one in entries]
    assert Ranking.of(entries).ranks_of_equals(one.trial_id for one in entries).tolist() == better


@given(placings)
def test_a_snapshot_holds_all_of_it(placed: list[tuple[str, float, bool]]) -> None:
    ranking = Ranking.of(last_of_each(entries_of(placed)))
    assert list(decode(encode(ranking)).rows()) == list(ranking.rows())


def test_a_damaged_snapshot_is_none() -> None:
    body = encode(Ranking.of(entries_of([("a", 0.5, True), ("b", 0.25, False)])))
    for damaged in (b"", body[:-1], b"\x00" + body, encode(NOBODY)[:-1] + b"\xc4\x01\x01"):
        with pytest.raises(ValueError, match=r"."):
            decode(damaged)
    with pytest.raises(ValueError, match="2 trials and 1 values"):
        decode(body.replace(b"\xc4\x10", b"\xc4\x08", 1).replace(b"\x00\x00\x00\x00\x00\x00\xd0\x3f", b"", 1))
