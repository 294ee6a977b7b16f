"""Nothing is done to a store under a lock that the server may have given to another process."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from quota.errors import DatabaseUnavailable
from quota.eventlog.database import Database
from quota.services import fencing
from quota.services.fencing import TransactionFence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

IDLE_SECONDS = 300


class Uptime:
    """A host's clock that goes as it is told."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def uptime(monkeypatch: pytest.MonkeyPatch) -> Uptime:
    clock = Uptime()
    monkeypatch.setattr(fencing, "seconds_up", clock)
    return clock


@pytest.fixture
def connection(postgresql_url: str) -> Iterator[Connection]:
    with closing(Database(postgresql_url)) as database, database.write() as connection:
        yield connection


def test_it_closes_when_the_server_may_have_ended_the_transaction(connection: Connection, uptime: Uptime) -> None:
    fence = TransactionFence(connection)
    uptime.seconds += IDLE_SECONDS - 1
    fence.require()
    uptime.seconds += 1
    with pytest.raises(DatabaseUnavailable, match="nothing more is done to the store"):
        fence.require()


def test_it_counts_for_how_long_the_transaction_was_open_before(connection: Connection, uptime: Uptime) -> None:
    connection.execute(text("SET LOCAL transaction_timeout = '100s'"))
    fence = TransactionFence(connection)
    uptime.seconds += 100
    with pytest.raises(DatabaseUnavailable):
        fence.require()


def test_it_stays_open_where_the_server_ends_nothing(connection: Connection, uptime: Uptime) -> None:
    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    fence = TransactionFence(connection)
    uptime.seconds += 1e9
    fence.require()


def test_on_sqlite_nobody_takes_the_lock_of_a_process_that_is_frozen(sqlite_url: str, uptime: Uptime) -> None:
    with closing(Database(sqlite_url)) as database, database.write() as connection:
        fence = TransactionFence(connection)
        uptime.seconds += 1e9
        fence.require()
