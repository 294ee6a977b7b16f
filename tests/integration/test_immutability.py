"""Events never change, whoever tries, and however."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from quota.client import ExperimentHandle
from quota.domain.events import ExperimentRegistered
from quota.eventlog.tables import PARTITIONS
from quota.testing.memory_store import MemoryStore
from support import HandClock, create_schema, services_over

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

COLUMNS = "experiment_id, position, event_id, type, schema_version, occurred_at, recorded_at, actor, data, hash"
UPSERT = (
    f"INSERT INTO events ({COLUMNS}) SELECT {COLUMNS} FROM events WHERE position = 1 AND true "
    "ON CONFLICT (experiment_id, position) DO UPDATE SET actor = 'somebody else'"
)
CHANGES = [
    "UPDATE events SET actor = 'somebody else'",
    "UPDATE events SET data = data",
    "DELETE FROM events WHERE position = 1",
    "DELETE FROM events",
    UPSERT,
]
POSTGRESQL_CHANGES = [
    "TRUNCATE events",
    "TRUNCATE events CASCADE",
    "SET session_replication_role = replica; UPDATE events SET actor = 'somebody else'",
    "SET session_replication_role = replica; DELETE FROM events",
    "SET session_replication_role = replica; TRUNCATE events",
]
SQLITE_REPLACES = {
    "global position": f"INSERT OR REPLACE INTO events (global_position, {COLUMNS}) SELECT global_position, 'another', "
    "position, 'another', type, schema_version, occurred_at, recorded_at, actor, data, hash FROM events "
    "WHERE position = 1",
    "event id": f"INSERT OR REPLACE INTO events ({COLUMNS}) SELECT 'another', position, event_id, type, "
    "schema_version, occurred_at, recorded_at, actor, data, hash FROM events WHERE position = 1",
    "position": f"INSERT OR REPLACE INTO events ({COLUMNS}) SELECT experiment_id, position, 'another', type, "
    "schema_version, occurred_at, recorded_at, actor, data, hash FROM events WHERE position = 1",
    "replace into": f"REPLACE INTO events ({COLUMNS}) SELECT {COLUMNS} FROM events WHERE position = 1",
}


def some_events(url: str) -> None:
    create_schema(url)
    with services_over(url, HandClock(), MemoryStore) as services:
        handle = ExperimentHandle(services, "tester", "one")
        handle.record(ExperimentRegistered(mode="min", rung_levels=(1,), promotion_quantiles=(0.5,), max_resource=3))
        handle.trial_started("7")
        handle.trial_reported("7", resource=1, metric=0.5)


def rows(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text("SELECT * FROM events ORDER BY global_position"))]


def attempt(engine: Engine, change: str) -> None:
    with engine.begin() as connection:
        for statement in change.split("; "):
            connection.execute(text(statement))


def assert_refused(url: str, change: str) -> None:
    """Try it on a connection that nobody of ours has configured."""
    some_events(url)
    engine = create_engine(url)
    try:
        before = rows(engine)
        assert len(before) == 3
        with pytest.raises(DBAPIError, match="never changed"):
            attempt(engine, change)
        assert rows(engine) == before
    finally:
        engine.dispose()


@pytest.mark.parametrize("change", CHANGES)
def test_change_is_refused(database_url: str, change: str) -> None:
    assert_refused(database_url, change)


@pytest.mark.parametrize("change", POSTGRESQL_CHANGES)
def test_change_is_refused_by_postgresql(postgresql_url: str, change: str) -> None:
    assert_refused(postgresql_url, change)


@pytest.mark.parametrize("role", ["origin", "replica"])
def test_no_partition_can_be_changed_by_itself(postgresql_url: str, role: str) -> None:
    some_events(postgresql_url)
    engine = create_engine(postgresql_url)
    try:
        before = rows(engine)
        with engine.connect() as connection:
            (holding,) = connection.execute(text("SELECT DISTINCT tableoid::regclass::text FROM events")).scalars()
            found = connection.execute(
                text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'events'::regclass")
            )
            assert set(PARTITIONS) <= set(found.scalars())
        changes = [f"TRUNCATE {name}" for name in PARTITIONS]
        changes += [f"UPDATE {holding} SET actor = 'somebody else'", f"DELETE FROM {holding}"]
        for change in changes:
            with pytest.raises(DBAPIError, match="never changed"):
                attempt(engine, f"SET session_replication_role = {role}; {change}")
        other = next(name for name in PARTITIONS if name != holding)
        misplaced = f"INSERT INTO {other} OVERRIDING SYSTEM VALUE SELECT * FROM events"
        with pytest.raises(DBAPIError, match="violates partition constraint"):
            attempt(engine, misplaced)
        assert rows(engine) == before
    finally:
        engine.dispose()


@pytest.mark.parametrize("recursive_triggers", ["OFF", "ON"])
@pytest.mark.parametrize("change", SQLITE_REPLACES.values(), ids=SQLITE_REPLACES.keys())
def test_replace_is_refused_by_sqlite(sqlite_url: str, change: str, recursive_triggers: str) -> None:
    some_events(sqlite_url)
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        connection.execute(f"PRAGMA recursive_triggers = {recursive_triggers}")
        before = connection.execute("SELECT * FROM events").fetchall()
        with pytest.raises(sqlite3.IntegrityError, match="never changed"):
            connection.execute(change)
        assert connection.execute("SELECT * FROM events").fetchall() == before
