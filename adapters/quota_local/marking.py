"""The mark by which a store's root is known: a file in its trash, which no checkpoint can hold."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from quota.domain.identifiers import TRASH_NAME
from quota.ports import Marks
from quota_local.boundary import identity
from quota_local.kernel import mount_id
from quota_local.mounts import seen_above
from quota_local.way import DIRECTORY_FLAGS

# No claim begins with a dot.
_NAME = b".store"
_NEW_NAME = b".store-new"
_MODE = 0o644
_MAX_BYTES = 200
# To look a name up, a directory need not be readable.
_LOOK_UP_FLAGS = DIRECTORY_FLAGS | getattr(os, "O_PATH", 0)
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_MARK = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


def read_mark(directory_fd: int) -> str | None:
    """Read the mark in a directory's trash; None where it has none.

    Raises:
        OSError: it cannot be read.
    """
    try:
        trash_fd = os.open(TRASH_NAME.encode(), _LOOK_UP_FLAGS, dir_fd=directory_fd)
    except OSError as error:
        if error.errno in _NO_MARK:
            return None
        raise
    try:
        fd = os.open(_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=trash_fd)
    except OSError as error:
        if error.errno in _NO_MARK:
            return None
        raise
    finally:
        os.close(trash_fd)
    try:
        # What follows the first line is left of a longer mark, by a process that was killed as it wrote over it.
        return os.read(fd, _MAX_BYTES).partition(b"\n")[0].decode("ascii", "backslashreplace").strip()
    finally:
        os.close(fd)


def read_marks(root_fd: int, path: Path) -> Marks:
    """Read the root's own mark, and those of the directories above it.

    The way up is `..`, which no link in the root's name misleads; and, where the root is seen through a bind mount,
    the directories above it in its file system, as far as they are mounted anywhere in sight.

    Args:
        root_fd: The root.
        path: Its path, without symbolic links.

    Raises:
        OSError: something cannot be read. A trash above that others may not read is passed over: this user could not
            delete from there either.
    """
    own = read_mark(root_fd)
    above = [*_marks_upwards(root_fd), *_marks_beyond_mounts(root_fd, path)]
    return Marks(own, tuple(dict.fromkeys(above)))


def _marks_beyond_mounts(root_fd: int, path: Path) -> Iterator[str]:
    for seen in seen_above(PurePosixPath(path), mount_id(root_fd)):
        with suppress(OSError):
            fd = os.open(seen, _LOOK_UP_FLAGS)
            try:
                mark = read_mark(fd)
            finally:
                os.close(fd)
            if mark is not None:
                yield mark


def _marks_upwards(root_fd: int) -> Iterator[str]:
    fd = os.dup(root_fd)
    try:
        while True:
            parent = os.open(b"..", DIRECTORY_FLAGS, dir_fd=fd)
            is_top = identity(os.fstat(parent)) == identity(os.fstat(fd))
            os.close(fd)
            fd = parent
            if is_top:
                return
            try:
                mark = read_mark(fd)
            except PermissionError:
                continue
            if mark is not None:
                yield mark
    finally:
        os.close(fd)


def write_mark(trash_fd: int, text: str) -> None:
    """Put a mark into the trash, whole or not at all, and durably.

    Raises:
        OSError: it cannot be written.
    """
    line = f"{text}\n".encode()
    try:
        _replace(trash_fd, line)
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        _overwrite(trash_fd, line, error)


def _replace(trash_fd: int, line: bytes) -> None:
    # What a process left that was killed may be another user's.
    with suppress(FileNotFoundError):
        os.unlink(_NEW_NAME, dir_fd=trash_fd)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(_NEW_NAME, flags, _MODE, dir_fd=trash_fd)
    try:
        # Whoever else uses the store has to be able to read it, whatever this process hides from others.
        os.fchmod(fd, _MODE)
        os.write(fd, line)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(_NEW_NAME, _NAME, src_dir_fd=trash_fd, dst_dir_fd=trash_fd)
    os.fsync(trash_fd)


def _overwrite(trash_fd: int, line: bytes, no_space: OSError) -> None:
    """Write over an earlier mark: on a full disk there is room for that, and a line goes into one sector."""
    with suppress(OSError):
        os.unlink(_NEW_NAME, dir_fd=trash_fd)
    try:
        fd = os.open(_NAME, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=trash_fd)
    except FileNotFoundError:
        raise no_space from None
    try:
        os.pwrite(fd, line, 0)
        os.ftruncate(fd, len(line))
        os.fsync(fd)
    finally:
        os.close(fd)
