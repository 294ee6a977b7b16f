"""Deleting for good: only in the trash, and only what a manifest names."""

from __future__ import annotations

import errno
import os
from contextlib import closing, suppress

from quota.domain.manifest import Manifest, ManifestEntry
from quota.errors import CheckpointChanged, PathRefused, shown_paths
from quota_local.listing import entry_of, is_copy
from quota_local.trashing import require_access_to
from quota_local.walking import Node, Spot, walk

_NOT_EMPTY = frozenset({errno.ENOTEMPTY, errno.EEXIST})


def purge_entry(spot: Spot, manifest: Manifest) -> None:
    """Delete `spot`, the claim's entry in the trash. A second call goes on where a first one was cut off.

    Looks at everything before it deletes anything. An entry must be what the manifest names in path, size and time of
    writing: a file that some process went on writing to after it was trashed is no longer the one that was given up.
    Its inode may differ: nobody but the sweep puts anything into a trash, unless the whole store was copied.
    A file that has another name elsewhere (a hard link) lives on there.

    Raises:
        CheckpointChanged: something there is not named; everything is kept.
        FileNotFoundError: somebody else deletes it too; what is left can be deleted by calling again.
        OSError: part of it cannot be deleted.
    """
    named = {entry.path: entry for entry in manifest.entries}
    try:
        _require_named(spot, named)
        _delete_named(spot, named)
    except PathRefused as error:
        raise CheckpointChanged(f"{error}; it is kept") from error


def require_purgeable(spot: Spot, manifest: Manifest) -> None:
    """Check that `purge_entry` would find nothing that `manifest` does not name.

    Raises:
        CheckpointChanged: it would.
        FileNotFoundError: somebody else deletes it.
        OSError: this process may not delete something of it, or nobody may: the disk is read-only.
    """
    try:
        _require_named(spot, {entry.path: entry for entry in manifest.entries})
    except PathRefused as error:
        raise CheckpointChanged(f"{error}; it is kept") from error


def _require_named(spot: Spot, named: dict[str, ManifestEntry]) -> None:
    with closing(walk(spot)) as nodes:
        strangers: list[str] = []
        for node in nodes:
            require_access_to(node.parent_fd, b".", node.path)
            if not node.is_directory and not _is_named(node, named):
                strangers.append(node.path)
    if strangers:
        raise _unnamed(spot.subject, strangers)


def _delete_named(spot: Spot, named: dict[str, ManifestEntry]) -> None:
    late: list[str] = []
    with closing(walk(spot)) as nodes:
        for node in nodes:
            if node.is_directory:
                _remove_empty(node, late)
            elif _is_named(node, named):
                with suppress(FileNotFoundError):
                    os.unlink(node.name, dir_fd=node.parent_fd)
            else:
                late.append(node.path)
    if late:
        raise _unnamed(spot.subject, late)


def _is_named(node: Node, named: dict[str, ManifestEntry]) -> bool:
    entry, own = entry_of(node), named.get(node.path)
    return entry is not None and own is not None and is_copy(entry, own)


def _remove_empty(node: Node, late: list[str]) -> None:
    try:
        with suppress(FileNotFoundError):
            os.rmdir(node.name, dir_fd=node.parent_fd)
    except OSError as error:
        if error.errno not in _NOT_EMPTY:
            raise
        late.append(node.path)


def _unnamed(subject: str, paths: list[str]) -> CheckpointChanged:
    reason = "holds what its manifest does not name, or no longer as named there"
    advice = "look at it, and move away what does not belong there"
    return CheckpointChanged(f"{subject} {reason}: {shown_paths(paths)}; it is kept: {advice}")
