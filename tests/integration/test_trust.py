"""Where something contradicts the log, nothing is deleted."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from quota.domain.events import CheckpointPinned, CheckpointUnpinned, ExperimentRegistered, SweepFinished, TrialPaused
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.errors import ClockJumped, StateRefused
from quota.eventlog.clock_watch import ClockWatch, system_uptime
from quota.services.clock_guard import ClockGuard
from quota.services.sweep_order import SweepOrder
from quota.services.sweep_run import SweepRun
from support import HandClock, create_schema, services_over, tamper
from sweeps import AT_ONCE, BY_LEVEL, DAY, KEEP, Killed, Sweeps, WatchedStore, killing, silent, sweeps_over, uri_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from quota.bootstrap import Services
    from quota.domain.plan import Plan
    from quota.eventlog.clock_watch import Uptime


@pytest.fixture
def sweeps(database_url: str) -> Iterator[Sweeps]:
    create_schema(database_url)
    with sweeps_over(database_url) as ready:
        ready.prepare(2, high=1, low=1)
        yield ready


@contextmanager
def another_process(sweeps: Sweeps, database_url: str) -> Iterator[Sweeps]:
    """One that has nothing in memory, and believes what it reads."""
    with sweeps_over(database_url) as others:
        others.store = sweeps.store
        others.services.sweeper._open_store = lambda _: sweeps.store  # noqa: SLF001 - one store for both
        yield others


def test_a_row_that_was_changed_takes_no_promised_checkpoint(sweeps: Sweeps, database_url: str) -> None:
    sweeps.resume("2")
    sweeps.services.queries.catch_up(["x"])
    with sweeps.services.database.write() as connection:
        connection.execute(text("UPDATE trials SET status = 'paused', promised_uri = NULL WHERE trial_id = '2'"))
        connection.execute(text("UPDATE usage SET running_trials = 0, held_checkpoints = 2"))
        connection.execute(text("UPDATE rung_entries SET has_checkpoint = TRUE WHERE trial_id = '2'"))
        connection.execute(text("UPDATE checkpoints SET pinned = TRUE WHERE trial_id = '1'"))
    with another_process(sweeps, database_url) as others:
        report = others.sweep(AT_ONCE)
        assert "trial 2 is paused by its row, and running by the log" in report.untrusted["x"]
        assert report.tally.decided == 0
    assert sweeps.store.contents(uri_of("2")) is not None


def test_a_row_that_was_changed_takes_no_pinned_checkpoint(sweeps: Sweeps, database_url: str) -> None:
    sweeps.send(CheckpointPinned(trial_id="2", uri=uri_of("2")))
    sweeps.services.queries.catch_up(["x"])
    with sweeps.services.database.write() as connection:
        connection.execute(text("UPDATE checkpoints SET pinned = FALSE"))
    with another_process(sweeps, database_url) as others:
        report = others.sweep(AT_ONCE)
        assert f"pinned of checkpoint {uri_of('2')} is False by its row, and True by the log" in report.untrusted["x"]
    assert sweeps.store.contents(uri_of("2")) is not None


def test_a_row_that_was_changed_takes_nothing_that_nobody_has_saved(sweeps: Sweeps, database_url: str) -> None:
    sweeps.services.queries.catch_up(["x"])
    other = "memory://store/dataset/"
    sweeps.store.add_checkpoint(other, {"weights": b"w"})
    with sweeps.services.database.write() as connection:
        connection.execute(text("UPDATE checkpoints SET uri = :uri WHERE trial_id = '2'"), {"uri": other})
    with another_process(sweeps, database_url) as others:
        report = others.sweep(AT_ONCE)
        assert f"checkpoint {other} is trial 2's by its row, and the log knows of none" in report.untrusted["x"]
    assert sweeps.store.contents(other) is not None


@pytest.mark.parametrize("promised", [None, uri_of("2", "-b")])
def test_a_row_that_was_changed_takes_no_promised_checkpoint_for_superseded(
    sweeps: Sweeps, database_url: str, promised: str | None
) -> None:
    sweeps.resume("2")
    sweeps.save("2", "-b", resource=2)
    sweeps.services.queries.catch_up(["x"])
    with sweeps.services.database.write() as connection:
        connection.execute(text("UPDATE trials SET promised_uri = :uri WHERE trial_id = '2'"), {"uri": promised})
    with another_process(sweeps, database_url) as others:
        report = others.sweep(AT_ONCE)
        said = f"trial 2 was promised {promised or 'nothing'} by its row, and {uri_of('2')} by the log"
        assert said in report.untrusted["x"]
    assert sweeps.store.contents(uri_of("2")) is not None


@pytest.mark.parametrize(
    ("column", "value"), [("saved_at", "'2027-01-01T00:00:00.000000Z'"), ("saved_position", "saved_position + 1")]
)
def test_a_row_that_was_changed_takes_nothing_that_was_saved_otherwise(
    sweeps: Sweeps, database_url: str, column: str, value: str
) -> None:
    sweeps.services.queries.catch_up(["x"])
    with sweeps.services.database.write() as connection:
        connection.execute(text(f"UPDATE checkpoints SET {column} = {value} WHERE trial_id = '2'"))
    with another_process(sweeps, database_url) as others:
        report = others.sweep(AT_ONCE)
        assert f"{column} of checkpoint {uri_of('2')} is " in report.untrusted["x"]
    assert sweeps.store.contents(uri_of("2")) is not None


def test_a_checkpoint_whose_row_is_gone_takes_none_of_its_trial(sweeps: Sweeps, database_url: str) -> None:
    sweeps.resume("2")
    sweeps.save("2", "-b", resource=2)
    sweeps.send(TrialPaused(trial_id="2", level=3, metric=9.0))
    sweeps.services.queries.catch_up(["x"])
    with sweeps.services.database.write() as connection:
        connection.execute(text("DELETE FROM checkpoints WHERE uri = :uri"), {"uri": uri_of("2", "-b")})
        connection.execute(text("UPDATE trials SET stored_checkpoints = 1 WHERE trial_id = '2'"))
        connection.execute(text("UPDATE checkpoints SET pinned = TRUE WHERE trial_id = '1'"))
    with another_process(sweeps, database_url) as others:
        report = others.sweep(AT_ONCE)
        assert (
            f"checkpoint {uri_of('2', '-b')} of trial 2 has no row, and is stored by the log" in report.untrusted["x"]
        )
    assert sweeps.store.contents(uri_of("2")) is not None


def test_an_experiment_that_cannot_be_trusted_keeps_no_other_from_being_swept(
    sweeps: Sweeps, database_url: str
) -> None:
    sweeps.experiment_id = "a"
    sweeps.send(ExperimentRegistered(mode="min", rung_levels=(1,), promotion_quantiles=(0.5,), max_resource=9))
    sweeps.services.queries.catch_up(["a", "x"])
    sweeps.experiment_id = "x"
    with sweeps.services.database.write() as connection:
        connection.execute(text("UPDATE projected_streams SET position = 99 WHERE experiment_id = 'a'"))
    with another_process(sweeps, database_url) as others:
        report = others.services.sweeper.sweep(["a", "x"], AT_ONCE)
        assert (report.tally.purged, list(report.untrusted)) == (1, ["a"])
        finished = others.events(DEPLOYMENT_STREAM)[-1].payload
        assert isinstance(finished, SweepFinished)
        assert "the rows reflect 99" in finished.errors[0]


CHANGED = "the event was changed, or its hash was, or one before it was replaced"


def change(sweeps: Sweeps, stream: str, position: int) -> None:
    tamper(
        sweeps.services,
        [f"UPDATE events SET actor = 'nobody' WHERE experiment_id = '{stream}' AND position = {position}"],
    )


@pytest.mark.parametrize("stream", ["x", DEPLOYMENT_STREAM])
@pytest.mark.parametrize("before", ["plan", "move", "purge"])
def test_a_broken_chain_deletes_nothing(sweeps: Sweeps, database_url: str, stream: str, before: str) -> None:
    if before == "move":
        sweeps.store.hook = killing("before trash")
        with pytest.raises(Killed):
            sweeps.sweep(KEEP)
        sweeps.store.hook = silent
    elif before == "purge":
        sweeps.sweep(KEEP)
    change(sweeps, stream, 2)
    with another_process(sweeps, database_url) as others:
        report = others.sweep(AT_ONCE)
        assert f"event 2 of {stream}: {CHANGED}" in report.untrusted["x"]
        assert (report.tally.decided, report.tally.evicted, report.tally.purged) == (0, 0, 0)
        assert sweeps.store.deleted == []
        assert (sweeps.store.contents(uri_of("2")) is None) == (before == "purge")


@pytest.mark.parametrize("position", [-1, 0, 99])
def test_an_event_outside_the_chain_deletes_nothing(sweeps: Sweeps, database_url: str, position: int) -> None:
    """Whoever asks for a trial's events would find it."""
    sweeps.services.queries.catch_up(["x"])
    head = len(sweeps.events())
    columns = "experiment_id, type, schema_version, trial_id, occurred_at, recorded_at, actor, data, hash"
    inserted = (
        f"INSERT INTO events (position, event_id, {columns}) SELECT {position},"
        f" '01990000-0000-7000-8000-000000000001', {columns} FROM events WHERE experiment_id = 'x' AND position = 2"
    )
    tamper(sweeps.services, [inserted])
    with another_process(sweeps, database_url) as others:
        report = others.sweep(AT_ONCE)
        said = f"event {position} of x: the event belongs to no chain: the head says {head}"
        assert said in report.untrusted["x"]
        assert report.tally.decided == 0


