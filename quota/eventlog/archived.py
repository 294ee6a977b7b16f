"""Streams whose events were taken out of the log, once they were archived."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from quota.domain.parts import parts
from quota.errors import LogCorrupt, StreamArchived
from quota.eventlog.database import NAMES_A_QUERY
from quota.eventlog.log import LockedStream
from quota.eventlog.tables import events, streams
from quota.eventlog.types import is_one_of


def archived_streams(connection: Connection) -> dict[str, str]:
    """Return where the events of streams are that are not in the log any more, by id."""
    query = select(streams.c.experiment_id, streams.c.archive_uri).where(streams.c.archive_uri.is_not(None))
    return {row.experiment_id: row.archive_uri for row in connection.execute(query)}


def require_events(connection: Connection, experiment_id: str) -> None:
    """Check that a stream's events are in the log.

    Raises:
        StreamArchived: they lie in an archive.
    """
    query = select(streams.c.archive_uri).where(streams.c.experiment_id == experiment_id)
    uri = connection.execute(query).scalar()
    if uri is not None:
        raise StreamArchived(experiment_id, uri)


def remove_events(stream: LockedStream, uri: str) -> None:
    """Take a stream's events out of the log, in the transaction that holds its lock; its head stays.

    Args:
        stream: The stream.
        uri: The archive that has them.

    Raises:
        LogCorrupt: there were more of them, or fewer, than the head says.
    """
    connection, own = stream.connection, events.c.experiment_id == stream.experiment_id
    # The trigger lets nobody delete events of a stream that is not known to be archived.
    _note(stream, archive_uri=uri)
    removed = connection.execute(delete(events).where(own)).rowcount
    if removed != stream.position:
        raise LogCorrupt(
            f"stream {stream.experiment_id}: it has {removed} events, and its head says {stream.position}; nothing was "
            "removed: run `ckpt-quota audit verify`"
        )


def holders(connection: Connection, event_ids: Sequence[str]) -> dict[str, str]:
    """Return which streams have stored events of some ids, by those ids."""
    query = select(events.c.event_id, events.c.experiment_id)
    return {
        row.event_id: row.experiment_id
        for some in parts(event_ids, NAMES_A_QUERY)
        for row in connection.execute(query.where(is_one_of(events.c.event_id, some, connection.dialect)))
    }


def put_back(stream: LockedStream, rows: Sequence[dict[str, Any]]) -> None:
    """Insert a part of a stream's events, as they were, in the transaction that holds its lock."""
    stream.connection.execute(insert(events), rows)


def note_whole(stream: LockedStream, position: int, digest: bytes, recorded_at: datetime) -> None:
    """Set a stream's head, once all of its events are there: nothing of it lies in an archive alone any more."""
    _note(stream, archive_uri=None, position=position, hash=digest, recorded_at=recorded_at)


def _note(stream: LockedStream, **values: object) -> None:
    own = streams.c.experiment_id == stream.experiment_id
    stream.connection.execute(update(streams).where(own).values(**values))
