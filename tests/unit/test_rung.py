"""A rung against a list that is sorted and searched the slow way."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from quota.domain.rung import Rung
from quota.domain.rung_entry import RungEntry, rank_value

if TYPE_CHECKING:
    from collections.abc import Iterable

# Few values, so that many are equal.
values = st.sampled_from([0.0, 0.5, 1.0, 2.0, math.inf]) | st.floats(-2, 2)
trial_ids = st.integers(0, 12).map(str)


@dataclass
class PlainRung:
    """What a rung is by definition: in order of rank, equals in order of their placing."""

    placed: list[RungEntry] = field(default_factory=list)

    def in_order(self) -> list[RungEntry]:
        # Placed at the end, and `sorted` is stable: so equals stay in order of arrival.
        return sorted(self.placed, key=lambda entry: entry.rank_value)

    def of(self, trial_id: str) -> RungEntry | None:
        return next((entry for entry in self.placed if entry.trial_id == trial_id), None)

    def place(self, entry: RungEntry) -> None:
        self.placed = [other for other in self.placed if other.trial_id != entry.trial_id]
        self.placed.append(replace(entry))

    def compare(self, value: float, trial_id: str) -> tuple[int, int]:
        others = [entry for entry in self.placed if entry.has_checkpoint and entry.trial_id != trial_id]
        return sum(value <= entry.rank_value for entry in others), len(others)


class RungMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.rung = Rung(3, 0.5)
        self.plain = PlainRung()
        self.position = 0

    @rule(trial_id=trial_ids, value=values, has_checkpoint=st.booleans())
    def place(self, trial_id: str, value: float, *, has_checkpoint: bool) -> None:
        self._place(RungEntry(trial_id, value, value, 0, 0, has_checkpoint=has_checkpoint))

    @precondition(lambda self: self.plain.placed)
    @rule(data=st.data())
    def promote(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.plain.placed))
        self._place(replace(entry, promoted=True, waits=False, has_checkpoint=False))

    def _place(self, entry: RungEntry) -> None:
        self.position += 1
        entry = replace(entry, placed_position=self.position, changed_position=self.position)
        self.rung.place(replace(entry))
        self.plain.place(entry)

    @precondition(lambda self: self.plain.placed)
    @rule(data=st.data(), waits=st.booleans(), has_checkpoint=st.booleans())
    def mark(self, data: st.DataObject, *, waits: bool, has_checkpoint: bool) -> None:
        self.position += 1
        entry = data.draw(st.sampled_from(self.plain.placed))
        marks = {"waits": waits, "has_checkpoint": has_checkpoint}
        changed = self.rung.mark(entry.trial_id, **marks, position=self.position)
        assert changed == ((entry.waits, entry.has_checkpoint) != (waits, has_checkpoint))
        entry.waits, entry.has_checkpoint = waits, has_checkpoint
        if changed:
            entry.changed_position = self.position

    @rule(value=values, trial_id=trial_ids)
    def compare(self, value: float, trial_id: str) -> None:
        assert self.rung.compare(value, trial_id) == self.plain.compare(value, trial_id)

    @invariant()
    def ranks_are_places_in_the_sorted_list(self) -> None:
        in_order = self.plain.in_order()
        assert len(self.rung) == len(in_order)
        ranking = self.rung.ranking()
        assert list(ranking.trial_ids) == [entry.trial_id for entry in in_order]
        assert [ranking.ranks[entry.trial_id] for entry in in_order] == list(range(1, len(in_order) + 1))
        assert ranking.waits.tolist() == [entry.waits for entry in in_order]
        assert {entry.trial_id: entry for entry in in_order} == self.rung.entries

    @invariant()
    def candidates_are_those_with_a_checkpoint(self) -> None:
        expected = [(rank, entry) for rank, entry in enumerate(self.plain.in_order(), 1) if entry.has_checkpoint]
        assert list(self.rung.candidates()) == expected


RungMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestRungMachine = RungMachine.TestCase


def rung_of(entries: Iterable[tuple[str, float]]) -> Rung:
    rung = Rung(1, 0.5)
    for position, (trial_id, value) in enumerate(entries, start=1):
        rung.place(RungEntry(trial_id, value, value, position, position, has_checkpoint=True))
    return rung


def ranks(rung: Rung) -> list[str]:
    return list(rung.ranking().trial_ids)


def test_equals_rank_in_order_of_arrival_whatever_they_are_called() -> None:
    assert ranks(rung_of([("z", 1.0), ("a", 1.0), ("m", 0.5), ("b", 1.0)])) == ["m", "z", "a", "b"]


def test_a_promoted_entry_moves_behind_its_equals_and_no_further() -> None:
    rung = rung_of([("a", 1.0), ("b", 1.0), ("c", 1.0), ("d", 2.0)])
    rung.place(replace(rung.entries["a"], placed_position=9, promoted=True, has_checkpoint=False))
    assert ranks(rung) == ["b", "c", "a", "d"]
    assert [entry.trial_id for _, entry in rung.candidates()] == ["b", "c", "d"]
    assert [rank for rank, _ in rung.candidates()] == [1, 2, 4]


def test_compare_counts_equals_as_better_and_leaves_the_reporting_trial_out() -> None:
    rung = rung_of([("a", 1.0), ("b", 1.0), ("c", 2.0), ("d", 0.5)])
    assert rung.compare(1.0, "x") == (3, 4)
    assert rung.compare(1.0, "a") == (2, 3)
    assert rung.compare(1.0, "d") == (3, 3)
    assert rung.compare(math.inf, "x") == (0, 4)


@pytest.mark.parametrize(
    ("mode", "metrics"),
    [
        ("min", [-math.inf, math.nan, math.inf]),
        ("max", [-math.inf, math.nan, math.inf]),
    ],
)
def test_what_is_not_finite_ranks_last_in_either_mode(mode: str, metrics: list[float]) -> None:
    assert [rank_value(mode, metric) for metric in metrics] == [math.inf] * 3
    assert rank_value(mode, 1e308) < math.inf
    assert rank_value(mode, -1e308) < math.inf


def test_smaller_ranks_first_under_min_and_greater_under_max() -> None:
    assert rank_value("min", 1.0) < rank_value("min", 2.0)
    assert rank_value("max", 1.0) > rank_value("max", 2.0)
