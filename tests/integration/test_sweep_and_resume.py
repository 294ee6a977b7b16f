"""A resume wins over a sweep, or is told the truth; and no sweep takes what a trial wrote since."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from quota.domain.events import CheckpointPinned, EvictionCancelled, TrialPaused
from quota.services.recording import LoadableCheckpoint
from support import create_schema
from sweeps import AT_ONCE, SIZE, Killed, Sweeps, kill_at_record, killing, refusing, silent, sweeps_over, uri_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def sweeps(sqlite_url: str) -> Iterator[Sweeps]:
    create_schema(sqlite_url)
    with sweeps_over(sqlite_url) as ready:
        ready.prepare(2, high=1, low=1)
        yield ready


def kill_sweep(sweeps: Sweeps, step: str) -> None:
    sweeps.store.hook = killing(step)
    with pytest.raises(Killed):
        sweeps.sweep(AT_ONCE)
    sweeps.store.hook = silent


def write_anew(sweeps: Sweeps) -> None:
    """Do what the resumed trial does: train on, and write its next checkpoint to the same place."""
    sweeps.save("2", resource=3, size=2 * SIZE)
    sweeps.send(TrialPaused(trial_id="2", level=3, metric=0.5))


def check_new_one_is_untouched(sweeps: Sweeps) -> None:
    sweeps.limit("experiments", 9, 9)
    sweeps.sweep(AT_ONCE)
    assert sweeps.store.contents(uri_of("2")) == {"weights": b"w" * 2 * SIZE}
    assert (sweeps.checkpoint("2").state, sweeps.checkpoint("2").size_bytes) == ("stored", 2 * SIZE)
    sweeps.check_settled()


LOADABLE = LoadableCheckpoint(uri_of("2"), 1)


@pytest.mark.parametrize("step", ["before trash", "after trash"])
def test_a_claimed_checkpoint_is_kept_for_the_resume(sweeps: Sweeps, step: str) -> None:
    kill_sweep(sweeps, step)
    assert sweeps.checkpoint("2").state == "claimed"
    assert sweeps.resume("2").checkpoint == LOADABLE
    assert sweeps.store.contents(uri_of("2")) is not None
    cancelled = sweeps.events()[-2].payload
    assert isinstance(cancelled, EvictionCancelled)
    assert cancelled.reason == "resumed"
    sweeps.check_settled()
    assert sweeps.sweep(AT_ONCE).tally.decided == 1
    assert sweeps.checkpoint("2").state == "stored"


def test_a_trashed_checkpoint_is_moved_back_for_the_resume(database_url: str) -> None:
    create_schema(database_url)
    with sweeps_over(database_url) as sweeps:
        sweeps.prepare(2, high=1, low=1)
        sweeps.sweep()
        assert sweeps.store.contents(uri_of("2")) is None
        assert sweeps.resume("2").checkpoint == LOADABLE
        assert sweeps.store.contents(uri_of("2")) == {"weights": b"w" * SIZE}
        assert [event.payload.TYPE for event in sweeps.events()[-2:]] == ["checkpoint_restored", "trial_resumed"]
        assert sweeps.state().registered.trials_resumed_without_checkpoint == 0
        sweeps.check_settled()


@pytest.mark.parametrize("step", ["before restore", "after restore"])
def test_a_resume_that_was_killed_can_be_sent_again(sweeps: Sweeps, step: str) -> None:
    sweeps.sweep()
    sweeps.store.hook = killing(step)
    with pytest.raises(Killed):
        sweeps.resume("2")
    sweeps.store.hook = silent
    assert sweeps.resume("2").checkpoint == LOADABLE
    sweeps.check_settled()


def test_what_is_being_purged_is_not_promised(sweeps: Sweeps) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kill_at_record(sweeps, "purge_decided", patch, committed=True)
        with pytest.raises(Killed):
            sweeps.sweep(AT_ONCE)
    assert sweeps.checkpoint("2").state == "purging"
    assert sweeps.resume("2").checkpoint is None
    assert sweeps.state().registered.trials_resumed_without_checkpoint == 1
    write_anew(sweeps)
    check_new_one_is_untouched(sweeps)


def test_what_was_purged_is_not_promised(sweeps: Sweeps) -> None:
    sweeps.sweep(AT_ONCE)
    assert sweeps.resume("2").checkpoint is None
    assert sweeps.state().registered.lost_resource == 1


def test_an_older_checkpoint_that_survives_is_offered(sweeps: Sweeps) -> None:
    sweeps.resume("2")
    sweeps.save("2", "-later", resource=3)
    sweeps.send(TrialPaused(trial_id="2", level=3, metric=0.5))
    # The older one is superseded, and would go first.
    sweeps.store.hook = refusing("before manifest", uri_of("2"))
    sweeps.send(CheckpointPinned(trial_id="1", uri=uri_of("1")))
    sweeps.sweep(AT_ONCE)
    sweeps.store.hook = silent
    assert sweeps.checkpoint("2").state == "stored"
    assert sweeps.checkpoint("2", "-later").state == "purged"
    assert sweeps.resume("2", 3).checkpoint == LOADABLE
    assert sweeps.state().registered.lost_resource == 2


@pytest.mark.parametrize("order_of_loss", ["claimed", "trashed"])
def test_where_the_store_is_down_the_trial_starts_from_scratch(sweeps: Sweeps, order_of_loss: str) -> None:
    if order_of_loss == "claimed":
        kill_sweep(sweeps, "after trash")
    else:
        sweeps.sweep()
    sweeps.store.hook = refusing("before")
    assert sweeps.resume("2").checkpoint is None
    sweeps.store.hook = silent
    write_anew(sweeps)
    check_new_one_is_untouched(sweeps)


@pytest.mark.parametrize("step", ["before trash", "after trash", "before purge"])
def test_a_late_sweeper_takes_nothing_that_was_written_since(sweeps: Sweeps, step: str) -> None:
    kill_sweep(sweeps, step)
    sweeps.store.hook = refusing("before")
    assert sweeps.resume("2").checkpoint is None
    sweeps.store.hook = silent
    write_anew(sweeps)
    check_new_one_is_untouched(sweeps)


@pytest.mark.parametrize("step", ["before manifest", "before trash"])
def test_a_resume_while_a_sweep_is_under_way_keeps_its_checkpoint(sweeps: Sweeps, step: str) -> None:
    kill_sweep(sweeps, step)
    assert sweeps.resume("2").checkpoint == LOADABLE
    write_anew(sweeps)
    check_new_one_is_untouched(sweeps)


def test_a_trial_that_resumes_after_the_listing_is_not_claimed(sweeps: Sweeps) -> None:
    resumed: list[str] = []

    def resume_at_once(step: str, _about: str) -> None:
        if step == "before manifest" and not resumed:
            resumed.append(step)
            assert sweeps.resume("2").checkpoint == LOADABLE

    sweeps.store.hook = resume_at_once
    report = sweeps.sweep(AT_ONCE)
    # The other one goes in its stead.
    assert (report.tally.decided, report.tally.evicted, report.exceeded) == (1, 1, [])
    assert (sweeps.checkpoint("2").state, sweeps.checkpoint("1").state) == ("stored", "purged")
    sweeps.check_settled()
