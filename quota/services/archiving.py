"""Archiving experiments: their events as Parquet, read back before anything is recorded."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from quota.domain.archives import Archive
from quota.domain.events import ExperimentArchived
from quota.domain.identifiers import DEPLOYMENT_STREAM, ORPHANS_STREAM
from quota.errors import LogCorrupt, NotFound, SettingsRefused, StateRefused
from quota.eventlog.archived import require_events
from quota.eventlog.verifying import Link, first_fault
from quota.projections.catching_up import CatchUp
from quota.services.archive_book import ArchiveBook
from quota.services.archive_manifest import ArchivedHead, archive_name
from quota.services.archive_places import place_at, uri_below
from quota.services.archive_reading import ArchiveReader
from quota.services.archive_writing import write_archive
from quota.services.parquet import require_pyarrow
from quota.services.querying import named

Progress = Callable[[int], None]

THING = "archive"


class Archiver:
    """Writes archives.

    Args:
        book: Where they are recorded.
        catching_up: Brings the views up to date, which are written too.
        software_version: Of this software.
    """

    def __init__(self, book: ArchiveBook, catching_up: CatchUp, software_version: str) -> None:
        self._book = book
        self._catching_up = catching_up
        self._software_version = software_version

    def create(self, experiment_id: str, destination: str, progress: Progress) -> Archive:
        """Write an archive of an experiment's events up to the present one, read it back, and record it.

        Where one of the same events is there already, as after a crash, it is read back and recorded.

        Args:
            experiment_id: The experiment.
            destination: The directory or prefix that the archive is to lie in.
            progress: Is told how many more events have been read: each is twice.

        Raises:
            NotFound: there is no such experiment.
            StreamArchived: its events are in an archive already, and not in the log.
            LogCorrupt: its chain does not hold, or its views cannot be brought up to date.
            SettingsRefused: no archive can lie there, or pyarrow is missing.
            ArchiveRefused: it cannot be written, or is not read back as it was written.
        """
        require_pyarrow(THING)
        if experiment_id in {DEPLOYMENT_STREAM, ORPHANS_STREAM}:
            reason = "this stream never ends, and stays in the log"
            raise StateRefused(THING, "experiment_id", experiment_id, reason)
        self._refuse_store(destination)
        self._catching_up.experiments([experiment_id])
        log = self._book.appender.log
        with self._book.database.read() as connection:
            require_events(connection, experiment_id)
            self._require_caught_up(connection, experiment_id)
            head = self._verified_head(connection, experiment_id, progress)
            place = place_at(uri_below(destination, archive_name(experiment_id, head.position)))
            if not place.is_there():
                write_archive(
                    log,
                    connection,
                    place,
                    experiment_id=experiment_id,
                    head=head,
                    software_version=self._software_version,
                )
        reader = ArchiveReader(place)
        reader.require_head(experiment_id, head)
        reader.verify(progress)
        return self._recorded(reader)

    def _require_caught_up(self, connection: Connection, experiment_id: str) -> None:
        if not self._book.projector.is_caught_up(connection, experiment_id):
            reason = "events were recorded while its views were brought up to date; run this again"
            raise StateRefused(THING, "experiment_id", experiment_id, reason)

    def _verified_head(self, connection: Connection, experiment_id: str, progress: Progress) -> ArchivedHead:
        log = self._book.appender.log
        position, digest = log.head(connection, experiment_id)
        if not position:
            advice = "`ckpt-quota experiment list` lists them"
            raise NotFound(f"experiment {named(experiment_id)}: there is none; {advice}")
        until = Link(position, digest)
        fault = first_fault(log, connection, experiment_id, after=Link(), until=until, progress=progress)
        if fault is not None:
            reason = f"{fault.reason}; nothing is archived that does not hold: see `ckpt-quota audit verify`"
            raise LogCorrupt(f"event {fault.position} of {experiment_id}: {reason}")
        return ArchivedHead(position=position, hash=digest.hex())

    def _recorded(self, reader: ArchiveReader) -> Archive:
        with self._book.appender.log.locked([DEPLOYMENT_STREAM]) as streams:
            deployment = streams[DEPLOYMENT_STREAM]
            known = self._book.projector.look_at_deployment(deployment.connection).archives
            before = known.get((reader.manifest.experiment_id, reader.uri))
            if before is not None and before.manifest_sha256 == reader.manifest_sha256:
                return before
            return self._book.record(deployment, ExperimentArchived, reader)

    def _refuse_store(self, destination: str) -> None:
        """Refuse a place within a store, where an archive would count as an orphan."""
        uri = uri_below(destination, "x")
        with self._book.database.read() as connection:
            store = self._book.projector.look_at_deployment(connection).store_around(uri)
        if store is not None:
            reason = (
                f"it lies in the store {store.uri}, where an archive would count as an orphan; name a place outside"
            )
            raise SettingsRefused(THING, "to", destination, reason)
