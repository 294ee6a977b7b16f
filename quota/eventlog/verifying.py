"""Recomputing a stream's chain: which row of it was changed, dropped or moved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select
from sqlalchemy.exc import DBAPIError

from quota.eventlog.chain import GENESIS, ChainedRow, chain_hash
from quota.eventlog.log import PAGE, EventLog
from quota.eventlog.tables import events

_REPORT_EVERY = 1_000
_UNREADABLE = (ValueError, TypeError, OverflowError, DBAPIError)
"""What reading a row raises that holds what its columns' types do not."""


@dataclass(frozen=True, slots=True)
class Link:
    """A place in a stream's chain.

    Attributes:
        position: Position of an event; 0 before the first.
        hash: That event's hash.
    """

    position: int = 0
    hash: bytes = GENESIS


@dataclass(frozen=True, slots=True)
class Fault:
    """The first place of a stream where the chain does not hold.

    Attributes:
        experiment_id: The stream.
        position: Where.
        reason: What is wrong there.
    """

    experiment_id: str
    position: int
    reason: str


def first_fault(
    log: EventLog,
    connection: Connection,
    experiment_id: str,
    *,
    after: Link,
    until: Link,
    progress: Callable[[int], None] = lambda _: None,
) -> Fault | None:
    """Recompute a part of a stream's chain.

    Args:
        log: How it is read.
        connection: Where.
        experiment_id: The stream.
        after: From where on; the event there is trusted.
        until: Where the part must end.
        progress: Is told how many more events have been read.
    """
    previous, expected, read = after.hash, after.position, 0
    for row in _rows(log, connection, experiment_id, after.position, until.position):
        expected += 1
        if row.position != expected:
            return Fault(experiment_id, expected, f"the event is missing; {row.position} follows")
        if isinstance(row, _Unreadable):
            return Fault(experiment_id, expected, f"the event was changed: it cannot be read: {row.reason}")
        previous = chain_hash(previous, ChainedRow(*(getattr(row, name) for name in ChainedRow._fields)))
        if previous != row.hash:
            reason = "the event was changed, or its hash was, or one before it was replaced"
            return Fault(experiment_id, expected, reason)
        read += 1
        if read % _REPORT_EVERY == 0:
            progress(_REPORT_EVERY)
    progress(read % _REPORT_EVERY)
    if expected != until.position:
        return Fault(experiment_id, expected + 1, f"the event is missing; the head says {until.position}")
    if previous != until.hash:
        return Fault(experiment_id, expected, "its hash is not the head's: the stream was rewritten")
    return None


def fault_outside(connection: Connection, experiment_id: str, last: int) -> Fault | None:
    """Look for events that no head tells of: no chain covers them, while whoever asks for a trial's events finds them.

    Args:
        connection: Where.
        experiment_id: The stream.
        last: The position that its head has.
    """
    place = events.c.position
    # Two queries, each at one end of an index; one that asks for either would read the stream.
    for outside in (place < 1, place > last):
        query = select(place).where(events.c.experiment_id == experiment_id, outside).order_by(place).limit(1)
        found = connection.execute(query).scalar()
        if found is not None:
            return Fault(experiment_id, found, f"the event belongs to no chain: the head says {last}")
    return None


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """An event that holds what its columns' types do not."""

    position: int
    reason: str


def _rows(
    log: EventLog, connection: Connection, experiment_id: str, after: int, until: int
) -> Iterator[Row[Any] | _Unreadable]:
    """Yield a stream's rows in order, and end with the first one that cannot be read."""
    last = after
    try:
        for row in log.rows(connection, experiment_id, after=after, until=until):
            yield row
            last = row.position
    except _UNREADABLE:
        # Rows are read by the page, and one that cannot be read takes the others of its page with it.
        place = events.c.position
        query = select(place).where(events.c.experiment_id == experiment_id, place > last, place <= until)
        for position in connection.execute(query.order_by(place).limit(PAGE)).scalars().all():
            try:
                yield from log.rows(connection, experiment_id, after=position - 1, until=position)
            except _UNREADABLE as error:
                yield _Unreadable(position, str(error).partition("\n")[0])
                return
