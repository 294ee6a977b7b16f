"""An archive that stands in for the log: its events in order, read once for each pass over them."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection

from quota.domain.events import RecordedEvent
from quota.eventlog.log import EventLog
from quota.services.archive_reading import ArchivedRow, ArchiveReader


class ArchivedLog:
    """Gives the events of an archive as the log does those that it has.

    Whoever reads on from where the last reading ended goes on in the same pass, so that reading piece by piece costs as
    much as reading all at once.

    Args:
        reader: The archive, which is proved already.
        log: Decodes what it has stored.
    """

    def __init__(self, reader: ArchiveReader, log: EventLog) -> None:
        self._reader = reader
        self._log = log
        self._position = 0
        self._rows = self._from_the_first()

    def read(
        self, connection: Connection, experiment_id: str, *, after: int = 0, until: int | None = None
    ) -> Iterator[RecordedEvent]:
        """Yield events from position `after` (excluded) to `until` (included)."""
        del connection, experiment_id  # there is one stream here
        if after < self._position:
            self._rows, self._position = self._from_the_first(), 0
        while until is None or self._position < until:
            row = next(self._rows, None)
            if row is None:
                return
            self._position = row.chained.position
            if self._position > after:
                yield self._log.recorded(row.chained)

    def of_type(self, connection: Connection, experiment_id: str, type_name: str) -> Iterator[RecordedEvent]:
        """Yield the events of one type."""
        del connection, experiment_id
        for row in self._from_the_first():
            if row.chained.type == type_name:
                yield self._log.recorded(row.chained)

    def position(self, connection: Connection, experiment_id: str) -> int:
        """Return the position of the last event."""
        del connection, experiment_id
        return self._reader.manifest.head.position

    def _from_the_first(self) -> Iterator[ArchivedRow]:
        return self._reader.rows(lambda _: None)
