"""A store that refuses one thing after another is left alone for a sweep; what was seen is not looked at again."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from quota.domain.events import CheckpointSaved
from quota.domain.experiment import FIRST_RETRY
from quota.errors import StoreError
from quota.services import open_decisions
from support import create_schema
from sweeps import AT_ONCE, DAY, KEEP, ROOT, SIZE, Sweeps, refusing, silent, sweeps_over, uri_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from quota.projections.projector import LockedExperiment


@pytest.fixture
def sweeps(sqlite_url: str) -> Iterator[Sweeps]:
    create_schema(sqlite_url)
    with sweeps_over(sqlite_url) as ready:
        yield ready


def looked_at(sweeps: Sweeps) -> list[str]:
    """Remember what the store is asked to list, besides what it does."""
    asked: list[str] = []
    hook = sweeps.store.hook

    def remember(step: str, about: str) -> None:
        if step == "before manifest":
            asked.append(about)
        hook(step, about)

    sweeps.store.hook = remember
    return asked


def test_a_store_that_cannot_be_read_is_left_alone_after_a_few_tries(sweeps: Sweeps) -> None:
    sweeps.prepare(10, high=2, low=2)
    sweeps.store.hook = refusing("before manifest")
    asked = looked_at(sweeps)
    report = sweeps.sweep(AT_ONCE)
    assert len(asked) == 3
    assert [event for event in sweeps.types() if event == "eviction_failed"] == ["eviction_failed"] * 3
    assert any("refused 3 times in a row" in error for error in report.tally.errors)
    assert report.held_back == {"x": {"out_of_order": 10}}
    sweeps.store.hook = silent
    sweeps.wait(FIRST_RETRY)
    assert sweeps.sweep(AT_ONCE).tally.purged == 8


def test_what_a_store_that_moves_nothing_was_not_asked_for_stays_claimed_until_the_next_sweep(sweeps: Sweeps) -> None:
    sweeps.prepare(10, high=2, low=2)
    sweeps.store.hook = refusing("before trash")
    report = sweeps.sweep(AT_ONCE)
    assert sweeps.types().count("eviction_failed") == 3
    assert len(report.tally.errors) == 4
    assert sweeps.state().usage.claimed_checkpoints == 5
    sweeps.store.hook = silent
    sweeps.wait(FIRST_RETRY)
    assert sweeps.sweep(AT_ONCE).tally.purged == 8
    sweeps.check_settled()


def test_a_few_that_cannot_be_read_stop_no_others(sweeps: Sweeps) -> None:
    sweeps.prepare(10, high=2, low=2)
    refused = [uri_of(str(number)) for number in (3, 5, 7, 9)]

    def hook(step: str, about: str) -> None:
        if step == "before manifest" and about in refused:
            refusing(step)(step, about)

    sweeps.store.hook = hook
    assert sweeps.sweep(AT_ONCE).tally.purged == 6


def test_what_was_found_is_not_looked_at_twice(sweeps: Sweeps) -> None:
    sweeps.prepare(6, high=2, low=2)
    sweeps.store.hook = refusing("before manifest", uri_of("4"))
    asked = looked_at(sweeps)
    assert sweeps.sweep(AT_ONCE).tally.purged == 4
    # Once for the plan, and once more when it is moved; the one that was refused once, and one not at all.
    assert sorted(asked.count(uri_of(str(number))) for number in range(1, 7)) == [0, 1, 2, 2, 2, 2]


def test_what_is_saved_anew_meanwhile_is_looked_at_again(sweeps: Sweeps) -> None:
    sweeps.prepare(4, high=2, low=2)

    def hook(step: str, about: str) -> None:
        if step == "before manifest" and about == uri_of("3"):
            # The other one was found by now.
            sweeps.store.hook = silent
            sweeps.store.add_checkpoint(uri_of("4"), {"weights": b"other"})
            sweeps.send(CheckpointSaved(trial_id="4", uri=uri_of("4"), size_bytes=SIZE, resource=1))
            refusing(step)(step, about)

    sweeps.store.hook = hook
    sweeps.sweep(KEEP)
    decided = {one.decided.uri: one.decided for one in sweeps.state().decisions.values()}
    assert decided[uri_of("4")].size_bytes == len(b"other")


def test_a_sweep_that_is_told_to_stop_leaves_the_rest_to_the_next(sweeps: Sweeps) -> None:
    sweeps.prepare(4, high=2, low=2)
    told: list[bool] = []

    def hook(step: str, _: str) -> None:
        told.extend([True] * (step == "before manifest"))

    sweeps.store.hook = hook
    report = sweeps.services.sweeper.sweep(["x"], KEEP, should_stop=lambda: bool(told))
    assert (report.tally.decided, len(told)) == (0, 1)
    sweeps.store.hook = silent
    assert sweeps.sweep(KEEP).tally.evicted == 2
    sweeps.check_settled(open_decisions=2)


def test_what_was_claimed_when_it_was_told_to_stop_is_moved_by_the_next(sweeps: Sweeps) -> None:
    sweeps.prepare(40, high=2, low=2)
    moved: list[str] = []

    def hook(step: str, about: str) -> None:
        moved.extend([about] * (step == "after trash"))

    sweeps.store.hook = hook
    report = sweeps.services.sweeper.sweep(["x"], KEEP, should_stop=lambda: bool(moved))
    # The batch in hand was finished.
    assert (report.tally.decided, report.tally.evicted) == (38, 32)
    assert sweeps.sweep(KEEP).tally.evicted == 6
    sweeps.check_settled(open_decisions=38)


def test_a_purge_deletes_what_is_due_and_evicts_nothing(sweeps: Sweeps) -> None:
    sweeps.prepare(4, high=2, low=2)
    sweeps.sweep(KEEP)
    sweeps.pause_more("5")
    assert sweeps.services.sweeper.purge(["x"], KEEP).sweep_id is None
    sweeps.wait(DAY + timedelta(seconds=1))
    report = sweeps.services.sweeper.purge(["x"], KEEP)
    assert (report.tally.purged, report.tally.decided) == (2, 0)
    assert sweeps.store.contents(uri_of("5")) is not None
    sweeps.check_settled()


def test_a_store_that_goes_away_after_the_claims_is_left_alone_for_the_rest_of_the_run(sweeps: Sweeps) -> None:
    sweeps.prepare(12, high=2, low=2)
    asked: list[str] = []

    def refuse(step: str, about: str) -> None:
        if step == "before trash":
            asked.append(about)
            message = f"store {ROOT}: out of order"
            raise StoreError(message)

    sweeps.store.hook = refuse
    report = sweeps.sweep(AT_ONCE)
    assert len(asked) == 3
    assert report.tally.evicted == 0
    assert (report.tally.failed, report.has_failed) == (3, True)
    assert "refused 3 times in a row, and is left alone" in report.tally.errors[-1]
    # The others are claimed still, and go as soon as the store is back.
    assert [one.outcome for one in sweeps.state().decisions.values()] == ["claimed"] * 7
    sweeps.store.hook = silent
    sweeps.wait(DAY)
    sweeps.sweep(AT_ONCE)
    assert sweeps.state().usage.held_checkpoints == 2
    sweeps.check_settled()


def test_a_store_that_takes_its_time_lets_others_have_their_turn(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps.prepare(6, high=2, low=2)
    monkeypatch.setattr(open_decisions, "_SECONDS_A_LOCK", -1.0)
    locks: list[str] = []
    locked = sweeps.services.projector.locked
    sweeps.store.hook = lambda step, about: locks.append(about) if step == "before trash" else None

    @contextmanager
    def counting(experiment_ids: Iterable[str]) -> Iterator[dict[str, LockedExperiment]]:
        locks.append("lock")
        with locked(experiment_ids) as found:
            yield found

    monkeypatch.setattr(sweeps.services.projector, "locked", counting)
    sweeps.sweep(KEEP)
    moves = [number for number, one in enumerate(locks) if one != "lock"]
    assert len(moves) == 4
    assert all("lock" in locks[before:after] for before, after in pairwise(moves))
    sweeps.check_settled(open_decisions=4)
