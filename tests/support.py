"""What many tests need: a ready database, a clock that is set by hand, services over both."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from quota.bootstrap import Services, assemble
from quota.eventlog.chain import ChainedRow, chain_hash
from quota.eventlog.database import Database
from quota.eventlog.tables import metadata
from quota.projections import tables as _projection_tables
from quota.projections import views as _views

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quota.ports import Clock
    from quota.services.stores import OpenStore

START = datetime(2026, 1, 1, tzinfo=UTC)

# Importing these two is what puts their tables and views into the metadata.
REGISTERED = (_projection_tables, _views)


@dataclass
class HandClock:
    """Stands still until it is set."""

    moment: datetime = field(default=START)

    def now(self) -> datetime:
        return self.moment

    def set_seconds(self, seconds: float) -> datetime:
        self.moment = START + timedelta(seconds=seconds)
        return self.moment


def create_schema(url: str) -> None:
    """Make all tables and views at once; that migrating gives the same is tests/migration's to show."""
    database = Database(url)
    try:
        with database.write() as connection:
            metadata.create_all(connection)
    finally:
        database.close()


@contextmanager
def services_over(url: str, clock: Clock, opener: OpenStore) -> Iterator[Services]:
    """Give the use cases over a database whose schema is there."""
    database = Database(url)
    try:
        yield assemble(database, "tester", clock, opener)
    finally:
        database.close()


def tamper(services: Services, statements: list[str]) -> None:
    """Do what no role of ours may do: put the triggers away first."""
    with services.database.write() as connection:
        if services.database.is_sqlite:
            for trigger in ("update", "delete", "replace"):
                connection.execute(text(f"DROP TRIGGER events_reject_{trigger}"))
        else:
            connection.execute(text("ALTER TABLE events DISABLE TRIGGER ALL"))
        for statement in statements:
            connection.execute(text(statement))


def rehash(services: Services, stream: str) -> None:
    """Compute a stream's whole chain anew, as somebody would who knows how."""
    with services.database.write() as connection:
        previous = bytes(32)
        for row in services.log.rows(connection, stream):
            previous = chain_hash(previous, ChainedRow(*(getattr(row, name) for name in ChainedRow._fields)))
            connection.execute(
                text("UPDATE events SET hash = :hash WHERE experiment_id = :stream AND position = :position"),
                {"hash": previous, "stream": stream, "position": row.position},
            )
        changed = text("UPDATE streams SET hash = :hash WHERE experiment_id = :stream")
        connection.execute(changed, {"hash": previous, "stream": stream})
