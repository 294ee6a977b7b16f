"""Leases: what only one process may do at a time, over all hosts, by the database's clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from quota.errors import DatabaseUnavailable, LeaseHeld, LeaseLost
from quota.eventlog.database import Database
from quota.eventlog.processes import has_ended, this_process
from quota.eventlog.tables import leases

T = TypeVar("T")

_LOOK_SECONDS = 1.0
"""How often it is looked whether the transaction is still there under which something takes long."""


def seconds_up() -> float:
    """Return for how many seconds the host has been up, suspended or not: leases run out meanwhile."""
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    except (OSError, AttributeError):
        return time.monotonic()


@dataclass(frozen=True, slots=True)
class Holding:
    """Who holds a lease.

    Attributes:
        name: The lease.
        holder: Who holds it.
        token: Rises with each holder.
        acquired_at: Since when, by the database's clock.
        expires_at: Until when, unless it is renewed.
    """

    name: str
    holder: str
    token: int
    acquired_at: datetime
    expires_at: datetime


class Lease:
    """A lease that was acquired, and may be lost to another process once it has expired.

    Args:
        database: Where it is kept.
        name: Its name.
        token: The fencing token that it was acquired with.
        term: For how long each renewal holds.
        asked_at: When it was acquired, by `seconds_up`, or somewhat before.

    Attributes:
        term: For how long each renewal holds.
    """

    def __init__(self, database: Database, name: str, token: int, term: timedelta, asked_at: float) -> None:
        self._database = database
        self._name = name
        self._token = token
        self.term = term
        self._renewed = asked_at
        self._worker = ThreadPoolExecutor(1)

    def require_unexpired(self) -> None:
        """Check by this host's clock alone that nobody can have acquired the lease since it was last renewed.

        This may be asked in any thread, and right before each step that must not be late: a process may be frozen
        between any two.

        Raises:
            LeaseLost: the term is over since the last renewal was asked for, or the database could not be asked.
        """
        if seconds_up() >= self._renewed + self.term.total_seconds():
            raise LeaseLost(
                f"lease {self._name}: another process may have taken it, as this one could not renew it within "
                f"{self.term}; what was begun is undone, or finished by the next sweep"
            )

    def require(self, connection: Connection) -> None:
        """Renew the lease in the caller's transaction; nobody else acquires it before that ends.

        On PostgreSQL the server ends the transaction of a process that says nothing for as long as the term: one that
        was frozen under a lock keeps nobody waiting for longer, and commits nothing when it wakes.

        Raises:
            LeaseLost: another process has acquired it.
        """
        asked_at = seconds_up()
        now = self._database.now(connection)
        mine = update(leases).where(leases.c.name == self._name, leases.c.token == self._token)
        if connection.execute(mine.values(expires_at=now + self.term)).rowcount != 1:
            raise LeaseLost(
                f"lease {self._name}: another process has taken it, as this one did not renew it within {self.term}; "
                "what was begun is finished there"
            )
        self._renewed = asked_at
        if not self._database.is_sqlite:
            milliseconds = int(self.term / timedelta(milliseconds=1))
            connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = {milliseconds}"))

    @contextmanager
    def counting_if_committed(self) -> Iterator[None]:
        """Go by the renewals of a transaction while it lasts, and after it only if it was committed."""
        before = self._renewed
        try:
            yield
        except BaseException:
            self._renewed = min(before, self._renewed)
            raise

    def keeping(self, work: Callable[[], T], connection: Connection | None = None) -> T:
        """Do something that may take longer than the term, and renew the lease meanwhile.

        A process that is frozen renews nothing, so this does not keep anybody waiting for one. Where the lease or the
        transaction turns out to be gone, `require_unexpired` says so at once, so that `work` can end early.

        Args:
            work: What to do, in another thread; it uses no connection.
            connection: The transaction that is kept alive too; None where none is open.

        Raises:
            LeaseLost: another process has acquired the lease; what `work` does was waited for all the same.
            DatabaseUnavailable: the database went away, and the transaction's locks with it; likewise.
        """
        future = self._worker.submit(work)
        try:
            # Many that are short add up, so it is looked at for each of them whether the term is running out.
            self._keep_up(connection)
            while not wait([future], timeout=min(self.term.total_seconds() / 3, _LOOK_SECONDS)).done:
                self._look_at(connection)
                self._keep_up(connection)
        except BaseException:
            self._renewed = -inf
            raise
        finally:
            wait([future])
        return future.result()

    def _look_at(self, connection: Connection | None) -> None:
        """Make sure that the transaction is still there: without it others may have its locks by now."""
        if connection is not None and not self._database.is_sqlite:
            connection.execute(select(1))

    def _keep_up(self, connection: Connection | None) -> None:
        if connection is None:
            self.keep()
        elif self._is_running_out():
            self.require(connection)

    def _is_running_out(self) -> bool:
        return seconds_up() - self._renewed >= self.term.total_seconds() / 3

    def keep(self) -> None:
        """Renew the lease in a transaction of its own, if a third of its term has passed.

        Raises:
            LeaseLost: another process has acquired it.
        """
        if not self._is_running_out():
            return
        with self.counting_if_committed(), self._database.write() as connection:
            self.require(connection)

    def release(self) -> None:
        """Give the lease back, if it is still ours."""
        self._worker.shutdown()
        mine = update(leases).where(leases.c.name == self._name, leases.c.token == self._token)
        with self._database.write() as connection:
            connection.execute(mine.values(holder=None, process=None, expires_at=None))


class Leases:
    """Acquires leases for this process.

    Args:
        database: Where they are kept.
        holder: Who this process says it is.
    """

    def __init__(self, database: Database, holder: str) -> None:
        self._database = database
        self._holder = holder

    @contextmanager
    def held(self, name: str, term: timedelta) -> Iterator[Lease]:
        """Hold a lease for a block.

        Raises:
            LeaseHeld: another process holds it, and has neither let it expire nor ended on this host.
        """
        asked_at = seconds_up()
        lease = Lease(self._database, name, self._acquired(name, term), term, asked_at)
        try:
            yield lease
        finally:
            # A database that went away gives the lease back by itself, once it expires.
            with suppress(DatabaseUnavailable):
                lease.release()

    def look(self, connection: Connection, name: str) -> Holding | None:
        """Return who holds a lease; None where nobody does.

        What a long transaction of its holder has renewed is not seen before that transaction ends.
        """
        row = connection.execute(select(leases).where(leases.c.name == name)).first()
        if row is None or row.holder is None or has_ended(row.process):
            return None
        if row.expires_at <= self._database.now(connection):
            return None
        return Holding(row.name, row.holder, row.token, row.acquired_at, row.expires_at)

    def _acquired(self, name: str, term: timedelta) -> int:
        insert_new = (sqlite.insert if self._database.is_sqlite else postgresql.insert)(leases)
        query = select(leases).where(leases.c.name == name)
        with self._database.read() as connection:
            # Whoever is about to be turned away need not queue for that behind the one who holds it.
            known = connection.execute(query).first()
            self._require_free(connection, known)
        with self._database.write() as connection:
            if known is None:
                connection.execute(insert_new.on_conflict_do_nothing(), {"name": name, "token": 0})
            row = connection.execute(query.with_for_update(skip_locked=True)).first()
            if row is None:
                # Its holder renews it just now, in a transaction that goes on.
                raise _held(connection.execute(query).one())
            self._require_free(connection, row)
            now = self._database.now(connection)
            token: int = row.token + 1
            taken = {
                "token": token,
                "holder": self._holder,
                "process": this_process(),
                "acquired_at": now,
                "expires_at": now + term,
            }
            connection.execute(update(leases).where(leases.c.name == name), taken)
        return token

    def _require_free(self, connection: Connection, row: Row[Any] | None) -> None:
        if row is None or row.holder is None or has_ended(row.process):
            return
        if row.expires_at > self._database.now(connection):
            raise _held(row)


def _held(row: Row[Any]) -> LeaseHeld:
    return LeaseHeld(
        f"lease {row.name}: {row.holder} holds it since {row.acquired_at:%Y-%m-%d %H:%M:%S} UTC; "
        "wait until that process is done, or for as long as its lease holds after it was killed"
    )
