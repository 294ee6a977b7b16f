"""On PostgreSQL a stream lies in one partition of the log, and what is asked of it touches that one alone."""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, text

from quota.domain.events import NewEvent, TrialStarted
from quota.errors import IdentityRefused
from quota.eventlog.database import Database
from quota.eventlog.log import EventLog, Prepared
from quota.eventlog.tables import PARTITIONS
from quota.services.ids import new_id
from support import HandClock, create_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

MANY = 120


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    create_schema(database_url)
    with closing(Database(database_url)) as opened:
        yield opened


@pytest.fixture
def postgresql(postgresql_url: str) -> Iterator[Database]:
    create_schema(postgresql_url)
    with closing(Database(postgresql_url)) as opened:
        yield opened


def started(stream: str, event_id: str | None = None) -> Prepared:
    return Prepared.of(
        NewEvent(
            event_id=event_id or new_id(),
            experiment_id=stream,
            occurred_at=HandClock().moment,
            actor="tuner",
            payload=TrialStarted(trial_id="1"),
        )
    )


def append(log: EventLog, *batch: Prepared) -> None:
    with log.locked({one.event.experiment_id for one in batch}) as streams:
        for one in batch:
            log.add(streams[one.event.experiment_id], one)
        for stream in streams.values():
            log.flush(stream)


def touched(connection: Connection, asked: list[tuple[str, Any]]) -> list[set[str]]:
    """Return which partitions PostgreSQL looks into for each of some queries."""
    found = []
    for statement, parameters in asked:
        lines = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars()
        found.append(set(re.findall(r"\bon (events_\d\d)\b", "\n".join(lines))))
    return found


def test_streams_are_spread_over_all_partitions(postgresql: Database) -> None:
    log = EventLog(postgresql)
    append(log, *(started(f"experiment-{number}") for number in range(200)))
    with postgresql.read() as connection:
        spread = connection.execute(
            text("SELECT tableoid::regclass::text, count(DISTINCT experiment_id) FROM events GROUP BY 1")
        )
        counts = {row[0]: row[1] for row in spread}
    assert set(counts) == set(PARTITIONS)
    assert sum(counts.values()) == 200


def test_what_is_asked_of_a_stream_touches_its_partition_alone(postgresql: Database) -> None:
    log = EventLog(postgresql)
    append(log, started("one"), started("other"))
    asked: list[tuple[str, Any]] = []
    with postgresql.read() as connection:

        def note(_c: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
            asked.append((statement, parameters))

        event.listen(connection, "before_cursor_execute", note)
        assert len(list(log.read(connection, "one"))) == 1
        assert len(list(log.last_of_trial(connection, "one", "1", "trial_started"))) == 1
        assert len(list(log.of_trials(connection, "one", ["1"], {"trial_started"}))) == 1
        assert len(list(log.of_type(connection, "one", "trial_started"))) == 1
        assert log.last_of_type(connection, "one", "trial_started") is not None
        assert log.hash_at(connection, "one", 1) is not None
        event.remove(connection, "before_cursor_execute", note)
        (own,) = connection.execute(
            text("SELECT tableoid::regclass::text FROM events WHERE experiment_id = 'one'")
        ).scalars()
        assert len(asked) == 6
        assert touched(connection, asked) == [{own}] * len(asked)


@pytest.mark.parametrize("many", [1, MANY])
def test_ids_are_looked_for_in_all_streams(database: Database, many: int) -> None:
    """A short list is asked for in another way than a long one."""
    log = EventLog(database)
    stored, new = [started(f"experiment-{number}") for number in range(many)], [started("x") for _ in range(many)]
    append(log, *stored)
    with database.read() as connection:
        found = log.stored_before(connection, [*new, *stored])
        assert set(found) == {one.event.event_id for one in stored}
        for one in stored:
            taken = [*new, started("x", one.event.event_id)]
            with pytest.raises(IdentityRefused, match="stands for another event already"):
                log.stored_before(connection, taken)
