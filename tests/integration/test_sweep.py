"""A sweep decides, moves and deletes, and after being killed at any point the next one finishes its work."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from quota.domain.events import CheckpointPinned, CheckpointUnpinned, EvictionFailed, ExperimentRegistered
from quota.domain.experiment import FIRST_RETRY
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.errors import NotFound, StateRefused, StoreError
from quota.eventlog.database import Database
from quota.eventlog.log import EventLog
from quota.services.ids import new_id
from support import create_schema
from sweeps import (
    AT_ONCE,
    DAY,
    ROOT,
    SIZE,
    Killed,
    Sweeps,
    kill_at_record,
    killing,
    refusing,
    silent,
    sweeps_over,
    uri_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def failures(sweeps: Sweeps) -> list[EvictionFailed]:
    return [event.payload for event in sweeps.events() if isinstance(event.payload, EvictionFailed)]


PROTOCOL = ["eviction_decided", "checkpoint_trashed", "purge_decided", "checkpoint_purged"]


@pytest.fixture
def sweeps(sqlite_url: str) -> Iterator[Sweeps]:
    create_schema(sqlite_url)
    with sweeps_over(sqlite_url) as ready:
        yield ready


def test_evicts_down_to_the_low_watermark_and_deletes_when_it_is_due(database_url: str) -> None:
    create_schema(database_url)
    with sweeps_over(database_url) as sweeps:
        sweeps.prepare(5, high=4, low=2)
        report = sweeps.sweep()
        assert (report.tally.decided, report.tally.evicted, report.tally.purged) == (3, 3, 0)
        assert report.exceeded == []
        assert sweeps.state().usage.held_checkpoints == 2
        assert [sweeps.store.contents(uri_of(str(number))) is None for number in range(1, 6)] == [False] * 2 + [
            True
        ] * 3
        sweeps.check_settled(open_decisions=3)
        sweeps.wait(DAY - timedelta(seconds=1))
        assert sweeps.sweep().sweep_id is None
        sweeps.wait(timedelta(seconds=1))
        report = sweeps.sweep()
        assert (report.tally.purged, report.tally.freed_bytes) == (3, 3 * SIZE)
        assert sweeps.state().usage.freed_bytes == 3 * SIZE
        sweeps.check_settled()


def test_the_intent_is_in_the_log_before_the_store_is_asked(database_url: str) -> None:
    create_schema(database_url)
    seen: list[tuple[str, list[str]]] = []
    other = Database(database_url)

    def look(step: str, _about: str) -> None:
        # A connection of its own sees only what is committed.
        if step not in {"before trash", "before purge"}:
            return
        log = EventLog(other)
        with other.read() as connection:
            recorded = log.read(connection, "x", after=0, until=log.position(connection, "x"))
            seen.append((step, [event.payload.TYPE for event in recorded]))

    with sweeps_over(database_url) as sweeps:
        sweeps.prepare(4, high=2, low=2)
        sweeps.store.hook = look
        sweeps.sweep(AT_ONCE)
        sweeps.check_settled()
    other.close()
    assert [step for step, _ in seen] == ["before trash"] * 2 + ["before purge"] * 2
    for step, types in seen:
        assert types.count("eviction_decided") == 2
        assert types.count("purge_decided") == (2 if step == "before purge" else 0)
        assert types.count("checkpoint_purged") == 0


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("step", ["before manifest", "before trash", "after trash", "before purge", "after purge"])
def test_a_sweep_killed_in_the_store_is_finished_by_the_next(sweeps: Sweeps, step: str, at: int) -> None:
    sweeps.prepare(4, high=2, low=2)
    sweeps.store.hook = killing(step, at=at)
    with pytest.raises(Killed):
        sweeps.sweep(AT_ONCE)
    sweeps.store.hook = silent
    sweeps.sweep(AT_ONCE)
    check_two_evicted(sweeps)


@pytest.mark.parametrize("committed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("event_type", PROTOCOL)
def test_a_sweep_killed_around_a_record_is_finished_by_the_next(
    sweeps: Sweeps, event_type: str, *, committed: bool
) -> None:
    sweeps.prepare(4, high=2, low=2)
    with pytest.MonkeyPatch.context() as patch:
        kill_at_record(sweeps, event_type, patch, committed=committed)
        with pytest.raises(Killed):
            sweeps.sweep(AT_ONCE)
    assert (event_type in sweeps.types()) == committed
    sweeps.sweep(AT_ONCE)
    check_two_evicted(sweeps)


def check_two_evicted(sweeps: Sweeps) -> None:
    assert sweeps.state().usage.held_checkpoints == 2
    sweeps.check_settled()
    assert sorted(sweeps.types()) == sorted(PROTOCOL * 2)
    assert sweeps.state().usage.freed_bytes == 2 * SIZE
    assert sweeps.sweep(AT_ONCE).sweep_id is None


@pytest.mark.parametrize("step", ["before restore", "after restore"])
def test_a_restore_that_was_killed_can_be_done_again(sweeps: Sweeps, step: str) -> None:
    decision_id = evict_one(sweeps)
    sweeps.store.hook = killing(step)
    with pytest.raises(Killed):
        sweeps.services.restorer.restore(decision_id)
    sweeps.store.hook = silent
    assert sweeps.services.restorer.restore(decision_id).uri == uri_of("2")
    assert sweeps.store.contents(uri_of("2")) == {"weights": b"w" * SIZE}
    sweeps.check_settled()


@pytest.mark.parametrize("later", [timedelta(), DAY])
@pytest.mark.parametrize(("step", "restored"), [("before restore", False), ("after restore", True)])
def test_a_restore_that_was_killed_is_recorded_by_the_next_sweep_if_it_happened(
    sweeps: Sweeps, step: str, later: timedelta, *, restored: bool
) -> None:
    decision_id = evict_one(sweeps)
    sweeps.store.hook = killing(step)
    with pytest.raises(Killed):
        sweeps.services.restorer.restore(decision_id)
    sweeps.store.hook = silent
    sweeps.limit("experiments", 9, 9)
    sweeps.wait(later)
    sweeps.sweep()
    outcome = "checkpoint_restored" if restored else "checkpoint_purged" if later else "checkpoint_trashed"
    assert sweeps.types()[-1] == outcome
    sweeps.check_settled(open_decisions=int(outcome == "checkpoint_trashed"))


def evict_one(sweeps: Sweeps) -> str:
    """Leave the worse of two trials without its checkpoint, and return the decision's id."""
    sweeps.prepare(2, high=1, low=1)
    sweeps.sweep()
    return sweeps.decision().decided.decision_id


