"""Walking through all that a checkpoint holds, by directory descriptor, never across the store's boundary."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from quota_local.boundary import Boundary, identity
from quota_local.way import DIRECTORY_FLAGS, open_seen, replaced, spelled

ITSELF = "."


@dataclass(frozen=True, slots=True)
class Node:
    """Something that a walk met.

    Attributes:
        parent_fd: Directory that it lies in; open until the walk goes on.
        name: Its name there.
        path: Relative to where the walk began, as in `ManifestEntry`; `.` for that place itself.
        status: What it was when it was met.
    """

    parent_fd: int
    name: bytes
    path: str
    status: os.stat_result

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory, and so everything in it was met before."""
        return stat.S_ISDIR(self.status.st_mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Where a walk begins.

    Attributes:
        parent_fd: Directory that it lies in.
        name: Its name there.
        seen: What it was when it was first looked at.
        boundary: Where the store ends.
        subject: What an error calls it.
    """

    parent_fd: int
    name: bytes
    seen: os.stat_result
    boundary: Boundary
    subject: str


@dataclass(frozen=True, slots=True)
class _Level:
    name: bytes
    path: str
    status: os.stat_result
    pending: list[bytes] = field(default_factory=list)


def walk(spot: Spot) -> Generator[Node]:
    """Meet `spot` and all that it holds, each directory after its contents.

    Holds two descriptors however deep the tree is: the way up is `..`, compared with what the way down met.
    Whoever walks may delete each node as it is met. Symbolic links are met, never followed.

    Raises:
        PathRefused: a directory or file is of another file system, or is nothing that a checkpoint may hold.
        CheckpointChanged: directories were moved about meanwhile.
        FileNotFoundError: something vanished meanwhile.
        OSError: something cannot be read.
    """
    if not stat.S_ISDIR(spot.seen.st_mode):
        spot.boundary.check_file(spot.subject, ITSELF, spot.parent_fd, spot.name, spot.seen)
        yield Node(spot.parent_fd, spot.name, ITSELF, spot.seen)
        return
    above = [identity(os.fstat(spot.parent_fd))]
    levels: list[_Level] = []
    fd = os.dup(spot.parent_fd)
    try:
        entering: _Level | None = _Level(spot.name, ITSELF, spot.seen)
        while entering is not None or levels:
            if entering is not None:
                fd = _moved(fd, _enter(fd, entering, spot))
                levels.append(entering)
                above.append(identity(entering.status))
                yield from _files(fd, entering, spot)
            level = levels[-1]
            entering = _next_below(fd, level) if level.pending else None
            if entering is None:
                levels.pop()
                above.pop()
                fd = _moved(fd, os.open(b"..", DIRECTORY_FLAGS, dir_fd=fd))
                if identity(os.fstat(fd)) != above[-1]:
                    raise replaced(spot.subject, level.path)
                yield Node(fd, level.name, level.path, level.status)
    finally:
        os.close(fd)


def _moved(from_fd: int, to_fd: int) -> int:
    os.close(from_fd)
    return to_fd


def _next_below(fd: int, level: _Level) -> _Level:
    name = level.pending.pop()
    return _Level(name, _below(level.path, name), os.stat(name, dir_fd=fd, follow_symlinks=False))


def _enter(fd: int, level: _Level, spot: Spot) -> int:
    below = open_seen(fd, level.name, level.status, spot.subject)
    try:
        spot.boundary.check_inside(spot.subject, level.path, below, level.status)
    except BaseException:
        os.close(below)
        raise
    return below


def _files(fd: int, level: _Level, spot: Spot) -> Iterator[Node]:
    # Names are read to the end first: what a directory's reader sees while entries go is not defined everywhere.
    with os.scandir(fd) as entries:
        names = sorted(os.fsencode(entry.name) for entry in entries)
    for name in names:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            level.pending.append(name)
            continue
        path = _below(level.path, name)
        spot.boundary.check_file(spot.subject, path, fd, name, status)
        yield Node(fd, name, path, status)


def _below(path: str, name: bytes) -> str:
    return spelled(name) if path == ITSELF else f"{path}/{spelled(name)}"
