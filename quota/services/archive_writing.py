"""Writing an archive: an experiment's events, and what the views say of it, as of one moment of the database."""

from __future__ import annotations

from hashlib import sha256
from typing import BinaryIO, cast

from sqlalchemy import Connection

from quota.eventlog.log import EventLog
from quota.services.archive_manifest import EVENTS_FILE, FORMAT, MANIFEST, ArchivedFile, ArchivedHead, Manifest
from quota.services.archive_places import ArchivePlace, Draft
from quota.services.exporting import EVENTS, Export, export_from
from quota.services.parquet import write_parquet

ARCHIVED_VIEWS = ("eviction_history", "eviction_outcomes", "trial_history")
"""What is written besides, for whoever asks by DuckDB. It follows from the events, and restoring does not need it."""


def write_archive(
    log: EventLog,
    connection: Connection,
    place: ArchivePlace,
    *,
    experiment_id: str,
    head: ArchivedHead,
    software_version: str,
) -> None:
    """Write an archive.

    Args:
        log: How events are read.
        connection: Sees one moment of the database throughout; the views are caught up in it.
        place: Where to.
        experiment_id: The experiment.
        head: Where the stream's chain ends.
        software_version: Of this software.

    Raises:
        ArchiveRefused: it cannot be written; then nothing has its name, or there is no manifest.
    """
    with place.drafted() as draft:
        files = tuple(
            _written(draft, _file_of(what), export_from(log, connection, what, [experiment_id]))
            for what in (EVENTS, *ARCHIVED_VIEWS)
        )
        manifest = Manifest(
            format=FORMAT, software_version=software_version, experiment_id=experiment_id, head=head, files=files
        )
        with draft.file(MANIFEST) as stream:
            stream.write(manifest.text)


def _file_of(what: str) -> str:
    return EVENTS_FILE if what == EVENTS else f"{what}.parquet"


def _written(draft: Draft, name: str, found: Export) -> ArchivedFile:
    with draft.file(name) as stream:
        counting = _Digesting(stream)
        rows = write_parquet(cast("BinaryIO", counting), found.columns, found.rows)
    return ArchivedFile(name=name, rows=rows, bytes=counting.size, sha256=counting.digest.hexdigest())


class _Digesting:
    """Passes on what is written, and computes its digest: what was meant, whatever is read back later."""

    closed = False

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digest = sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        self._stream.write(data)
        return len(data)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        """Whoever has opened it does that."""

    def close(self) -> None:
        """Likewise."""