def test_what_is_changed_while_the_plan_is_listed_is_seen(sweeps: Sweeps) -> None:
    def append_and_change(step: str, _: str) -> None:
        if step == "before manifest":
            sweeps.store.hook = silent
            sweeps.send(CheckpointPinned(trial_id="1", uri=uri_of("1")))
            change(sweeps, "x", len(sweeps.events()))

    sweeps.store.hook = append_and_change
    report = sweeps.sweep(AT_ONCE)
    assert CHANGED in report.untrusted["x"]
    assert report.tally.decided == 0


def test_a_long_process_verifies_whole_chains_again_and_again(sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [0.0]
    monkeypatch.setattr("quota.services.trusting.monotonic", lambda: moment[0])
    assert sweeps.sweep(KEEP).untrusted == {}
    change(sweeps, "x", 2)
    sweeps.pause_more("3")
    assert sweeps.sweep(KEEP).untrusted == {}
    moment[0] = 601.0
    sweeps.pause_more("4")
    assert CHANGED in sweeps.sweep(KEEP).untrusted["x"]


def guarded(services: Services, uptime: Uptime = system_uptime) -> None:
    """Let the clock be doubted, as outside of tests."""
    guard = ClockGuard(services.database, services.log, services.clock, ClockWatch(uptime))
    services.sweeper._clock_guard = services.administration._clock_guard = guard  # noqa: SLF001


@dataclass
class Ahead:
    """A clock that can be wrong."""

    by: timedelta = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.by


def test_a_clock_that_was_wrong_for_a_while_is_accepted_by_an_operator(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_schema(database_url)
    clock, store = Ahead(), WatchedStore()
    with services_over(database_url, clock, lambda _: store) as services:
        sweeps = Sweeps(services, HandClock(), store)
        monkeypatch.setattr(type(services.database), "now", lambda *_: clock.now())
        guarded(services)
        sweeps.prepare(2, high=1, low=1)
        with pytest.raises(StateRefused, match="there is nothing to accept"):
            services.administration.accept_clock()
        clock.by = timedelta(days=365)
        sweeps.send(CheckpointPinned(trial_id="1", uri=uri_of("1")))
        clock.by = timedelta()
        with pytest.raises(ClockJumped, match="ckpt-quota db accept-clock"):
            sweeps.sweep(AT_ONCE)
        services.administration.accept_clock()
        assert sweeps.sweep(AT_ONCE).tally.purged == 1
        # What is accepted is that mistake, and not the next one.
        clock.by = timedelta(days=400)
        sweeps.send(CheckpointUnpinned(trial_id="1", uri=uri_of("1")))
        clock.by = timedelta()
        with pytest.raises(ClockJumped):
            sweeps.sweep(AT_ONCE)
        assert list(services.rebuilder.verify(DEPLOYMENT_STREAM, lambda _: None)) == []


def test_a_clock_that_is_set_ahead_during_a_sweep_purges_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_schema(database_url)
    clock, store = Ahead(), WatchedStore()
    with services_over(database_url, clock, lambda _: store) as services:
        sweeps = Sweeps(services, HandClock(), store)
        if services.database.is_sqlite:
            monkeypatch.setattr(type(services.database), "now", lambda *_: clock.now())
        guarded(services)
        sweeps.prepare(3, high=2, low=2)
        hour = SweepOrder(BY_LEVEL, timedelta(hours=1))
        assert sweeps.sweep(hour).tally.evicted == 1
        sweeps.limit("experiments", 1, 1)

        def set_ahead(step: str, _: str) -> None:
            if step == "after trash":
                clock.by = timedelta(hours=2)

        store.hook = set_ahead
        with pytest.raises(ClockJumped):
            sweeps.sweep(hour)
        assert store.deleted == []
        assert [decision.outcome for decision in sweeps.state().decisions.values()] == ["trashed"] * 2


def test_a_clock_that_is_wrong_deletes_nothing(sweeps: Sweeps) -> None:
    # The hand-made clock stands still in the past.
    guarded(sweeps.services)
    with pytest.raises(ClockJumped, match="nothing is deleted before that is mended"):
        sweeps.sweep(AT_ONCE)
    assert sweeps.store.contents(uri_of("2")) is not None


@dataclass
class Host:
    """A host with one clock, which is also the embedded database's."""

    moment: datetime
    boot: str = "first"
    up_seconds: float = 1_000.0

    def now(self) -> datetime:
        return self.moment

    def uptime(self) -> tuple[str, float]:
        return self.boot, self.up_seconds

    def wait(self, span: timedelta) -> None:
        self.moment += span
        self.up_seconds += span.total_seconds()


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Sweeps, Host]]:
    """Give an embedded database with a checkpoint in the trash that is due in a day."""
    url, host, store = f"sqlite:///{tmp_path}/quota.db", Host(datetime.now(UTC)), WatchedStore()
    create_schema(url)
    with services_over(url, host, lambda _: store) as services:
        monkeypatch.setattr(type(services.database), "now", lambda *_: host.now())
        guarded(services, host.uptime)
        sweeps = Sweeps(services, HandClock(host.moment), store)
        sweeps.prepare(2, high=1, low=1)
        assert sweeps.sweep(KEEP).tally.evicted == 1
        yield sweeps, host