def test_what_is_restored_counts_again(sweeps: Sweeps) -> None:
    decision_id = evict_one(sweeps)
    restored = sweeps.services.restorer.restore(decision_id)
    assert (restored.trial_id, restored.size_bytes) == ("2", SIZE)
    assert sweeps.state().usage.held_checkpoints == 2
    with pytest.raises(StateRefused, match=r"`outcome` is 'restored': only what is in the trash can be restored"):
        sweeps.services.restorer.restore(decision_id)
    sweeps.check_settled()


def test_what_was_purged_cannot_be_restored(sweeps: Sweeps) -> None:
    decision_id = evict_one(sweeps)
    sweeps.sweep(AT_ONCE)
    with pytest.raises(StateRefused, match=r"`outcome` is 'purged': only what is in the trash can be restored"):
        sweeps.services.restorer.restore(decision_id)
    with pytest.raises(NotFound, match="there is none"):
        sweeps.services.restorer.restore("00000000-0000-0000-0000-000000000000")
    sweeps.check_settled()


def test_nothing_to_do_is_not_recorded(sweeps: Sweeps) -> None:
    sweeps.prepare(2, high=2, low=1)
    before = [sweeps.events(stream) for stream in ("x", DEPLOYMENT_STREAM)]
    report = sweeps.sweep(AT_ONCE)
    assert (report.sweep_id, report.plans, report.exceeded) == (None, [], [])
    assert [sweeps.events(stream) for stream in ("x", DEPLOYMENT_STREAM)] == before


def test_an_experiment_s_own_limit_goes_before_the_common_one(sweeps: Sweeps) -> None:
    sweeps.prepare(5, high=1, low=1)
    sweeps.limit("experiment:x", 4, 3)
    report = sweeps.sweep()
    assert (report.tally.evicted, report.plans[0].limit.scope) == (2, "experiment:x")
    sweeps.services.administration.remove_limit("experiment:x")
    report = sweeps.sweep()
    assert (report.tally.evicted, report.plans[0].limit.scope) == (2, "experiments")
    sweeps.check_settled(open_decisions=4)


def test_a_limit_that_cannot_be_kept_is_named(sweeps: Sweeps) -> None:
    sweeps.prepare(3, high=1, low=1)
    for trial_id in ("1", "2"):
        sweeps.send(CheckpointPinned(trial_id=trial_id, uri=uri_of(trial_id)))
    assert sweeps.sweep().exceeded == ["x"]
    assert sweeps.events(DEPLOYMENT_STREAM)[-1].payload.TYPE == "sweep_finished"
    assert sweeps.store.contents(uri_of("1")) is not None
    sweeps.check_settled(open_decisions=1)


