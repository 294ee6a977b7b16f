"""Streams whose events are in archives alone: by the deployment's own stream, whose chain vouches for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from sqlalchemy import Connection

from quota.domain.events import ArchiveRestored, EventsRemoved
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.errors import ArchiveRefused
from quota.eventlog.log import EventLog
from quota.services.archive_manifest import EVENTS_FILE, ArchivedHead
from quota.services.archive_places import place_at
from quota.services.archive_reading import ArchiveReader
from quota.services.heads import Head
from quota.services.parquet import require_pyarrow


@dataclass(frozen=True, slots=True)
class RemovedStream:
    """What the deployment's stream says of a stream without events.

    Attributes:
        experiment_id: The stream.
        uri: The archive that has its events.
        position: Position of the last one.
        head_hash: That one's hash, in hexadecimal.
        manifest_sha256: Digest of the archive's manifest, in hexadecimal.
    """

    experiment_id: str
    uri: str
    position: int
    head_hash: str
    manifest_sha256: str

    @property
    def head(self) -> Head:
        """The end of its chain."""
        return Head(self.experiment_id, self.position, self.head_hash)

    def proved(self, head: Head, progress: Callable[[int], None]) -> ArchiveReader:
        """Prove that the archive is the one that was recorded, and that its chain holds and passes by a head.

        Raises:
            ArchiveRefused: it is not so.
            SettingsRefused: pyarrow is missing.
        """
        require_pyarrow("archive")
        reader = ArchiveReader(place_at(self.uri))
        reader.require_recorded(self.manifest_sha256)
        reader.require_head(self.experiment_id, ArchivedHead(position=self.position, hash=self.head_hash))
        reader.verify_files()
        for row in reader.rows(progress):
            if row.chained.position == head.position and row.hash.hex() != head.hash:
                reason = f"the hash of event {head.position} is not the one that was kept: the stream was rewritten"
                raise ArchiveRefused(f"archive {self.uri}: file {EVENTS_FILE}: {reason}")
        return reader


def removed_streams(log: EventLog, connection: Connection) -> dict[str, RemovedStream]:
    """Return the streams whose events were removed and not restored since, by id."""
    found: dict[str, RemovedStream] = {}
    told = [
        event
        for kind in (EventsRemoved, ArchiveRestored)
        for event in log.of_type(connection, DEPLOYMENT_STREAM, kind.TYPE)
    ]
    for event in sorted(told, key=attrgetter("position")):
        match event.payload:
            case EventsRemoved(experiment_id=name, uri=uri, position=at, head_hash=digest, manifest_sha256=manifest):
                found[name] = RemovedStream(name, uri, at, digest, manifest)
            case ArchiveRestored(experiment_id=name):
                found.pop(name, None)
    return found