@pytest.mark.parametrize("by", [DAY, -DAY])
def test_a_clock_that_was_set_deletes_nothing(watched: tuple[Sweeps, Host], by: timedelta) -> None:
    sweeps, host = watched
    host.wait(timedelta(hours=1))
    host.moment += by
    how = "ahead" if by > timedelta() else "back"
    with pytest.raises(ClockJumped, match=f"set {how} by 1 day, 0:00:00 while this host was up"):
        sweeps.sweep(KEEP)
    host.moment -= by
    assert sweeps.sweep(KEEP).tally.purged == 0
    host.wait(DAY)
    assert sweeps.sweep(KEEP).tally.purged == 1


def test_a_clock_that_was_set_is_accepted_by_an_operator(watched: tuple[Sweeps, Host]) -> None:
    sweeps, host = watched
    host.moment += DAY
    sweeps.services.administration.accept_clock()
    assert sweeps.sweep(KEEP).tally.purged == 1
    # What is accepted is that step, and not the next one.
    host.moment += DAY
    with pytest.raises(ClockJumped):
        sweeps.sweep(KEEP)


def test_small_corrections_of_the_clock_add_up(watched: tuple[Sweeps, Host]) -> None:
    sweeps, host = watched
    host.moment += timedelta(minutes=4)
    sweeps.sweep(KEEP)
    host.moment += timedelta(minutes=4)
    with pytest.raises(ClockJumped):
        sweeps.sweep(KEEP)


