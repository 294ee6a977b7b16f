"""Manifests of what lies on the disk."""

from __future__ import annotations

import os
import stat
from contextlib import closing
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote_to_bytes

from quota.domain.events.base import LATEST
from quota.domain.manifest import Manifest, ManifestEntry
from quota.errors import CheckpointChanged, PathRefused, shown
from quota_local.walking import Node, Spot, walk

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A file can say to be of any year, a date cannot.
_LATEST_MICROSECONDS = (LATEST - _EPOCH) // timedelta(microseconds=1)
_LINK = "link-"
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
}


def entry_of(node: Node) -> ManifestEntry | None:
    """Return the entry of a file or symbolic link; None of anything else.

    The version says that an entry is a link, so that a file and a link never pass for each other.
    """
    status = node.status
    version = f"{status.st_ino}-{status.st_mtime_ns}"
    if stat.S_ISREG(status.st_mode):
        return ManifestEntry(path=node.path, size_bytes=status.st_size, version=version)
    if stat.S_ISLNK(status.st_mode):
        return ManifestEntry(path=node.path, size_bytes=0, version=f"{_LINK}{version}")
    return None


def is_copy(one: ManifestEntry, other: ManifestEntry) -> bool:
    """Tell whether two entries differ in nothing but their inodes, as a file and a copy that keeps its time do."""
    return (one.path, one.size_bytes, _without_inode(one)) == (other.path, other.size_bytes, _without_inode(other))


def _without_inode(entry: ManifestEntry) -> tuple[bool, str]:
    inode_and_time = entry.version.removeprefix(_LINK)
    return inode_and_time != entry.version, inode_and_time.partition("-")[2]


def manifest_of(spot: Spot) -> Manifest:
    """List what `spot` consists of.

    Raises:
        PathRefused: it is or holds something that no checkpoint may hold.
        CheckpointChanged: something vanished or was moved meanwhile.
        OSError: something cannot be read.
    """
    entries: list[ManifestEntry] = []
    modified_ns = 0
    with closing(walk(spot)) as nodes:
        try:
            for node in nodes:
                if not node.is_directory:
                    entries.append(_entry_required(node, spot.subject))
                modified_ns = max(modified_ns, node.status.st_mtime_ns)
        except FileNotFoundError as error:
            message = f"{spot.subject}: {shown(error.filename)} vanished while it was listed; try again"
            raise CheckpointChanged(message) from error
    return Manifest.of(entries, moment_of(modified_ns))


def links_in(spot: Spot) -> list[str]:
    """Return the paths of all symbolic links in `spot`, relative to it, as the file system has them.

    Raises:
        PathRefused: it holds something that no checkpoint may hold.
        CheckpointChanged: something vanished or was moved meanwhile.
        OSError: something cannot be read.
    """
    with closing(walk(spot)) as nodes:
        try:
            return [os.fsdecode(unquote_to_bytes(node.path)) for node in nodes if stat.S_ISLNK(node.status.st_mode)]
        except FileNotFoundError as error:
            message = f"{spot.subject}: {shown(error.filename)} vanished while it was listed; try again"
            raise CheckpointChanged(message) from error


def moment_of(nanoseconds: int) -> datetime:
    """Return the time that a file system tells, not before 1970, and not after what an event may hold."""
    return _EPOCH + timedelta(microseconds=min(max(0, nanoseconds) // 1_000, _LATEST_MICROSECONDS))


def _entry_required(node: Node, subject: str) -> ManifestEntry:
    entry = entry_of(node)
    if entry is None:
        what = _KINDS.get(stat.S_IFMT(node.status.st_mode), "no file")
        raise PathRefused(subject, "path", node.path, f"it is {what}; remove it by hand, then try again")
    return entry
