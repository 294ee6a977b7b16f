"""What belongs to no checkpoint goes to the trash like an eviction, and comes back once a trial reports it."""

from __future__ import annotations

from datetime import timedelta
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from quota.domain.events import CheckpointSaved, EvictionDecided, TrialPaused, TrialResumed, TrialStarted
from quota.domain.identifiers import DEPLOYMENT_STREAM, ORPHANS_STREAM
from quota.eventlog.database import Database
from quota.eventlog.locations import take_location
from quota.services.findings import Finding, ReconcileOrder
from quota.services.recording import LoadableCheckpoint
from quota.services.reported import ReportedPlaces
from quota.services.stores import Stores
from quota.services.sweep_order import SweepOrder, SweepReport
from quota.testing.memory_store import MemoryStore
from support import create_schema, tamper
from sweeps import (
    AT_ONCE,
    BY_LEVEL,
    DAY,
    KEEP,
    ROOT,
    SIZE,
    Killed,
    Sweeps,
    killing,
    refusing,
    silent,
    sweeps_over,
    uri_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quota.domain.experiment import Decision, ExperimentState

PLACE = uri_of("9")
ALIAS = "memory://elsewhere/9/"
CONTENT = {"weights": b"o" * SIZE}
LATER = SweepOrder(BY_LEVEL, 2 * DAY)


@pytest.fixture
def sweeps(database_url: str) -> Iterator[Sweeps]:
    create_schema(database_url)
    with sweeps_over(database_url) as ready:
        ready.prepare(3, high=9, low=9)
        ready.store.add_checkpoint(PLACE, CONTENT, modified_at=ready.clock.moment - 2 * DAY)
        yield ready


def trash(sweeps: Sweeps, *uris: str) -> SweepReport:
    return sweeps.services.sweeper.trash_orphans(uris or [PLACE], DAY, KEEP)


def sweep_all(sweeps: Sweeps, order: SweepOrder = KEEP) -> SweepReport:
    return sweeps.services.sweeper.sweep(["x", ORPHANS_STREAM], order)


def state(sweeps: Sweeps) -> ExperimentState:
    with sweeps.services.database.read() as connection:
        return sweeps.services.projector.look(connection, ORPHANS_STREAM)


def decision(sweeps: Sweeps) -> Decision:
    (one,) = state(sweeps).decisions.values()
    return one


def outcomes(sweeps: Sweeps) -> list[str]:
    rows = sweeps.services.queries.evictions(ORPHANS_STREAM, None, 100)
    return [row["outcome"] for row in reversed(rows)]


def report_it(sweeps: Sweeps, uri: str = PLACE) -> None:
    """Say that a trial has saved there what an orphan was taken for, and pause the trial."""
    sweeps.send(
        TrialStarted(trial_id="9"),
        CheckpointSaved(trial_id="9", uri=uri, size_bytes=SIZE, resource=1),
        TrialPaused(trial_id="9", level=1, metric=9.0),
    )


def check(sweeps: Sweeps) -> None:
    """Check that what belongs to trials is untouched, and that the projections are what the log says."""
    for trial_id in "123":
        assert sweeps.store.contents(uri_of(trial_id)) == {"weights": b"w" * SIZE}
    for stream in ("x", ORPHANS_STREAM, DEPLOYMENT_STREAM):
        assert list(sweeps.services.rebuilder.verify(stream, lambda _: None)) == []


def test_an_orphan_is_a_decision_like_an_eviction(sweeps: Sweeps) -> None:
    report = trash(sweeps)
    assert (report.tally.decided, report.tally.evicted, report.tally.errors) == (1, 1, [])
    assert sweeps.store.contents(PLACE) is None
    assert sweeps.store.trash_contents(decision(sweeps).decided.decision_id) == CONTENT
    (row,) = sweeps.services.queries.evictions(ORPHANS_STREAM, None, 100)
    assert (row["reason"], row["uri"], row["size_bytes"]) == ("orphan", PLACE, SIZE)
    assert str(row["sweep_id"]) == report.sweep_id
    assert (row["policy"], row["limit_scope"], row["usage"], row["score"]) == (None, None, None, None)
    (usage,) = sweeps.services.queries.ask("SELECT * FROM quota_usage WHERE experiment_id = '_orphans'")
    assert (usage["trashed_bytes"], usage["held_checkpoints"]) == (SIZE, 0)
    check(sweeps)


def test_nothing_is_recorded_where_nothing_is_done(sweeps: Sweeps) -> None:
    assert trash(sweeps, uri_of("8")).sweep_id is None
    assert sweeps.services.queries.experiment_ids() == ["x"]


def test_it_is_purged_when_it_is_due(sweeps: Sweeps) -> None:
    trash(sweeps)
    assert sweep_all(sweeps).tally.purged == 0
    sweeps.wait(DAY)
    assert sweep_all(sweeps).tally.freed_bytes == SIZE
    assert outcomes(sweeps) == ["purged"]
    assert sweep_all(sweeps).sweep_id is None
    check(sweeps)


def test_it_can_be_restored_and_is_an_orphan_again(sweeps: Sweeps) -> None:
    trash(sweeps)
    sweeps.services.restorer.restore(decision(sweeps).decided.decision_id)
    assert sweeps.store.contents(PLACE) == CONTENT
    assert trash(sweeps).tally.evicted == 1
    assert outcomes(sweeps) == ["restored", "trashed"]
    assert len(state(sweeps).trials) == 1
    check(sweeps)


def test_what_is_pinned_stays(sweeps: Sweeps) -> None:
    trash(sweeps)
    sweeps.services.restorer.restore(decision(sweeps).decided.decision_id, pin=True)
    assert trash(sweeps).tally.decided == 0
    assert sweeps.store.contents(PLACE) == CONTENT


def test_what_was_written_to_since_stays(sweeps: Sweeps) -> None:
    sweeps.store.add_checkpoint(PLACE, CONTENT, modified_at=sweeps.clock.moment - DAY + timedelta(minutes=1))
    assert trash(sweeps).tally.decided == 0
    assert sweeps.store.contents(PLACE) == CONTENT


@pytest.mark.parametrize("uri", [PLACE, uri_of("9", "/checkpoint-1"), ROOT + "9"])
def test_what_a_trial_has_reported_stays(sweeps: Sweeps, uri: str) -> None:
    report_it(sweeps, uri if uri.endswith("/") else f"{uri}/")
    assert trash(sweeps).tally.decided == 0
    assert sweeps.store.contents(PLACE) == CONTENT


def test_another_name_of_a_checkpoint_stays(sweeps: Sweeps) -> None:
    sweeps.store.add_name(uri_of("2"), PLACE)
    report = trash(sweeps)
    assert (report.tally.decided, report.tally.failed) == (0, 1)
    assert "it is the same place as memory://store/2/" in report.tally.errors[0]
    check(sweeps)


def test_a_store_that_fails_is_told(sweeps: Sweeps) -> None:
    sweeps.store.hook = refusing("before manifest", PLACE)
    assert "out of order" in trash(sweeps).tally.errors[0]
    sweeps.store.hook = refusing("before trash", PLACE)
    assert "out of order" in trash(sweeps).tally.errors[0]
    assert outcomes(sweeps) == ["failed"]
    sweeps.store.hook = silent
    assert trash(sweeps).tally.evicted == 1
    check(sweeps)


@pytest.mark.parametrize("row", ["pinned = TRUE", "pinned = FALSE"])
def test_rows_that_say_something_else_than_the_log_move_nothing(sweeps: Sweeps, row: str) -> None:
    trash(sweeps)
    sweeps.services.restorer.restore(decision(sweeps).decided.decision_id, pin=row.endswith("FALSE"))
    sweeps.services.projector._kept.clear()  # noqa: SLF001 - as in another process
    tamper(sweeps.services, [f"UPDATE checkpoints SET {row} WHERE experiment_id = '_orphans'"])
    report = trash(sweeps)
    assert list(report.untrusted) == [ORPHANS_STREAM]
    assert sweeps.store.contents(PLACE) == CONTENT


@pytest.mark.parametrize("step", ["before trash", "after trash"])
@pytest.mark.parametrize("reported", [False, True])
def test_what_a_killed_process_left_is_finished(sweeps: Sweeps, step: str, *, reported: bool) -> None:
    sweeps.store.hook = killing(step)
    with pytest.raises(Killed):
        trash(sweeps)
    sweeps.store.hook = silent
    assert outcomes(sweeps) == ["claimed"]
    if reported:
        report_it(sweeps)
    sweep_all(sweeps)
    assert outcomes(sweeps) == ["cancelled" if reported else "trashed"]
    assert sweeps.store.contents(PLACE) == (CONTENT if reported else None)
    check(sweeps)


@pytest.mark.parametrize("order", [LATER, AT_ONCE])
def test_what_is_reported_later_comes_back_by_the_next_sweep(sweeps: Sweeps, order: SweepOrder) -> None:
    trash(sweeps)
    report_it(sweeps)
    sweeps.limit("experiments", 3, 3)
    report = sweep_all(sweeps, order)
    assert outcomes(sweeps) == ["restored"]
    # By now it is the one to go first, and it was there to go.
    assert (report.tally.missing, report.tally.evicted) == ([], 1)
    assert sweeps.state().checkpoints[PLACE].state in {"trashed", "purged"}


@pytest.mark.parametrize("uri", [uri_of("9", "/checkpoint-1"), uri_of("group", "")])
def test_what_holds_a_reported_place_or_lies_in_it_comes_back(sweeps: Sweeps, uri: str) -> None:
    place = PLACE if uri.startswith(PLACE) else f"{uri}9/"
    sweeps.store.add_checkpoint(place, CONTENT, modified_at=sweeps.clock.moment - 2 * DAY)
    trash(sweeps, place)
    report_it(sweeps, uri)
    sweep_all(sweeps, AT_ONCE)
    assert outcomes(sweeps) == ["restored"]
    assert sweeps.store.contents(place) == CONTENT


@pytest.mark.parametrize("by_append", [False, True])
@pytest.mark.parametrize("killed_at", [None, "before trash", "after trash"])
def test_a_resume_gets_what_its_trial_has_reported(sweeps: Sweeps, killed_at: str | None, *, by_append: bool) -> None:
    if killed_at is None:
        trash(sweeps)
    else:
        sweeps.store.hook = killing(killed_at)
        with pytest.raises(Killed):
            trash(sweeps)
        sweeps.store.hook = silent
    report_it(sweeps)
    if by_append:
        sweeps.send(TrialResumed(trial_id="9", level=1))
        told = sweeps.services.recorder.promised_checkpoint("x", "9")
    else:
        told = sweeps.resume("9").checkpoint
    assert told is not None
    assert (told.uri, sweeps.store.contents(PLACE)) == (PLACE, CONTENT)
    sweep_all(sweeps, AT_ONCE)
    assert sweeps.store.contents(PLACE) == CONTENT
    check(sweeps)


def test_a_resume_takes_nothing_of_others(sweeps: Sweeps) -> None:
    trash(sweeps)
    report_it(sweeps)
    sweeps.resume("2")
    assert outcomes(sweeps) == ["trashed"]


@pytest.mark.parametrize(("uri", "leads_to"), [(ALIAS, PLACE), (f"{ALIAS}c/", f"{PLACE}c/"), (ALIAS, f"{ROOT}g/")])
def test_what_is_reported_under_another_name_comes_back(sweeps: Sweeps, uri: str, leads_to: str) -> None:
    place = f"{leads_to}9/" if leads_to == f"{ROOT}g/" else PLACE
    sweeps.store.add_checkpoint(place, CONTENT, modified_at=sweeps.clock.moment - 2 * DAY)
    trash(sweeps, place)
    sweeps.store.add_name(leads_to, uri)
    report_it(sweeps, uri)
    sweeps.wait(2 * DAY)
    assert sweeps.services.sweeper.purge([ORPHANS_STREAM], AT_ONCE).tally.purged == 0
    sweep_all(sweeps, AT_ONCE)
    assert outcomes(sweeps) == ["restored"]
    assert sweeps.store.contents(place) == CONTENT
    check(sweeps)


def test_a_name_is_followed_by_a_store_of_its_own_scheme(sweeps: Sweeps) -> None:
    trash(sweeps)
    sweeps.store.add_name(PLACE, ALIAS)
    report_it(sweeps, ALIAS)
    services = sweeps.services
    with services.database.read() as connection:
        stores = Stores(services.projector.look_at_deployment(connection), lambda _: sweeps.store)
        (decision,) = services.projector.look(connection, ORPHANS_STREAM).decisions.values()
        reported = ReportedPlaces(services.database, stores)
        reported._follow(connection, MemoryStore("other://bucket/"), "other")  # noqa: SLF001 - as another orphan's store
        assert reported.is_reported(connection, decision.decided)


def test_a_resume_gets_what_its_trial_has_reported_under_another_name(sweeps: Sweeps) -> None:
    trash(sweeps)
    sweeps.store.add_name(PLACE, ALIAS)
    report_it(sweeps, ALIAS)
    sweeps.resume("2")
    assert outcomes(sweeps) == ["trashed"]
    told = sweeps.resume("9").checkpoint
    assert told is not None
    assert (told.uri, sweeps.store.contents(PLACE)) == (ALIAS, CONTENT)


def test_a_link_to_the_store_s_root_brings_nothing_back(sweeps: Sweeps) -> None:
    trash(sweeps)
    sweeps.store.add_name(ROOT, ALIAS)
    report_it(sweeps, ALIAS)
    sweeps.resume("9")
    assert outcomes(sweeps) == ["trashed"]
    assert sweep_all(sweeps, AT_ONCE).tally.purged == 1


def test_a_place_that_cannot_be_told_is_not_purged(sweeps: Sweeps) -> None:
    trash(sweeps)
    sweeps.store.hook = refusing("before place", PLACE)
    sweep_all(sweeps, AT_ONCE)
    assert outcomes(sweeps) == ["restored"]
    assert sweeps.store.contents(PLACE) == CONTENT


@pytest.mark.parametrize("uri", [PLACE, ALIAS])
def test_what_is_reported_while_it_is_purged_is_kept(postgresql_url: str, uri: str) -> None:
    """Whoever has taken the place, and not committed yet, is waited for before there is no way back."""
    create_schema(postgresql_url)
    with sweeps_over(postgresql_url) as sweeps:
        sweeps.prepare(1, high=9, low=9)
        sweeps.store.add_checkpoint(PLACE, CONTENT, modified_at=sweeps.clock.moment - 2 * DAY)
        trash(sweeps)
        sweeps.store.add_name(PLACE, ALIAS)
        other = Database(postgresql_url)
        purging = Thread(target=sweep_all, args=(sweeps, AT_ONCE))
        with other.write() as connection:
            take_location(connection, "y", "9", uri)
            purging.start()
            waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            while not connection.execute(waiting).scalar_one():
                assert purging.is_alive()
        purging.join()
        other.close()
        assert outcomes(sweeps) == ["trashed"]
        sweep_all(sweeps, AT_ONCE)
        assert outcomes(sweeps) == ["restored"]
        assert sweeps.store.contents(PLACE) == CONTENT


def test_what_is_reported_while_it_is_claimed_is_not_claimed(postgresql_url: str) -> None:
    create_schema(postgresql_url)
    with sweeps_over(postgresql_url) as sweeps:
        sweeps.prepare(1, high=9, low=9)
        sweeps.store.add_checkpoint(PLACE, CONTENT, modified_at=sweeps.clock.moment - 2 * DAY)
        other = Database(postgresql_url)
        trashing = Thread(target=trash, args=(sweeps,))
        with other.write() as connection:
            take_location(connection, "y", "9", PLACE)
            trashing.start()
            waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            while not connection.execute(waiting).scalar_one():
                assert trashing.is_alive()
        trashing.join()
        other.close()
        assert outcomes(sweeps) == []
        assert sweeps.store.contents(PLACE) == CONTENT


def test_the_decision_comes_before_the_move(sweeps: Sweeps) -> None:
    seen: list[int] = []

    def look(step: str, _: str) -> None:
        if step == "before trash":
            decided = [one.payload for one in sweeps.events(ORPHANS_STREAM)]
            seen.append(sum(isinstance(one, EvictionDecided) for one in decided))

    other = uri_of("8")
    sweeps.store.add_checkpoint(other, CONTENT, modified_at=sweeps.clock.moment - 2 * DAY)
    sweeps.store.hook = look
    assert trash(sweeps, PLACE, other).tally.evicted == 2
    assert seen == [2, 2]


def report_paused(sweeps: Sweeps) -> None:
    sweeps.send(
        TrialStarted(trial_id="9"),
        CheckpointSaved(trial_id="9", uri=PLACE, size_bytes=SIZE, resource=1),
        TrialPaused(trial_id="9", level=1, metric=9.0),
    )


def test_a_sweep_of_its_experiment_alone_brings_a_reported_orphan_back(sweeps: Sweeps) -> None:
    trash(sweeps)
    report_paused(sweeps)
    sweeps.limit("experiments", 4, 3)
    report = sweeps.sweep()
    assert report.tally.missing == []
    assert sweeps.store.contents(PLACE) == CONTENT
    assert sweeps.checkpoint("9").state == "stored"


def test_a_reported_orphan_that_cannot_come_back_yet_is_not_missing(sweeps: Sweeps) -> None:
    trash(sweeps)
    report_paused(sweeps)
    sweeps.limit("experiments", 3, 3)
    sweeps.store.hook = refusing("before restore")
    report = sweeps.sweep()
    assert report.tally.missing == []
    assert sweeps.checkpoint("9").state == "stored"
    # Another one goes in its stead.
    assert report.tally.evicted == 1
    sweeps.store.hook = silent
    sweep_all(sweeps)
    resumption = sweeps.resume("9")
    assert resumption.checkpoint is not None
    assert sweeps.store.contents(resumption.checkpoint.uri) == CONTENT


@pytest.mark.parametrize("refused", [False, True])
def test_a_tuner_that_was_killed_gets_back_what_its_running_trial_has_reported(
    sweeps: Sweeps, *, refused: bool
) -> None:
    trash(sweeps)
    sweeps.send(TrialStarted(trial_id="9"), CheckpointSaved(trial_id="9", uri=PLACE, size_bytes=SIZE, resource=1))
    again = sweeps.services.recorder.promised_checkpoint
    if refused:
        sweeps.store.hook = refusing("before restore")
        assert again("x", "9") is None
        assert sweeps.checkpoint("9").state == "stored"
        sweeps.store.hook = silent
    assert again("x", "9") == LoadableCheckpoint(PLACE, 1)
    assert sweeps.store.contents(PLACE) == CONTENT


def test_reconciling_does_not_take_a_reported_orphan_for_missing(sweeps: Sweeps) -> None:
    trash(sweeps)
    report_paused(sweeps)
    watcher = Noting()
    order = ReconcileOrder(DAY, timedelta(minutes=1), record=True)
    sweeps.services.reconciler.reconcile([], order, watcher)
    (finding,) = [one for one in watcher.findings if one.uri == PLACE]
    assert (finding.kind, finding.is_recorded) == ("missing", False)
    assert finding.note == "it lies in the trash as an orphan, and the next sweep brings it back"
    assert sweeps.checkpoint("9").state == "stored"


class Noting:
    """Remembers what was found."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def listed(self) -> None:
        pass

    def found(self, finding: Finding) -> None:
        self.findings.append(finding)

    def should_stop(self) -> bool:
        return False
