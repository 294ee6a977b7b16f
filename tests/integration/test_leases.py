"""One process sweeps at a time, and one that took too long deletes nothing more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from threading import Event, Semaphore
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text, update

from quota.cli import main
from quota.domain.events import TrialPaused, TrialResumed
from quota.errors import DatabaseUnavailable, LeaseHeld, LeaseLost
from quota.eventlog.database import Database
from quota.eventlog.leases import Lease, Leases
from quota.eventlog.processes import has_ended, this_process
from quota.eventlog.tables import leases
from quota.services.fencing import SWEEP_LEASE
from quota.services.migrating import upgrade
from quota.services.sweep_order import SweepOrder
from support import create_schema, services_over
from sweeps import AT_ONCE, Killed, Sweeps, killing, refusing, silent, sweeps_over, uri_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from quota.eventlog.log import LockedStream

TERM = timedelta(minutes=1)
HOLD_UNTIL_KILLED = """
import sys, time
from datetime import timedelta
from quota.eventlog.database import Database
from quota.eventlog.leases import Lease, Leases
with Leases(Database(sys.argv[1]), "another").held("sweep", timedelta(hours=1)):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    create_schema(database_url)
    with closing(Database(database_url)) as opened:
        yield opened


@pytest.fixture
def sweeps(database_url: str) -> Iterator[Sweeps]:
    create_schema(database_url)
    with sweeps_over(database_url) as ready:
        ready.prepare(2, high=1, low=1)
        yield ready


