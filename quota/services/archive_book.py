"""Which archives there are, as the deployment's own stream has it."""

from __future__ import annotations

from dataclasses import dataclass

from quota.domain.archives import Archive
from quota.domain.events import ArchiveRestored, EventsRemoved, ExperimentArchived
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.eventlog.database import Database
from quota.eventlog.log import LockedStream, Prepared
from quota.projections.projector import Projector
from quota.services.appending import Appender
from quota.services.archive_reading import ArchiveReader


@dataclass(frozen=True, slots=True)
class ArchiveBook:
    """Knows which archives there are, and records what is done with them.

    Attributes:
        database: Where they are recorded.
        projector: Gives the deployment's state.
        appender: In whose name.
    """

    database: Database
    projector: Projector
    appender: Appender

    def known(self, experiment_id: str | None = None) -> list[Archive]:
        """Return the archives of one experiment, or all; of one, the latest first."""
        with self.database.read() as connection:
            found = self.projector.look_at_deployment(connection).archives.values()
        wanted = [one for one in found if experiment_id is None or one.experiment_id == experiment_id]
        wanted.sort(key=lambda one: (one.archived_at, one.uri), reverse=True)
        return sorted(wanted, key=lambda one: one.experiment_id)

    def record(
        self,
        deployment: LockedStream,
        kind: type[ExperimentArchived | EventsRemoved | ArchiveRestored],
        reader: ArchiveReader,
    ) -> Archive:
        """Record what is done with an archive, in the transaction that holds the deployment stream's lock."""
        manifest = reader.manifest
        payload = kind(
            experiment_id=manifest.experiment_id,
            uri=reader.uri,
            position=manifest.head.position,
            head_hash=manifest.head.hash,
            manifest_sha256=reader.manifest_sha256,
        )
        self.appender.log.add(deployment, Prepared.of(self.appender.event(DEPLOYMENT_STREAM, payload)))
        state = self.projector.store_deployment(deployment)
        return state.archives[manifest.experiment_id, reader.uri]