def test_a_host_that_was_started_again_is_watched_anew(watched: tuple[Sweeps, Host]) -> None:
    sweeps, host = watched
    host.moment, host.boot, host.up_seconds = host.moment + DAY, "second", 10.0
    assert sweeps.sweep(KEEP).tally.purged == 1
    host.moment += DAY
    with pytest.raises(ClockJumped):
        sweeps.sweep(KEEP)


def test_a_host_that_does_not_tell_how_long_it_is_up_is_trusted(watched: tuple[Sweeps, Host]) -> None:
    sweeps, host = watched
    guarded(sweeps.services, lambda: None)
    host.moment += DAY
    assert sweeps.sweep(KEEP).tally.purged == 1


def test_what_comes_due_during_a_sweep_is_purged_in_its_name_and_from_a_whole_log_only(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps.sweep(KEEP)
    sweeps.wait(DAY - timedelta(minutes=1))
    plan = SweepRun.plan

    def slow_plan(self: SweepRun, experiment_id: str) -> list[Plan]:
        found = plan(self, experiment_id)
        sweeps.wait(timedelta(minutes=2))
        return found

    monkeypatch.setattr(SweepRun, "plan", slow_plan)
    report = sweeps.sweep(KEEP)
    assert report.tally.purged == 1
    assert report.sweep_id is not None
    types = [event.payload.TYPE for event in sweeps.events(DEPLOYMENT_STREAM)]
    assert types.count("sweep_started") == types.count("sweep_finished") == 2


def test_small_corrections_of_a_host_that_is_up_for_long_do_not_add_up_for_ever(watched: tuple[Sweeps, Host]) -> None:
    sweeps, host = watched
    for _ in range(100):
        host.wait(DAY)
        host.moment += timedelta(seconds=10)
        sweeps.sweep(KEEP)
    host.moment += timedelta(minutes=6)
    with pytest.raises(ClockJumped):
        sweeps.sweep(KEEP)
