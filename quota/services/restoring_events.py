"""Putting an archive's events into the log: the same positions, the same hashes, the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec
from sqlalchemy.exc import IntegrityError

from quota.domain.archives import Archive
from quota.domain.events import ArchiveRestored, CheckpointAdopted, CheckpointSaved
from quota.errors import StateRefused
from quota.eventlog.archived import holders, note_whole, put_back
from quota.eventlog.chain import ChainedRow
from quota.eventlog.locations import take_location
from quota.eventlog.log import PAGE, LockedStream
from quota.services.archive_book import ArchiveBook
from quota.services.archive_manifest import ArchivedHead
from quota.services.archive_places import place_at
from quota.services.archive_reading import ArchivedRow, ArchiveReader
from quota.services.parquet import require_pyarrow

_THING = "archive"
_SAVING = {CheckpointSaved.TYPE, CheckpointAdopted.TYPE}


class _Place(msgspec.Struct):
    trial_id: str
    uri: str


class EventRestorer:
    """Restores archives.

    Args:
        book: Where that is recorded.
    """

    def __init__(self, book: ArchiveBook) -> None:
        self._book = book

    def restore(self, uri: str, progress: Callable[[int], None]) -> Archive:
        """Put the events of an archive into the log, all or none: of one whose events were removed, or a new one.

        Args:
            uri: Where the archive lies; a copy of it will do.
            progress: Is told how many more events have been read: each is twice.

        Raises:
            ArchiveRefused: it is not what its manifest says, or does not end at the stream's head.
            StateRefused: the log has the experiment's events, or events or places of theirs belong to another one.
        """
        require_pyarrow(_THING)
        reader = ArchiveReader(place_at(uri))
        reader.verify(progress)
        experiment_id, log = reader.manifest.experiment_id, self._book.appender.log
        try:
            with log.locked([experiment_id], archived=True) as streams:
                stream = streams[experiment_id]
                self._restore(stream, reader, progress)
                return self._book.record(log.deployment_locked(stream.connection), ArchiveRestored, reader)
        except IntegrityError as error:
            reason = f"the log has some of its events already: {str(error.orig).splitlines()[0]}"
            raise StateRefused(f"archive {uri}", "experiment_id", experiment_id, reason) from error

    @staticmethod
    def _require_own_ids(stream: LockedStream, page: Sequence[ArchivedRow]) -> None:
        """Check that no other stream has stored an event under the id of one of these, which no key rules out."""
        held = holders(stream.connection, [row.chained.event_id for row in page])
        for event_id, experiment_id in held.items():
            if experiment_id != stream.experiment_id:
                reason = f"the log has some of its events under another name: {event_id} is one of {experiment_id}"
                raise StateRefused("archive", "experiment_id", stream.experiment_id, reason)

    def _restore(self, stream: LockedStream, reader: ArchiveReader, progress: Callable[[int], None]) -> None:
        is_new = stream.archive_uri is None
        if is_new and stream.position:
            reason = "its events are in the log, so there is nothing to restore"
            raise StateRefused(f"archive {reader.uri}", "experiment_id", stream.experiment_id, reason)
        if not is_new:
            head = ArchivedHead(position=stream.position, hash=stream.hash.hex())
            reader.require_head(stream.experiment_id, head)
        places: dict[tuple[str, str], None] = {}
        last: ArchivedRow | None = None
        for page in _pages(reader.rows(progress)):
            self._require_own_ids(stream, page)
            put_back(stream, [{**row.chained._asdict(), "hash": row.hash} for row in page])
            last = page[-1]
            if is_new:
                places.update(dict.fromkeys(_places(page)))
        if last is not None:
            note_whole(stream, last.chained.position, last.hash, last.chained.recorded_at)
        for trial_id, uri in places:
            overlap = take_location(stream.connection, stream.experiment_id, trial_id, uri)
            if overlap is not None:
                reason = f"its checkpoint {uri} overlaps {overlap.uri} of experiment {overlap.experiment_id}"
                raise StateRefused(f"archive {reader.uri}", "experiment_id", stream.experiment_id, reason)


def _pages(rows: Iterator[ArchivedRow]) -> Iterator[list[ArchivedRow]]:
    page: list[ArchivedRow] = []
    for row in rows:
        page.append(row)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


def _places(page: list[ArchivedRow]) -> Iterator[tuple[str, str]]:
    """Yield where trials have saved checkpoints, which no other trial may do."""
    for chained in (row.chained for row in page):
        if chained.type in _SAVING:
            place = _place(chained)
            yield place.trial_id, place.uri


def _place(chained: ChainedRow) -> _Place:
    return msgspec.json.decode(chained.data, type=_Place)