def test_what_is_missing_is_recorded_and_the_plan_is_made_anew(sweeps: Sweeps) -> None:
    sweeps.prepare(4, high=2, low=2)
    sweeps.store.trash(uri_of("4"), "elsewhere", sweeps.store.manifest(uri_of("4")))
    report = sweeps.sweep()
    assert report.tally.evicted == 1
    assert sweeps.types() == ["checkpoint_missing", "eviction_decided", "checkpoint_trashed"]
    assert sweeps.checkpoint("4").state == "missing"
    assert sweeps.checkpoint("3").state == "trashed"
    sweeps.check_settled(open_decisions=1)


def test_where_the_store_cannot_look_at_one_the_next_best_goes(sweeps: Sweeps) -> None:
    sweeps.prepare(3, high=2, low=2)
    sweeps.store.hook = refusing("before manifest", uri_of("3"))
    report = sweeps.sweep()
    assert (report.tally.evicted, report.tally.failed) == (1, 1)
    assert report.tally.errors == [f"store {ROOT}: out of order: {uri_of('3')}"]
    assert [sweeps.checkpoint(trial_id).state for trial_id in ("1", "2", "3")] == ["stored", "trashed", "stored"]
    sweeps.check_settled(open_decisions=1)


def test_where_the_store_cannot_move_one_the_failure_is_recorded_and_tried_again_later(sweeps: Sweeps) -> None:
    sweeps.prepare(3, high=2, low=2)
    sweeps.store.hook = refusing("before trash", uri_of("3"))
    report = sweeps.sweep()
    # Until it is tried again, the next best goes.
    assert (report.tally.failed, report.tally.evicted, report.exceeded) == (1, 1, [])
    (failed,) = failures(sweeps)
    assert (failed.step, failed.error) == ("trash", f"store {ROOT}: out of order: {uri_of('3')}")
    assert (sweeps.checkpoint("3").failures, sweeps.checkpoint("3").state) == (1, "stored")
    assert sweeps.checkpoint("2").state == "trashed"
    sweeps.check_settled(open_decisions=1)
    sweeps.limit("experiments", 1, 1)
    sweeps.store.hook = silent
    sweeps.wait(FIRST_RETRY)
    sweeps.sweep()
    assert [sweeps.checkpoint(trial_id).state for trial_id in ("1", "3")] == ["stored", "trashed"]
    sweeps.check_settled(open_decisions=2)


def test_a_purge_that_the_store_refuses_is_tried_again_later(sweeps: Sweeps) -> None:
    sweeps.prepare(2, high=1, low=1)
    sweeps.store.hook = refusing("before purge")
    assert sweeps.sweep(AT_ONCE).tally.failed == 1
    assert sweeps.decision().outcome == "purging"
    assert sweeps.sweep(AT_ONCE).sweep_id is None
    sweeps.store.hook = silent
    sweeps.wait(FIRST_RETRY)
    assert sweeps.sweep(AT_ONCE).tally.purged == 1
    sweeps.check_settled()


@pytest.mark.parametrize("step", ["before trash", "after trash"])
def test_a_claim_in_a_store_that_was_removed_ends_and_nothing_is_deleted(sweeps: Sweeps, step: str) -> None:
    sweeps.prepare(2, high=1, low=1)
    sweeps.store.hook = killing(step)
    with pytest.raises(Killed):
        sweeps.sweep()
    sweeps.store.hook = silent
    sweeps.services.administration.remove_store(ROOT)
    sweeps.sweep(AT_ONCE)
    moved = step == "after trash"
    assert sweeps.checkpoint("2").state == ("trashed" if moved else "stored")
    sweeps.check_settled(open_decisions=int(moved))
    assert sweeps.sweep(AT_ONCE).sweep_id is None
    # What undoes an eviction is asked of a removed store all the same.
    assert sweeps.resume("2").checkpoint is not None
    sweeps.check_settled()