@contextmanager
def another_process(url: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds the sweep's lease."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_UNTIL_KILLED, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def expire(database: Database) -> None:
    """Let all leases run out."""
    with database.write() as connection:
        connection.execute(update(leases).values(expires_at=database.now(connection) - timedelta(seconds=1)))


def steal(sweeps: Sweeps) -> None:
    """Be the process that takes over from one that took too long."""
    expire(sweeps.services.database)
    holding = Leases(sweeps.services.database, "another").held(SWEEP_LEASE, TERM)
    holding.__enter__()


def test_a_lease_is_held_by_one(database: Database) -> None:
    with Leases(database, "one").held("sweep", TERM), Leases(database, "one").held("another", TERM):
        with database.read() as connection:
            holding = Leases(database, "two").look(connection, "sweep")
        assert holding is not None
        assert (holding.holder, holding.token, holding.expires_at - holding.acquired_at) == ("one", 1, TERM)
        with (
            pytest.raises(LeaseHeld, match="lease sweep: one holds it since"),
            Leases(database, "two").held("sweep", TERM),
        ):
            pass
    with Leases(database, "two").held("sweep", TERM), database.read() as connection:
        holding = Leases(database, "two").look(connection, "sweep")
        assert holding is not None
        assert (holding.holder, holding.token) == ("two", 2)
    with database.read() as connection:
        assert Leases(database, "two").look(connection, "sweep") is None


def test_a_lease_that_has_expired_is_taken_over_and_lost(database: Database) -> None:
    with Leases(database, "one").held("sweep", TERM) as lost:
        expire(database)
        with Leases(database, "two").held("sweep", TERM) as taken:
            with pytest.raises(LeaseLost, match="another process has taken it"), database.write() as connection:
                lost.require(connection)
            with database.write() as connection:
                taken.require(connection)
            lost.release()
            with database.read() as connection:
                assert Leases(database, "one").look(connection, "sweep") is not None


def test_a_lease_that_has_expired_and_that_nobody_took_is_renewed(database: Database) -> None:
    with Leases(database, "one").held("sweep", TERM) as lease:
        expire(database)
        with database.write() as connection:
            lease.require(connection)
        with database.read() as connection:
            assert Leases(database, "two").look(connection, "sweep") is not None


def test_a_process_of_this_host_that_was_killed_is_not_waited_for(database: Database, database_url: str) -> None:
    with another_process(database_url) as process:
        with pytest.raises(LeaseHeld, match="another holds it"), Leases(database, "one").held("sweep", TERM):
            pass
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with Leases(database, "one").held("sweep", TERM):
            pass


def test_whether_a_process_has_ended_is_said_of_this_boot_only() -> None:
    own = this_process()
    assert own is not None
    assert not has_ended(own)
    place, pid, started = own.rsplit(" ", 2)
    assert has_ended(f"{place} {pid} {int(started) - 1}")
    assert has_ended(f"{place} {2**22 + 1} {started}")
    assert not has_ended(f"another{place} {pid} {int(started) - 1}")
    assert not has_ended(None)


def test_no_second_sweep_runs_beside_the_first(sweeps: Sweeps) -> None:
    before = len(sweeps.events())
    with Leases(sweeps.services.database, "another").held(SWEEP_LEASE, TERM), pytest.raises(LeaseHeld):
        sweeps.sweep(AT_ONCE)
    assert len(sweeps.events()) == before
    assert sweeps.sweep(AT_ONCE).tally.purged == 1


@pytest.mark.parametrize("step", ["before manifest", "before purge"])
def test_a_sweeper_that_lost_its_lease_stops(sweeps: Sweeps, step: str) -> None:
    def hook(now: str, _: str) -> None:
        if now == step:
            sweeps.store.hook = silent
            steal(sweeps)

    sweeps.store.hook = hook
    with pytest.raises(LeaseLost):
        sweeps.sweep(AT_ONCE)
    assert sweeps.types()[-1:] == ([] if step == "before manifest" else ["purge_decided"])
    expire(sweeps.services.database)
    sweeps.sweep(AT_ONCE)
    assert sweeps.checkpoint("2").state == "purged"
    sweeps.check_settled()


class Frozen:
    """A sweeper that is frozen just before a move, until its lease and its transaction are gone; then it wakes."""

    def __init__(self, sweeps: Sweeps, url: str) -> None:
        self.sweeps, self.url = sweeps, url

    def __call__(self, step: str, _: str) -> None:
        if step != "before trash":
            return
        self.sweeps.store.hook = silent
        with closing(Database(self.url)) as other, other.write() as connection:
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            connection.execute(text(f"{ended} WHERE datname = current_database() AND pid <> pg_backend_pid()"))
        with services_over(self.url, self.sweeps.clock, lambda _: self.sweeps.store) as services:
            expire(services.database)
            resumed = self.sweeps.envelope(TrialResumed(trial_id="2", level=1))
            assert services.recorder.resume_trial(resumed).checkpoint is not None


@pytest.mark.parametrize("killed", [False, True])
def test_a_sweeper_that_wakes_after_a_resume_takes_nothing_of_it(postgresql_url: str, *, killed: bool) -> None:
    create_schema(postgresql_url)
    with sweeps_over(postgresql_url) as sweeps:
        sweeps.prepare(2, high=1, low=1)
        frozen = Frozen(sweeps, postgresql_url)

        def hook(step: str, about: str) -> None:
            frozen(step, about)
            if killed and step == "before trash":
                # It is killed after the late move, before it can undo it.
                sweeps.store.hook = refusing("before restore")

        sweeps.store.hook = hook
        with pytest.raises(DatabaseUnavailable):
            sweeps.sweep()
        sweeps.store.hook = silent
        assert (sweeps.store.contents(uri_of("2")) is None) == killed
        promised = sweeps.services.recorder.promised_checkpoint("x", "2")
        assert promised is not None
        assert promised.uri == uri_of("2")
        assert sweeps.store.contents(uri_of("2")) is not None
        sweeps.check_settled()


def test_a_sweep_heals_a_late_move(sweeps: Sweeps) -> None:
    sweeps.store.hook = killing("before trash")
    with pytest.raises(Killed):
        sweeps.sweep()
    sweeps.store.hook = silent
    decided = sweeps.decision().decided
    assert sweeps.resume("2").checkpoint is not None
    sweeps.sweep()
    sweeps.store.trash(decided.uri, decided.decision_id, decided.manifest)
    sweeps.sweep()
    assert sweeps.store.contents(uri_of("2")) is not None
    # The other trial's, since a running one counts.
    sweeps.check_settled(open_decisions=1)


def test_what_is_taken_for_missing_is_looked_for_in_the_trash(sweeps: Sweeps) -> None:
    sweeps.store.hook = killing("before trash")
    with pytest.raises(Killed):
        sweeps.sweep()
    sweeps.store.hook = silent
    decided = sweeps.decision().decided
    sweeps.resume("2")
    sweeps.send(TrialPaused(trial_id="2", level=1, metric=2.0))
    sweeps.store.trash(decided.uri, decided.decision_id, decided.manifest)
    assert sweeps.sweep().tally.missing == []
    assert "checkpoint_missing" not in sweeps.types()
    sweeps.check_settled(open_decisions=1)


def test_what_somebody_else_put_into_the_trash_is_left_alone(sweeps: Sweeps) -> None:
    sweeps.store.trash(uri_of("1"), "nobodys", sweeps.store.manifest(uri_of("1")))
    assert sweeps.sweep().tally.failed == 0
    assert sweeps.store.trash_contents("nobodys") is not None


def test_a_move_whose_record_is_not_committed_is_undone(sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch) -> None:
    flush = sweeps.services.log.flush

    def failing(stream: LockedStream) -> None:
        if any(row["type"] == "checkpoint_trashed" for row in stream.pending):
            raise DatabaseUnavailable("the session was ended while this process was frozen")
        flush(stream)

    monkeypatch.setattr(sweeps.services.log, "flush", failing)
    with pytest.raises(DatabaseUnavailable):
        sweeps.sweep()
    assert sweeps.store.contents(uri_of("2")) is not None
    monkeypatch.undo()
    assert sweeps.checkpoint("2").state == "claimed"
    assert sweeps.resume("2").checkpoint is not None
    sweeps.check_settled()


def test_a_move_that_cannot_be_undone_is_finished_by_the_next_sweep(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = sweeps.services.log.flush

    def failing(stream: LockedStream) -> None:
        if any(row["type"] == "checkpoint_trashed" for row in stream.pending):
            sweeps.store.hook = refusing("before restore")
            raise DatabaseUnavailable("the session was ended while this process was frozen")
        flush(stream)

    monkeypatch.setattr(sweeps.services.log, "flush", failing)
    with pytest.raises(DatabaseUnavailable):
        sweeps.sweep()
    monkeypatch.undo()
    sweeps.store.hook = silent
    sweeps.sweep()
    assert sweeps.checkpoint("2").state == "trashed"
    sweeps.check_settled(open_decisions=1)


def test_the_server_ends_a_transaction_that_says_nothing(postgresql_url: str) -> None:
    create_schema(postgresql_url)
    with closing(Database(postgresql_url)) as database, Leases(database, "one").held("sweep", TERM) as lease:
        with database.write() as connection:
            lease.require(connection)
            assert connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar() == "1min"
        with database.write() as connection:
            assert connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar() == "5min"


def test_the_command_line_leaves_a_sweep_that_runs_alone(
    database_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Database(database_url)) as database:
        upgrade(database)
        with sweeps_over(database_url) as sweeps:
            sweeps.prepare(2, high=1, low=1)
        monkeypatch.setattr("sys.argv", ["ckpt-quota", "sweep", "--json", "--database", database_url])
        with Leases(database, "another").held(SWEEP_LEASE, TERM), pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    answer = json.loads(capsys.readouterr().out)
    assert answer["sweep_id"] is None
    assert "another holds it since" in answer["skipped"]


def test_what_is_short_adds_up_and_is_waited_for_too(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [0.0]
    monkeypatch.setattr("quota.eventlog.leases.seconds_up", lambda: moment[0])
    renewed: list[float] = []
    require = Lease.require

    def noting(lease: Lease, connection: Connection) -> None:
        renewed.append(moment[0])
        require(lease, connection)

    def work() -> None:
        moment[0] += TERM.total_seconds() / 4

    with Leases(database, "one").held("sweep", TERM) as lease, database.write() as connection:
        monkeypatch.setattr(Lease, "require", noting)
        for _ in range(8):
            lease.keeping(work, connection)
    assert all(later - earlier < TERM.total_seconds() for earlier, later in pairwise([0.0, *renewed, moment[0]]))


def test_a_lease_expires_by_this_hosts_clock_from_before_it_was_renewed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = [0.0]
    monkeypatch.setattr("quota.eventlog.leases.seconds_up", lambda: moment[0])
    with Leases(database, "one").held("sweep", TERM) as lease:
        now = database.now

        def slow(connection: Connection) -> datetime:
            # The answer to a renewal takes its time.
            moment[0] += 20
            return now(connection)

        with database.write() as connection:
            monkeypatch.setattr(database, "now", slow)
            lease.require(connection)
            monkeypatch.setattr(database, "now", now)
        moment[0] = TERM.total_seconds() - 1
        lease.require_unexpired()
        moment[0] = TERM.total_seconds()
        with pytest.raises(LeaseLost, match="another process may have taken it"):
            lease.require_unexpired()
        with database.write() as connection:
            lease.require(connection)
        lease.require_unexpired()


def test_a_renewal_that_was_not_committed_does_not_count(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [0.0]
    monkeypatch.setattr("quota.eventlog.leases.seconds_up", lambda: moment[0])

    def renew_in_vain() -> None:
        with lease.counting_if_committed(), database.write() as connection:
            lease.require(connection)
            moment[0] = TERM.total_seconds()
            lease.require_unexpired()
            raise Killed

    with Leases(database, "one").held("sweep", TERM) as lease:
        moment[0] = TERM.total_seconds() / 2
        with pytest.raises(Killed):
            renew_in_vain()
        with pytest.raises(LeaseLost, match="another process may have taken it"):
            lease.require_unexpired()


def test_what_works_under_a_transaction_that_is_gone_is_told_so_at_once(postgresql_url: str) -> None:
    create_schema(postgresql_url)
    told: list[LeaseLost] = []

    def work() -> None:
        with closing(Database(postgresql_url)) as other, other.write() as connection:
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            connection.execute(text(f"{ended} WHERE datname = current_database() AND pid <> pg_backend_pid()"))
        pause = Event()
        for _ in range(600):
            try:
                lease.require_unexpired()
            except LeaseLost as lost:
                told.append(lost)
                return
            pause.wait(0.1)

    def keep_through(work: Callable[[], None]) -> None:
        with database.write() as connection:
            lease.require(connection)
            lease.keeping(work, connection)

    with (
        closing(Database(postgresql_url)) as database,
        Leases(database, "one").held("sweep", timedelta(hours=1)) as lease,
    ):
        with pytest.raises(DatabaseUnavailable):
            keep_through(work)
        assert len(told) == 1


def test_what_takes_longer_than_the_term_is_waited_for(sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch) -> None:
    renewals, require = Semaphore(0), Lease.require

    def counting(lease: Lease, connection: Connection) -> None:
        require(lease, connection)
        renewals.release()

    def slow(step: str, _: str) -> None:
        if step in {"before manifest", "before trash", "before purge"}:
            while renewals.acquire(blocking=False):
                pass
            assert renewals.acquire(timeout=60)

    monkeypatch.setattr(Lease, "require", counting)
    sweeps.store.hook = slow
    report = sweeps.services.sweeper.sweep(
        ["x"], SweepOrder(AT_ONCE.parameters, AT_ONCE.retention, timedelta(seconds=1))
    )
    assert (report.tally.evicted, report.tally.purged) == (1, 1)
    sweeps.check_settled()


def test_whoever_comes_while_the_lease_is_renewed_is_turned_away_at_once(postgresql_url: str) -> None:
    create_schema(postgresql_url)
    with closing(Database(postgresql_url)) as database, Leases(database, "first").held("sweep", TERM) as lease:
        with database.write() as connection:
            past = database.now(connection) - TERM
            connection.execute(update(leases).values(expires_at=past))
        # What is renewed here, nobody else sees before it is committed.
        with database.write() as connection:
            lease.require(connection)
            with pytest.raises(LeaseHeld, match="first holds it since"), Leases(database, "second").held("sweep", TERM):
                pass


def test_whoever_is_turned_away_does_not_queue_for_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/quota.db"
    create_schema(url)
    with closing(Database(url)) as database, Leases(database, "first").held("sweep", TERM):
        second = Leases(database, "second").held("sweep", TERM)
        with database.write(), pytest.raises(LeaseHeld, match="first holds it since"), second:
            pass
