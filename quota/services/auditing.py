"""Proving that the log was not touched, and handing it out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlalchemy import func, select

from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.eventlog.archived import archived_streams
from quota.eventlog.database import Database
from quota.eventlog.log import EventLog
from quota.eventlog.tables import events, streams
from quota.eventlog.verifying import Fault, Link, fault_outside, first_fault
from quota.services.heads import Head
from quota.services.removed_streams import RemovedStream, removed_streams
from quota.services.wire_lines import wire_lines


class Auditor:
    """Reads the log, and never writes.

    Args:
        database: Where the log lies.
        log: How it is read.
    """

    def __init__(self, database: Database, log: EventLog) -> None:
        self._database = database
        self.log = log

    def heads(self) -> list[Head]:
        """Return the heads of all streams, by id."""
        with self._database.read() as connection:
            return [
                Head(experiment_id, position, digest.hex())
                for experiment_id, position, digest in self.log.heads(connection)
                if position
            ]

    def orphans(self) -> list[str]:
        """Return streams that have events and no head: somebody removed it."""
        with self._database.read() as connection:
            known = select(streams.c.experiment_id).where(streams.c.position > 0)
            query = select(events.c.experiment_id).where(events.c.experiment_id.not_in(known)).distinct()
            return list(connection.execute(query).scalars())

    def shared_ids(self) -> list[Fault]:
        """Return where an event has the id of another stream's: both were stored at the same moment, or one by hand.

        On SQLite there are none, as a key is unique there.
        """
        if self._database.is_sqlite:
            return []
        shared = select(events.c.event_id).group_by(events.c.event_id).having(func.count() > 1)
        query = select(events.c.experiment_id, events.c.position, events.c.event_id)
        query = query.where(events.c.event_id.in_(shared)).order_by(events.c.experiment_id, events.c.position)
        with self._database.read() as connection:
            return [
                Fault(row.experiment_id, row.position, f"another stream has an event of the same id, {row.event_id}")
                for row in connection.execute(query)
            ]

    def verify(self, head: Head, progress: Callable[[int], None]) -> Fault | None:
        """Recompute a stream's chain up to a head, and from there to the one that the database has.

        Where the database has none, that is for `orphans` to tell.

        Args:
            head: What the chain must lead to; from `heads`, or kept elsewhere.
            progress: Is told how many more events have been read.

        Returns:
            The first fault, or None where all is well.
        """
        stream, kept = head.experiment_id, Link(head.position, bytes.fromhex(head.hash))
        with self._database.read() as connection:
            uri = archived_streams(connection).get(stream)
            if uri is not None:
                reason = f"its head says that its events lie in {uri}, and {DEPLOYMENT_STREAM} says no such thing"
                return Fault(stream, 1, reason)
            own = Link(*self.log.head(connection, stream))
            outside = fault_outside(connection, stream, own.position) if own.position else None
            if outside is not None and outside.position < 1:
                return outside
            fault = first_fault(self.log, connection, stream, after=Link(), until=kept, progress=progress)
            if fault is None and own.position >= kept.position:
                fault = first_fault(self.log, connection, stream, after=kept, until=own, progress=progress)
            return fault or outside

    def removed(self) -> dict[str, RemovedStream]:
        """Return the streams whose events are in archives alone, as the deployment's own stream says, by id."""
        with self._database.read() as connection:
            return removed_streams(self.log, connection)

    def fault_of_removed(self, head: Head, removed: RemovedStream) -> Fault | None:
        """Compare the head of a stream without events with what the deployment's stream says of it.

        Args:
            head: The stream's, or an earlier one that was kept elsewhere.
            removed: What the deployment's stream says.
        """
        with self._database.read() as connection:
            position, digest = self.log.head(connection, head.experiment_id)
            uri = archived_streams(connection).get(head.experiment_id)
            first = next(self.log.rows(connection, head.experiment_id, until=removed.position), None)
        told = (removed.position, removed.head_hash)
        if first is not None:
            reason = f"the event is in the log, though {DEPLOYMENT_STREAM} says that all of them were removed"
            return Fault(head.experiment_id, first.position, reason)
        is_own = head.position == removed.position
        if (position, digest.hex()) != told or head.position > removed.position or (is_own and head.hash != told[1]):
            reason = f"its head is not the one that {DEPLOYMENT_STREAM} says it was archived with, event {told[0]}"
            return Fault(head.experiment_id, min(head.position, removed.position), reason)
        if uri != removed.uri:
            reason = f"its head says that its events lie in {uri}, and {DEPLOYMENT_STREAM} says in {removed.uri}"
            return Fault(head.experiment_id, removed.position, reason)
        return None

    def export(self, experiment_id: str) -> Iterator[str]:
        """Yield a stream's events in the wire form, one JSON object a line."""
        with self._database.read() as connection:
            yield from wire_lines(self.log, connection, experiment_id)
