"""Reading an archive, and proving that it is what it says: its files by their digests, its events by their chain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any, NamedTuple

from quota.errors import ArchiveRefused
from quota.eventlog.chain import GENESIS, ChainedRow, chain_hash
from quota.services.archive_manifest import EVENTS_FILE, MANIFEST, ArchivedFile, ArchivedHead, Manifest, parse_manifest
from quota.services.archive_places import ArchivePlace

_CHUNK_BYTES = 1024 * 1024
_PAGE = 1_000
_MOST_MANIFEST_BYTES = 1024 * 1024
_COLUMNS = (*ChainedRow._fields, "hash")
_UNFIT = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""What pyarrow, and computing with what it has read, raise where a file is not what it was."""

Progress = Callable[[int], None]
"""Is told how many more events have been read."""


class ArchivedRow(NamedTuple):
    """A row of the log, and its hash."""

    chained: ChainedRow
    hash: bytes


class ArchiveReader:
    """An archive whose manifest has been read.

    Args:
        place: Where it lies.

    Attributes:
        manifest: What it says of itself.
        manifest_sha256: The manifest's digest, in hexadecimal.

    Raises:
        ArchiveRefused: there is none, or its manifest cannot be used.
    """

    def __init__(self, place: ArchivePlace) -> None:
        self._place = place
        with place.opened(MANIFEST) as stream:
            text = stream.read(_MOST_MANIFEST_BYTES)
        self.manifest: Manifest = parse_manifest(text, place.uri)
        self.manifest_sha256 = sha256(text).hexdigest()

    @property
    def uri(self) -> str:
        """Where it lies."""
        return self._place.uri

    def require_recorded(self, manifest_sha256: str) -> None:
        """Check that the manifest is the one that was recorded.

        Raises:
            ArchiveRefused: it is another one.
        """
        if self.manifest_sha256 != manifest_sha256:
            reason = f"its SHA-256 is {self.manifest_sha256}, and {manifest_sha256} was recorded"
            raise self._refused(MANIFEST, f"{reason}: somebody has written another one")

    def require_head(self, experiment_id: str, head: ArchivedHead) -> None:
        """Check whose events it says to hold, up to which one.

        Raises:
            ArchiveRefused: others.
        """
        own = self.manifest
        if own.experiment_id != experiment_id:
            raise self._refused(MANIFEST, f"it is about experiment {own.experiment_id}, and not about {experiment_id}")
        if own.head != head:
            reason = f"its chain ends at {own.head.position} with {own.head.hash}, that of the log at {head.position}"
            raise self._refused(MANIFEST, f"{reason} with {head.hash}")

    def verify(self, progress: Progress) -> None:
        """Compare all files with their digests, and recompute the chain of the events.

        Raises:
            ArchiveRefused: something differs; the message names the file.
        """
        self.verify_files()
        for _ in self.rows(progress):
            pass

    def verify_files(self) -> None:
        """Compare all files with their digests.

        Raises:
            ArchiveRefused: one differs, or is not there; the message names it.
        """
        for file in self.manifest.files:
            self._require_digest(file)

    def rows(self, progress: Progress) -> Iterator[ArchivedRow]:
        """Yield the events' rows, in order, each once its place in the chain is certain; the head's comes last.

        Raises:
            ArchiveRefused: the chain does not hold, or ends elsewhere.
        """
        previous, expected, head = GENESIS, 0, self.manifest.head
        for row in self._read():
            expected += 1
            if (row.chained.experiment_id, row.chained.position) != (self.manifest.experiment_id, expected):
                found = f"event {row.chained.position} of {row.chained.experiment_id}"
                raise self._refused(EVENTS_FILE, f"where event {expected} should be, there is {found}")
            previous = self._hash(previous, row)
            if previous != row.hash:
                reason = f"event {expected} was changed, or its hash was, or one before it was replaced"
                raise self._refused(EVENTS_FILE, reason)
            if expected == head.position and previous.hex() != head.hash:
                raise self._refused(EVENTS_FILE, f"the hash of event {expected} is not the head's of {MANIFEST}")
            yield row
            if expected % _PAGE == 0:
                progress(_PAGE)
        progress(expected % _PAGE)
        if expected != head.position:
            raise self._refused(EVENTS_FILE, f"it has {expected} events, and {MANIFEST} says {head.position}")

    def _hash(self, previous: bytes, row: ArchivedRow) -> bytes:
        try:
            return chain_hash(previous, row.chained)
        except _UNFIT as error:
            raise self._refused(EVENTS_FILE, f"event {row.chained.position} cannot be read: {error}") from error

    def _read(self) -> Iterator[ArchivedRow]:
        from pyarrow import parquet  # noqa: PLC0415 - an extra

        with self._place.opened(EVENTS_FILE) as stream:
            try:
                for batch in parquet.ParquetFile(stream).iter_batches(_PAGE, columns=list(_COLUMNS)):
                    columns = [batch.column(name).to_pylist() for name in _COLUMNS]
                    for *chained, digest in zip(*columns, strict=True):
                        yield ArchivedRow(ChainedRow(*chained), digest)
            except _UNFIT as error:
                raise self._refused(EVENTS_FILE, f"it cannot be read: {_first_line(error)}") from error

    def _require_digest(self, file: ArchivedFile) -> None:
        digest, size = sha256(), 0
        with self._place.opened(file.name) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
        if (size, digest.hexdigest()) != (file.bytes, file.sha256):
            raise self._refused(
                file.name, f"it is not what {MANIFEST} says: {size} bytes, SHA-256 {digest.hexdigest()}"
            )

    def _refused(self, name: str, reason: str) -> ArchiveRefused:
        return ArchiveRefused(f"archive {self.uri}: file {name}: {reason}")


def _first_line(error: Exception) -> Any:  # noqa: ANN401 - text, for a message
    return next(iter(str(error).splitlines()), type(error).__name__)
