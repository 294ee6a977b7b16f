"""What a checkpoint consists of, as seen when its eviction was decided."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec


class ManifestEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, array_like=True):
    """One file, directory link or object key of a checkpoint.

    Attributes:
        path: Relative to the checkpoint, `/` between components, percent-encoded where a byte is no printable
            ASCII (file names need not be UTF-8, JSON must be).
        size_bytes: Size of the content; 0 for a symbolic link.
        version: What tells this content from a later one at the same path: on a local disk inode and mtime, on
            S3 the version id or the ETag.
    """

    path: str
    size_bytes: int
    version: str


CLOCKS_APART = timedelta(seconds=2)
"""How far the clocks of a trial and of its file system may differ."""


LARGEST_BYTES = 2**50
"""What no checkpoint is larger than (1 PiB). Files with holes can claim any size, and sums of such overflow."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All entries of a checkpoint, sorted by path. Only what a manifest names is ever deleted.

    Attributes:
        entries: The files.
        modified_at: When anything in it was last written, by the store's clock; None where the store does not tell.
    """

    entries: tuple[ManifestEntry, ...] = ()
    modified_at: datetime | None = None

    def written_after(self, moment: datetime, tolerance: timedelta = CLOCKS_APART) -> bool:
        """Tell whether anything in it was written after `moment`, which another clock told.

        Args:
            moment: The time.
            tolerance: How far the store's clock may be ahead of that one.
        """
        return self.modified_at is not None and self.modified_at > moment + tolerance

    @property
    def size_bytes(self) -> int:
        """Sum of the entries' sizes."""
        return sum(entry.size_bytes for entry in self.entries)

    @classmethod
    def of(cls, entries: Iterable[ManifestEntry], modified_at: datetime | None = None) -> Manifest:
        """Return the manifest of `entries`, in order of their paths."""
        return cls(entries=tuple(sorted(entries, key=lambda entry: entry.path)), modified_at=modified_at)
