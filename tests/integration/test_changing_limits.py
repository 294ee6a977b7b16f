"""What was decided is done only as far as the limit still asks for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from quota.domain.events import TrialStopped
from quota.services import open_decisions
from support import create_schema
from sweeps import AT_ONCE, KEEP, Killed, Sweeps, killing, silent, sweeps_over, uri_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def sweeps(database_url: str) -> Iterator[Sweeps]:
    create_schema(database_url)
    with sweeps_over(database_url) as ready:
        yield ready


def kill(sweeps: Sweeps, step: str) -> None:
    sweeps.store.hook = killing(step)
    with pytest.raises(Killed):
        sweeps.sweep(AT_ONCE)
    sweeps.store.hook = silent


def reasons(sweeps: Sweeps) -> list[str]:
    events = [event.payload for event in sweeps.events() if event.payload.TYPE == "eviction_cancelled"]
    return [getattr(one, "reason", "") for one in events]


@pytest.mark.parametrize("step", ["before trash", "after trash"])
@pytest.mark.parametrize("limit", [(100, 90), (6, 2)], ids=["raised", "raised above what is held"])
def test_claims_of_a_killed_sweep_are_given_up_where_the_limit_was_raised(
    sweeps: Sweeps, step: str, limit: tuple[int, int]
) -> None:
    sweeps.prepare(6, high=5, low=2)
    kill(sweeps, step)
    sweeps.limit("experiments", *limit)
    report = sweeps.sweep(AT_ONCE)
    assert (report.tally.evicted, report.tally.purged, report.tally.cancelled) == (0, 0, 4)
    assert reasons(sweeps) == ["not_called_for"] * 4
    assert sweeps.state().usage.held_checkpoints == 6
    assert all(sweeps.store.contents(uri_of(str(number))) for number in range(1, 7))
    sweeps.check_settled()


def test_claims_of_a_killed_sweep_are_given_up_where_the_limit_was_removed(sweeps: Sweeps) -> None:
    sweeps.prepare(6, high=5, low=2)
    kill(sweeps, "before trash")
    sweeps.services.administration.remove_limit("experiments")
    assert sweeps.sweep(AT_ONCE).tally.evicted == 0
    assert reasons(sweeps) == ["not_called_for"] * 4
    sweeps.check_settled()


def test_claims_of_a_killed_sweep_are_carried_out_as_far_as_a_lowered_limit_asks(sweeps: Sweeps) -> None:
    sweeps.prepare(6, high=5, low=2)
    kill(sweeps, "before trash")
    sweeps.limit("experiments", 4, 4)
    sweeps.sweep(AT_ONCE)
    assert sweeps.state().usage.held_checkpoints == 4
    assert reasons(sweeps) == ["not_called_for"] * 2
    # The two that would have been missed least went.
    assert [sweeps.store.contents(uri_of(str(number))) is None for number in range(1, 7)] == [False] * 4 + [True] * 2
    sweeps.check_settled()


def test_claims_are_given_up_once_trials_hold_less(sweeps: Sweeps) -> None:
    sweeps.prepare(8, high=7, low=4)
    kill(sweeps, "before trash")
    sweeps.send(*(TrialStopped(trial_id=str(number)) for number in (1, 2)))
    sweeps.sweep(AT_ONCE)
    assert sweeps.state().usage.held_checkpoints == 4
    assert reasons(sweeps) == ["not_called_for"] * 2
    sweeps.check_settled()


def test_usage_is_read_again_between_batches(sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_decisions, "_MOVES_A_LOCK", 2)
    sweeps.prepare(9, high=8, low=3)
    moved: list[str] = []

    def stop_some(step: str, about: str) -> None:
        if step == "after trash":
            moved.append(about)

    original = open_decisions.OpenDecisions.with_each

    def with_each(self: open_decisions.OpenDecisions, *arguments: object, **keywords: object) -> None:
        original(self, *arguments, **keywords)  # type: ignore[arg-type]
        if len(moved) == 2:
            sweeps.send(*(TrialStopped(trial_id=str(number)) for number in (1, 2)))
            moved.append("stopped")

    sweeps.store.hook = stop_some
    monkeypatch.setattr(open_decisions.OpenDecisions, "with_each", with_each)
    report = sweeps.sweep(KEEP)
    assert "stopped" in moved
    assert (report.tally.evicted, report.tally.cancelled) == (4, 2)
    assert sweeps.state().usage.held_checkpoints == 3


def test_what_is_larger_than_its_trial_said_counts_as_it_is(sweeps: Sweeps) -> None:
    sweeps.prepare(6, high=1, low=1)
    for number in range(1, 7):
        sweeps.store.add_checkpoint(uri_of(str(number)), {"weights": b"w" * 1_000})
    report = sweeps.sweep(replace(AT_ONCE, most_evicted_bytes=1_500))
    assert (report.tally.evicted, report.is_capped, report.exceeded) == (2, True, ["x"])


def test_what_arrives_while_a_sweep_goes_on_is_swept_too_and_is_no_excess(sweeps: Sweeps) -> None:
    sweeps.prepare(4, high=2, low=2)
    numbers = iter(range(10, 20))

    original = open_decisions.OpenDecisions.with_each
    rounds: list[int] = []

    def with_each(self: open_decisions.OpenDecisions, *arguments: object, **keywords: object) -> None:
        original(self, *arguments, **keywords)  # type: ignore[arg-type]
        rounds.append(1)
        sweeps.pause_more(str(next(numbers)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_decisions.OpenDecisions, "with_each", with_each)
        report = sweeps.sweep(KEEP)
    assert len(rounds) == 3
    assert report.tally.evicted == 4
    # One has arrived after the last look; the next sweep takes it, and nobody need be told.
    assert sweeps.state().usage.held_checkpoints == 3
    assert report.exceeded == []
