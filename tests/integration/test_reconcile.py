"""What the stores and the log say differently is told, and recorded where that is wanted; nothing is moved."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from quota.domain.events import (
    CheckpointMissing,
    CheckpointSaved,
    ExperimentRegistered,
    TrialPaused,
    TrialStarted,
)
from quota.errors import LeaseHeld, NotFound
from quota.eventlog.leases import Leases
from quota.services.findings import Finding, ReconcileOrder
from quota.services.reconciling import RECONCILE_LEASE
from quota.services.sweep_order import SweepOrder
from support import create_schema, services_over, tamper
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

    from quota.services.findings import ReconcileReport

MINUTE = timedelta(minutes=1)
LOOK = ReconcileOrder(DAY, MINUTE)
RECORD = ReconcileOrder(DAY, MINUTE, record=True)


@dataclass
class Seen:
    """A watcher that remembers."""

    findings: list[Finding] = field(default_factory=list)
    items: int = 0
    stop_after: int = 1_000

    def listed(self) -> None:
        self.items += 1

    def found(self, finding: Finding) -> None:
        self.findings.append(finding)

    def should_stop(self) -> bool:
        return self.items >= self.stop_after

    @property
    def brief(self) -> list[tuple[str, str, bool]]:
        return [(one.kind, one.uri, one.is_recorded) for one in self.findings]


@pytest.fixture
def sweeps(database_url: str) -> Iterator[Sweeps]:
    create_schema(database_url)
    with sweeps_over(database_url) as ready:
        ready.prepare(3, high=9, low=9)
        yield ready


def reconciled(sweeps: Sweeps, order: ReconcileOrder = RECORD) -> tuple[Seen, ReconcileReport]:
    seen = Seen()
    return seen, sweeps.services.reconciler.reconcile([], order, seen)


def written(sweeps: Sweeps, place: str, *, age: timedelta = 2 * DAY, size: int = SIZE) -> str:
    uri = uri_of(place)
    sweeps.store.add_checkpoint(uri, {"weights": b"o" * size}, modified_at=sweeps.clock.moment - age)
    return uri


@pytest.mark.parametrize("order", [LOOK, RECORD])
def test_what_is_the_same_is_not_told(sweeps: Sweeps, order: ReconcileOrder) -> None:
    before = len(sweeps.events())
    seen, report = reconciled(sweeps, order)
    assert seen.findings == []
    assert (report.checkpoints, report.files, report.size_bytes) == (3, 3, 3 * SIZE)
    assert len(sweeps.events()) == before


def test_what_is_missing_is_recorded_once(sweeps: Sweeps) -> None:
    sweeps.store.remove_checkpoint(uri_of("2"))
    seen, _ = reconciled(sweeps, LOOK)
    assert seen.brief == [("missing", uri_of("2"), False)]
    assert sweeps.checkpoint("2").state == "stored"
    seen, _ = reconciled(sweeps)
    assert seen.brief == [("missing", uri_of("2"), True)]
    assert sweeps.checkpoint("2").state == "missing"
    assert reconciled(sweeps)[0].findings == []
    sweeps.check_settled()


def test_what_is_claimed_is_left_to_the_sweep(sweeps: Sweeps) -> None:
    sweeps.limit("experiments", 2, 2)
    sweeps.store.hook = killing("after trash")
    with pytest.raises(Killed):
        sweeps.sweep()
    sweeps.store.hook = silent
    assert reconciled(sweeps)[0].findings == []
    assert sweeps.checkpoint("3").state == "claimed"


def test_another_size_is_recorded(sweeps: Sweeps) -> None:
    sweeps.store.add_checkpoint(uri_of("2"), {"weights": b"w" * 25, "optimizer": b"o" * 5})
    seen, _ = reconciled(sweeps)
    (finding,) = seen.findings
    assert (finding.kind, finding.logged_bytes, finding.found_bytes, finding.is_recorded) == ("resized", SIZE, 30, True)
    assert sweeps.state().usage.stored_bytes == 2 * SIZE + 30
    # It is the same checkpoint as before, and not a later one.
    assert sweeps.checkpoint("2").saved_position < sweeps.state().position
    sweeps.check_settled()


def test_what_its_trial_saves_meanwhile_is_not_resized(sweeps: Sweeps) -> None:
    sweeps.store.add_checkpoint(uri_of("2"), {"weights": b"w" * 30})

    def save_again(step: str, uri: str) -> None:
        if (step, uri) == ("before manifest", uri_of("2")):
            sweeps.store.hook = silent
            sweeps.resume("2")
            sweeps.send(CheckpointSaved(trial_id="2", uri=uri, size_bytes=99, resource=3))

    sweeps.store.hook = save_again
    seen, _ = reconciled(sweeps)
    assert seen.brief == [("resized", uri_of("2"), False)]
    assert sweeps.checkpoint("2").size_bytes == 99


@pytest.mark.parametrize("is_lost", [True, False])
def test_what_vanishes_meanwhile_is_missing(sweeps: Sweeps, *, is_lost: bool) -> None:
    if is_lost:
        lost(sweeps, "2")
    sweeps.store.add_checkpoint(uri_of("2"), {"weights": b"w" * 30})

    def remove(step: str, uri: str) -> None:
        if (step, uri) == ("before manifest", uri_of("2")):
            sweeps.store.hook = silent
            sweeps.store.remove_checkpoint(uri)

    sweeps.store.hook = remove
    seen, _ = reconciled(sweeps)
    assert seen.brief == ([] if is_lost else [("missing", uri_of("2"), True)])


def lost(sweeps: Sweeps, trial_id: str) -> None:
    uri = uri_of(trial_id)
    sweeps.send(CheckpointMissing(trial_id=trial_id, uri=uri))
    assert sweeps.checkpoint(trial_id).state == "missing"


def test_what_has_turned_up_can_be_resumed_from(sweeps: Sweeps) -> None:
    lost(sweeps, "2")
    seen, _ = reconciled(sweeps, LOOK)
    assert seen.brief == [("turned_up", uri_of("2"), False)]
    seen, _ = reconciled(sweeps)
    assert seen.brief == [("turned_up", uri_of("2"), True)]
    told = sweeps.resume("2").checkpoint
    assert told is not None
    assert told.uri == uri_of("2")
    sweeps.check_settled()


def test_what_has_turned_up_is_as_old_as_it_was(sweeps: Sweeps) -> None:
    sweeps.resume("2")
    sweeps.save("2", "-later", resource=3)
    sweeps.send(TrialPaused(trial_id="2", level=3, metric=0.5))
    lost(sweeps, "2")
    reconciled(sweeps)
    sweeps.limit("experiments", 3, 3)
    sweeps.sweep(AT_ONCE)
    assert sweeps.checkpoint("2").state == "purged"
    assert sweeps.checkpoint("2", "-later").state == "stored"


@pytest.mark.parametrize("difference", ["size", "time"])
def test_what_may_be_something_else_is_told_only(sweeps: Sweeps, difference: str) -> None:
    lost(sweeps, "2")
    late = sweeps.clock.moment + DAY if difference == "time" else None
    content = {"weights": b"x" * (SIZE + (difference == "size"))}
    sweeps.store.add_checkpoint(uri_of("2"), content, modified_at=late)
    seen, _ = reconciled(sweeps)
    assert seen.brief == [("turned_up", uri_of("2"), False)]
    assert seen.findings[0].note is not None
    assert sweeps.checkpoint("2").state == "missing"


def test_a_name_that_was_given_up_does_not_turn_up(sweeps: Sweeps) -> None:
    other = "memory://store/latest/"
    sweeps.store.add_checkpoint(other, {"weights": b"w" * SIZE})
    sweeps.store.add_name(uri_of("2"), other)
    sweeps.resume("2")
    sweeps.send(CheckpointSaved(trial_id="2", uri=other, size_bytes=SIZE, resource=3))
    lost(sweeps, "2")
    seen, _ = reconciled(sweeps)
    (finding,) = seen.findings
    assert (finding.kind, finding.uri) == ("not_looked_into", uri_of("2"))
    assert "it is the same place as" in (finding.note or "")
    assert sweeps.checkpoint("2").state == "missing"


def test_orphans_are_told_once_they_are_old_enough(sweeps: Sweeps) -> None:
    old, young = written(sweeps, "old/9", size=7), written(sweeps, "young/9", age=DAY - MINUTE)
    seen, report = reconciled(sweeps)
    assert [(one.kind, one.files, one.found_bytes) for one in seen.findings] == [
        ("orphan", 1, 7),
        ("young_orphan", 1, SIZE),
    ]
    assert [one.uri for one in seen.findings] == ["memory://store/old/", "memory://store/young/"]
    assert report.files == 5
    assert None not in (sweeps.store.contents(old), sweeps.store.contents(young))


def test_what_is_reported_while_the_store_is_listed_is_no_orphan(sweeps: Sweeps) -> None:
    uri = written(sweeps, "9")
    late = Seen()
    listed = late.listed

    def save_meanwhile() -> None:
        listed()
        if late.items == 1:
            sweeps.send(TrialStarted(trial_id="9"))
            sweeps.send(CheckpointSaved(trial_id="9", uri=uri, size_bytes=SIZE, resource=1))

    late.listed = save_meanwhile  # type: ignore[method-assign]
    sweeps.services.reconciler.reconcile([], RECORD, late)
    assert late.findings == []


def test_an_orphan_where_a_trial_once_saved_names_it(sweeps: Sweeps) -> None:
    sweeps.limit("experiments", 2, 2)
    sweeps.sweep(AT_ONCE)
    assert sweeps.checkpoint("3").state == "purged"
    written(sweeps, "3")
    seen, _ = reconciled(sweeps)
    (finding,) = seen.findings
    assert (finding.kind, finding.experiment_id, finding.trial_id) == ("orphan", "x", "3")
    assert not finding.may_be_trashed


def test_an_orphan_that_was_restored_is_one_again(sweeps: Sweeps) -> None:
    orphan = written(sweeps, "9")
    order = SweepOrder(BY_LEVEL, DAY)
    for place in (orphan, orphan):
        (finding,) = reconciled(sweeps)[0].findings
        assert (finding.uri, finding.may_be_trashed) == (place, True)
        sweeps.services.sweeper.trash_orphans([place], DAY, order)
        assert reconciled(sweeps)[0].findings == []
        (trashed,) = sweeps.services.queries.evictions("_orphans", "trashed", 9)
        sweeps.services.restorer.restore(str(trashed["decision_id"]))


def test_what_is_in_the_trash_without_an_eviction_is_told(sweeps: Sweeps) -> None:
    sweeps.limit("experiments", 2, 2)
    sweeps.sweep(KEEP)
    other = written(sweeps, "9")
    sweeps.store.trash(other, "nobodys", sweeps.store.manifest(other))
    seen, _ = reconciled(sweeps)
    assert seen.brief == [("orphan_in_trash", "memory://store/.trash/nobodys", False)]


def test_a_store_that_is_not_the_one_that_was_added_is_not_compared(sweeps: Sweeps) -> None:
    for trial_id in "123":
        sweeps.store.remove_checkpoint(uri_of(trial_id))
    sweeps.store.mark("another")
    seen, report = reconciled(sweeps)
    assert seen.findings == []
    assert "is its disk mounted?" in report.errors[0]
    assert sweeps.checkpoint("1").state == "stored"


def test_what_cannot_be_looked_at_is_not_missing(sweeps: Sweeps) -> None:
    sweeps.store.remove_checkpoint(uri_of("2"))
    sweeps.store.hook = refusing("before manifest")
    seen, _ = reconciled(sweeps)
    assert seen.brief == [("not_looked_into", uri_of("2"), False)]
    assert sweeps.checkpoint("2").state == "stored"


def test_an_experiment_that_cannot_be_trusted_is_left_out(sweeps: Sweeps, database_url: str) -> None:
    with services_over(database_url, sweeps.clock, lambda _: sweeps.store) as elsewhere:
        elsewhere.recorder.append([sweeps.envelope(CheckpointMissing(trial_id="3", uri=uri_of("3")))])
    tamper(sweeps.services, ["UPDATE events SET data = '[]' WHERE type = 'checkpoint_missing'"])
    sweeps.experiment_id = "y"
    sweeps.send(
        ExperimentRegistered(mode="min", rung_levels=(1,), promotion_quantiles=(0.5,), max_resource=9),
        TrialStarted(trial_id="7"),
    )
    sweeps.save("7")
    sweeps.store.remove_checkpoint(uri_of("7"))
    seen, report = reconciled(sweeps)
    assert list(report.untrusted) == ["x"]
    assert seen.brief == [("missing", uri_of("7"), True)]


def test_it_ends_when_it_is_told_to(sweeps: Sweeps) -> None:
    sweeps.store.remove_checkpoint(uri_of("3"))
    seen = Seen(stop_after=1)
    sweeps.services.reconciler.reconcile([], RECORD, seen)
    assert seen.items == 1
    assert sweeps.checkpoint("3").state == "stored"


@pytest.mark.parametrize("is_removed", [True, False])
def test_what_is_no_store_is_not_found(sweeps: Sweeps, *, is_removed: bool) -> None:
    if is_removed:
        sweeps.services.administration.remove_store(ROOT)
    with pytest.raises(NotFound, match="there is no such store"):
        sweeps.services.reconciler.reconcile([ROOT if is_removed else "memory://other/"], LOOK, Seen())


def test_one_process_records_at_a_time(sweeps: Sweeps) -> None:
    other = Leases(sweeps.services.database, "other")
    with other.held(RECONCILE_LEASE, MINUTE):
        with pytest.raises(LeaseHeld):
            reconciled(sweeps)
        assert reconciled(sweeps, LOOK)[0].findings == []
