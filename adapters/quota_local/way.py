"""The way from the root to a checkpoint, by directory descriptor, so that no swapped name leads elsewhere.

Each step is looked at, opened with O_NOFOLLOW, and compared with what was seen. Paths are never joined to be
opened: between two system calls any name on a path may come to mean something else.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import quote_from_bytes

from quota.errors import CheckpointChanged, CheckpointGone, PathRefused, shown
from quota_local.boundary import Boundary, identity, status_or_none

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in "%/")


def spelled(name: bytes) -> str:
    """Return a file name as a manifest spells it: printable ASCII, all else percent-encoded."""
    return quote_from_bytes(name, safe=_PLAIN)


def open_seen(dir_fd: int, name: bytes, seen: os.stat_result, subject: str) -> int:
    """Open the directory `name`, which was just seen to be `seen`.

    Raises:
        CheckpointChanged: something else has taken its name.
        OSError: as `os.open` would.
    """
    try:
        fd = os.open(name, DIRECTORY_FLAGS, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            raise replaced(subject, spelled(name)) from error
        raise
    if identity(os.fstat(fd)) != identity(seen):
        os.close(fd)
        raise replaced(subject, spelled(name))
    return fd


@contextmanager
def parent_of(
    root_fd: int, components: Sequence[bytes], boundary: Boundary, subject: str, *, create: bool = False
) -> Iterator[int]:
    """Open the directory that holds the last of `components`, from the root downwards.

    Raises:
        PathRefused: the way leads through a symbolic link, a mount point or the trash.
        CheckpointGone: the way ends early.
        CheckpointChanged: with `create`, something that is no directory is in the way.
        OSError: a directory cannot be read or made.
    """
    fd = os.dup(root_fd)
    try:
        for depth, name in enumerate(components[:-1], start=1):
            path = "/".join(spelled(component) for component in components[:depth])
            below = _step(fd, name, subject, path, create=create)
            os.close(fd)
            fd = below
            boundary.check_on_the_way(subject, path, fd, os.fstat(fd))
        yield fd
    finally:
        os.close(fd)


def _step(fd: int, name: bytes, subject: str, path: str, *, create: bool) -> int:
    status = status_or_none(fd, name)
    if status is None and create:
        os.mkdir(name, dir_fd=fd)
        os.fsync(fd)
        status = status_or_none(fd, name)
    if status is None:
        raise CheckpointGone(f"{subject}: {shown(path)} does not exist below the store's root")
    if stat.S_ISLNK(status.st_mode):
        raise PathRefused(subject, "path", path, "it is a symbolic link; write the path that it stands for")
    if not stat.S_ISDIR(status.st_mode):
        message = f"{subject}: {shown(path)} on the way to it is no directory"
        raise CheckpointChanged(message) if create else CheckpointGone(message)
    return open_seen(fd, name, status, subject)


def replaced(subject: str, path: str) -> CheckpointChanged:
    """Return the error that says that `path` no longer is what it was a moment ago."""
    return CheckpointChanged(f"{subject}: {shown(path)} was replaced or moved while it was read; try again")
