"""Into the trash and out of it: one rename each, made durable or undone."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from quota.domain.manifest import Manifest
from quota.errors import CheckpointChanged, CheckpointGone, PathRefused
from quota.ports import require_same
from quota_local.boundary import identity, status_or_none
from quota_local.kernel import rename_noreplace
from quota_local.listing import manifest_of
from quota_local.roots import OpenRoot
from quota_local.walking import Spot
from quota_local.way import parent_of

_OCCUPIED = frozenset({errno.EEXIST, errno.ENOTEMPTY})


def move_in(spot: Spot, trash_fd: int, claim: bytes, manifest: Manifest) -> None:
    """Rename `spot` to `claim` in the trash, provided that it still is what was seen and `manifest` names.

    A trial may begin to write there right before the rename: only what lies in the trash says what was moved.

    Raises:
        CheckpointGone: it vanished meanwhile.
        CheckpointChanged: it was replaced or written to meanwhile. It was put back, or stays in the trash where
            something else lies at its place by now.
        PathRefused: it holds something by now that no checkpoint may hold, and was put back likewise.
        OSError: the rename failed, or could not be made durable and was undone.
    """
    try:
        os.rename(spot.name, claim, src_dir_fd=spot.parent_fd, dst_dir_fd=trash_fd)
    except FileNotFoundError as error:
        raise CheckpointGone(f"{spot.subject}: it vanished before it could be moved into the trash") from error
    try:
        moved = os.stat(claim, dir_fd=trash_fd, follow_symlinks=False)
        _require_seen(moved, spot.seen, spot.subject)
        require_same(spot.subject, manifest_of(replace(spot, parent_fd=trash_fd, name=claim)), manifest)
        os.fsync(trash_fd)
        os.fsync(spot.parent_fd)
    except (OSError, CheckpointChanged, PathRefused) as error:
        _put_back(spot, trash_fd, claim, error)
        raise


def move_out(trash_fd: int, claim: bytes, parent_fd: int, name: bytes, subject: str) -> None:
    """Rename `claim` in the trash to `name` in `parent_fd`, replacing nothing.

    Raises:
        CheckpointChanged: there is something else at `name`.
        OSError: the rename failed, or could not be made durable and was undone.
    """
    try:
        rename_noreplace(trash_fd, claim, parent_fd, name)
    except OSError as error:
        if error.errno not in _OCCUPIED:
            raise
        if not _is_one_file(trash_fd, claim, parent_fd, name):
            reason = "something else lies there now; the trash keeps the evicted one"
            raise CheckpointChanged(f"{subject}: {reason}; move the other one away, then restore again") from error
        os.unlink(claim, dir_fd=trash_fd)
    try:
        os.fsync(parent_fd)
        os.fsync(trash_fd)
    except OSError:
        with suppress(OSError):
            rename_noreplace(parent_fd, name, trash_fd, claim)
        raise


def settle(root: OpenRoot, trash_fd: int, components: Sequence[bytes], subject: str) -> None:
    """Make durable what an earlier call may have renamed before a crash cut it off.

    Raises:
        OSError: a directory cannot be synced.
    """
    os.fsync(trash_fd)
    # Where the way is gone or leads elsewhere by now, there is no directory left that could forget the rename.
    with (
        suppress(CheckpointGone, CheckpointChanged, PathRefused),
        parent_of(root.fd, components, root.boundary, subject) as parent_fd,
    ):
        os.fsync(parent_fd)


def _put_back(spot: Spot, trash_fd: int, claim: bytes, refusal: Exception) -> None:
    """Undo a move, and replace nothing.

    Raises:
        CheckpointChanged: there is something else at its place by now.
    """
    try:
        rename_noreplace(trash_fd, claim, spot.parent_fd, spot.name)
    except OSError as error:
        if error.errno in _OCCUPIED:
            kept = f"what was moved stays in the trash as {claim.decode()}, for something else lies at its place by now"
            raise CheckpointChanged(f"{spot.subject}: it changed while it was moved; {kept}") from refusal


def _require_seen(moved: os.stat_result, seen: os.stat_result, subject: str) -> None:
    if identity(moved) != identity(seen):
        raise CheckpointChanged(f"{subject}: it was replaced while it was moved into the trash; try again")


def _is_one_file(trash_fd: int, claim: bytes, parent_fd: int, name: bytes) -> bool:
    # So a crash leaves it where a restore has to link and unlink for want of a rename that replaces nothing.
    held, present = status_or_none(trash_fd, claim), status_or_none(parent_fd, name)
    return held is not None and present is not None and identity(held) == identity(present)
