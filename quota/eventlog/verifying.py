"""Recomputing a stream's chain: which row of it was changed, dropped or moved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from quota.eventlog.chain import GENESIS, ChainedRow, chain_hash
from quota.eventlog.log import EventLog

_REPORT_EVERY = 1_000


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
    previous, expected = after.hash, after.position
    for row in log.rows(connection, experiment_id, after=after.position, until=until.position):
        expected += 1
        if row.position != expected:
            return Fault(experiment_id, expected, f"the event is missing; {row.position} follows")
        previous = chain_hash(previous, ChainedRow(*(getattr(row, name) for name in ChainedRow._fields)))
        if previous != row.hash:
            reason = "the event was changed, or its hash was, or one before it was replaced"
            return Fault(experiment_id, expected, reason)
        if expected % _REPORT_EVERY == 0:
            progress(_REPORT_EVERY)
    progress(expected % _REPORT_EVERY)
    if expected != until.position:
        return Fault(experiment_id, expected + 1, f"the event is missing; the head says {until.position}")
    if previous != until.hash:
        return Fault(experiment_id, expected, "its hash is not the head's: the stream was rewritten")
    return None
