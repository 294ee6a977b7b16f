"""Stored events in the wire form."""

from __future__ import annotations

import json
from collections.abc import Iterator

from sqlalchemy import Connection

from quota.eventlog.log import EventLog
from quota.eventlog.types import iso_text


def wire_lines(log: EventLog, connection: Connection, experiment_id: str) -> Iterator[str]:
    """Yield a stream's events in the wire form, one JSON object a line."""
    for row in log.rows(connection, experiment_id):
        envelope = {
            "event_id": row.event_id,
            "experiment_id": row.experiment_id,
            "type": row.type,
            "schema_version": row.schema_version,
            "occurred_at": iso_text(row.occurred_at),
        }
        # The data goes out as it is stored: its text is what the hash covers.
        yield f'{json.dumps(envelope, ensure_ascii=False)[:-1]}, "data": {row.data}}}'
