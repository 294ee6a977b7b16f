"""What an experiment's events add up to."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from hypothesis import given, settings

from folding import REGISTERED, START, Story, counted, plain, uri_of
from quota.domain.eligibility import objection
from quota.domain.events import (
    CheckpointAdopted,
    CheckpointMissing,
    CheckpointPinned,
    CheckpointSaved,
    CheckpointUnpinned,
    ExperimentFinished,
    LimitRemoved,
    RecordedEvent,
    TrialCompleted,
    TrialFailed,
    TrialPaused,
    TrialReported,
    TrialStopped,
)
from quota.domain.experiment import OVERALL, Checkpoint, ExperimentState
from quota.domain.fold import fold_experiment
from quota.domain.keeping import not_pinned
from stories import EVICTION_KINDS, RECORDER_KINDS, Step, steps, tell


def usage_of(state: ExperimentState) -> dict[str, int]:
    return {name: getattr(state.usage, name) for name in counted(state)}


@given(told=steps(RECORDER_KINDS + EVICTION_KINDS * 3, least=30, most=80))
@settings(max_examples=150)
def test_the_counters_say_what_the_records_say_after_each_event(told: list[Step]) -> None:
    story = Story()
    for step in told:
        tell(story, [step])
        assert usage_of(story.state) == counted(story.state), story.events[-1]
        for trial in story.state.trials.values():
            stored = [uri for uri in story.state.trial_uris.get(trial.trial_id, []) if _is_stored(story.state, uri)]
            assert trial.stored_checkpoints == len(stored)
            may_run = trial.status in {"running", "paused"}
            assert (trial.trial_id in story.state.trials_with_superseded) == (may_run and len(stored) > 1)
            _check_rung_entries(story.state, trial.trial_id, paused_with_one=bool(stored) and trial.status == "paused")


def _is_stored(state: ExperimentState, uri: str) -> bool:
    return state.checkpoints[uri].state == "stored"


def _check_rung_entries(state: ExperimentState, trial_id: str, *, paused_with_one: bool) -> None:
    for rung in state.rungs.values():
        entry = rung.entries.get(trial_id)
        if entry is not None:
            is_here = rung.level == state.trials[trial_id].level
            assert entry.has_checkpoint == (is_here and paused_with_one)
            assert entry.waits == (is_here and state.trials[trial_id].status == "paused")


def test_a_running_trial_counts_as_one_checkpoint_written_or_not() -> None:
    story = Story()
    story.start("1", "2")
    assert story.state.usage.held_checkpoints == 2
    story.save("1")
    assert story.state.usage.held_checkpoints == 2
    story.save("1", "b")
    assert story.state.usage.held_checkpoints == 3
    story.add(TrialPaused(trial_id="1", level=1, metric=0.0))
    assert story.state.usage.held_checkpoints == 3
    story.add(TrialPaused(trial_id="2", level=1, metric=0.0))
    assert story.state.usage.held_checkpoints == 2
    assert story.state.usage.running_trials == 0
    story.add(TrialStopped(trial_id="1"))
    assert story.state.usage.held_checkpoints == 0
    assert story.state.usage.stored_checkpoints == 2


def test_a_newer_checkpoint_supersedes_and_a_resume_loads_the_newest_stored() -> None:
    story = Story()
    story.start("1")
    for place in ("a", "b", "c"):
        story.save("1", place)
    state = story.state
    assert [one.uri for one in state.superseded("1")] == [uri_of("1", "a"), uri_of("1", "b")]
    assert plain(state.newest_stored("1")) == plain(state.checkpoints[uri_of("1", "c")])
    # Written again, a place is the newest.
    story.save("1", "a")
    assert [one.uri for one in state.superseded("1")] == [uri_of("1", "b"), uri_of("1", "c")]
    story.decide("1", "a")
    newest = state.newest_stored("1")
    assert newest is not None
    assert newest.uri == uri_of("1", "c")
    assert state.trials_with_superseded == {"1"}
    story.decide("1", "b")
    assert state.trials_with_superseded == set()
    assert state.superseded("1") == []


def late(story: Story, place: str, resource: int, seconds: int) -> None:
    """Save, so many seconds before the word of it arrives."""
    saved = CheckpointSaved(trial_id="1", uri=uri_of("1", place), size_bytes=10, resource=resource)
    story.add(saved, shift=timedelta(seconds=-seconds))


def places(checkpoints: list[Checkpoint]) -> list[str]:
    return [one.uri.removeprefix(uri_of("1").removesuffix("/")).removesuffix("/") for one in checkpoints]


def in_state(story: Story) -> list[str]:
    return places([story.state.checkpoints[uri] for uri in story.state.trial_uris["1"]])


def with_two_saved() -> Story:
    """Save at 3 and 5 seconds, with resources 3 and 9, what arrives at once."""
    story = Story()
    story.start("1")
    story.save("1", "a", resource=3)
    story.add(TrialReported(trial_id="1", resource=9, metric=0.5))
    story.save("1", "b", resource=9)
    return story


def test_a_save_that_comes_late_is_not_the_newest() -> None:
    story = with_two_saved()
    late(story, "late", 1, seconds=4)
    assert in_state(story) == ["late", "a", "b"]
    late(story, "between", 5, seconds=3)
    assert in_state(story) == ["late", "a", "between", "b"]
    assert places(story.state.superseded("1")) == ["late", "a", "between"]
    story.add(TrialPaused(trial_id="1", level=9, metric=0.5))
    story.resume("1", 9)
    assert story.state.trials["1"].promised_uri == uri_of("1", "b")


def test_a_trial_that_starts_anew_saves_less_resource_and_supersedes_what_it_had() -> None:
    story = with_two_saved()
    story.save("1", "anew", resource=1)
    assert in_state(story) == ["a", "b", "anew"]
    assert places(story.state.superseded("1")) == ["a", "b"]


@pytest.mark.parametrize("resource", [9, 12])
def test_what_the_time_and_the_resource_contradict_supersedes_nothing_later(resource: int) -> None:
    story = with_two_saved()
    # Its host's clock is behind, or it was saved before and is late.
    late(story, "doubtful", resource, seconds=2)
    assert in_state(story) == ["a", "b", "doubtful"]
    assert places(story.state.superseded("1")) == ["a"]
    state = story.state
    doubtful, b = (state.checkpoints[uri_of("1", place)] for place in ("doubtful", "b"))
    assert state.successor_of(b) is None
    assert objection(state, b.uri, b.saved_position, "superseded", not_pinned) == "needed"
    # What is saved next settles that.
    story.save("1", "c", resource=13)
    assert places(story.state.superseded("1")) == ["a", "b", "doubtful"]
    assert plain(state.successor_of(doubtful)) == plain(state.checkpoints[uri_of("1", "c")])


def test_a_late_save_to_a_place_that_was_written_to_since_changes_nothing() -> None:
    story = with_two_saved()
    before = plain(story.state.checkpoints)
    late(story, "b", 2, seconds=2)
    assert plain(story.state.checkpoints) == before
    assert in_state(story) == ["a", "b"]
    assert story.flags() == ["late_save"]


def test_a_time_that_cannot_be_right_makes_no_save_late() -> None:
    story = with_two_saved()
    late(story, "odd", 1, seconds=500)
    assert in_state(story) == ["a", "b", "odd"]
    assert story.flags() == ["time_before_registration"]


@pytest.mark.parametrize(
    ("survives", "lost", "without"),
    [(None, 9, 1), (1, 8, 0), (3, 6, 0), (9, 0, 0), (12, 0, 0)],
)
def test_a_resume_loses_what_its_checkpoint_does_not_hold(survives: int | None, lost: int, without: int) -> None:
    story = Story()
    story.start("1")
    if survives is not None:
        story.save("1", "old", resource=survives)
    story.pause("1", 9)
    decision_id = story.decide("1")
    story.trash(decision_id)
    story.resume("1", 9)
    experiment, trial = story.state.registered, story.state.trials["1"]
    assert (experiment.lost_resource, trial.lost_resource) == (lost, lost)
    assert experiment.trials_resumed_without_checkpoint == without
    assert (experiment.trials_resumed, trial.resumes, trial.status) == (1, 1, "running")
    assert story.state.rungs[9].entries["1"].promoted


def test_what_is_resumed_with_its_checkpoint_has_lost_nothing() -> None:
    story = Story()
    story.start("1")
    story.pause("1", 3)
    story.resume("1", 3)
    assert story.state.registered.lost_resource == 0
    assert story.state.registered.trials_resumed_without_checkpoint == 0


def test_each_report_at_a_rung_is_compared_with_those_paused_there_with_a_checkpoint() -> None:
    story = Story()
    story.start("1", "2", "3", "4")
    story.pause("1", metric=0.5)
    story.pause("2", metric=0.7)
    story.add(TrialPaused(trial_id="3", level=1, metric=0.1))
    story.report("4", 1, 0.5)
    estimators = story.state.estimators
    # "3" has no checkpoint; equal counts as better.
    assert plain(estimators[1]) == plain(estimators[OVERALL]) == {"ones": 2, "total": 2}
    story.report("4", 1, 0.6)
    assert plain(estimators[1]) == {"ones": 3, "total": 4}
    story.report("4", 2, 0.1)
    assert plain(estimators[1]) == {"ones": 3, "total": 4}
    story.trash(story.decide("1"))
    story.report("4", 1, 0.6)
    assert plain(estimators[1]) == plain(estimators[OVERALL]) == {"ones": 4, "total": 5}
    assert plain(estimators[3]) == {"ones": 0, "total": 0}


def test_a_diverged_report_is_worse_than_all_finite_ones() -> None:
    story = Story()
    story.start("1", "2", "3")
    story.pause("1", metric=1e300)
    story.pause("2", metric=math.nan)
    story.report("3", 1, math.inf)
    assert plain(story.state.estimators[1]) == {"ones": 1, "total": 2}


class TestDecision:
    def told(self) -> tuple[Story, str]:
        story = Story()
        story.start("1")
        story.pause("1", size_bytes=10)
        return story, story.decide("1", size_bytes=12)

    def state_of(self, story: Story) -> str:
        return story.state.checkpoints[uri_of("1")].state

    def test_runs_from_claimed_to_purged(self) -> None:
        story, decision_id = self.told()
        usage, decision = story.state.usage, story.state.decisions[decision_id]
        # What the manifest found is what counts.
        assert (usage.claimed_checkpoints, usage.claimed_bytes, usage.held_checkpoints) == (1, 12, 0)
        assert self.state_of(story) == decision.outcome == "claimed"
        story.trash(decision_id)
        assert (usage.claimed_bytes, usage.trashed_checkpoints, usage.trashed_bytes) == (0, 1, 12)
        assert story.state.registered.checkpoints_evicted == 1
        story.decide_purge(decision_id)
        assert (usage.trashed_bytes, usage.freed_bytes, decision.outcome) == (12, 0, "purging")
        assert self.state_of(story) == "purging"
        story.end_purge(decision_id, freed_bytes=12)
        assert (usage.trashed_checkpoints, usage.trashed_bytes, usage.freed_bytes) == (0, 0, 12)
        assert self.state_of(story) == decision.outcome == "purged"
        assert (decision.freed_bytes, decision.is_open) == (12, False)
        assert story.state.decisions == {}
        assert story.state.touched.decisions == {decision_id: decision}

    def test_restored_is_as_if_it_had_not_been(self) -> None:
        story, decision_id = self.told()
        story.trash(decision_id)
        story.restore(decision_id)
        assert (self.state_of(story), story.state.decisions) == ("stored", {})
        assert story.state.checkpoints[uri_of("1")].decision_id is None
        assert (story.state.usage.held_checkpoints, story.state.usage.trashed_bytes) == (1, 0)
        assert story.state.rungs[1].entries["1"].has_checkpoint

    @pytest.mark.parametrize("reason", ["resumed", "pinned", "missing"])
    def test_cancelled_frees_the_checkpoint_unless_it_is_missing(self, reason: str) -> None:
        story, decision_id = self.told()
        story.cancel(decision_id, reason)  # type: ignore[arg-type]
        assert self.state_of(story) == ("missing" if reason == "missing" else "stored")
        ended = story.state.touched.decisions[decision_id]
        assert (ended.outcome, ended.error) == ("cancelled", reason)

    def test_refused_by_the_store_frees_the_checkpoint_and_counts_against_it(self) -> None:
        story, decision_id = self.told()
        story.fail(decision_id)
        checkpoint = story.state.checkpoints[uri_of("1")]
        assert (checkpoint.state, checkpoint.failures, checkpoint.decision_id) == ("stored", 1, None)
        assert checkpoint.failed_at == story.events[-1].occurred_at
        assert story.state.touched.decisions[decision_id].outcome == "failed"
        story.fail(story.decide("1"))
        assert checkpoint.failures == 2
        # A new checkpoint at the place is another one: nothing was refused about it yet.
        story.save("1")
        assert (checkpoint.failures, checkpoint.failed_at) == (0, None)

    @pytest.mark.parametrize("purging", [False, True])
    def test_whose_purge_is_refused_stays_open(self, *, purging: bool) -> None:
        story, decision_id = self.told()
        story.trash(decision_id)
        if purging:
            story.decide_purge(decision_id)
        story.fail(decision_id, "purge")
        decision = story.state.decisions[decision_id]
        assert (decision.outcome, decision.failures) == ("purging" if purging else "trashed", 1)
        assert story.state.usage.trashed_bytes == 12
        story.purge(decision_id, 12) if not purging else story.end_purge(decision_id, 12)
        assert story.state.usage.trashed_bytes == 0

    @pytest.mark.parametrize("saved_when", ["claimed", "trashed", "purging"])
    @pytest.mark.parametrize("size_bytes", [3, 12, 500])
    def test_goes_on_alone_once_the_trial_saves_again_to_its_place(self, saved_when: str, size_bytes: int) -> None:
        story, decision_id = self.told()
        usage = story.state.usage
        for stage, go_on in (("claimed", story.trash), ("trashed", story.decide_purge), ("purging", story.end_purge)):
            if saved_when == stage:
                story.save("1", size_bytes=size_bytes)
            if saved_when == stage == "claimed":
                assert usage.claimed_bytes == 0
            go_on(decision_id)
            assert usage_of(story.state) == counted(story.state)
        checkpoint = story.state.checkpoints[uri_of("1")]
        assert (checkpoint.state, checkpoint.size_bytes, checkpoint.decision_id) == ("stored", size_bytes, None)
        assert (usage.stored_bytes, usage.trashed_bytes, usage.claimed_bytes) == (size_bytes, 0, 0)
        assert story.state.touched.decisions[decision_id].outcome == "purged"

    def test_cancelled_or_refused_after_that_leaves_the_new_checkpoint_alone(self) -> None:
        for end in ("cancel", "fail"):
            story, decision_id = self.told()
            story.save("1", size_bytes=77)
            getattr(story, end)(decision_id)
            checkpoint = story.state.checkpoints[uri_of("1")]
            assert (checkpoint.state, checkpoint.failures, checkpoint.size_bytes) == ("stored", 0, 77)
            assert usage_of(story.state) == counted(story.state)

    def test_of_the_old_and_of_the_new_at_one_place_run_side_by_side(self) -> None:
        story, first = self.told()
        story.trash(first)
        story.save("1", size_bytes=30)
        second = story.decide("1")
        assert story.state.usage.trashed_bytes == 12
        assert story.state.usage.claimed_bytes == 30
        story.trash(second)
        assert (story.state.usage.trashed_checkpoints, story.state.usage.trashed_bytes) == (2, 42)
        story.purge(first, 12)
        assert (story.state.usage.trashed_checkpoints, story.state.usage.trashed_bytes) == (1, 30)
        assert self.state_of(story) == "trashed"
        story.restore(second)
        assert (self.state_of(story), story.state.usage.trashed_bytes) == ("stored", 0)


class TestCheckpoint:
    def test_pinned_until_it_is_unpinned(self) -> None:
        story = Story()
        story.start("1")
        story.save("1")
        checkpoint = story.state.checkpoints[uri_of("1")]
        story.add(CheckpointPinned(trial_id="1", uri=uri_of("1")))
        assert checkpoint.pinned
        story.save("1")
        assert checkpoint.pinned
        story.add(CheckpointUnpinned(trial_id="1", uri=uri_of("1")))
        assert not checkpoint.pinned

    def test_missing_no_longer_counts_and_comes_back_when_saved(self) -> None:
        story = Story()
        story.start("1")
        story.pause("1")
        story.add(CheckpointMissing(trial_id="1", uri=uri_of("1")))
        assert story.state.usage.held_checkpoints == 0
        assert story.state.newest_stored("1") is None
        story.add(CheckpointMissing(trial_id="1", uri=uri_of("1")))
        assert story.flags() == ["gone_before"]
        story.save("1")
        assert story.state.usage.held_checkpoints == 1

    def test_missing_while_claimed_leaves_the_claim_to_its_sweep(self) -> None:
        story = Story()
        story.start("1")
        story.pause("1")
        decision_id = story.decide("1")
        story.add(CheckpointMissing(trial_id="1", uri=uri_of("1")))
        assert story.flags() == ["gone_while_claimed"]
        assert story.state.checkpoints[uri_of("1")].decision_id == decision_id
        assert story.state.usage.claimed_checkpoints == 1
        story.cancel(decision_id, "missing")
        assert story.state.checkpoints[uri_of("1")].state == "missing"
        assert usage_of(story.state) == counted(story.state)

    def test_adopted_counts_like_a_saved_one(self) -> None:
        story = Story()
        story.start("1")
        story.add(CheckpointAdopted(trial_id="1", uri=uri_of("1"), size_bytes=5, resource=3))
        assert (story.state.usage.stored_bytes, story.state.usage.stored_checkpoints) == (5, 1)


class TestFlags:
    def test_late_and_repeated_events_have_no_effect(self) -> None:
        story = Story()
        story.start("1", "2")
        story.pause("1", metric=0.5)
        story.add(TrialStopped(trial_id="2"))
        before = plain([story.state.trials, story.state.estimators, story.state.usage, story.state.experiment])
        story.report("1", 1, 0.1)
        story.report("2", 1, 0.1)
        story.add(TrialCompleted(trial_id="2"))
        story.add(TrialFailed(trial_id="2", error="late"))
        story.add(REGISTERED)
        after = plain([story.state.trials, story.state.estimators, story.state.usage, story.state.experiment])
        assert after == before
        assert story.flags() == ["late_report"] * 2 + ["ended_before"] * 2 + ["registered_before"]
        first = story.add(ExperimentFinished())
        story.add(ExperimentFinished())
        assert story.flags()[-1] == "finished_before"
        assert story.state.registered.finished_at == first.occurred_at

    def test_a_time_that_cannot_be_right_is_flagged_and_the_event_counts(self) -> None:
        story = Story()
        story.start("1")
        story.add(CheckpointAdopted(trial_id="1", uri=uri_of("1"), size_bytes=1, resource=1), shift=timedelta(days=1))
        assert story.flags() == ["time_in_future"]
        story.seconds += 100
        story.add(TrialPaused(trial_id="1", level=1, metric=1.0), shift=timedelta(seconds=-102.5))
        story.add(TrialStopped(trial_id="1"), shift=timedelta(seconds=-1000))
        assert story.flags() == ["time_in_future", "time_before_start", "time_before_registration"]
        assert story.state.trials["1"].status == "stopped"
        assert [position for position, _ in story.state.touched.flags] == [3, 4, 5]

    def test_an_experiment_does_not_begin_in_the_future(self) -> None:
        state = ExperimentState("x")
        recorded = RecordedEvent(
            event_id="0" * 8,
            experiment_id="x",
            position=1,
            occurred_at=START + timedelta(days=2),
            recorded_at=START,
            actor="tester",
            payload=REGISTERED,
        )
        fold_experiment(state, recorded)
        assert state.registered.started_at == START
        assert state.touched.flags == [(1, "time_in_future")]


def test_events_are_taken_in_their_order_only() -> None:
    story = Story()
    with pytest.raises(ValueError, match="event 1 cannot follow event 1"):
        fold_experiment(story.state, story.events[0])
    assert story.state.position == 1


def test_an_event_of_another_kind_of_stream_is_refused() -> None:
    with pytest.raises(KeyError):
        Story().add(LimitRemoved(scope="experiments", measure="checkpoints"))
