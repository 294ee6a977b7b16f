"""Listing all that lies in the store, by directory descriptor, in memory that its depth alone decides."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime

from quota.domain.identifiers import TRASH_NAME
from quota.domain.reconciliation import StoredItem
from quota.errors import CheckpointChanged, PathRefused
from quota_local.failures import cause_of
from quota_local.leading import Leads
from quota_local.listing import moment_of
from quota_local.roots import OpenRoot
from quota_local.way import open_seen, spelled

# Each level holds two descriptors, and a process may have 1,024 of them.
_DEEPEST = 128


@dataclass(slots=True)
class _Level:
    path: bytes
    fd: int
    entries: Iterator[os.DirEntry[str]]
    closing: ExitStack


def survey(root: OpenRoot) -> Generator[StoredItem]:
    """List everything below the root but its trash, each directory right before its contents.

    What cannot be looked into, or is no part of the store (a mount point, another store), is listed with the reason.

    Raises:
        OSError: the root cannot be read.
    """
    leads = Leads(root)
    levels = [_level(b"", os.dup(root.fd))]
    try:
        while levels:
            level = levels[-1]
            entry = next(level.entries, None)
            if entry is None:
                levels.pop().closing.close()
                continue
            name = os.fsencode(entry.name)
            if name == TRASH_NAME.encode() and len(levels) == 1:
                continue
            path = level.path + name
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError as error:
                yield StoredItem(path=path, size_bytes=0, modified_at=moment_of(0), problem=cause_of(error))
                continue
            if not stat.S_ISDIR(status.st_mode):
                size = status.st_size if stat.S_ISREG(status.st_mode) else 0
                targets = leads.of(path) if stat.S_ISLNK(status.st_mode) else ()
                yield StoredItem(path=path, size_bytes=size, modified_at=_modified_at(status), leads_to=targets)
                continue
            path += b"/"
            below = _entered(root, levels, path, name, status)
            if isinstance(below, _Level):
                levels.append(below)
            problem = below if isinstance(below, str) else None
            yield StoredItem(path=path, size_bytes=0, modified_at=_modified_at(status), problem=problem)
    finally:
        for level in levels:
            level.closing.close()


def _entered(
    root: OpenRoot, levels: list[_Level], path: bytes, name: bytes, status: os.stat_result
) -> _Level | str | None:
    """Open a directory, or say why it is not looked into; None where it is gone."""
    if len(levels) == _DEEPEST:
        return f"it lies more than {_DEEPEST} directories deep"
    shown = "/".join(spelled(component) for component in path.split(b"/"))
    try:
        fd = open_seen(levels[-1].fd, name, status, "directory")
    except FileNotFoundError:
        return None
    except OSError as error:
        return cause_of(error)
    except CheckpointChanged:
        return "it was replaced or moved meanwhile"
    try:
        root.boundary.check_inside("directory", shown, fd, status)
        return _level(path, fd)
    except PathRefused as error:
        os.close(fd)
        return error.reason
    except OSError as error:
        os.close(fd)
        return cause_of(error)


def _level(path: bytes, fd: int) -> _Level:
    with ExitStack() as closing:
        entries = closing.enter_context(os.scandir(fd))
        closing.callback(os.close, fd)
        return _Level(path, fd, entries, closing.pop_all())


def _modified_at(status: os.stat_result) -> datetime:
    """Return when something was written, or put where it is: copying and unpacking keep the former."""
    return moment_of(max(status.st_mtime_ns, status.st_ctime_ns))
