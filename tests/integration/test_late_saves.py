"""A save may be recorded after a sweep has taken what was saved for its predecessor; and trials reuse their places."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from quota.domain.events import CheckpointPinned, CheckpointSaved, CheckpointUnpinned, TrialPaused, TrialStarted
from quota.services.recording import LoadableCheckpoint
from support import create_schema
from sweeps import AT_ONCE, KEEP, SIZE, Killed, Sweeps, kill_at_record, killing, silent, sweeps_over, uri_of

if TYPE_CHECKING:
    from collections.abc import Iterator

NEW = {"weights": b"n" * 2 * SIZE}
LATE_SAVE = CheckpointSaved(trial_id="2", uri=uri_of("2"), size_bytes=2 * SIZE, resource=3)


@pytest.fixture
def sweeps(sqlite_url: str) -> Iterator[Sweeps]:
    """Trial 2 has trained on, written anew to the same place and paused, but the word of its save is late."""
    create_schema(sqlite_url)
    with sweeps_over(sqlite_url) as ready:
        ready.prepare(2, high=1, low=1)
        ready.send(CheckpointPinned(trial_id="1", uri=uri_of("1")))
        ready.resume("2")
        ready.store.add_checkpoint(uri_of("2"), NEW)
        ready.send(TrialPaused(trial_id="2", level=3, metric=9.0))
        yield ready


def check_new_one_is_there(sweeps: Sweeps) -> None:
    sweeps.limit("experiments", 9, 9)
    sweeps.sweep(AT_ONCE)
    assert sweeps.store.contents(uri_of("2")) == NEW
    assert (sweeps.checkpoint("2").state, sweeps.checkpoint("2").resource) == ("stored", 3)
    sweeps.check_settled()


def test_the_late_save_brings_its_checkpoint_back_from_the_trash(sweeps: Sweeps) -> None:
    sweeps.sweep(KEEP)
    assert sweeps.store.contents(uri_of("2")) is None
    sweeps.send(LATE_SAVE)
    assert sweeps.types() == ["eviction_decided", "checkpoint_trashed", "checkpoint_restored"]
    check_new_one_is_there(sweeps)


@pytest.mark.parametrize("step", ["before trash", "after trash"])
def test_the_late_save_ends_the_claim_of_a_sweep_that_was_killed(sweeps: Sweeps, step: str) -> None:
    sweeps.store.hook = killing(step)
    with pytest.raises(Killed):
        sweeps.sweep()
    sweeps.store.hook = silent
    sweeps.send(LATE_SAVE)
    assert sweeps.types() == ["eviction_decided", "eviction_cancelled"]
    check_new_one_is_there(sweeps)


def test_the_late_save_of_what_is_being_purged_is_recorded_as_missing(sweeps: Sweeps) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kill_at_record(sweeps, "purge_decided", patch, committed=True)
        with pytest.raises(Killed):
            sweeps.sweep(AT_ONCE)
    sweeps.send(LATE_SAVE)
    assert sweeps.checkpoint("2").state == "missing"
    assert sweeps.resume("2", 3).checkpoint is None
    sweeps.sweep(AT_ONCE)
    sweeps.check_settled()


def test_a_save_that_the_trial_has_written_anew_leaves_the_trash_alone(sweeps: Sweeps) -> None:
    sweeps.sweep(KEEP)
    newest = {"weights": b"m"}
    sweeps.store.add_checkpoint(uri_of("2"), newest)
    sweeps.send(CheckpointSaved(trial_id="2", uri=uri_of("2"), size_bytes=1, resource=3))
    assert sweeps.store.contents(uri_of("2")) == newest
    assert sweeps.store.trash_contents(sweeps.decision().decided.decision_id) == NEW
    sweeps.check_settled(open_decisions=1)


@pytest.fixture
def with_a_late_one(database_url: str) -> Iterator[Sweeps]:
    """Trial 7 runs and has saved at resources 1 and 9, and the word of the first comes after that of the second."""
    create_schema(database_url)
    with sweeps_over(database_url) as ready:
        ready.prepare(1, high=2, low=2)
        ready.send(TrialStarted(trial_id="7"))
        ready.store.add_checkpoint(uri_of("7", "-a"), {"weights": b"w" * SIZE})
        saved = CheckpointSaved(trial_id="7", uri=uri_of("7", "-a"), size_bytes=SIZE, resource=1)
        late = ready.envelope(saved)
        ready.wait(timedelta(seconds=30))
        ready.save("7", "-b", resource=9)
        ready.services.recorder.append([late])
        yield ready


def test_a_save_that_comes_late_is_what_has_been_superseded(with_a_late_one: Sweeps) -> None:
    sweeps = with_a_late_one
    assert sweeps.services.queries.newest_uri("x", "7") == uri_of("7", "-b")
    assert sweeps.sweep(KEEP).tally.evicted == 1
    assert sweeps.decision().decided.uri == uri_of("7", "-a")
    assert sweeps.services.recorder.promised_checkpoint("x", "7") == LoadableCheckpoint(uri_of("7", "-b"), 9)
    sweeps.check_settled(open_decisions=1)


def test_a_save_that_comes_late_is_kept_where_the_later_one_is_gone(with_a_late_one: Sweeps) -> None:
    sweeps = with_a_late_one
    sweeps.store.remove_checkpoint(uri_of("7", "-b"))
    report = sweeps.sweep(AT_ONCE)
    assert f"its trial's checkpoint {uri_of('7', '-b')} is later, and not whole at its place" in report.tally.errors[0]
    assert sweeps.services.recorder.promised_checkpoint("x", "7") == LoadableCheckpoint(uri_of("7", "-a"), 1)
    sweeps.check_settled()


@pytest.mark.parametrize("seconds_after_the_save", [0, 60])
def test_the_place_that_a_running_trial_writes_to_in_its_turn_is_left_alone(
    sweeps: Sweeps, seconds_after_the_save: int
) -> None:
    sweeps.resume("2", 3)
    sweeps.save("2", "-a", resource=4)
    sweeps.save("2", "-b", resource=5)
    # It begins to write to the first of its two places again.
    being_written = sweeps.clock.moment + timedelta(seconds=seconds_after_the_save)
    sweeps.store.add_checkpoint(uri_of("2", "-a"), {"weights": b""}, modified_at=being_written)
    sweeps.send(CheckpointUnpinned(trial_id="1", uri=uri_of("1")))
    sweeps.limit("experiments", 3, 3)
    report = sweeps.sweep(KEEP)
    evicted = sweeps.store.contents(uri_of("2", "-a")) is None
    assert evicted == (seconds_after_the_save == 0)
    # Another goes in its stead.
    assert (report.tally.evicted, report.exceeded) == (1, [])
    assert sweeps.checkpoint("2", "-b").state == "stored"


def test_a_trial_that_is_resumed_during_the_sweep_may_write_to_its_older_places(sweeps: Sweeps) -> None:
    sweeps.resume("2", 3)
    sweeps.save("2", "-b", resource=5)
    sweeps.send(TrialPaused(trial_id="2", level=3, metric=9.0))

    def resume_and_write(step: str, uri: str) -> None:
        if (step, uri) == ("before manifest", uri_of("2")):
            sweeps.store.hook = silent
            sweeps.resume("2", 3)
            later = sweeps.clock.moment + timedelta(seconds=60)
            sweeps.store.add_checkpoint(uri_of("2"), {"weights": b""}, modified_at=later)

    sweeps.store.hook = resume_and_write
    sweeps.limit("experiments", 2, 2)
    assert sweeps.sweep(KEEP).tally.decided == 0
    assert sweeps.store.contents(uri_of("2")) == {"weights": b""}