@pytest.mark.parametrize("step", ["before trash", "after trash"])
def test_a_claim_in_a_store_that_lost_its_mark_stays_until_the_store_is_back(sweeps: Sweeps, step: str) -> None:
    sweeps.prepare(2, high=1, low=1)
    sweeps.store.hook = killing(step)
    with pytest.raises(Killed):
        sweeps.sweep()
    sweeps.store.hook = silent
    (mark,) = {store.store_id for store in sweeps.services.administration.look().stores.values()}
    sweeps.store.mark(new_id())
    report = sweeps.sweep(AT_ONCE)
    # Whether the killed sweep has moved it cannot be known, so it must not pass for stored.
    assert sweeps.checkpoint("2").state == "claimed"
    assert (report.tally.failed, sweeps.decision().failures) == (1, 1)
    assert "is its disk mounted?" in report.tally.errors[0]
    assert sweeps.sweep(AT_ONCE).sweep_id is None
    assert sweeps.resume("2").checkpoint is None
    sweeps.store.mark(mark)
    sweeps.wait(FIRST_RETRY)
    sweeps.limit("experiments", 9, 9)
    sweeps.sweep()
    moved = step == "after trash"
    assert sweeps.checkpoint("2").state == ("trashed" if moved else "stored")
    sweeps.check_settled(open_decisions=int(moved))


def test_a_store_that_is_down_when_a_killed_sweep_is_finished_loses_nothing(sweeps: Sweeps) -> None:
    sweeps.prepare(2, high=1, low=1)
    sweeps.store.hook = killing("after trash")
    with pytest.raises(Killed):
        sweeps.sweep()
    sweeps.store.hook = refusing("before trash")
    sweeps.sweep()
    assert sweeps.checkpoint("2").state == "trashed"
    sweeps.check_settled(open_decisions=1)


def test_what_a_store_says_is_recorded_whatever_it_says(database_url: str) -> None:
    create_schema(database_url)

    def refuse(step: str, _: str) -> None:
        if step == "before trash":
            raise StoreError("NUL \0, half a character \ud800 and " + "x" * 10_000)

    with sweeps_over(database_url) as sweeps:
        sweeps.prepare(2, high=1, low=1)
        sweeps.store.hook = refuse
        assert sweeps.sweep().tally.failed == 2
        failed = failures(sweeps)[0]
        assert r"/2/: NUL \0, half a character \ud800 and xxx" in failed.error
        assert len(failed.error) < 2_100
        sweeps.check_settled()


def test_a_pinned_checkpoint_that_a_killed_sweep_had_moved_is_not_purged(sweeps: Sweeps) -> None:
    sweeps.prepare(2, high=1, low=1)
    sweeps.store.hook = killing("after trash")
    with pytest.raises(Killed):
        sweeps.sweep()
    sweeps.store.hook = silent
    sweeps.send(CheckpointPinned(trial_id="2", uri=uri_of("2")))
    sweeps.store.hook = refusing("before restore")
    sweeps.sweep(AT_ONCE)
    sweeps.wait(DAY)
    assert sweeps.sweep(AT_ONCE).sweep_id is None
    sweeps.store.hook = silent
    sweeps.check_settled(open_decisions=1)
    sweeps.send(CheckpointUnpinned(trial_id="2", uri=uri_of("2")))
    assert sweeps.sweep(AT_ONCE).tally.purged == 1
    sweeps.check_settled()


def test_a_run_evicts_no_more_than_it_may_and_the_next_one_goes_on(sweeps: Sweeps) -> None:
    sweeps.prepare(6, high=1, low=1)
    report = sweeps.sweep(replace(AT_ONCE, most_evictions=2))
    assert (report.tally.evicted, report.is_capped, report.exceeded) == (2, True, ["x"])
    assert report.held_back == {"x": {"left": 3}}
    report = sweeps.sweep(replace(AT_ONCE, most_evicted_bytes=SIZE + 1))
    assert (report.tally.evicted, report.is_capped, report.held_back) == (2, True, {"x": {"left": 1}})
    report = sweeps.sweep(replace(AT_ONCE, most_evictions=1, most_evicted_bytes=SIZE))
    assert (report.tally.evicted, report.is_capped, report.exceeded) == (1, False, [])
    sweeps.check_settled()


def test_what_a_run_may_evict_is_counted_over_all_experiments(sweeps: Sweeps) -> None:
    sweeps.prepare(3, high=1, low=1)
    other = replace(sweeps, experiment_id="y")
    other.send(ExperimentRegistered(mode="min", rung_levels=(1, 3), promotion_quantiles=(0.5, 0.5), max_resource=9))
    for number in (7, 8, 9):
        other.pause_more(str(number))
    report = sweeps.services.sweeper.sweep(["x", "y"], replace(AT_ONCE, most_evictions=3))
    assert (report.tally.evicted, report.is_capped, report.exceeded) == (3, True, ["y"])
    assert report.held_back == {"y": {"left": 1}}
