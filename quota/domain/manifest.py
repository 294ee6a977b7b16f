"""What a checkpoint consists of, as seen when its eviction was decided."""

from __future__ import annotations

from collections.abc import Iterable

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


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All entries of a checkpoint, sorted by path. Only what a manifest names is ever deleted."""

    entries: tuple[ManifestEntry, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Sum of the entries' sizes."""
        return sum(entry.size_bytes for entry in self.entries)

    @classmethod
    def of(cls, entries: Iterable[ManifestEntry]) -> Manifest:
        """Return the manifest of `entries`, in order of their paths."""
        return cls(entries=tuple(sorted(entries, key=lambda entry: entry.path)))
