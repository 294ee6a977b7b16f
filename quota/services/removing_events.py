"""Taking the events of a finished, archived experiment out of the log. Its rows, and its head, stay."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, select

from quota.domain.archives import Archive
from quota.domain.events import EventsRemoved
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.errors import LogCorrupt, ProjectionDiverged, StateRefused
from quota.eventlog.archived import remove_events, require_events
from quota.eventlog.verifying import Link, first_fault
from quota.projections.catching_up import CatchUp
from quota.projections.loading import has_open_decisions
from quota.projections.rebuild import Rebuilder
from quota.projections.tables import checkpoints, experiments
from quota.services.archive_book import ArchiveBook
from quota.services.archive_manifest import ArchivedHead
from quota.services.archive_places import place_at
from quota.services.archive_reading import ArchiveReader
from quota.services.parquet import require_pyarrow

_GONE = ("purged", "missing")
_THING = "archive"


class EventRemover:
    """Removes events that an archive has.

    Args:
        book: Knows the archives.
        catching_up: Brings the rows up to date.
        rebuilder: Compares the rows with the events, which can make them anew for the last time.
    """

    def __init__(self, book: ArchiveBook, catching_up: CatchUp, rebuilder: Rebuilder) -> None:
        self._book = book
        self._catching_up = catching_up
        self._rebuilder = rebuilder

    def remove(self, experiment_id: str, progress: Callable[[int], None]) -> Archive:
        """Take an experiment's events out of the log, all or none.

        Args:
            experiment_id: The experiment, which is finished, holds nothing, and is archived up to its last event.
            progress: Is told how many more events have been read: each is twice.

        Raises:
            StateRefused: it is not so; the message says what is missing.
            StreamArchived: they are not in the log any more.
            LogCorrupt: the deployment's own chain, which is to vouch for the archive, does not hold.
            ProjectionDiverged: the experiment's rows are not what its events add up to.
            ArchiveRefused: the archive is not what was written; nothing was removed.
        """
        require_pyarrow(_THING)
        self._catching_up.experiments([experiment_id])
        log = self._book.appender.log
        with self._book.database.read() as connection:
            require_events(connection, experiment_id)
            self._require_settled(connection, experiment_id)
            head = self._head(connection, experiment_id)
            deployment = Link(*log.head(connection, DEPLOYMENT_STREAM))
            fault = first_fault(log, connection, DEPLOYMENT_STREAM, after=Link(), until=deployment)
        if fault is not None:
            raise LogCorrupt(f"event {fault.position} of {DEPLOYMENT_STREAM}: {fault.reason}; nothing was removed")
        archive = self._archive_of(experiment_id, head)
        if next(iter(self._rebuilder.verify(experiment_id, progress)), None) is not None:
            advice = "nothing was removed: `ckpt-quota rebuild --verify` shows which"
            raise ProjectionDiverged(
                f"projections of experiment {experiment_id}: rows differ from its events; {advice}"
            )
        reader = ArchiveReader(place_at(archive.uri))
        reader.require_recorded(archive.manifest_sha256)
        reader.require_head(experiment_id, head)
        reader.verify(progress)
        return self._remove(reader)

    def _remove(self, reader: ArchiveReader) -> Archive:
        experiment_id, log = reader.manifest.experiment_id, self._book.appender.log
        with log.locked([experiment_id]) as streams:
            stream = streams[experiment_id]
            self._require_settled(stream.connection, experiment_id)
            # What the archive holds up to this head, and no other event, is what the log holds.
            reader.require_head(experiment_id, ArchivedHead(position=stream.position, hash=stream.hash.hex()))
            remove_events(stream, reader.uri)
            # Last of all, for as long as it is held, no sweep can begin, and no checkpoint be saved to a new place.
            return self._book.record(log.deployment_locked(stream.connection), EventsRemoved, reader)

    def _head(self, connection: Connection, experiment_id: str) -> ArchivedHead:
        position, digest = self._book.appender.log.head(connection, experiment_id)
        return ArchivedHead(position=position, hash=digest.hex())

    def _archive_of(self, experiment_id: str, head: ArchivedHead) -> Archive:
        for archive in self._book.known(experiment_id):
            if (archive.position, archive.head_hash) == (head.position, head.hash):
                return archive
        reason = f"no archive has its events up to the last one, {head.position}"
        advice = f"write one first: ckpt-quota archive create {experiment_id} --to DIRECTORY"
        raise StateRefused(_THING, "experiment_id", experiment_id, f"{reason}; {advice}")

    def _require_settled(self, connection: Connection, experiment_id: str) -> None:
        problem = self._problem(connection, experiment_id)
        if problem is not None:
            raise StateRefused(_THING, "experiment_id", experiment_id, f"{problem}; its events stay in the log")

    def _problem(self, connection: Connection, experiment_id: str) -> str | None:
        if not self._book.projector.is_caught_up(connection, experiment_id):
            return "events were recorded meanwhile: run this again"
        query = select(experiments.c.finished_at).where(experiments.c.experiment_id == experiment_id)
        if connection.execute(query).scalar() is None:
            return f"there is none that is finished: ckpt-quota experiment finish {experiment_id}"
        own = checkpoints.c.experiment_id == experiment_id
        held = select(checkpoints.c.uri).where(own, checkpoints.c.state.not_in(_GONE))
        found = connection.execute(held.order_by(checkpoints.c.uri).limit(1)).scalar()
        if found is not None:
            return f"it still has checkpoint {found}, stored or in the trash: `ckpt-quota experiment show` lists them"
        if has_open_decisions(connection, experiment_id):
            return "some of its decisions to evict are open: ckpt-quota sweep"
        return None
