"""Manifests of what lies in the bucket."""

from __future__ import annotations

from collections.abc import Sequence

from quota.domain.manifest import Manifest, ManifestEntry
from quota.errors import CheckpointGone, PathRefused
from quota_s3.names import path_of
from quota_s3.objects import NULL, Item
from quota_s3.records import Record


def entry_of(subject: str, prefix: str, item: Item, record: Record) -> ManifestEntry:
    """Return the manifest's line of an object.

    Raises:
        PathRefused: its key cannot be told from another, or it cannot be moved without loss.
    """
    path = path_of(subject, prefix, item.key)
    if item.key.endswith("/") and not item.is_placeholder and item.version_id in {None, NULL}:
        reason = "it ends in `/` like a directory, and has content; servers treat such objects in different ways"
        raise PathRefused(subject, "key", item.key, f"{reason}; rename or remove it, then try again")
    return ManifestEntry(path=path, size_bytes=item.size_bytes, version=record.version(path, item))


def manifest_of(subject: str, prefix: str, items: Sequence[Item], record: Record) -> Manifest:
    """List what the checkpoint at `prefix` consists of.

    Raises:
        CheckpointGone: it consists of nothing.
        PathRefused: it holds something that no checkpoint may hold.
    """
    if not items:
        raise CheckpointGone(f"{subject}: there is nothing at this location")
    entries = [entry_of(subject, prefix, item, record) for item in items]
    # A placeholder is written anew when it is restored; it has no content whose time could matter.
    timed = [(entry, item) for entry, item in zip(entries, items, strict=True) if not item.is_placeholder]
    return Manifest.of(entries, max((record.written_at(entry.path, item) for entry, item in timed), default=None))
