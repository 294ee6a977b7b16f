"""What a resumed trial was told to load stays where it is until it pauses again, whatever comes back meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from quota.domain.eligibility import objection
from quota.domain.events import (
    CheckpointMissing,
    CheckpointPinned,
    CheckpointSaved,
    TrialPaused,
    TrialResumed,
    TrialStarted,
    TrialStopped,
)
from quota.domain.keeping import not_pinned
from quota.errors import StateRefused
from quota.services.recording import LoadableCheckpoint
from support import create_schema
from sweeps import AT_ONCE, DAY, KEEP, SIZE, Killed, Sweeps, killing, refusing, silent, sweeps_over, uri_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quota.domain.events import NewEvent

OLDER = LoadableCheckpoint(uri_of("2"), 1)
NEWER = LoadableCheckpoint(uri_of("2", "-later"), 3)


@pytest.fixture
def sweeps(database_url: str) -> Iterator[Sweeps]:
    create_schema(database_url)
    with sweeps_over(database_url) as ready:
        ready.prepare(2, high=9, low=9)
        ready.send(CheckpointPinned(trial_id="1", uri=uri_of("1")))
        ready.resume("2")
        ready.save("2", "-later", resource=3)
        ready.send(TrialPaused(trial_id="2", level=3, metric=0.5))
        yield ready


def resumption(sweeps: Sweeps) -> NewEvent:
    return sweeps.envelope(TrialResumed(trial_id="2", level=3))


def resumed_with_the_older(sweeps: Sweeps) -> NewEvent:
    """Evict the newer one alone, and resume while the store does not give it back."""
    sweeps.store.hook = refusing("before manifest", uri_of("2"))
    sweeps.limit("experiments", 2, 2)
    sweeps.sweep(KEEP)
    sweeps.store.hook = refusing("before restore")
    event = resumption(sweeps)
    assert sweeps.services.recorder.resume_trial(event).checkpoint == OLDER
    sweeps.store.hook = silent
    return event


def test_the_older_one_is_kept_while_it_is_loaded_though_the_newer_is_back(sweeps: Sweeps) -> None:
    event = resumed_with_the_older(sweeps)
    sweeps.services.restorer.restore(sweeps.decision().decided.decision_id)
    assert {one.state for one in sweeps.state().checkpoints.values()} == {"stored"}
    sweeps.limit("experiments", 1, 1)
    sweeps.wait(DAY)
    with sweeps.services.sweeper.running(KEEP) as run:
        (plan,) = run.plan("x")
    assert plan.scored == ()
    state = sweeps.state()
    assert (
        objection(state, OLDER.uri, state.checkpoints[OLDER.uri].saved_position, "superseded", not_pinned) == "resumed"
    )
    assert sweeps.sweep(AT_ONCE).tally.decided == 0
    assert sweeps.services.recorder.resume_trial(event).checkpoint == OLDER
    # Once the trial pauses again, it is one among others.
    sweeps.send(TrialPaused(trial_id="2", level=3, metric=0.5))
    assert sweeps.sweep(AT_ONCE).tally.decided == 2


def test_a_claim_on_the_promised_one_is_given_up(sweeps: Sweeps) -> None:
    sweeps.limit("experiments", 2, 2)
    sweeps.store.hook = killing("before trash")
    with pytest.raises(Killed):
        sweeps.sweep()
    sweeps.store.hook = silent
    assert sweeps.decision().decided.uri == uri_of("2")
    # The newer one is lost, so the resume rescues the claimed older one; then the newer one is found again.
    newer = {"trial_id": "2", "uri": NEWER.uri}
    sweeps.send(CheckpointMissing(**newer))
    assert sweeps.resume("2", 3).checkpoint == OLDER
    sweeps.send(CheckpointSaved(**newer, size_bytes=SIZE, resource=3))
    sweeps.limit("experiments", 1, 1)
    assert sweeps.sweep(AT_ONCE).tally.decided == 0
    assert sweeps.store.contents(uri_of("2")) is not None


@pytest.mark.parametrize("ends", [TrialPaused(trial_id="2", level=3, metric=0.1), TrialStopped(trial_id="2")])
def test_a_resume_sent_again_after_its_promise_has_ended_is_refused(
    sweeps: Sweeps, ends: TrialPaused | TrialStopped
) -> None:
    event = resumption(sweeps)
    assert sweeps.services.recorder.resume_trial(event).checkpoint == NEWER
    assert sweeps.services.recorder.resume_trial(event).checkpoint == NEWER
    sweeps.send(ends)
    status = "paused" if isinstance(ends, TrialPaused) else "stopped"
    with pytest.raises(StateRefused, match=f"the trial has gone on since .it is {status}.; send a new one"):
        sweeps.services.recorder.resume_trial(event)


def test_a_promised_one_that_the_tuner_lost_is_not_promised_again(sweeps: Sweeps) -> None:
    event = resumption(sweeps)
    sweeps.services.recorder.resume_trial(event)
    sweeps.send(CheckpointMissing(trial_id="2", uri=NEWER.uri))
    assert sweeps.services.recorder.resume_trial(event).checkpoint is None


def test_what_is_gone_from_the_disk_is_not_promised(sweeps: Sweeps) -> None:
    sweeps.store.remove_checkpoint(NEWER.uri)
    assert sweeps.resume("2", 3).checkpoint == OLDER
    assert sweeps.checkpoint("2", "-later").state == "missing"
    assert sweeps.state().registered.lost_resource == 2
    sweeps.check_settled()


def test_where_nothing_is_left_the_trial_starts_from_scratch(sweeps: Sweeps) -> None:
    sweeps.store.remove_checkpoint(NEWER.uri)
    sweeps.store.remove_checkpoint(OLDER.uri)
    assert sweeps.resume("2", 3).checkpoint is None
    assert sweeps.state().registered.trials_resumed_without_checkpoint == 1
    sweeps.check_settled()


def test_a_store_that_cannot_be_seen_does_not_make_a_checkpoint_missing(sweeps: Sweeps) -> None:
    sweeps.store.hook = refusing("before manifest")
    assert sweeps.resume("2", 3).checkpoint == NEWER
    sweeps.store.hook = silent
    sweeps.check_settled()


def test_a_promise_can_be_asked_for_again(sweeps: Sweeps) -> None:
    again = sweeps.services.recorder.promised_checkpoint
    with pytest.raises(StateRefused, match="it does not run, so nothing is kept for it"):
        again("x", "2")
    sweeps.resume("2", 3)
    assert again("x", "2") == NEWER
    sweeps.send(TrialStopped(trial_id="2"))
    for trial_id in ("2", "no such trial"):
        with pytest.raises(StateRefused, match="it does not run, so nothing is kept for it"):
            again("x", trial_id)


def test_a_tuner_that_was_killed_goes_on_with_what_its_trial_saved_last(sweeps: Sweeps) -> None:
    again = sweeps.services.recorder.promised_checkpoint
    sweeps.resume("2", 3)
    sweeps.save("2", "-latest", resource=7)
    assert again("x", "2") == LoadableCheckpoint(uri_of("2", "-latest"), 7)
    # What was promised is kept all the same, and is what there is once the latest is lost.
    sweeps.store.remove_checkpoint(uri_of("2", "-latest"))
    assert again("x", "2") == NEWER
    sweeps.check_settled()


def test_a_trial_that_was_never_paused_goes_on_too(sweeps: Sweeps) -> None:
    again = sweeps.services.recorder.promised_checkpoint
    sweeps.send(TrialStarted(trial_id="7"))
    assert again("x", "7") is None
    sweeps.save("7", resource=1)
    sweeps.save("7", "-b", resource=2)
    assert again("x", "7") == LoadableCheckpoint(uri_of("7", "-b"), 2)
    sweeps.store.remove_checkpoint(uri_of("7", "-b"))
    assert again("x", "7") == LoadableCheckpoint(uri_of("7"), 1)


def test_what_was_superseded_comes_back_for_a_running_trial_whose_later_one_is_gone(sweeps: Sweeps) -> None:
    sweeps.send(TrialStarted(trial_id="7"))
    sweeps.save("7", "-a", resource=1)
    sweeps.save("7", "-b", resource=2)
    sweeps.limit("experiments", 4, 4)
    sweeps.send(CheckpointPinned(trial_id="2", uri=OLDER.uri))
    sweeps.sweep(KEEP)
    assert sweeps.decision().decided.uri == uri_of("7", "-a")
    sweeps.store.remove_checkpoint(uri_of("7", "-b"))
    promised = sweeps.services.recorder.promised_checkpoint("x", "7")
    assert promised == LoadableCheckpoint(uri_of("7", "-a"), 1)
    sweeps.limit("experiments", 1, 1)
    sweeps.sweep(AT_ONCE)
    assert sweeps.store.contents(uri_of("7", "-a")) is not None
    sweeps.check_settled()


def test_a_checkpoint_of_which_only_directories_are_left_is_missing(sweeps: Sweeps) -> None:
    sweeps.store.add_checkpoint(NEWER.uri, {})
    assert sweeps.resume("2", 3).checkpoint == OLDER
    assert sweeps.state().checkpoints[NEWER.uri].state == "missing"
