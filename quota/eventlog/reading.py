"""What reads the events of streams: the log, or an archive that stands in for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from sqlalchemy import Connection

from quota.domain.events import RecordedEvent


class EventSource(Protocol):
    """Gives a stream's events in order."""

    def read(
        self, connection: Connection, experiment_id: str, *, after: int = 0, until: int | None = None
    ) -> Iterator[RecordedEvent]:
        """Yield events from position `after` (excluded) to `until` (included)."""
        ...

    def of_type(self, connection: Connection, experiment_id: str, type_name: str) -> Iterator[RecordedEvent]:
        """Yield the events of one type."""
        ...

    def position(self, connection: Connection, experiment_id: str) -> int:
        """Return the position of the last event; 0 where there is none."""
        ...
