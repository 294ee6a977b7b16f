"""What was restored, in a bucket without versions.

A copy that is made back has another time than the original, and may have another ETag. So that the restored
checkpoint is the one that it was, as its manifest goes, the trash keeps a record of which object stands for which.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime

import msgspec

from quota.errors import StoreError, shown
from quota_s3.bucket import Bucket
from quota_s3.deleting import erase
from quota_s3.names import key_of
from quota_s3.objects import PLACEHOLDER_VERSION, Item
from quota_s3.roots import Root


class Restored(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An object that was copied back.

    Attributes:
        path: As in the manifest.
        etag: What it is now.
        modified_at: When it was copied back.
        version: What the manifest called the original.
        written_at: When the original was written.
        is_kept: Whether its copy in the trash was kept, since it may still be deleted by who does not know of the
            restore.
    """

    path: str
    etag: str
    modified_at: datetime
    version: str
    written_at: datetime
    is_kept: bool = False


class Record:
    """What is known of the objects of one checkpoint that were restored.

    Args:
        entries: They.
    """

    def __init__(self, entries: tuple[Restored, ...] = ()) -> None:
        self._entries = {entry.path: entry for entry in entries}

    def version(self, path: str, item: Item) -> str:
        """Return what a manifest says of an object: what it said of the original, if it is what was copied back."""
        entry = self._of(path, item)
        return item.version if entry is None else entry.version

    def written_at(self, path: str, item: Item) -> datetime:
        """Return when an object was written; when the original was, if it is what was copied back."""
        entry = self._of(path, item)
        return item.modified_at if entry is None else entry.written_at

    def taken_away(self, prefix: str, items: Iterable[Item]) -> list[str]:
        """Return the paths of what was restored with its copies kept, and is gone.

        Args:
            prefix: Of the checkpoint.
            items: What lies there. Where any of it is something else, what is gone may have been replaced by it.
        """
        keys = {key_of(prefix, entry.path): entry for entry in self._entries.values()}
        present = {item.key: item for item in items}
        for key, item in present.items():
            entry = keys.get(key)
            if entry is None or not (item.is_placeholder or item.is_of(entry.etag, entry.modified_at)):
                return []
        gone = (entry for key, entry in keys.items() if key not in present)
        return [entry.path for entry in gone if entry.is_kept and entry.version != PLACEHOLDER_VERSION]

    def _of(self, path: str, item: Item) -> Restored | None:
        entry = self._entries.get(path)
        is_it = entry is not None and item.version_id is None and item.is_of(entry.etag, entry.modified_at)
        return entry if is_it else None


def read_record(root: Root, bucket: Bucket, prefix: str) -> Record:
    """Read what is recorded of the checkpoint at `prefix`.

    Raises:
        StoreError: it cannot be read, or is damaged.
    """
    key = _key(root, prefix)
    stored = bucket.read(key)
    if stored is None:
        return Record()
    try:
        return Record(msgspec.json.decode(stored.body, type=tuple[Restored, ...]))
    except msgspec.MsgspecError as error:
        advice = "remove it: then what was restored passes for newly written"
        raise StoreError(f"bucket {bucket.name}, key {shown(key)}: it is damaged: {error}; {advice}") from error


def write_record(root: Root, bucket: Bucket, prefix: str, entries: tuple[Restored, ...]) -> None:
    """Record what of the checkpoint at `prefix` was restored, in place of what was recorded before.

    Raises:
        StoreError: it cannot be written.
    """
    bucket.write(_key(root, prefix), msgspec.json.encode(entries))


def erase_record(root: Root, bucket: Bucket, prefix: str) -> None:
    """Remove what is recorded of the checkpoint at `prefix`.

    Raises:
        StoreError: it cannot be removed.
    """
    key = _key(root, prefix)
    erase(bucket, key, {key})


def _key(root: Root, prefix: str) -> str:
    # No claim begins with a dot. A key may be too long to stand in another one, so its hash does.
    return f"{root.trash_prefix}.restored/{hashlib.sha256(prefix.encode()).hexdigest()}"
