"""What changes between a plan and its claim, or between a claim and its move, is seen in time."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from quota.domain.events import (
    CheckpointMissing,
    CheckpointPinned,
    CheckpointSaved,
    Event,
    ExperimentFinished,
    PolicyParameters,
    TrialCompleted,
    TrialFailed,
    TrialPaused,
    TrialResumed,
    TrialStarted,
    TrialStopped,
)
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.domain.manifest import LARGEST_BYTES, Manifest, ManifestEntry
from quota.services.recording import LoadableCheckpoint
from quota.services.sweep_order import SweepOrder
from quota.testing.memory_store import MemoryStore
from support import create_schema
from sweeps import AT_ONCE, DAY, KEEP, SIZE, Killed, Sweeps, killing, refusing, silent, sweeps_over, uri_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def sweeps(sqlite_url: str) -> Iterator[Sweeps]:
    create_schema(sqlite_url)
    with sweeps_over(sqlite_url) as ready:
        yield ready


def once(step: str, act: Callable[[], None]) -> Callable[[str, str], None]:
    """Do something when the store first comes to `step`."""
    done: list[str] = []

    def hook(now: str, about: str) -> None:
        if now == step and not done:
            done.append(about)
            act()

    return hook


def killed_sweep(sweeps: Sweeps, step: str) -> None:
    sweeps.store.hook = killing(step)
    with pytest.raises(Killed):
        sweeps.sweep(KEEP)
    sweeps.store.hook = silent


SYNE_TUNE = SweepOrder(PolicyParameters(), timedelta())
ENDS = [TrialCompleted(trial_id="2"), TrialStopped(trial_id="2"), TrialFailed(trial_id="2")]


@pytest.mark.parametrize("end", ENDS)
def test_a_trial_that_ends_while_the_plan_is_listed_keeps_its_checkpoint(sweeps: Sweeps, end: Event) -> None:
    sweeps.prepare(3, high=1, low=1)
    sweeps.store.hook = once("before manifest", lambda: sweeps.send(end))
    report = sweeps.sweep(AT_ONCE)
    assert report.tally.decided == 1
    assert sweeps.store.contents(uri_of("2")) is not None
    assert sweeps.checkpoint("2").state == "stored"
    sweeps.check_settled()


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("step", ["before trash", "after trash"])
def test_a_trial_that_ends_while_it_is_claimed_keeps_its_checkpoint(sweeps: Sweeps, end: Event, step: str) -> None:
    sweeps.prepare(2, high=1, low=1)
    killed_sweep(sweeps, step)
    sweeps.send(end)
    report = sweeps.sweep(AT_ONCE)
    assert (report.tally.cancelled, report.tally.purged) == (1, 0)
    assert sweeps.store.contents(uri_of("2")) is not None
    sweeps.check_settled()


def test_no_more_is_claimed_than_the_limit_still_asks_for(sweeps: Sweeps) -> None:
    sweeps.prepare(6, high=5, low=3)
    ended = [TrialStopped(trial_id=trial_id) for trial_id in ("1", "2")]
    sweeps.store.hook = once("before manifest", lambda: sweeps.send(*ended))
    assert sweeps.sweep(AT_ONCE).tally.decided == 1
    assert sweeps.state().usage.held_checkpoints == 3
    sweeps.check_settled()


@pytest.mark.parametrize(("high", "low", "evicted"), [(None, None, 0), (6, 6, 0), (4, 4, 2), (1, 1, 5)])
def test_a_limit_that_is_changed_while_the_plan_is_listed_counts_as_it_is_then(
    sweeps: Sweeps, high: int | None, low: int | None, evicted: int
) -> None:
    sweeps.prepare(6, high=5, low=3)

    def change() -> None:
        if high is None or low is None:
            sweeps.services.administration.remove_limit("experiments")
        else:
            sweeps.limit("experiments", high, low)

    sweeps.store.hook = once("before manifest", change)
    report = sweeps.sweep(AT_ONCE)
    assert (report.tally.decided, report.exceeded) == (evicted, [])
    decided = [event.payload for event in sweeps.events() if event.payload.TYPE == "eviction_decided"]
    assert {getattr(one, "limit_high", None) for one in decided} <= {high}
    sweeps.check_settled()


def with_two_places(sweeps: Sweeps) -> None:
    """Let trial 2 be paused with an older checkpoint and a newer one."""
    sweeps.prepare(2, high=9, low=9)
    sweeps.resume("2")
    sweeps.save("2", "-later", resource=3)
    sweeps.send(TrialPaused(trial_id="2", level=3, metric=0.5))


@pytest.mark.parametrize("step", ["before manifest", "before trash", "after trash"])
def test_what_is_superseded_no_more_is_not_taken_as_such(sweeps: Sweeps, step: str) -> None:
    with_two_places(sweeps)
    sweeps.limit("experiments", 2, 2)
    newer = CheckpointMissing(trial_id="2", uri=uri_of("2", "-later"))

    def lose_the_newer() -> None:
        sweeps.store.remove_checkpoint(newer.uri)
        sweeps.send(newer)

    if step == "before manifest":
        sweeps.store.hook = once(step, lose_the_newer)
    else:
        killed_sweep(sweeps, step)
        lose_the_newer()
    sweeps.sweep(AT_ONCE)
    assert sweeps.store.contents(uri_of("2")) is not None
    assert sweeps.resume("2", 3).checkpoint == LoadableCheckpoint(uri_of("2"), 1)
    sweeps.check_settled()


@pytest.mark.parametrize("left", ["nothing", "directories"])
@pytest.mark.parametrize("step", ["before trash", "after trash"])
def test_what_has_superseded_it_is_looked_at_again_before_a_claim_is_settled(
    sweeps: Sweeps, step: str, left: str
) -> None:
    with_two_places(sweeps)
    sweeps.limit("experiments", 2, 2)
    killed_sweep(sweeps, step)
    sweeps.store.remove_checkpoint(uri_of("2", "-later"))
    if left == "directories":
        sweeps.store.add_checkpoint(uri_of("2", "-later"), {})
    sweeps.sweep(AT_ONCE)
    assert sweeps.store.contents(uri_of("2")) is not None
    assert "eviction_cancelled" in sweeps.types()
    assert sweeps.resume("2", 3).checkpoint == LoadableCheckpoint(uri_of("2"), 1)
    sweeps.check_settled()


def test_what_has_superseded_it_may_be_claimed_too_but_not_be_gone(sweeps: Sweeps) -> None:
    with_two_places(sweeps)
    sweeps.limit("experiments", 1, 1)
    sweeps.send(CheckpointPinned(trial_id="1", uri=uri_of("1")))
    killed_sweep(sweeps, "before trash")
    assert [one.state for one in sweeps.state().checkpoints.values()].count("claimed") == 2
    sweeps.store.remove_checkpoint(uri_of("2", "-later"))
    sweeps.sweep(KEEP)
    cancelled = [event.payload for event in sweeps.events() if event.payload.TYPE == "eviction_cancelled"]
    assert [getattr(one, "reason", None) for one in cancelled] == ["needed", "missing"]
    # It is the trial's last now, and goes as that.
    assert sweeps.decision().decided.reason == "paused"
    sweeps.check_settled(open_decisions=1)


def test_a_successor_in_a_store_that_cannot_be_read_is_taken_to_be_there(sweeps: Sweeps) -> None:
    with_two_places(sweeps)
    sweeps.limit("experiments", 2, 2)
    killed_sweep(sweeps, "before trash")
    sweeps.store.hook = refusing("before manifest", "-later")
    assert sweeps.sweep(AT_ONCE).tally.purged == 1
    sweeps.store.hook = silent
    sweeps.check_settled()


@pytest.mark.parametrize("ends", [False, True])
def test_what_was_superseded_comes_back_where_its_successor_is_missing(sweeps: Sweeps, *, ends: bool) -> None:
    with_two_places(sweeps)
    sweeps.limit("experiments", 2, 2)
    sweeps.sweep(KEEP)
    sweeps.store.remove_checkpoint(uri_of("2", "-later"))
    sweeps.send(CheckpointMissing(trial_id="2", uri=uri_of("2", "-later")))
    if ends:
        sweeps.send(TrialStopped(trial_id="2"))
    sweeps.sweep(AT_ONCE)
    assert (sweeps.store.contents(uri_of("2")) is None) == ends
    assert sweeps.checkpoint("2").state == ("purged" if ends else "stored")
    sweeps.check_settled()


def test_both_of_a_trial_s_checkpoints_can_go_in_one_sweep(sweeps: Sweeps) -> None:
    with_two_places(sweeps)
    sweeps.limit("experiments", 1, 1)
    sweeps.send(CheckpointPinned(trial_id="1", uri=uri_of("1")))
    assert sweeps.sweep(AT_ONCE).tally.purged == 2
    sweeps.check_settled()


def test_what_is_called_missing_while_a_killed_sweep_has_it_is_not_lost(sweeps: Sweeps) -> None:
    sweeps.prepare(2, high=1, low=1)
    killed_sweep(sweeps, "after trash")
    sweeps.send(CheckpointMissing(trial_id="2", uri=uri_of("2")))
    assert sweeps.resume("2").checkpoint == LoadableCheckpoint(uri_of("2"), 1)
    assert sweeps.store.contents(uri_of("2")) is not None


def test_what_is_missing_indeed_is_said_to_be_so_by_the_next_sweep(sweeps: Sweeps) -> None:
    sweeps.prepare(2, high=1, low=1)
    killed_sweep(sweeps, "before trash")
    sweeps.store.remove_checkpoint(uri_of("2"))
    sweeps.send(CheckpointMissing(trial_id="2", uri=uri_of("2")))
    sweeps.sweep(KEEP)
    assert sweeps.checkpoint("2").state == "missing"
    sweeps.check_settled()


def test_a_resume_that_is_appended_brings_the_checkpoint_back(sweeps: Sweeps) -> None:
    sweeps.prepare(2, high=1, low=1)
    sweeps.sweep(KEEP)
    assert sweeps.store.contents(uri_of("2")) is None
    sweeps.send(TrialResumed(trial_id="2", level=1))
    assert sweeps.services.recorder.promised_checkpoint("x", "2") == LoadableCheckpoint(uri_of("2"), 1)
    sweeps.wait(DAY)
    sweeps.sweep(AT_ONCE)
    assert sweeps.store.contents(uri_of("2")) is not None


def test_a_resume_that_is_appended_looks_no_further_than_what_is_stored(sweeps: Sweeps) -> None:
    with_two_places(sweeps)
    sweeps.limit("experiments", 2, 2)
    sweeps.sweep(KEEP)
    assert sweeps.checkpoint("2").state == "trashed"
    sweeps.send(TrialResumed(trial_id="2", level=3))
    assert sweeps.checkpoint("2").state == "trashed"
    promised = sweeps.services.recorder.promised_checkpoint("x", "2")
    assert promised == LoadableCheckpoint(uri_of("2", "-later"), 3)


def test_what_is_pinned_and_was_not_given_back_at_once_is_given_back_later(sweeps: Sweeps) -> None:
    sweeps.prepare(2, high=1, low=1)
    killed_sweep(sweeps, "after trash")
    sweeps.send(CheckpointPinned(trial_id="2", uri=uri_of("2")))
    sweeps.store.hook = refusing("before restore")
    sweeps.sweep(AT_ONCE)
    assert sweeps.checkpoint("2").state == "trashed"
    sweeps.store.hook = silent
    sweeps.sweep(AT_ONCE)
    assert sweeps.checkpoint("2").state == "stored"
    sweeps.check_settled()


def test_a_purge_that_would_be_refused_is_not_begun(sweeps: Sweeps) -> None:
    sweeps.prepare(2, high=1, low=1)
    sweeps.sweep(KEEP)
    decision_id = sweeps.decision().decided.decision_id
    as_it_was = sweeps.store.trash_contents(decision_id)
    add_stranger(sweeps.store, decision_id)
    report = sweeps.sweep(AT_ONCE)
    assert (report.tally.failed, report.tally.purged) == (1, 0)
    assert "stranger" in report.tally.errors[0]
    assert sweeps.decision().outcome == "trashed"
    sweeps.services.restorer.restore(decision_id)
    assert sweeps.store.contents(uri_of("2")) == {**(as_it_was or {}), "stranger": b"late"}


def add_stranger(store: MemoryStore, decision_id: str) -> None:
    """Write into the trash, as a trial may that kept a file open."""
    other = MemoryStore("memory://store/")
    other.add_checkpoint("memory://store/other/", {"stranger": b"late"})
    other.trash("memory://store/other/", "other", other.manifest("memory://store/other/"))
    store._trash[decision_id] |= other._trash["other"]  # noqa: SLF001 - nothing in the product writes there


def test_a_save_dated_ahead_does_not_hide_what_is_written_later(sweeps: Sweeps) -> None:
    sweeps.prepare(1, high=1, low=1)
    sweeps.resume("1")
    now = sweeps.services.clock.now()
    ahead = sweeps.envelope(CheckpointSaved(trial_id="1", uri=uri_of("1", "-a"), size_bytes=SIZE, resource=2))
    sweeps.store.add_checkpoint(uri_of("1", "-a"), {"weights": b"w" * SIZE})
    sweeps.services.recorder.append([type(ahead)(**{**as_fields(ahead), "occurred_at": now + 365 * DAY})])
    recorded = sweeps.events()[-1]
    assert sweeps.checkpoint("1", "-a").saved_at == recorded.recorded_at


def as_fields(event: object) -> dict[str, object]:
    return {name: getattr(event, name) for name in ("event_id", "experiment_id", "actor", "payload")}


def test_a_limit_that_is_set_to_the_same_numbers_keeps_the_plan(sweeps: Sweeps) -> None:
    sweeps.prepare(3, high=2, low=2)
    sweeps.store.hook = once("before manifest", lambda: sweeps.limit("experiments", 2, 2))
    report = sweeps.sweep(AT_ONCE)
    assert report.tally.decided == 1
    (plan,) = report.plans
    assert plan.limit.set_at < sweeps.events(DEPLOYMENT_STREAM)[-1].recorded_at


def test_a_superseded_one_that_somebody_writes_to_is_left_alone_though_its_trial_is_paused(sweeps: Sweeps) -> None:
    with_two_places(sweeps)
    for trial_id, uri in (("1", uri_of("1")), ("2", uri_of("2", "-later"))):
        sweeps.send(CheckpointPinned(trial_id=trial_id, uri=uri))
    later = sweeps.clock.moment + timedelta(seconds=60)
    sweeps.store.add_checkpoint(uri_of("2"), {"weights": b"again"}, modified_at=later)
    sweeps.limit("experiments", 2, 2)
    report = sweeps.sweep(AT_ONCE)
    assert report.tally.decided == 0
    assert report.held_back == {"x": {"in_use": 1, "pinned": 2}}
    assert sweeps.store.contents(uri_of("2")) == {"weights": b"again"}


def test_what_a_killed_tuner_left_running_counts_no_more_once_its_experiment_is_finished(sweeps: Sweeps) -> None:
    sweeps.prepare(3, high=1, low=1)
    sweeps.resume("1")
    sweeps.send(TrialStarted(trial_id="9"))
    with sweeps.services.sweeper.running(SYNE_TUNE) as run:
        (plan,) = run.plan("x")
        assert plan.shortfall == 1
    sweeps.send(ExperimentFinished())
    with sweeps.services.sweeper.running(SYNE_TUNE) as run:
        (plan,) = run.plan("x")
        assert [(one.resume_probability, one.score) for one in plan.scored] == [(0.0, 0.0)] * 2
    assert sweeps.sweep(AT_ONCE).exceeded == []
    state = sweeps.state()
    assert [state.trials[trial_id].status for trial_id in ("1", "9")] == ["stopped"] * 2
    # What the first one had been promised is an ended trial's now, and is kept.
    assert sweeps.store.contents(uri_of("1")) is not None
    sweeps.check_settled()


def test_an_experiment_that_is_finished_while_the_plan_is_listed_is_no_contradiction(sweeps: Sweeps) -> None:
    sweeps.prepare(1, high=9, low=9)
    sweeps.send(TrialStarted(trial_id="9"))
    for place in ("-a", "-b"):
        sweeps.save("9", place)
    sweeps.limit("experiments", 2, 2)
    sweeps.store.hook = once("before manifest", lambda: sweeps.send(ExperimentFinished()))
    report = sweeps.sweep(AT_ONCE)
    assert (report.untrusted, report.tally.decided) == ({}, 0)
    sweeps.check_settled()


def test_what_says_that_it_is_larger_than_a_disk_is_kept(sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps.prepare(2, high=1, low=1)
    holes = Manifest.of([ManifestEntry(path="holes", size_bytes=LARGEST_BYTES + 1, version="1")])
    listed = sweeps.store.manifest
    monkeypatch.setattr(sweeps.store, "manifest", lambda uri: holes if uri == uri_of("2") else listed(uri))
    report = sweeps.sweep(AT_ONCE)
    assert report.tally.evicted == 1
    assert any("look for files with holes" in error for error in report.tally.errors)
    assert sweeps.store.contents(uri_of("2")) is not None
